"""The Prefect server that the environment names, if any."""

from __future__ import annotations

import os
import urllib.request

from components.errors import InputError

_WAIT = 5  # seconds for a server to answer


def server_named() -> bool:
    """Whether `$PREFECT_API_URL` names a server."""
    return bool(os.environ.get("PREFECT_API_URL", "").strip())


def require_server() -> None:
    """Raise InputError when the server named by `$PREFECT_API_URL` does not answer."""
    address = os.environ.get("PREFECT_API_URL", "").strip()
    if not address:
        return
    mend = "start it, or unset PREFECT_API_URL to run without one"
    if not address.startswith(("http://", "https://")):
        raise InputError(f"not an address: {address!r}", where="PREFECT_API_URL", mend=mend)
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_WAIT).close()  # noqa: S310
    except (OSError, ValueError) as error:
        raise InputError(
            f"the Prefect server does not answer ({error})", where="PREFECT_API_URL", mend=mend
        ) from None
