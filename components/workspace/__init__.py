"""The workspace: this package is the only caller of git and dvc processes and reads dvc.lock.

A workspace is the folder that holds params.yaml and dvc.yaml; every function works on the
current working directory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from components.core.errors import CheckError, ImlError, InputError
from components.core.files import held, read_json, write_json
from components.core.paths import DATA, RUN_LOCK, RUNNING, state_dir
from components.workspace import uncommitted
from components.workspace.commands import call, dvc, environment
from components.workspace.processes import birth, end_group, same_group

_REMOTES = {"demo": "--remote demo "}  # the demo's photos lie in the repository
_FAILED = re.compile(r"^ERROR: failed to reproduce '[^']*': (.*)$")
_EXITED = re.compile(r"exited with (-?\d+)$")
_ERROR = re.compile(r"^error: (.+)$")
# What DVC says after every stage: hints for people who run it by hand.
_HINTS = re.compile(
    r"^(Updating|Generating) lock file |^To track the changes with git|^\tgit add |"
    r"^To enable auto staging|^\tdvc config core\.autostage|^Use `dvc push`"
)


class StageError(ImlError):
    """A stage failed; carries the stage's own exit code (2 for bad input) and its last lines."""

    def __init__(self, stage: str, last_lines: list[str]) -> None:
        verdicts = [m.group(1) for line in last_lines if (m := _FAILED.match(line))]
        verdict = verdicts[-1] if verdicts else ""
        exited = _EXITED.search(verdict)
        code = int(exited.group(1)) if exited else 2 if "does not exist" in verdict else 1
        self.exit_code = 2 if code == 2 else 1
        self.last_lines = [line for line in last_lines if not _FAILED.match(line)]
        super().__init__(self._why(code, verdict), where=f"stage {stage}")

    def _why(self, code: int, verdict: str) -> str:
        """Its own line where it failed as expected, else what ended it and its last lines."""
        said = [m.group(1) for line in self.last_lines if (m := _ERROR.match(line))]
        if said:
            return said[-1]
        if code < 0:
            return f"it was killed by signal {-code}; run the same command again, it resumes"
        return verdict if not _EXITED.search(verdict) else " | ".join(self.last_lines[-3:])


def git_commit() -> str:
    """The 40-digit id of HEAD."""
    return call("git", "rev-parse", "HEAD").strip()


def git_committed(path: str) -> bytes | None:
    """What HEAD holds under a path; None where it holds nothing."""
    done = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=False)
    return None if done.returncode else done.stdout


def git_dirty() -> list[str]:
    """Changed and untracked files that a version depends on; empty in a clean workspace.

    `dvc.lock` does not count: the pipeline itself writes it, and the record holds its text.
    """
    commands = (
        ("ls-files", "--others", "--exclude-standard", "-z"),
        ("diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD"),
    )
    paths = {path for words in commands for path in call("git", *words).split("\0") if path}
    named: set[str] = set()
    with suppress(InputError):  # no stage has run yet
        named |= uncommitted.dependencies(read_lock())
    with suppress(FileNotFoundError):
        named |= set(uncommitted.texts(yaml.safe_load(Path("params.yaml").read_text("utf-8"))))
    return sorted(path for path in paths - {"dvc.lock"} if uncommitted.counts(path, named))


