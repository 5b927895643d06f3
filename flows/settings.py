"""The environment of a run: defaults set before Prefect is imported, and what it names."""

from __future__ import annotations

import os
from contextlib import suppress

from components.core.errors import InputError, UnavailableError
from components.core.paths import PREFECT, state_dir

_DEFAULTS = {
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
    # Threads that spin while they wait take the other core for nothing.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_PREFECT_SECONDS = 5  # for a server to answer


def configure() -> None:
    """Keep Prefect and MLflow inside the state folder, and from calling home.

    What the environment already sets stays: a production server's address, for instance.
    """
    with suppress(InputError):  # outside the project there is no state folder
        os.environ.setdefault("PREFECT_HOME", str(state_dir() / PREFECT))
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def time_limit() -> int:
    """Seconds that a run of a flow may take: `$IML_TIME_LIMIT`, else a day."""
    limit = os.environ.get("IML_TIME_LIMIT", "").strip() or "86400"
    if not limit.isdecimal() or int(limit) < 1:
        raise InputError(f"{limit!r} is not a number of seconds", where="IML_TIME_LIMIT")
    return int(limit)


def server_address() -> str:
    """The address in `$PREFECT_API_URL`, "" where it names no server."""
    return os.environ.get("PREFECT_API_URL", "").strip()


def require_server() -> None:
    """Raise InputError or UnavailableError when the server that is named does not answer."""
    import urllib.request  # help does without it

    address = server_address()
    if not address:
        return
    hint = "start it, or unset PREFECT_API_URL to run without one"
    if not address.startswith(("http://", "https://")):
        raise InputError(f"not an address: {address!r}", where="PREFECT_API_URL", hint=hint)
    try:
        url = f"{address.rstrip('/')}/health"
        urllib.request.urlopen(url, timeout=_PREFECT_SECONDS).close()  # noqa: S310
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Prefect server does not answer ({error})", where="PREFECT_API_URL", hint=hint
        ) from None
