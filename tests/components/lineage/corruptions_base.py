"""What all corruptions share: what an audit must say of one, and a bit that flips."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Every kind of evidence that a campaign must have touched.
EVIDENCE = (
    "photos", "boxes", "masks", "params", "dvc.lock", "weights", "ONNX", "record", "MLflow tags",
    "MLflow metrics", "MLflow artifacts", "ledger rows", "signature", "alias", "remote objects",
    "deletions", "files swapped", "git history",
)  # fmt: skip


class Expected(NamedTuple):
    """A finding on one of `links` must name `named`; no other link may be called broken.

    `evidence` is the kind that was corrupted, of EVIDENCE. The finding must be `broken`, unless
    something is `gone`: then it may say what is missing.
    """

    links: set[str]
    named: str
    evidence: str
    gone: bool = False


Corruption = Callable[[Path, random.Random], Expected]


def flip(path: Path, draw: random.Random) -> None:
    """Flip one bit; the size stays."""
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    data[place] ^= 1 << draw.randrange(8)
    path.chmod(0o644)
    path.write_bytes(data)


def sql(root: Path, statement: str, *values: object, ledger: bool = False) -> list[tuple]:
    """One statement on MLflow's or the ledger's database."""
    name = ".state/ledger.db" if ledger else ".state/mlflow/mlflow.db"
    with sqlite3.connect(root / name) as database:
        return list(database.execute(statement, values))
