"""Corruptions of the DVC remote: photos, boxes, masks, outputs, and the listings of folders."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import yaml
from corruptions_base import Corruption, Expected, flip
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lineage_support import MODEL, run

from components.core.files import sha256_bytes, sha256_json
from components.registry import tombstones
from components.registry.tombstones import Tombstone


def lock(root: Path) -> dict:
    """The stages of dvc.lock at version 1."""
    return yaml.safe_load(run(root, "git", "show", f"model/{MODEL}/v1:dvc.lock"))["stages"]


def objects(root: Path) -> dict[str, Path]:
    """Every object of version 1 in the remote, by what it is."""

    def place(md5: str) -> Path:
        return root / ".state/dvc-remote/files/md5" / md5[:2] / md5[2:]

    found: dict[str, Path] = {}
    for stage in lock(root).values():
        for row in [*stage["outs"], *(d for d in stage["deps"] if d["path"] == "data/made")]:
            found[row["path"]] = place(row["md5"])
            if row["md5"].endswith(".dir"):
                for entry in json.loads(place(row["md5"]).read_text()):
                    found[f"{row['path']}/{entry['relpath']}"] = place(entry["md5"])
    return found


def one_object(root: Path, draw: random.Random, *starts: str) -> tuple[str, Path]:
    """An object and the first of the paths that have it, by which an audit calls it."""
    every = sorted(objects(root).items())
    _, drawn = draw.choice([(name, path) for name, path in every if name.startswith(starts)])
    return next((name, path) for name, path in every if path == drawn)


ALL_DATA = {"data", "teacher", "backbone", "validation", "evaluation", "gates"}


def of_remote(name: str) -> str:
    """The kind of evidence that an output is."""
    endings = {
        ".onnx": "ONNX",
        ".safetensors": "weights",
        ".png": "masks",
        "boxes.parquet": "boxes",
    }
    return next((kind for end, kind in endings.items() if name.endswith(end)), "remote objects")


def photo_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/photos/")
    flip(path, draw)
    return Expected({"data"}, name, "photos")


def mask_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/masks/", "runs/pseudo_label/masks/")
    flip(path, draw)
    # All the true masks here are one object, under the name of one of them.
    return Expected({"data"}, name.rpartition("/")[0], "masks")


def boxes_edited(root: Path, draw: random.Random) -> Expected:
    path = objects(root)["data/made/boxes.json"]
    index = json.loads(path.read_text())
    index["images"][draw.randrange(len(index["images"]))]["label"] = "x"
    path.chmod(0o644)
    path.write_text(json.dumps(index))
    return Expected({"data"}, "data/made", "boxes")


def boxes_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "runs/prepare/boxes.parquet")
    flip(path, draw)
    return Expected({"data"}, name, "boxes")


def licence_edited(root: Path, draw: random.Random) -> Expected:
    path = objects(root)["data/made/dataset.yaml"]
    path.chmod(0o644)
    path.write_text(path.read_text().replace("CC0-1.0", "CC0-9.0"))
    return Expected({"data"}, "data/made", "remote objects")


def listing_edited(root: Path, draw: random.Random) -> Expected:
    name = draw.choice(["data/made", "runs/pseudo_label/masks"])
    path = objects(root)[name]
    rows = json.loads(path.read_text())
    del rows[draw.randrange(len(rows))]
    path.chmod(0o644)
    path.write_text(json.dumps(rows))
    return Expected({"data"}, name, "remote objects")


def output_flipped(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "runs/")
    flip(path, draw)
    return Expected(ALL_DATA, name.partition("/masks/")[0], of_remote(name))


def object_deleted(root: Path, draw: random.Random) -> Expected:
    _, path = one_object(root, draw, "data/", "runs/")
    md5 = path.parent.name + path.name
    path.unlink()
    return Expected(ALL_DATA, md5, "deletions", gone=True)


def objects_swapped(root: Path, draw: random.Random) -> Expected:
    (name, one), (_, other) = draw.sample(
        [o for o in sorted(objects(root).items()) if o[0].startswith("data/made/photos/")], 2
    )
    first, second = one.read_bytes(), other.read_bytes()
    for path, data in ((one, second), (other, first)):
        path.chmod(0o644)
        path.write_bytes(data)
    return Expected({"data"}, name, "files swapped")


def object_of_equal_size(root: Path, draw: random.Random) -> Expected:
    name, path = one_object(root, draw, "data/made/photos/", "runs/export/", "runs/distill/")
    path.chmod(0o644)
    path.write_bytes(draw.randbytes(path.stat().st_size))
    return Expected(ALL_DATA, name, "files swapped")


def _stone(root: Path, draw: random.Random) -> tuple[str, Path, dict]:
    """The name and object of a photo of version 1, and a signed tombstone of it, in place."""
    name, path = one_object(root, draw, "data/made/photos/")
    data = path.read_bytes()
    stone = Tombstone(
        dataset="made", name_sha256=sha256_bytes(name.encode()), sha256=sha256_bytes(data),
        md5=path.parent.name + path.name, size=len(data), objects=(path.parent.name + path.name,),
        listings=(), files={}, versions={}, reason="asked for", who="x",
        when="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    written = tombstones.write(stone)
    return name, path, json.loads(written.read_text())


def tombstone_forged(root: Path, draw: random.Random) -> Expected:
    """The photo is gone; its tombstone was edited, or is signed by a key of the forger's."""
    _, path, stone = _stone(root, draw)
    path.unlink()
    place = root / "tombstones" / f"{stone['sha256']}.json"
    foreign = draw.random() < 0.5
    if foreign:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        del stone["signature"]
        stone["signing_key"] = sha256_bytes(public)
        text = f"tombstone {sha256_json(stone)}\n".encode()
        signature = key.sign(text, ec.ECDSA(hashes.SHA256()))
        stone["signature"] = base64.b64encode(signature).decode()
    else:
        stone["reason"] = "lost"
    place.write_text(json.dumps(stone))
    return Expected({"data"}, f"tombstones/{place.name}", "deletions", gone=foreign)


def tombstone_of_a_photo_that_is_there(root: Path, draw: random.Random) -> Expected:
    name, _, _ = _stone(root, draw)
    return Expected({"data"}, name, "photos")


REMOTE: list[Corruption] = [
    photo_flipped, mask_flipped, boxes_edited, boxes_flipped, licence_edited, listing_edited,
    output_flipped, object_deleted, objects_swapped, object_of_equal_size,
    tombstone_forged, tombstone_of_a_photo_that_is_there,
]  # fmt: skip
