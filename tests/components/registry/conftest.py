"""A real PostgreSQL, MLflow stores in a temporary folder, small versions to register."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from registry_support import evidence, fill, packages

from components.registry import signing
from components.registry.gates import GateEvidence
from components.registry.ledger import Ledger
from components.registry.package import Package
from components.registry.tracking import Store
from components.registry.versions import Registry

PASSWORD = "s3cr3t-of-the-tests"
MODEL = "m"


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and (path := shutil.which("initdb")):
        found = [Path(path)]
    if not found:
        pytest.fail("PostgreSQL's server programs are missing: apt-get install postgresql")
    return found[-1].parent


def _unprivileged() -> list[str]:
    """initdb refuses root."""
    if os.getuid():
        return []
    known = Path("/etc/passwd").read_text()
    user = "postgres" if "\npostgres:" in known else "nobody"
    return ["runuser", "-u", user, "--"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server of our own, without a database name; asks for a password."""
    programs, prefix = _postgres_programs(), _unprivileged()
    # Not under pytest's folder, which only its owner may enter; short, for the socket's name.
    home = Path(tempfile.mkdtemp(prefix="iml-pg-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        done = subprocess.run(
            [*prefix, *command], cwd="/", capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"

    home.chmod(0o777)
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o644)
    data = str(home / "data")
    control = str(programs / "pg_ctl")
    try:
        run(
            str(programs / "initdb"), "-D", data, "-U", "iml", "--no-sync", "-E", "UTF8",
            "--auth=scram-sha-256", f"--pwfile={home}/password",
        )  # fmt: skip
        options = f"-p {port} -h 127.0.0.1 -k {home} -F -c max_connections=60"
        # Its output goes to a file: a pipe would stay open as long as the server lives.
        run(control, "-D", data, "-w", "-t", "60", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql://iml:{PASSWORD}@127.0.0.1:{port}"
        finally:
            run(control, "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def make_database(postgres: str) -> Callable[[], str]:
    """Makes a fresh PostgreSQL database and says its URL."""

    def make() -> str:
        name = f"d{uuid.uuid4().hex[:12]}"
        connection = psycopg2.connect(f"{postgres}/postgres")
        try:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE template0")
        finally:
            connection.close()
        return f"{postgres}/{name}"

    return make


@pytest.fixture
def database(make_database: Callable[[], str]) -> str:
    """URL of a fresh PostgreSQL database."""
    return make_database()


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The folder of `psql`, `pg_dump` and the server's programs."""
    return _postgres_programs()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger's address, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return request.getfixturevalue("database")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow SQLite file with its tables; making them takes seconds, a copy does not."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Store(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of one signing key for every test, so that stores can be copied between them."""
    folder = tmp_path_factory.mktemp("keys")
    values = {"IML_SIGNING_KEY": str(folder / "key.pem"), "IML_TRUSTED_KEYS": str(folder / "trust")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IML_STATE", str(folder))
        (folder / "one").write_text("x")
        signing.sign(folder / "one", folder / "one.sig")
    (folder / "keys/signing.pem").rename(folder / "key.pem")
    (folder / "keys/trusted").rename(folder / "trust")
    return values


@pytest.fixture
def addresses(
    tmp_path: Path, empty_store: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """State folder, MLflow store and ledger of one test, set in the environment."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    values = {
        "IML_STATE": str(tmp_path / "state"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "IML_LEDGER_URL": f"sqlite:///{tmp_path}/state/ledger.db",
        **keys,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def registry(addresses: dict[str, str]) -> Registry:
    return Registry(Ledger(), Store(), MODEL)


@pytest.fixture
def make_package(tmp_path: Path) -> Callable[..., Package]:
    return packages(tmp_path)


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., GateEvidence]:
    return evidence


@pytest.fixture(scope="session")
def filled_stores(
    empty_store: Path, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """MLflow store and ledger of `fill`, to be copied; the artifacts stay in this folder."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", (folder / "artifacts").as_uri())
        for name, value in keys.items():
            patch.setenv(name, value)
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        fill(Registry(ledger, Store(f"sqlite:///{folder}/mlflow.db"), MODEL), folder)
    return folder


@pytest.fixture
def two(addresses: dict[str, str], filled_stores: Path, tmp_path: Path) -> Registry:
    """Version 1 was champion, version 2 is; artifacts are shared between tests: leave them."""
    (tmp_path / "state").mkdir()
    shutil.copy(filled_stores / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copy(filled_stores / "ledger.db", tmp_path / "state/ledger.db")
    return Registry(Ledger(), Store(), MODEL)


@pytest.fixture
def own_two(registry: Registry, tmp_path: Path) -> Registry:
    """The same with artifacts of its own, below `tmp_path / "state"`."""
    fill(registry, tmp_path)
    return registry
