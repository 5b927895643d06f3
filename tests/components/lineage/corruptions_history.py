"""Corruptions of the two histories: the ledger's rows and git's commits."""

from __future__ import annotations

import random
import zlib
from dataclasses import asdict, replace
from pathlib import Path

from corruptions_base import Corruption, Expected, flip, sql
from lineage_support import MODEL, commit, run

from components.registry.chain import Row, digest


def row_edited(root: Path, draw: random.Random) -> Expected:
    number = draw.randrange(1, 4)
    column, value = draw.choice(
        [("actor", "eve"), ("reason", "because"), ("time", "2020-01-01T00:00:00+00:00"),
         ("evidence", '{"files": {}}'), ("event", "rejected"), ("previous_hash", "1" * 64)]
    )  # fmt: skip
    sql(root, f"UPDATE ledger SET {column} = ? WHERE sequence = ?", value, number, ledger=True)
    return Expected({"ledger", "alias", "gates"}, f"row {number}", "ledger rows")


def row_deleted(root: Path, draw: random.Random) -> Expected:
    last = len(ledger(root))
    number = draw.randrange(1, last + 1)
    sql(root, "DELETE FROM ledger WHERE sequence = ?", number, ledger=True)
    named = "rows after" if number == last else f"row {number} is missing"
    return Expected({"ledger", "alias", "gates"}, named, "deletions")


def ledger(root: Path) -> list[Row]:
    names = ", ".join(Row.__dataclass_fields__)
    found = sql(root, f"SELECT {names} FROM ledger ORDER BY sequence", ledger=True)
    return [Row(*row) for row in found]


def ledger_rewritten(root: Path, draw: random.Random) -> Expected:
    """Another reason, and every hash after it computed again: a chain without a break."""
    rows = ledger(root)
    start = draw.randrange(len(rows))
    before = rows[start - 1].hash if start else rows[0].previous_hash
    for row in rows[start:]:
        changed = replace(row, previous_hash=before, reason=f"{row.reason}!")
        before = digest(asdict(changed))
        sql(
            root,
            "UPDATE ledger SET reason = ?, previous_hash = ?, hash = ? WHERE sequence = ?",
            changed.reason, changed.previous_hash, before, row.sequence, ledger=True,
        )  # fmt: skip
    return Expected({"ledger", "gates"}, "is not the one that the registry has seen", "ledger rows")


def witness_edited(root: Path, draw: random.Random) -> Expected:
    sql(
        root,
        "UPDATE registered_model_tags SET value = ? WHERE key = 'ledger_head'",
        f"2:{'0' * 64}",
    )
    return Expected({"ledger"}, "the registry has seen", "MLflow tags")


def history_rewritten(root: Path, draw: random.Random) -> Expected:
    """The same files under a new history; the old commit is still in the object store."""
    run(root, "git", "checkout", "--quiet", "--orphan", "clean")
    commit(root, "start over")
    run(root, "git", "branch", "-D", "main")
    run(root, "git", "tag", "-d", f"model/{MODEL}/v1")
    return Expected({"commit"}, "history was rewritten", "git history")


def history_gone(root: Path, draw: random.Random) -> Expected:
    history_rewritten(root, draw)
    run(root, "git", "reflog", "expire", "--expire=now", "--all")
    run(root, "git", "gc", "--quiet", "--prune=now")
    links = {"commit", "stages", "dvc.lock"}
    return Expected(links, "not in the git repository", "git history", gone=True)


def tag_moved(root: Path, draw: random.Random) -> Expected:
    run(root, "git", "tag", "-f", f"model/{MODEL}/v1", "HEAD")
    return Expected({"commit"}, f"model/{MODEL}/v1", "git history")


EDITS = {"params.yaml": (b"seed: 7", b"seed: 9"), "dvc.lock": (b"size: ", b"size: 9")}
FILES = {"params.yaml": "params", "dvc.lock": "dvc.lock"}


def history_edited(root: Path, draw: random.Random) -> Expected:
    """Another params.yaml or dvc.lock in version 1's commit; branch and tag follow."""
    name = draw.choice(sorted(EDITS))
    run(root, "git", "checkout", "--quiet", "--orphan", "clean")
    run(root, "git", "checkout", f"model/{MODEL}/v1", "--", *EDITS)
    path = root / name
    path.write_bytes(path.read_bytes().replace(*EDITS[name]))
    commit(root, "start over")
    run(root, "git", "branch", "-D", "main")
    run(root, "git", "tag", "-f", f"model/{MODEL}/v1")
    return Expected({"commit"}, "history was rewritten", FILES[name])


def blob(root: Path, name: str) -> tuple[str, Path]:
    """The git object of a file of version 1: its id, and where it lies."""
    found = run(root, "git", "rev-parse", f"model/{MODEL}/v1:{name}").strip()
    return found, root / ".git/objects" / found[:2] / found[2:]


def git_object_flipped(root: Path, draw: random.Random) -> Expected:
    """A file's content in git: zlib and SHA-1 both notice."""
    name = draw.choice(["params.yaml", "dvc.lock", "dvc.yaml", "components/core/params.py"])
    found, path = blob(root, name)
    flip(path, draw)
    return Expected({"commit", "stages", "dvc.lock"}, found, FILES.get(name, "git history"))


def git_object_edited(root: Path, draw: random.Random) -> Expected:
    """Another content under the id of the first: SHA-1 alone notices."""
    name = draw.choice(sorted(EDITS))
    found, path = blob(root, name)
    data = zlib.decompress(path.read_bytes()).partition(b"\0")[2].replace(*EDITS[name])
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob %d\0" % len(data) + data))
    return Expected({"commit", "stages", "dvc.lock"}, found, FILES[name])


HISTORY: list[Corruption] = [
    row_edited, row_deleted, ledger_rewritten, witness_edited, history_rewritten, history_gone,
    history_edited, tag_moved, git_object_flipped, git_object_edited,
]  # fmt: skip
