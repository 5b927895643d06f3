"""The files of infra/ say the same and refer to nothing that is not there, as far as no engine is
needed to see it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from flows.stack.settings import DATABASES, PORTS

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
KUBERNETES = [
    document
    for path in sorted(INFRA.glob("kubernetes*/*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
WORKLOADS = [row for row in KUBERNETES if row["kind"] in ("Deployment", "StatefulSet")]


def names(path: str) -> set[str]:
    rows = (INFRA / path).read_text().splitlines()
    return {row.partition("=")[0] for row in rows if row and row[0] != "#"}


def pods() -> list[tuple[str, dict[str, Any]]]:
    found = [(row["metadata"]["name"], row["spec"]["template"]["spec"]) for row in WORKLOADS]
    ray = next(row["spec"] for row in KUBERNETES if row["kind"] == "RayCluster")
    groups = [ray["headGroupSpec"], *ray["workerGroupSpecs"]]
    return found + [("ray", group["template"]["spec"]) for group in groups]


def test_compose_has_every_service_with_limits_and_health() -> None:
    assert {*PORTS, "worker", "serve"} <= set(COMPOSE)
    for name in (*PORTS, "worker", "serve"):
        assert COMPOSE[name]["healthcheck"]["test"], name
        assert COMPOSE[name]["deploy"]["resources"]["limits"]["memory"], name
    # TLS alone is for other machines.
    plain = [row for name, row in COMPOSE.items() if name != "proxy"]
    published = [port for row in plain for port in row.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_takes_secrets_from_its_example_alone() -> None:
    text = (INFRA / "compose.yaml").read_text()
    used = {part.partition(":")[0] for part in text.split("${")[1:]}
    assert used == names(".env.example")
    for service in COMPOSE.values():
        for needed in service.get("depends_on", {}):
            assert needed in COMPOSE


def composer() -> list[str] | None:
    """The installed command of Docker Compose, which needs no engine to check a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if not done.returncode:
                return command
    return None


