"""The workspace, whose git, DVC and dvc.lock no other package calls or reads.

A workspace is the folder that holds params.yaml and dvc.yaml; every function works on the
current working directory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import psutil
import yaml

from components.core.errors import CheckError, ImlError, InputError
from components.core.files import held, read_json, sha256_bytes, write_json
from components.core.paths import DATA, RUN_LOCK, RUNNING, state_dir
from components.workspace import imports, remote
from components.workspace.processes import (
    call,
    drop_stale_locks,
    dvc,
    end_group,
    environment,
    same_group,
    started,
)

_REMOTES = {"demo": "--remote demo "}  # the demo's photos are in the repository
_FAILED = re.compile(r"^ERROR: failed to reproduce '[^']*': (.*)$")
_EXITED = re.compile(r"exited with (-?\d+)$")
_ERROR = re.compile(r"^error: (.+)$")
# A version depends on code with its data, DVC's configuration, and what Python imports.
_FOLDERS = ("components", "flows", ".dvc")
_FILES = ("params.yaml", "dvc.yaml", ".dvcignore", "pyproject.toml", "constraints.txt")
_MODULES = (".py", ".pyc", ".so")
# DVC's hints after every stage, for people who run it by hand.
_HINTS = re.compile(
    r"^(Updating|Generating) lock file |^To track the changes with git|^\tgit add |"
    r"^To enable auto staging|^\tdvc config core\.autostage|^Use `dvc push`"
)


class StageError(ImlError):
    """A stage failed; has its exit code (2 for bad input, else 1) and its last lines."""

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
        errors = [m.group(1) for line in self.last_lines if (m := _ERROR.match(line))]
        if errors:
            return errors[-1]
        if code < 0:
            return f"it was killed by signal {-code}; run the same command again, it resumes"
        return verdict if not _EXITED.search(verdict) else " | ".join(self.last_lines[-3:])


def git_commit() -> str:
    """The 40-digit id of HEAD; raises InputError where there is none that git reads."""
    try:
        return call("git", "rev-parse", "HEAD").strip()
    except CheckError as error:
        if "dubious ownership" in error.what:
            what = "git does not read a repository of another account"
            hint = f"if you trust it: `git config --global --add safe.directory {Path.cwd()}`"
        else:
            what = "this folder is not in a git repository that has a commit"
            hint = "start from a clone of the project, or run `git init` and commit"
        raise InputError(what, hint=hint) from None


def git_dirty() -> list[str]:
    """Changed and untracked files that a version depends on; empty in a clean workspace.

    `dvc.lock` does not count: the pipeline itself writes it, and the record holds its text.
    """
    commands = (
        ("ls-files", "--others", "--exclude-standard", "-z"),
        ("diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD"),
    )
    paths = {path for words in commands for path in call("git", *words).split("\0") if path}
    named: set[str] = set()  # files and folders that stages depend on or params.yaml names
    with suppress(InputError):  # no stage has run yet
        blocks = (read_lock().get("stages") or {}).values()
        named |= {row["path"] for block in blocks for row in block.get("deps", [])}
    with suppress(FileNotFoundError):
        named |= set(_texts(yaml.safe_load(Path("params.yaml").read_text("utf-8"))))
    return sorted(path for path in paths - {"dvc.lock"} if _counts(path, named))


def _counts(path: str, named: Collection[str]) -> bool:
    """Whether a change of a file, tracked by git or not, can change what a run makes.

    It can where a stage, an import or DVC reads it. A module outside the code's packages is
    imported only from the workspace's own folder, where it hides a library of its name.
    """
    place = PurePosixPath(path)
    top_level = len(place.parts) == 1 or (len(place.parts) == 2 and place.stem == "__init__")
    return (
        place.parts[0] in _FOLDERS
        or path in _FILES
        or place.suffix == ".dvc"
        or (place.suffix in _MODULES and top_level)
        or any(part in named for part in (path, *map(str, place.parents)))
    )


def _texts(values: Any) -> Iterator[str]:
    """Every text among nested values: file names are among them."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _texts(value)


