"""Several commands of `iml`, each in a fork of one process that has the heavy imports behind it.

Reads a JSON list of argument lists from stdin; prints a JSON list of {code, stdout, stderr}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import Any

import flows.audit
import flows.candidate
import flows.score  # noqa: F401 - imported before the forks
from flows.cli.main import main


def call(arguments: list[str]) -> dict[str, Any]:
    """One command in a fork."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["iml", *arguments]
            code: Any = 70
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {"code": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


if __name__ == "__main__":
    json.dump([call(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
