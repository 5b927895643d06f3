"""Where the servers' files go, and what they must not do: set before Prefect is imported."""

from __future__ import annotations

import os
from contextlib import suppress

from components.core.errors import InputError
from components.core.paths import PREFECT, state_dir


def configure() -> None:
    """Keep Prefect and MLflow inside the state folder and silent towards the outside.

    What the environment already says stays: a production server's address, for instance.
    """
    with suppress(InputError):  # outside the project there is no state folder
        os.environ.setdefault("PREFECT_HOME", str(state_dir() / PREFECT))
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # A server whose database restarts answers 500 for a while.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        # A busy machine takes longer than the 20 s that Prefect allows by default.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Threads that spin while they wait lose the other core to nothing.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def time_limit() -> int:
    """Seconds that a run of a flow may take: `$IML_TIME_LIMIT`, else a day."""
    given = os.environ.get("IML_TIME_LIMIT", "").strip() or "86400"
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{given!r} is not a number of seconds", where="IML_TIME_LIMIT")
    return int(given)
