"""`python -m flows.checkout`: the first step of a deployment, which prints the clone to run in.

It brings `$IML_STATE/clone` to the tip of branch `retrain` with the default branch merged in. The
flow is then loaded from the clone, so that all of a run is the code of one commit.
"""

from __future__ import annotations

import os
from pathlib import Path

from components import workspace
from components.core.errors import ImlError, InputError, exit_on_error
from components.core.paths import CLONE, DVC_CACHE, state_dir
from components.workspace import repository
from flows import notify
from flows.settings import configure


def checkout() -> Path:
    """Prepare the clone; raises InputError for a missing setting, CheckError for what fails."""
    source, remote = _setting("IML_REPOSITORY"), _setting("IML_DVC_REMOTE")
    if not Path(_setting("IML_STATE")).is_absolute():
        raise InputError("not an absolute path", where="IML_STATE", hint="give an absolute path")
    clone = state_dir() / CLONE
    with workspace.exclusive() as killed_in:
        if killed_in:
            # A killed run cannot notify anybody itself.
            notify.send("failed", f"a run was killed in stage {killed_in}; the next one resumes it")
        repository.prepare(source, clone, remote, state_dir() / DVC_CACHE)
    return clone


def _setting(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise InputError("not set", where=name, hint="see docs/OPERATIONS.md")
    return value


def main() -> None:
    """Print the clone's folder; a failure is notified here, because there is no flow yet."""
    configure()
    with exit_on_error():
        try:
            print(checkout())
        except ImlError as error:
            notify.send("failed", f"retraining could not start: {error.line()}")
            raise


if __name__ == "__main__":
    main()
