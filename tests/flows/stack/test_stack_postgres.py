"""PostgreSQL of the stack: something missing, an initdb or a rotation that was cut off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest
import yaml
from project import ROOT

from components.core.errors import InputError, UnavailableError
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger
from flows.stack import accounts, postgres, services
from flows.stack import settings as places
from flows.stack.processes import Processes
from flows.stack.settings import Settings

# What the settings of an earlier version hold.
OLD = (
    "IML_POSTGRES_PASSWORD",
    "IML_POSTGRES_PORT",
    "IML_S3_PORT",
    "IML_MLFLOW_PORT",
    "IML_PREFECT_PORT",
    "IML_POSTGRES_DATA",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_URL",
    "IML_STATE",
)


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


def test_runs_append_to_the_ledger_and_own_nothing(settings: Settings) -> None:
    """Also in a stack of an earlier version, whose runs owned the databases."""
    before = {name: value for name, value in settings.environment.items() if name in OLD}
    before["IML_LEDGER_URL"] = settings.database("ledger")
    places.adopt(Settings(settings.folder, before))
    settings = places.load_or_make()
    assert places.load_or_make() == settings
    processes = Processes(settings.folder)
    postgres.prepare(settings)
    processes.launch(services.NAMES)
    services._start(processes, settings, services.services(settings)[:1], list[str]().append)
    worker = services.services(settings)[-1]
    assert set(accounts.PASSWORDS.values()) <= set(settings.environment)
    assert worker.name == "worker"
    assert not {"IML_POSTGRES_PASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD"} & set(worker.environment)
    entry = Entry("m", Event.REGISTERED, 1, "ann", "because", {})
    try:
        for _ in range(2):  # each `iml stack up` does it
            postgres.make_databases(settings)
            postgres.make_roles(settings)
        run = Ledger(worker.environment["IML_LEDGER_URL"])
        run.append(entry)
        people = Ledger(settings.environment["IML_LEDGER_READ_URL"])
        assert people.rows("m") == run.rows("m")
        with pytest.raises(InputError, match="permission denied for table ledger"):
            people.append(entry)
        with pytest.raises(UnavailableError, match="permission denied for database"):
            Ledger(settings.database("mlflow", role="iml_flows"))
        with (
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
            psycopg2.connect(worker.environment["IML_LEDGER_URL"]) as connection,
        ):
            connection.cursor().execute("DELETE FROM ledger")
    finally:
        processes.shutdown()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_containers_give_runs_and_people_the_same_rights(settings: Settings) -> None:
    """infra/kubernetes/databases.sql, and what infra/compose.yaml runs and hands out."""
    given = {name: value for name, value in settings.environment.items() if "PASSWORD" in name}
    services_of = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]

    def url(service: str) -> str:
        written = services_of[service]["environment"]["IML_LEDGER_URL"]
        filled = re.sub(r"\$\{(\w+):[^}]*\}", lambda found: given[found[1]], written)
        return filled.replace("@postgres/", f"@127.0.0.1:{settings.port('postgres')}/")

    processes = Processes(settings.folder)
    postgres.prepare(settings)
    processes.launch(services.NAMES)
    services._start(processes, settings, services.services(settings)[:1], list[str]().append)
    psql = [postgres.programs() / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    try:
        made = ["--command=CREATE DATABASE ledger", settings.database("postgres")]
        subprocess.run([*psql, *made], check=True)
        made = [f"--file={ROOT}/infra/kubernetes/databases.sql", settings.database("postgres")]
        subprocess.run([*psql, *made], env={**os.environ, **given}, check=True)
        owner = {**os.environ, "IML_LEDGER_URL": url("ledger"), "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, *services_of["ledger"]["command"][1:]], env=owner, check=True
        )
        entry = Entry("m", Event.REGISTERED, 1, "ann", "because", {})
        row = Ledger(url("worker")).append(entry)
        for service in ("serve", "people"):
            assert Ledger(url(service)).rows("m") == [row]
            with pytest.raises(InputError, match="permission denied for table ledger"):
                Ledger(url(service)).append(entry)
        for service in ("worker", "serve"):
            with pytest.raises(UnavailableError, match="permission denied for database"):
                Ledger(url(service).replace("/ledger", "/mlflow"))
    finally:
        processes.shutdown()
