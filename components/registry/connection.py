"""Reaching MLflow: its address, a quick probe, one clear line for its many ways to fail.

The address is `$MLFLOW_TRACKING_URI` (a server, SQLite or PostgreSQL); by default SQLite under the
state folder.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from components.core.errors import InputError, UnavailableError
from components.core.files import alone, atomic
from components.core.paths import MLFLOW_STORE, state_dir
from components.distill.progress import IMPATIENT
from components.registry import database

SETTING = "MLFLOW_TRACKING_URI"
TRAINING = "?workflowType=machine_learning"
_TEMPORARY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED")
_READ_ONLY = "attempt to write a readonly database"  # SQLite's words; MLflow calls that temporary
_NO_ANSWER = (requests.ConnectionError, requests.Timeout)
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def address() -> str:
    """Where MLflow's store is."""
    return database.environment(SETTING, f"sqlite:///{state_dir() / MLFLOW_STORE}")


def is_server(uri: str) -> bool:
    """Whether an address is that of an MLflow server."""
    return uri.startswith(("http://", "https://"))


def page(uri: str, place: str) -> str | None:
    """The address of a page, e.g. `models/m/versions/1`; None for a store without a server.

    MLflow opens its view of agents and traces unless an address names that of model training.
    """
    if not is_server(uri):
        return None
    url = urlsplit(uri)
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{url.path.rstrip('/')}/#/{place}{TRAINING}"


def connect(uri: str) -> MlflowClient:
    """A client of the store, which is reached once, quickly; raises UnavailableError otherwise."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints the traceback of what it raises, which `answering` makes a line of.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not is_server(uri):
        _check_database(uri)
    with variables({SETTING: uri}):  # MLflow's fluent functions write it there, and leave it
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
    with impatient(), answering(uri):
        client = MlflowClient(uri, uri)
        client.search_registered_models(max_results=1)
        return client


def _check_database(uri: str) -> None:
    if not uri.startswith(("sqlite:", "postgresql")):
        raise InputError(
            "not an MLflow store that works here",
            where=SETTING,
            hint="use http(s)://server, sqlite:////folder/file.db or postgresql://host/name",
        )
    # MLflow itself would try a dead database for minutes.
    database.probe(uri, SETTING)
    if uri.startswith("sqlite:"):
        with answering(uri):
            _make_tables(Path(make_url(uri).database or ":memory:"))


def _make_tables(file: Path) -> None:
    """Make the tables of a new SQLite store, whole or not at all, by one process at a time.

    MLflow itself migrates an empty file in place, and processes that start together disturb each
    other. The probe has just made the empty file of a new store.
    """
    if not file.is_file() or file.stat().st_size:
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with alone(file.with_name(f".{file.name}.lock")):
        if not file.stat().st_size:
            with atomic(file) as temporary:
                uri = f"sqlite:///{temporary.absolute()}"
                SqlAlchemyStore(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn MLflow's many ways to fail into one clear line; its chatter goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (
        MlflowException,
        SQLAlchemyError,
        requests.RequestException,
        BotoCoreError,
        ClientError,
        ConnectionError,
        PermissionError,
        FileNotFoundError,
    ) as error:
        if isinstance(error.__cause__ or error.__context__, _NO_ANSWER) and is_server(uri):
            raise UnavailableError(
                "no MLflow server answers there",
                where=database.safe_name(uri),
                hint=f"your shell sets this address: start the server, or `unset {SETTING}` to use "
                "this project's own store",
            ) from None
        message = database.scrub(str(getattr(error, "orig", None) or error), uri)[:300]
        kind = UnavailableError if _temporary(error) else InputError
        raise kind(
            f"the MLflow store refused this ({message})",
            where=database.safe_name(uri),
            hint=f"check that it runs, and {SETTING}",
        ) from None


def _temporary(error: Exception) -> bool:
    """Whether the same call may succeed later: the store, its database or its files are away."""
    if _READ_ONLY in str(error):
        return False
    if isinstance(error, MlflowException):
        return error.error_code in _TEMPORARY
    return isinstance(error, OperationalError | BotoCoreError | ConnectionError | requests.Timeout)


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in the block; afterwards they are what they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def impatient() -> Iterator[None]:
    """Wait seconds for a server in the block, not minutes; what the environment sets stays."""
    unset = {name: value for name, value in IMPATIENT.items() if name not in os.environ}
    with variables(unset):
        yield
