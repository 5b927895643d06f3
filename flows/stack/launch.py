"""What supervisord runs: `python -m flows.stack.launch SERVICE` becomes that server."""

from __future__ import annotations

import os
import pwd
import sys

from components.core.errors import ImlError
from flows.stack import services, settings
from flows.stack.processes import Processes


def main(name: str) -> None:
    """Replace this process by a server of the stack, with the settings now in force."""
    stack = settings.load()
    if stack is None:
        sys.exit("there is no stack here")
    try:
        service = next(s for s in services.services(stack) if s.name == name)
    except ImlError as error:
        sys.exit(error.line())
    Processes(stack.folder).end_leftovers(name)
    if service.user:
        account = pwd.getpwnam(service.user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.chdir("/")
    os.execve(service.command[0], service.command, service.environment)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