def lock_text() -> str:
    """The text of dvc.lock; raises InputError when no stage has run yet."""
    try:
        return Path("dvc.lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("no such file", where="dvc.lock", hint="run `iml run`") from None


def lock_hash() -> str:
    """SHA-256 of dvc.lock."""
    return sha256_bytes(lock_text().encode())


def lock_committed() -> bool:
    """Whether HEAD holds dvc.lock as it is."""
    command = ("git", "show", "HEAD:./dvc.lock")
    done = subprocess.run(command, capture_output=True, check=False)
    return not done.returncode and done.stdout == lock_text().encode()


def read_lock() -> dict[str, Any]:
    """dvc.lock parsed: `{"schema": ..., "stages": {name: {cmd, deps, params, outs}}}`."""
    return yaml.safe_load(lock_text())


def stages() -> list[str]:
    """Stage names, each after those it depends on, from DVC's own graph."""
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

    Raises InputError: no git, no repository or commit in it, a data set that is absent, or one in
    S3 whose file does not fix every byte.
    """
    git_commit()
    for folder in (DATA / name for name in datasets):
        tracked = _tracked(folder.name)
        imported = imports.of(imports.read(tracked))
        if imported:
            imported.check(str(tracked))
        if folder.is_dir():
            continue
        if imported and (gone := imported.gone()):
            others = f", and {len(gone) - 1} more," if len(gone) > 1 else ""
            what = f"{imported.named(gone[0])}{others} cannot be fetched: no longer in S3"
            hint = f"restore it, or go on without it: `dvc update {tracked}`"
            raise InputError(what, where=str(folder), hint=hint)
        if tracked.exists():
            pull = f"dvc pull {_REMOTES.get(folder.name, '')}{tracked}"
            hint = f"fetch it with `{pull}`, or name another one in params.yaml"
        else:
            hint = "import it with `iml dataset import`, or name another one in params.yaml"
        raise InputError("the data set is absent", where=str(folder), hint=hint)


def _tracked(dataset: str) -> Path:
    return DATA / f"{dataset}.dvc"


def imported(dataset: str) -> str:
    """Where the photos of a data set stay in S3; empty for any other."""
    found = imports.of(imports.read(_tracked(dataset)))
    return found.url if found else ""


def require_own(folder: Path) -> None:
    """Raises InputError for a data set that stays in S3, since nothing is written there."""
    if url := imported(folder.name):
        hint = f"change it there, then `dvc update {_tracked(folder.name)}`"
        raise InputError(f"stays at {url}", where=str(folder), hint=hint)


def _targets(datasets: Iterable[str]) -> list[str]:
    """The pipeline and the .dvc files of its data sets; others are no concern of a run."""
    tracked = map(_tracked, datasets)
    return ["dvc.yaml", *(str(path) for path in tracked if path.exists())]


def changed(datasets: Iterable[str]) -> dict[str, Any]:
    """What has changed by `dvc status`, by stage or .dvc file; other data sets do not count."""
    elsewhere = [name for name in datasets if imported(name)]
    own = _targets(name for name in datasets if name not in elsewhere)
    found: dict[str, Any] = json.loads(dvc("status", "--json", *own))
    return found | (remote.differing(_targets(elsewhere)[1:]) if elsewhere else {})


def dvc_add(path: Path) -> None:
    """Track a data folder with DVC."""
    dvc("add", str(path))


def in_history(endings: Iterable[str]) -> str:
    """A file that a commit of any branch has and whose path ends like this; empty for none."""
    ends = tuple(endings)  # thousands of them, more than a command line takes
    found = call("git", "log", "--all", "--name-only", "--format=", "-z").split("\0")
    return next((path.strip() for path in found if path.endswith(ends)), "")


def push(datasets: Iterable[str]) -> None:
    """Copy the outputs of all stages, and the named data sets, to the default remote.

    Raises EvidenceError where it does not have every object afterwards.
    """
    targets = _targets(datasets)
    dvc("push", *targets)
    remote.fill(targets)


@contextmanager
def exclusive() -> Iterator[str | None]:
    """Hold the workspace: one run at a time; ends what a killed run left behind.

    Yields the stage in which the last run was killed, or None; raises CheckError when another run
    is working here.
    """
    with held(state_dir() / RUN_LOCK, "another run is working in this workspace"):
        killed_in = _end_leftover()
        drop_stale_locks()
        yield killed_in


def _running_file() -> Path:
    return state_dir() / RUNNING


def _end_leftover() -> str | None:
    """Kill what is left of a killed run's stage; the caller holds the lock."""
    path, stage = _running_file(), None
    if not path.exists():
        return None
    with suppress(InputError, KeyError, psutil.AccessDenied):
        left = read_json(path)
        stage = str(left["stage"])
        if same_group(left["pid"], left["birth"]):
            end_group(left["pid"])
    path.unlink(missing_ok=True)
    return stage


def reproduce(
    stage: str,
    on_line: Callable[[str], None],
    *,
    on_start: Callable[[], None] = lambda: None,
    force: bool = False,
) -> bool:
    """Bring one stage up to date in its own process group; True when it had to run.

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
        running = {"pid": process.pid, "birth": started(process.pid), "stage": stage}
        write_json(_running_file(), running)
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
    """Pass lines on; return the last twenty, and whether DVC ran the stage."""
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
