"""The Prefect server that the environment names, if any."""

from __future__ import annotations

import os
import urllib.request

from components.core.errors import InputError, UnavailableError

_WAIT = 5  # seconds for a server to answer


def server_named() -> bool:
    """Whether `$PREFECT_API_URL` names a server."""
    return bool(os.environ.get("PREFECT_API_URL", "").strip())


def require_server() -> None:
    """Raise InputError when the server named by `$PREFECT_API_URL` does not answer."""
    address = os.environ.get("PREFECT_API_URL", "").strip()
    if not address:
        return
    hint = "start it, or unset PREFECT_API_URL to run without one"
    if not address.startswith(("http://", "https://")):
        raise InputError(f"not an address: {address!r}", where="PREFECT_API_URL", hint=hint)
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_WAIT).close()  # noqa: S310
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Prefect server does not answer ({error})", where="PREFECT_API_URL", hint=hint
        ) from None
