"""What Prefect tries again in a deployment: what is away, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
from components.core.errors import CheckError, InputError, UnavailableError
from components.workspace import StageError
from flows.steps import reporting_flow, step

FAILURES = {
    "bad": InputError("it is bad", where="here", hint="change it"),
    "no": CheckError("it says no"),
    "stage": StageError("validate", ["ERROR: failed to reproduce 'validate': exited with 2"]),
    "bug": ValueError("it is a bug"),
    "away": UnavailableError("it is away"),
    "once": UnavailableError("it is away, and nothing to do twice"),
    "back": UnavailableError("it is away for a moment"),
}
tries = dict.fromkeys(FAILURES, 0)

def work(name):
    tries[name] += 1
    if name == "back" and tries[name] == 2:
        return "done"
    raise FAILURES[name]

once, again = step("{name}")(work), step("{name}", repeatable=True)(work)

@reporting_flow("retrain")
def run():
    for name, failure in FAILURES.items():
        try:
            assert (once if name == "once" else again)(name) == "done"
        except type(failure) as error:
            assert error is failure
    raise FAILURES["bad"]

state = run(return_state=True)
print(json.dumps({"tries": tries, "state": [state.type.value, state.message]}))
"""


def test_only_what_is_away_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    settings = {
        "IML_STATE": str(tmp_path / "state"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": "",
        "PREFECT_TASKS_DEFAULT_RETRIES": "3",
        "PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS": "0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    refused = dict.fromkeys(("bad", "no", "stage", "bug", "once"), 1)
    assert answer["tries"] == {**refused, "away": 4, "back": 2}
    assert answer["state"] == ["FAILED", "here: it is bad; change it"]
    said = done.stdout + done.stderr
    assert said.count("here: it is bad; change it") <= 3, said  # task, flow, and the answer above
    assert said.count("it says no") == 1, said
