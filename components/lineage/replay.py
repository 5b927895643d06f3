"""Making a version again: a fresh clone, its inputs, every stage forced, every output compared.

The clone has its own state folder, so that no cache replaces a stage. Nothing in the current
workspace is changed.

A replay runs the commands of the recorded commit, so only what a trusted key signed is made again:
the signature covers the record, and the record names the commit and every input by its hash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from components import workspace
from components.core.errors import CheckError, EvidenceError
from components.core.files import inside, write_bytes, write_text
from components.core.paths import WEIGHTS, state_dir
from components.lineage import record as recording
from components.lineage.audit import check
from components.lineage.difference import environment as compare_environment
from components.lineage.evidence import Evidence
from components.lineage.outputs import Difference, Match, compare
from components.lineage.verdict import Verdict
from components.registry import signing
from components.registry.layout import SIGNER
from components.workspace import history
from components.workspace.remote import Objects, listed

_WORSE = (Match.EQUAL, Match.CLOSE, Match.DIFFERENT)


@dataclass(frozen=True)
class Stage:
    """A stage made again; of a folder, `outputs` has the files that differ, or it if none does."""

    name: str
    outputs: list[Difference]

    @property
    def match(self) -> Match:
        """The worst of its outputs."""
        return max((out.match for out in self.outputs), key=_WORSE.index, default=Match.EQUAL)


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    `changes` are sentences: what differs in the environment, parameters and code.
    """

    model: str
    version: int
    stages: list[Stage]
    changes: list[str]

    @property
    def match(self) -> Match:
        """The worst of all stages."""
        return max((stage.match for stage in self.stages), key=_WORSE.index)

    @property
    def first(self) -> Stage | None:
        """The first stage that is not bit-equal."""
        return next((s for s in self.stages if s.match != Match.EQUAL), None)

    def sentence(self) -> str:
        """The outcome for people, with its likely cause."""
        name = f"{self.model}/{self.version}"
        if self.first is None:
            noted = f" These changes made no difference: {' '.join(self.changes[:3])}"
            return f"{name} was rebuilt bit for bit.{noted if self.changes else ''}"
        worst = max(self.first.outputs, key=lambda out: _WORSE.index(out.match))
        cause = " ".join(self.changes[:3]) or (
            "Environment, parameters and code match the record, so a stage is not deterministic."
        )
        return (
            f"{name} was rebuilt, {self.match}: stage {self.first.name} is the first to "
            f"differ, {worst.path}: {worst.how}. {cause}"
        )

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "likeness": self.match,
            "sentence": self.sentence(),
            "first_difference": self.first.name if self.first else None,
            "changes": self.changes,
            "stages": [
                {"name": s.name, "likeness": s.match, "outputs": [asdict(out) for out in s.outputs]}
                for s in self.stages
            ],
        }


def replay(
    evidence: Evidence,
    folder: Path,
    on_line: Callable[[str], None],
    *,
    threads: int | None = None,
) -> Replay:
    """Make a version again in an empty folder.

    Args:
        evidence: its evidence; inputs come from its remote.
        folder: becomes the clone.
        on_line: called with each line that a stage prints.
        threads: use this thread count instead of the recorded ones.

    Raises:
        CheckError: no trusted signature, or no record, commit or input to start from.
        components.workspace.StageError: a stage failed.
    """
    prepare(evidence, folder)
    changes = [] if threads is None else list(_set_threads(folder, threads))
    changes += _changes(evidence.record)
    stages = []
    with _inside(folder):
        for stage in evidence.record["stages"]:
            workspace.reproduce(stage["name"], on_line, force=True)
            stages.append(Stage(stage["name"], list(_compare(evidence.remote, stage))))
    return Replay(evidence.model, evidence.version, stages, changes)


def prepare(evidence: Evidence, folder: Path) -> None:
    """Clone the repository at the recorded commit and put the version's inputs in place.

    Raises:
        CheckError: no trusted key signed it; the commit or an input is missing, or was changed.
    """
    commit, root = evidence.record["git"]["commit"], evidence.repository
    if root is None or evidence.objects is None:
        raise CheckError("there is no git repository or DVC remote here", where=evidence.name)
    _require_signed(evidence)
    _require_photos(evidence)
    if not history.has_commit(root, commit):
        raise EvidenceError(history.absent(root), where=f"{evidence.name}, commit {commit}")
    # git checks out an object without hashing it, and a clone on one machine copies it so.
    if damage := history.damage(root):
        raise EvidenceError(damage[0], where="git repository", hint="see `iml audit`")
    history.clone(root.absolute(), folder)
    history.checkout(folder, commit)
    write_text(folder / "dvc.lock", evidence.record["dvc_lock"]["text"])
    for path, md5 in evidence.inputs().items():
        for name, digest in evidence.listing(path, md5).items():
            write_bytes(inside(folder, f"{path}/{name}"), evidence.remote.read(digest))


