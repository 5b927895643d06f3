"""The demo's photos lie in the repository as a DVC remote: complete, and named by their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
OBJECTS = ROOT / "data/demo-remote/files/md5"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_every_object_has_the_bytes_of_its_name() -> None:
    for path in OBJECTS.rglob("*"):
        if path.is_file():
            assert md5(path.read_bytes()) == (path.parent.name + path.name).removesuffix(".dir")


def test_the_remote_holds_the_data_set_and_nothing_else() -> None:
    (out,) = yaml.safe_load((ROOT / "data/demo.dvc").read_text())["outs"]
    listing = OBJECTS / out["md5"][:2] / out["md5"][2:]
    rows = json.loads(listing.read_text())
    assert len(rows) == out["nfiles"]
    needed = {row["md5"] for row in rows} | {out["md5"]}
    there = {path.parent.name + path.name for path in OBJECTS.rglob("*") if path.is_file()}
    assert there == needed
    assert (
        sum((OBJECTS / m[:2] / m[2:]).stat().st_size for m in (r["md5"] for r in rows))
        == (out["size"])
    )
