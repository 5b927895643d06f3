"""git and DVC as processes: their output, or one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from components.core.errors import CheckError, InputError, UnavailableError

_NETWORK = {"clone", "fetch", "pull", "push"}  # of git and of DVC


def environment() -> dict[str, str]:
    """Our environment, with this interpreter's commands first and telemetry off."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Unbuffered, or a stage's progress lines would reach the flow's log only at its end.
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def call(*command: str, folder: Path | None = None) -> str:
    """Run a short command and give its stdout; a failure is one clear line.

    Raises:
        InputError: it is not installed.
        UnavailableError: it talks to a server and failed.
        CheckError: it failed; its last line, or its last error where it says so.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), cwd=folder, check=False
        )
    except FileNotFoundError:
        raise InputError(
            f"{command[0]} is not installed", hint=f"install {command[0]} and try again"
        ) from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        # DVC's last line may be an offer of help.
        lines = [line for line in lines if line.startswith("ERROR: ")] or lines
        kind = UnavailableError if _NETWORK & set(command[1:5]) else CheckError
        raise kind(lines[-1].removeprefix("ERROR: "), where=" ".join(command[:3]))
    return done.stdout


def dvc(*arguments: str, folder: Path | None = None) -> str:
    """Run DVC and give its stdout; a failure is its last error, raised as by `call`.

    Never with --quiet, where it fails without a reason.
    """
    command = (sys.executable, "-m", "dvc", *arguments)
    try:
        return call(*command, folder=folder)
    except (CheckError, UnavailableError) as error:
        raise type(error)(error.what, where=f"dvc {arguments[0]}") from None
