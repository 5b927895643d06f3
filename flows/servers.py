"""The Prefect server of a run: reachable where one is named, ended where a killed run left it."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import psutil

from components.errors import InputError

_WAIT = 5  # seconds for a server to answer
_RUN = "IML_RUN"  # in the environment of a run, and so of what it starts


def require_server() -> None:
    """Raise InputError when the server named by `$PREFECT_API_URL` does not answer."""
    address = os.environ.get("PREFECT_API_URL", "").strip()
    if not address:
        return
    mend = "start it, or unset PREFECT_API_URL for a temporary one"
    if not address.startswith(("http://", "https://")):
        raise InputError(f"not an address: {address!r}", where="PREFECT_API_URL", mend=mend)
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_WAIT).close()  # noqa: S310
    except (OSError, ValueError) as error:
        raise InputError(
            f"the Prefect server does not answer ({error})", where="PREFECT_API_URL", mend=mend
        ) from None


def end_orphans() -> None:
    """End temporary servers of this workspace whose run was killed, and mark those to come.

    The caller holds the workspace, so none of them has a living run.
    """
    here = str(Path.cwd())
    for process in psutil.process_iter():
        try:
            server = any("prefect.server.api" in part for part in process.cmdline())
            # A server that a person left in the background here looks the same but for this.
            if server and process.ppid() == 1 and process.cwd() == here and _ours(process):
                process.kill()
        except psutil.Error:
            continue
    os.environ[_RUN] = "1"


def _ours(process: psutil.Process) -> bool:
    """Whether one of our runs started it, which hands its environment on."""
    return process.environ().get(_RUN) == "1"
