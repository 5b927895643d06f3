"""The DVC remote as a store: only what is an object's name leads to a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from components.workspace.remote import FOLDER, MissingError, Objects


def test_names_from_a_strangers_record_do_not_lead_out(tmp_path: Path) -> None:
    md5 = hashlib.md5(b"inside", usedforsecurity=False).hexdigest()
    place = tmp_path / "remote" / FOLDER / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    objects = Objects.of_folder(tmp_path / "remote")
    assert objects.read(md5) == b"inside"
    odd = ["../" * 4 + "secret", f"/{tmp_path}/secret", md5.upper(), f"{md5}x", ""]
    for name in odd:
        with pytest.raises(MissingError, match="is no object's name"):
            objects.read(name)
    assert objects.missing([md5, *odd]) == sorted(odd)
