"""Corruptions of the two histories: the ledger's rows and git's commits."""

from __future__ import annotations

import random
import zlib
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from corruptions_base import Corruption, Expected, flip, sql
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lineage_support import MODEL, commit, run

from components.registry import checkpoints, row_signatures, signing
from components.registry.chain import Row, digest
from components.registry.signing import Signer


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


def rewritten(root: Path, draw: random.Random, signer: Signer, time: str | None = None) -> None:
    """Another reason in the last row, signed; MLflow's note of it is changed too."""
    row = ledger(root)[-1]
    new = replace(row, reason=f"{row.reason}!", signing_key=signer.mark, time=time or row.time)
    new = replace(new, hash=digest(asdict(new)))
    stored(root, row_signatures.sign(new, signer))


def stored(root: Path, row: Row) -> None:
    """The last row, and MLflow's note of it."""
    sql(root, "DELETE FROM ledger WHERE sequence = ?", row.sequence, ledger=True)
    values = asdict(row)
    marks = ", ".join("?" * len(values))
    names = ", ".join(values)
    sql(root, f"INSERT INTO ledger ({names}) VALUES ({marks})", *values.values(), ledger=True)
    note(root, row)


def note(root: Path, row: Row) -> None:
    text = f"{row.sequence}:{row.hash}"
    sql(root, "UPDATE registered_model_tags SET value = ? WHERE key = 'ledger_head'", text)


def another_key(root: Path, trusted: str) -> Signer:
    """A second key, trusted in this folder, as whoever holds it loads it."""
    with pytest.MonkeyPatch.context() as patch:
        place = root / ".state/another.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        place.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        place.chmod(0o600)
        patch.setenv(signing.KEY, str(place))
        patch.setenv(signing.TRUSTED, str(root / trusted))
        return signing.signer()


def row_signed_by_another(root: Path, draw: random.Random) -> Expected:
    with pytest.MonkeyPatch.context() as patch:  # the attacker trusts herself
        signer = another_key(root, ".state/of-another")
        patch.setenv(signing.TRUSTED, str(root / ".state/of-another"))
        rewritten(root, draw, signer)
    return Expected({"ledger", "gates"}, "signed by the key", "ledger rows", gone=True)


def row_back_dated(root: Path, draw: random.Random) -> Expected:
    """The key was limited and another one followed; its thief signs a row of the day before."""
    rows, old = ledger(root), signing.signer()
    born = datetime.fromisoformat(rows[-1].time)
    day = timedelta(days=draw.randrange(2, 90))
    rewritten(root, draw, another_key(root, ".state/keys/trusted"), (born + day).isoformat())
    last = ledger(root)[-1]
    values = {"sequence": last.sequence + 1, "previous_hash": last.hash, "time": rows[-1].time}
    new = replace(last, **values, signing_key=old.mark)
    new = replace(new, hash=digest(asdict(new)))
    stored(root, row_signatures.sign(new, old))
    rules = f"valid_until: {(born + timedelta(days=1)).isoformat()}"
    signing.place(old.mark).with_suffix(".yaml").write_text(rules)
    named = f"row {new.sequence} ({new.event} version {new.version}) should not have been signed"
    return Expected({"ledger", "gates", "alias"}, named, "ledger rows")


def another_history(root: Path, draw: random.Random) -> Expected:
    """Who has the key and both databases shows this auditor other rows than the last one."""
    checkpoints.publish(ledger(root))
    rewritten(root, draw, signing.signer())
    return Expected({"ledger", "gates"}, "or this is another history", "ledger rows")


def end_cut_off(root: Path, draw: random.Random) -> Expected:
    rows = ledger(root)
    checkpoints.publish(rows)
    sql(root, "DELETE FROM ledger WHERE sequence = ?", rows[-1].sequence, ledger=True)
    note(root, rows[-2])
    return Expected({"ledger", "alias", "gates"}, "the last ones were cut off", "deletions")


def checkpoint_forged(root: Path, draw: random.Random) -> Expected:
    """The end is cut off, and its checkpoint says so."""
    rows = ledger(root)
    checkpoints.publish(rows)
    place = root / f"checkpoints/{MODEL}/{len(rows):08}.txt"
    place.write_text(place.read_text().replace(f"\n{len(rows)}\n", f"\n{len(rows) - 1}\n"))
    sql(root, "DELETE FROM ledger WHERE sequence = ?", rows[-1].sequence, ledger=True)
    note(root, rows[-2])
    return Expected({"ledger", "alias", "gates"}, "was not signed by the key", "signature")


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
    row_edited, row_deleted, ledger_rewritten, row_signed_by_another, row_back_dated,
    another_history, end_cut_off, checkpoint_forged, witness_edited, history_rewritten,
    history_gone, history_edited, tag_moved, git_object_flipped, git_object_edited,
]  # fmt: skip