def _require_signed(evidence: Evidence) -> None:
    """Raises CheckError unless a trusted key signed the version's folder, the record in it."""
    lines = [f.line() for f in check("signature", evidence) if f.verdict != Verdict.VERIFIED]
    refusal = None if lines else signing.refusal(evidence.facts[SIGNER])
    if refusal:
        lines = [refusal.what]
    if lines:
        raise CheckError(
            f"not replayed, because that runs its commands: {lines[0]}",
            where=evidence.name,
            hint="put its signer's public key into the folder of trusted keys "
            "($IML_TRUSTED_KEYS), if you know and trust the signer; see docs/AUDIT.md",
        )


def _require_photos(evidence: Evidence) -> None:
    """Raises CheckError where photos or masks that it was made from have been erased."""
    stones = evidence.tombstones.objects
    read = [md5 for path in evidence.inputs() for md5 in evidence.input_files(path).values()]
    erased = [stones[md5] for md5 in evidence.remote.missing(read) if md5 in stones]
    if erased:
        photos = len({stone.sha256 for stone in erased})
        raise CheckError(
            f"cannot be replayed exactly: {photos} of its photos were erased, by tombstone "
            f"({erased[0].line()})",
            where=evidence.name,
            hint="`iml audit` verifies the rest; `iml run` makes a version without them",
        )


def _changes(record: dict[str, Any]) -> Iterator[str]:
    """What differs between the recorded environment and this one, and what cannot be replayed."""
    yield from compare_environment(record["environment"], recording.environment())
    if not record["git"]["clean"]:
        yield f"It was made with uncommitted changes ({', '.join(record['git']['dirty'][:5])})."


def _set_threads(folder: Path, threads: int) -> Iterator[str]:
    """Change every thread count of the clone's params.yaml; yields what changed."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, block in values.items():
        if isinstance(block, dict) and block.get("threads") not in (None, threads):
            yield (
                f"{name}.threads: {block['threads']} became {threads}; a different number of "
                "threads adds floats in a different order."
            )
            block["threads"] = threads
    write_text(path, yaml.safe_dump(values, sort_keys=False))


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in the clone with its own state folder; third-party weights are shared."""
    weights, own = state_dir() / WEIGHTS, folder.absolute() / ".state"
    own.mkdir()
    if weights.is_dir():
        (own / WEIGHTS).symlink_to(weights)
    before = os.environ.get("IML_STATE")
    os.environ["IML_STATE"] = str(own)
    try:
        with chdir(folder):
            yield
    finally:
        del os.environ["IML_STATE"]
        if before is not None:
            os.environ["IML_STATE"] = before


def _compare(objects: Objects, stage: dict[str, Any]) -> Iterator[Difference]:
    """Every output of a stage that has just run, against the recorded one."""
    made = {row["path"]: row for row in workspace.read_lock()["stages"][stage["name"]]["outs"]}
    for row in stage["outs"]:
        path = row["path"]
        if path not in made:
            yield Difference(path, Match.DIFFERENT, "was not made")
        elif made[path]["md5"] == row["md5"]:
            yield Difference(path, Match.EQUAL)
        elif row["md5"].endswith(".dir"):
            yield from _compare_folder(objects, path, row["md5"])
        else:
            yield compare(path, objects.read(row["md5"]), Path(path).read_bytes())


def _compare_folder(objects: Objects, path: str, md5: str) -> Iterator[Difference]:
    before = listed(objects.read(md5), path)
    after = {p.relative_to(path).as_posix() for p in Path(path).rglob("*") if p.is_file()}
    for name in sorted(before.keys() | after):
        place = f"{path}/{name}"
        if name not in before or name not in after:
            yield Difference(place, Match.DIFFERENT, "is in only one of the two")
            continue
        found = compare(place, objects.read(before[name]), Path(place).read_bytes())
        if found.match != Match.EQUAL:
            yield found