def lock_text() -> str:
    """The text of dvc.lock; raises InputError when no stage has run yet."""
    try:
        return Path("dvc.lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("no such file", where="dvc.lock", hint="run `iml run`") from None


def lock_committed() -> bool:
    """Whether HEAD holds dvc.lock as it is."""
    return git_committed("dvc.lock") == lock_text().encode()


def read_lock() -> dict[str, Any]:
    """dvc.lock parsed: `{"schema": ..., "stages": {name: {cmd, deps, params, outs}}}`."""
    return yaml.safe_load(lock_text())


def stages() -> list[str]:
    """Stage names in an order in which each comes after those it depends on.

    Read from DVC's own graph, so there is no second list to keep.
    """
    import networkx as nx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        # DVC promises no public graph; this is the one place that reads it.
        with Repo() as repo:
            graph = repo.index.graph
            written = [stage.addressing for stage in repo.index.stages if hasattr(stage, "name")]
            names = nx.relabel_nodes(graph, lambda stage: stage.addressing).reverse()
    except DvcException as error:
        raise InputError(str(error), where="dvc.yaml") from None
    place = {name: number for number, name in enumerate(written)}
    order = nx.lexicographical_topological_sort(names, key=lambda name: place.get(name, -1))
    return [name for name in order if name in place]


def require(datasets: Iterable[str]) -> None:
    """Check what every run needs, before anything heavy is imported.

    Args:
        datasets: names of the data sets that the stages read.

    Raises:
        InputError: no git, no repository or commit in it, or a data set that is not there.
    """
    try:
        git_commit()
    except CheckError:
        raise InputError(
            "this folder is not in a git repository that has a commit",
            hint="start from a clone of the project, or run `git init` and commit",
        ) from None
    for folder in (DATA / name for name in datasets):
        if folder.is_dir():
            continue
        tracked = folder.with_name(f"{folder.name}.dvc")
        if tracked.exists():
            pull = f"dvc pull {_REMOTES.get(folder.name, '')}{tracked}"
            hint = f"fetch it with `{pull}`, or name another one in params.yaml"
        else:
            hint = "import it with `iml dataset import`, or name another one in params.yaml"
        raise InputError("the data set is absent", where=str(folder), hint=hint)


def _targets(datasets: Iterable[str]) -> list[str]:
    """The pipeline and the .dvc files of its data sets: what others track is not a run's affair."""
    tracked = [f"{DATA / name}.dvc" for name in datasets]
    return ["dvc.yaml", *(name for name in tracked if Path(name).exists())]


def changed(datasets: Iterable[str]) -> dict[str, Any]:
    """What `dvc status` says has changed, by stage or .dvc file; empty when nothing has.

    Args:
        datasets: names of the data sets that the stages read; others do not count.
    """
    return json.loads(dvc("status", "--json", *_targets(datasets)))


def dvc_add(path: Path) -> None:
    """Track a data folder with DVC."""
    dvc("add", str(path))


def push(datasets: Iterable[str]) -> None:
    """Copy the outputs of all stages, and the named data sets, to the default remote."""
    dvc("push", *_targets(datasets))


@contextmanager
def exclusive() -> Iterator[str | None]:
    """Hold the workspace: one run at a time; ends what a killed run left behind.

    Gives the stage in which the run before was killed, or None.

    Raises CheckError when another run is working here.
    """
    with held(state_dir() / RUN_LOCK, "another run is working in this workspace"):
        yield _end_leftover()


def _running_file() -> Path:
    return state_dir() / RUNNING


def _end_leftover() -> str | None:
    """Kill the process group of a stage whose run was killed; we hold the lock, so it is ours."""
    path = _running_file()
    if not path.exists():
        return None
    stage = None
    with suppress(InputError, KeyError, psutil.AccessDenied):
        left = read_json(path)
        stage = str(left["stage"])
        if same_group(left["pid"], left["birth"]):
            end_group(left["pid"])
    # DVC takes a dead process that nobody has collected yet for one that is at work.
    Path(".dvc/tmp/rwlock").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return stage


def reproduce(
    stage: str,
    on_line: Callable[[str], None],
    *,
    on_start: Callable[[], None] = lambda: None,
    force: bool = False,
) -> bool:
    """Bring one stage up to date in a process group of its own; True when it had to run.

    Args:
        stage: its name in dvc.yaml.
        on_line: called with each line the stage prints.
        on_start: called when DVC has found that it has to run.
        force: run it even where nothing has changed.

    Raises:
        StageError: the stage failed.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    command += ["--force"] if force else []
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment(),
        start_new_session=True,
    )
    try:
        born = birth(process.pid)
        write_json(_running_file(), {"pid": process.pid, "birth": born, "stage": stage})
        last, ran = _stream(process.stdout, stage, on_line, on_start)
        code = process.wait()
    except BaseException:
        end_group(process.pid, patience=2.0)
        process.wait()
        raise
    finally:
        _running_file().unlink(missing_ok=True)
    if code:
        raise StageError(stage, last)
    return ran


def _stream(
    output: IO[str] | None,
    stage: str,
    on_line: Callable[[str], None],
    on_start: Callable[[], None],
) -> tuple[list[str], bool]:
    """Pass lines on; keep the last twenty, and whether DVC said that it ran the stage."""
    last: deque[str] = deque(maxlen=20)
    ran = False
    for raw in output or ():
        line = raw.rstrip()
        if not line or _HINTS.match(line):
            continue
        if not ran and line == f"Running stage '{stage}':":
            ran = True
            on_start()
        last.append(line)
        on_line(line)
    return list(last), ran
