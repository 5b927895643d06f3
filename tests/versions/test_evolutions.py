"""Later code on versions of today and of old: the same answers as before the change.

Each evolution is committed on top of a workspace with versions, the commands run, then the commit
is taken back. The normal suite applies all of them at once to an old version; with `--campaigns`
each one by one, too, to three old and three new versions; one of each is replayed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_support import commit_all
from evolutions import EVOLUTIONS
from project import BIN
from test_versions import ARCHIVES, Old, unpack, upgrade

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
PROGRAM = Path(__file__).with_name("commands.py")
OLD, ALL = (3,), range(1, 7)
REPLAYED = (3, 6)  # one old, one new
CHANGING = {"made_at", "program", "status"}
ROUNDING = 1e-4


class Evolved(Old):
    """A workspace that runs its own, changed code."""

    @property
    def environment(self) -> dict[str, str]:
        """With this folder's code before the installed one."""
        return {**super().environment, "PYTHONPATH": str(self.root)}

    def answers(self, numbers: Sequence[int]) -> dict[str, Any]:
        """What the commands answer of these versions, by command: JSON, or an error's line."""
        return self._ask([words for number in numbers for words in self._commands(number)])

    def replays(self, numbers: Sequence[int]) -> dict[str, Any]:
        """The same of `iml replay`, which runs every stage of a version."""
        return self._ask([["replay", self.name(number), "--json"] for number in numbers])

    def _ask(self, asked: Sequence[list[str]]) -> dict[str, Any]:
        commands = {" ".join(words): words for words in asked}
        done = subprocess.run(
            [BIN / "python", PROGRAM],
            cwd=self.root,
            env=self.environment,
            input=json.dumps(list(commands.values())),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return {
            name: _said(name, answer)
            for name, answer in zip(commands, json.loads(done.stdout), strict=True)
        }

    def _commands(self, number: int) -> list[list[str]]:
        name, out = self.name(number), self.root / ".state/answers"
        shutil.rmtree(out, ignore_errors=True)
        return [
            ["model", "show", name, "--json"],
            ["predict", "../photo.jpg", "--model", name, "--out", f"{out}/p{number}", "--json"],
            [
                "evaluate",
                "--data",
                "data/demo",
                "--model",
                name,
                "--out",
                f"{out}/e{number}",
                "--json",
            ],
            ["audit", name, "--deep", "--json"],
            ["lineage", "diff", self.name(2), name, "--json"],
            ["model", "rollback", name, "--reason", "a test"],
            ["model", "list", "--json"],
        ]


def _said(command: str, answer: dict[str, Any]) -> Any:
    """An answer as JSON, of an audit the verdicts alone, of a rollback its success; else text."""
    text = answer["stdout"] + answer["stderr"]
    if command.startswith("model rollback"):
        return "champion" if " is champion again " in text or "already" in text else text
    try:
        said = json.loads(answer["stdout"])
    except ValueError:
        return text[-1500:]
    if not command.startswith("audit"):
        return said
    return {
        "verdict": said["verdict"],
        "objects": said["objects"],
        "links": {name: link["verdict"] for name, link in said["links"].items()},
    }


def _same(before: Any, after: Any) -> bool:
    """Equal but for rounding, what a run's own time changes, and who is champion meanwhile."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = before.keys() - CHANGING
        return all(key in after and _same(before[key], after[key]) for key in keys)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, float) and isinstance(after, float):
        return after == pytest.approx(before, abs=ROUNDING)
    return before == after


@contextmanager
def evolved(workspace: Evolved, names: Sequence[str]) -> Iterator[None]:
    """Under later code, committed."""
    before = workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    for name in names:
        EVOLUTIONS[name](workspace.root)
    commit_all(workspace, ", ".join(names))
    try:
        yield
    finally:
        workspace.run("git", "reset", "--quiet", "--hard", before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, campaigns: bool) -> Iterator[Evolved]:
    """Old versions under today's code; with campaigns, as many new ones after them."""
    folder = tmp_path_factory.mktemp("evolving")
    made = Evolved(unpack(ARCHIVES[-1], folder).root)
    upgrade(made)
    made.run("dvc", "pull", "data/demo.dvc")
    if campaigns:
        for seed in (11, 12, 13):
            made.params(distill={"seed": seed})
            commit_all(made, f"seed {seed}")
            made.iml("run", "--commit")
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def today(workspace: Evolved, campaigns: bool) -> dict[str, Any]:
    """What today's code answers."""
    return workspace.answers(ALL if campaigns else OLD)


def _check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    differs = {key: after[key] for key in before if not _same(before[key], after[key])}
    assert not differs, json.dumps(differs, indent=1)[:20_000]


@pytest.mark.parametrize(
    "names", [list(EVOLUTIONS), *([name] for name in EVOLUTIONS)], ids=["together", *EVOLUTIONS]
)
def test_later_code_answers_as_today(
    workspace: Evolved, today: dict[str, Any], campaigns: bool, names: list[str]
) -> None:
    if len(names) == 1 and not campaigns:
        pytest.skip("all at once in the normal suite; each one with --campaigns")
    with evolved(workspace, names):
        _check_same(today, workspace.answers(ALL if campaigns else OLD))


def test_later_code_replays_as_today(workspace: Evolved, campaigns: bool) -> None:
    if not campaigns:
        pytest.skip("trainings; run with --campaigns")
    before = workspace.replays(REPLAYED)
    assert {answer["likeness"] for answer in before.values()} <= {"bit-equal", "within tolerance"}
    with evolved(workspace, list(EVOLUTIONS)):
        _check_same(before, workspace.replays(REPLAYED))


def test_a_run_is_gated_by_what_it_wrote_where_outputs_have_moved(
    workspace: Evolved, campaigns: bool
) -> None:
    if not campaigns:
        pytest.skip("a training; run with --campaigns")
    with evolved(workspace, ["outputs_moved"]):
        outcome = workspace.say("run", "--commit")
    assert (outcome["registered"], outcome["promoted"]) == (True, True)
