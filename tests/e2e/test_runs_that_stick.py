"""No run blocks the next one: processes killed or suspended, a Prefect server away.

On a real server and a real worker, under --campaigns: dead is who has been silent for a while.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect_support import ENDED, Prefect, prefect
from production_support import free_ports, wait_for

pytestmark = pytest.mark.e2e
YEAR = datetime.now(UTC).year + 1


@pytest.fixture(scope="module", autouse=True)
def long(campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("minutes long; run with --campaigns")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Runs are dead after a minute; their clone step takes a second."""
    home = tmp_path_factory.mktemp("quick")
    with prefect(home, free_ports(1)[0], seconds=60, clone_seconds=1) as made:
        yield made


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Runs, which have a heartbeat every 30 s, are dead after two minutes."""
    with prefect(tmp_path_factory.mktemp("patient"), free_ports(1)[0], seconds=120) as made:
        yield made


def test_a_machine_that_goes_down_in_the_clone_step_blocks_no_later_night(quick: Prefect) -> None:
    lost = quick.trigger()
    wait_for("its process", 60, quick.run_processes, quick.log)
    for name in ("server", "worker"):
        quick.kill(name)
    quick.kill_run()
    quick.start_server()
    assert quick.reached(lost, "PENDING")
    nights = [quick.trigger(), quick.trigger()]
    quick.start_worker()
    assert quick.reached(lost, *ENDED)["message"].startswith("No sign of life")
    assert [quick.reached(night, *ENDED)["type"] for night in nights] == ["COMPLETED"] * 2
    assert quick.training() == ["begins", "ends"] * 4


@pytest.mark.parametrize("month", [3, 10])
def test_a_night_in_which_the_clocks_change_has_one_run(quick: Prefect, month: int) -> None:
    """Runs as the server schedules them when it looks ahead every hour; at 02:30 of local time."""
    deployment, berlin = f"deployments/{quick.deployment}", ZoneInfo("Europe/Berlin")
    schedule = {"schedule": {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}, "active": True}
    quick.ask(deployment, {"schedules": [schedule]}, "PATCH")
    # The clocks change on the last Sunday.
    change = max(day for n in range(25, 32) if (day := datetime(YEAR, month, n)).weekday() == 6)
    first = (change - timedelta(days=1)).replace(tzinfo=berlin)
    last = first + timedelta(days=3)
    for hours in range(48):
        start = first.astimezone(UTC) + timedelta(hours=hours)
        window = {"start_time": start.isoformat(), "end_time": last.isoformat()}
        quick.ask(f"{deployment}/schedule", window)
    dates = [datetime.fromisoformat(run["expected_start_time"]) for run in quick.runs()]
    dates = [date.astimezone(berlin) for date in dates]
    quick.ask(deployment, {"schedules": []}, "PATCH")
    found = [date.date() for date in sorted(dates) if first <= date < last]
    assert found == [(change + timedelta(n)).date() for n in (-1, 0, 1)]


def test_a_server_that_is_away_stops_no_training(patient: Prefect) -> None:
    run = patient.trigger(seconds=250)  # Prefect's leases are renewed after 225 s
    patient.reached(run, "RUNNING", seconds=240)
    wait_for("training", 30, patient.training)
    patient.kill("server")
    time.sleep(60)
    patient.start_server()
    assert patient.reached(run, *ENDED, seconds=400)["type"] == "COMPLETED", patient.log()
    states = [row["type"] for row in patient.ask(f"flow_run_states/?flow_run_id={run}")]
    assert "CRASHED" not in states
    assert patient.training() == ["begins", "ends"] * 2


def test_a_suspended_run_goes_on_alone(patient: Prefect) -> None:
    before = len(patient.training())
    run = patient.trigger(seconds=20)
    wait_for("training", 240, lambda: len(patient.training()) > before, patient.log)
    suspended = patient.run_processes()
    for process in suspended:
        process.send_signal(signal.SIGSTOP)
    assert patient.reached(run, *ENDED, seconds=300)["type"] == "CRASHED"
    other = patient.reached(patient.trigger(), *ENDED)
    assert (other["type"], "another run is working" in other["message"]) == ("FAILED", True)
    for process in suspended:
        process.send_signal(signal.SIGCONT)
    assert patient.reached(run, "COMPLETED")
    assert patient.reached(patient.trigger(), *ENDED)["type"] == "COMPLETED"
    assert patient.training()[before:] == ["begins", "ends"] * 4
