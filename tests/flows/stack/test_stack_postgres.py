"""PostgreSQL of the stack: something missing, an initdb or a rotation that was cut off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.core.errors import InputError
from flows.stack import postgres, services
from flows.stack import settings as places
from flows.stack.processes import Processes
from flows.stack.settings import Settings


def test_a_missing_client_is_one_line_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IML_STATE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InputError, match="psycopg2 is missing") as caught:
        services.up(print)
    assert "extra `postgres`" in caught.value.line()
    assert not (tmp_path / "stack/supervisor").exists()


def test_an_initdb_that_was_killed_is_done_again(settings: Settings) -> None:
    data = settings.postgres_data
    data.mkdir()
    (data / "PG_VERSION").write_text("15")  # which initdb writes first
    data.with_name(".data.making").touch()
    postgres.prepare(settings)
    assert (data / "global/pg_control").is_file()
    assert [path.name for path in data.parent.iterdir()] == ["data"]


def test_a_folder_with_other_things_is_left_alone(settings: Settings) -> None:
    settings.postgres_data.mkdir()
    (settings.postgres_data / "thesis.txt").write_text("mine")
    for _ in range(2):
        with pytest.raises(InputError, match="data: is not empty"):
            postgres.prepare(settings)
    assert (settings.postgres_data / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("step", ["change_password", "adopt"])
def test_a_rotation_that_was_cut_off_locks_nobody_out(
    step: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, told = Processes(settings.folder), list[str]()
    postgres.prepare(settings)
    processes.launch(services.NAMES)
    services._start(processes, settings, services.services(settings)[:1], told.append)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(postgres if step == "change_password" else places, step, _killed)
            with pytest.raises(KeyboardInterrupt):
                services.rotate(told.append)
        proposal = places.proposed()
        assert proposal is not None
        assert places.load() == settings
        wanted = settings if step == "change_password" else proposal
        assert services._settled(processes, settings, told.append) == wanted
        assert places.load() == wanted
        assert places.proposed() is None
        assert (settings.file.stat().st_mode & 0o777) == 0o600
        postgres.make_databases(wanted)
        other = proposal if wanted is settings else settings
        with pytest.raises(InputError, match="password authentication failed"):
            postgres.make_databases(other)
    finally:
        processes.shutdown()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