def test_docker_compose_takes_it(tmp_path: Path) -> None:
    command = composer()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    secrets = tmp_path / "secrets.env"
    secrets.write_text("".join(f"{name}=x\n" for name in names(".env.example")))
    # Compose 1 knows no top-level name.
    rows = (INFRA / "compose.yaml").read_text().splitlines(keepends=True)
    (tmp_path / "compose.yaml").write_text("".join(r for r in rows if not r.startswith("name:")))
    files = ["--file", str(tmp_path / "compose.yaml"), "--env-file", str(secrets)]
    done = subprocess.run([*command, *files, "config"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(COMPOSE)


def test_databases_are_those_of_the_stack() -> None:
    text = (INFRA / "kubernetes/databases.sql").read_text()
    rows = [row for row in text.splitlines() if row.startswith("CREATE DATABASE")]
    made = {row.split()[2] for row in rows}
    assert made | {COMPOSE["postgres"]["environment"]["POSTGRES_DB"]} == set(DATABASES)


@pytest.mark.parametrize(("name", "pod"), pods(), ids=lambda value: str(value)[:12])
def test_pods_name_secrets_and_nodes_that_are_known(name: str, pod: dict) -> None:
    settings = {
        "iml-secrets": names("kubernetes/secrets.example.env"),
        "iml-owner": names("kubernetes/owner.example.env"),
    }
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        for row in container.get("env", []):
            if reference := row.get("valueFrom"):
                secret = reference["secretKeyRef"]
                assert secret["key"] in settings[secret["name"]]
                # What a run or `iml serve` gets is nothing of the owner's.
                served = name in ("worker", "serve", "ray") and container in pod["containers"]
                assert not (served and secret["name"] == "iml-owner")
    if any("nvidia.com/gpu" in c["resources"]["limits"] for c in pod["containers"]):
        assert pod["nodeSelector"]


def test_services_find_their_pods() -> None:
    labels = {row["metadata"]["name"]: row["spec"]["template"]["metadata"] for row in WORKLOADS}
    services = [row for row in KUBERNETES if row["kind"] == "Service"]
    assert {row["metadata"]["name"] for row in services} == {*PORTS, "serve", "proxy"}
    for row in services:
        name = row["metadata"]["name"]
        assert row["spec"]["selector"] == labels[name]["labels"]
        assert row["spec"]["ports"][0]["port"] in (PORTS.get(name), 5432, 8333, 8000, 5443)


@pytest.mark.parametrize(
    ("folder", "sets", "clusters", "s3"),
    [
        ("kubernetes", 1, 0, "https://s3.example.org"),
        ("kubernetes-ray", 1, 1, "https://s3.example.org"),
        ("kubernetes-tls", 1, 0, "https://s3.example.org"),
        ("kubernetes-seaweedfs", 2, 0, "http://s3:8333"),
    ],
)
def test_kustomize_builds_it(folder: str, sets: int, clusters: int, s3: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(INFRA / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    kinds = [row["kind"] for row in built]
    deployments = 4 + (folder == "kubernetes-tls")
    assert (kinds.count("StatefulSet"), kinds.count("Deployment")) == (sets, deployments)
    assert kinds.count("RayCluster") == clusters
    settings = next(row for row in built if row["metadata"]["name"].startswith("iml-settings-"))
    assert ("RAY_ADDRESS" in settings["data"]) == bool(clusters)
    assert settings["data"]["AWS_ENDPOINT_URL"] == s3
    for row in built:
        if row["kind"] == "RayCluster":
            assert row["metadata"]["namespace"] == "boxpromptiml"
            address = f"ray://{row['metadata']['name']}-head-svc:10001"
            assert settings["data"]["RAY_ADDRESS"] == address


@pytest.mark.parametrize("kind", ["kubernetes", "docker"])
def test_prefect_takes_the_job_templates(kind: str) -> None:
    from prefect.server.schemas.core import WorkPool

    template = json.loads((INFRA / f"pools/{kind}.json").read_text())
    pool = WorkPool(name="p", type=kind, base_job_template=template)
    assert pool.base_job_template["variables"]["properties"]["env"]["default"]["IML_TIME_LIMIT"]


def test_automations_are_what_prefect_takes() -> None:
    from prefect.server.events.schemas.automations import AutomationCreate

    job = yaml.safe_load((INFRA / "prefect.yaml").read_text())["definitions"]["pools"]["process"]
    heartbeat = int(job["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    for row in yaml.safe_load((INFRA / "automations.yaml").read_text()):
        made = AutomationCreate.model_validate(row)
        # What a worker takes on and then never starts is dead, too.
        assert {"prefect.flow-run.Pending", "prefect.flow-run.heartbeat"} <= made.trigger.after
        # Prefect's server may be away for a quarter of an hour: no run that lives is marked dead.
        assert made.trigger.within.total_seconds() >= 900 + heartbeat


@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "0 3 * * *"])
@pytest.mark.parametrize("month", [3, 10])
def test_a_night_in_which_the_clocks_change_has_one_run(month: int, cron: str) -> None:
    """As Prefect's scheduler, which looks ahead from any time of day, computes the dates."""
    from prefect.server.schemas.schedules import CronSchedule

    berlin = ZoneInfo("Europe/Berlin")
    schedule = CronSchedule(cron=cron, timezone="Europe/Berlin")
    # The clocks change on the last Sunday.
    change = max(day for n in range(25, 32) if (day := datetime(2027, month, n)).weekday() == 6)
    days = [(change + timedelta(n)).replace(tzinfo=berlin) for n in (-1, 0, 1, 2)]
    dates = set()
    for minutes in range(0, 72 * 60, 15):
        start = days[0].astimezone(UTC) + timedelta(minutes=minutes)
        ahead = asyncio.run(schedule.get_dates(n=2, start=start))
        dates |= {date.astimezone(berlin) for date in ahead}
    found = [date.date() for date in sorted(dates) if date < days[-1]]
    assert found == [day.date() for day in days[:-1]]


def test_deployments_load_what_is_there() -> None:
    plan = yaml.safe_load((INFRA / "prefect.yaml").read_text())
    assert plan["deployments"]
    for deployment in plan["deployments"]:
        path, _, function = deployment["entrypoint"].partition(":")
        assert f"def {function}(" in (INFRA.parent / path).read_text()
        # A lease, which a server that is restarted forgets; retrainings have a queue instead.
        assert "concurrency_limit" not in deployment
        assert deployment["tags"]
    queues = {row["name"]: row["work_pool"].get("work_queue_name") for row in plan["deployments"]}
    assert [name for name, queue in queues.items() if queue == "retraining"] == ["nightly"]
