"""Which photos are scored, from data sets and from importable folders."""

from __future__ import annotations

from pathlib import Path

import ingest_support
import numpy as np
import pandas as pd
import pytest
import yaml

from components.core.errors import InputError
from components.core.images import save_grey, save_photo
from components.core.params import parse
from components.data.manifest import Manifest
from components.evaluate.source import deciding, held_back, undecidable, unseen
from components.ingest.importing import import_dataset, opened

ROOT = Path(__file__).parents[3]

SETTINGS = ingest_support.SETTINGS.model_copy(update={"datasets": ["d"], "near_duplicate_bits": 0})


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten manipulated and ten authentic photos as `Sp/ Gt/ Au/`."""
    random = np.random.default_rng(0)
    source = tmp_path / "source"
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[5:20, 8:24] = 255
    for number in range(10):
        for name in ("Sp", "Au"):
            photo = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            save_photo(source / name / f"{name}{number}.png", photo)
        save_grey(source / "Gt" / f"Sp{number}_gt.png", mask)
    return source


def _split(source: Path, *names: str) -> None:
    """A split.csv that deals the photos out to the named splits in turn."""
    photos = sorted(p.relative_to(source).as_posix() for p in source.glob("[SA]?/*.png"))
    rows = [f"{names[n % len(names)]},{photo}," for n, photo in enumerate(photos)]
    (source / "split.csv").write_text("split,image,mask\n" + "\n".join(rows) + "\n")


def _held_back(source: Path, scratch: Path) -> tuple[int, str]:
    with opened(source, scratch, SETTINGS) as root:
        photos, which = held_back(root, SETTINGS)
        assert all((root / path).is_file() for path in photos.images["path"])
        assert set(photos.boxes["image_id"]) <= set(photos.images["image_id"])
    return len(photos.images), which


def test_without_a_split_all_photos_count(folders: Path, tmp_path: Path) -> None:
    assert _held_back(folders, tmp_path / "out") == (20, "all photos")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val", "test", "train"), (5, "test split")),
        (("train", "val"), (10, "test split")),  # import makes the only held-back part the test
        (("val",), (20, "val split")),
        (("test",), (20, "test split")),
        (("train",), (20, "all photos")),
    ],
)
def test_a_given_split_is_kept(folders: Path, tmp_path: Path, names, expected) -> None:
    _split(folders, *names)
    assert _held_back(folders, tmp_path / "out") == expected


def test_source_and_scratch_are_left_as_they_were(folders: Path, tmp_path: Path) -> None:
    before = sorted(folders.rglob("*"))
    _held_back(folders, tmp_path / "out")
    assert sorted(folders.rglob("*")) == before
    assert list((tmp_path / "out").iterdir()) == []


def _import(source: Path, out: Path) -> None:
    import_dataset(source, out, name=out.name, licence="none", source_name="made")


def test_data_set_is_used_where_it_lies(folders: Path, tmp_path: Path) -> None:
    _import(folders, tmp_path / "set")
    with opened(tmp_path / "set", tmp_path / "out", SETTINGS) as root:
        assert root == tmp_path / "set"


def test_the_data_set_we_train_on_gives_its_drawn_test_split_only(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d", "other"):
        _import(folders, tmp_path / "data" / name)
    photos, which = held_back(Path("data/d"), SETTINGS)
    assert which == "test split"
    assert set(photos.images["split"]) == {"test"}
    assert 0 < len(photos.images) < 20
    assert held_back(Path("data/other"), SETTINGS)[1] == "all photos"


def test_unusable_photos_are_named_unless_allowed(folders: Path, tmp_path: Path) -> None:
    (folders / "Au" / "Au3.png").write_bytes(b"not a photo")
    with pytest.raises(InputError, match=r"Au/Au3\.png: .*, 0 may be left out"):
        _held_back(folders, tmp_path / "out")
    allowed = SETTINGS.model_copy(update={"max_quarantined": 1})
    with opened(folders, tmp_path / "out", allowed) as root:
        assert len(held_back(root, allowed)[0].images) == 19


def test_unreadable_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(InputError, match="no annotations found"),
        opened(tmp_path / "empty", tmp_path / "out", SETTINGS),
    ):
        pass


def test_near_duplicates_of_training_photos_are_seen() -> None:
    hashes = [0x70, 0x73, 0xFF00, 0xF0F0F0F0F0F0F0F0]
    images = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "sha256": list("abcd"),
            "phash": [f"{value:016x}" for value in hashes],
        }
    )
    photos = Manifest(images, pd.DataFrame({"image_id": list("abcd")}))
    prepared = pd.DataFrame({"sha256": ["x", "c"], "phash": ["0" * 14 + "71", "f" * 16]})
    for split, bits, left in (("train", 1, "d"), ("val", 0, "abd"), ("test", 4, "abcd")):
        found = unseen(photos, prepared.assign(split=split), bits)
        assert "".join(found.images["sha256"]) == "".join(found.boxes["image_id"]) == left
    # Flat photos, as code of different times kept them, are only known by their bytes.
    for flat in (None, float("nan"), "0" * 16, "8" + "0" * 15):
        photos.images["phash"] = pd.Series([flat] * 4, dtype=object)
        plain = prepared.assign(split="train", phash=["0" * 16, None])
        assert "".join(unseen(photos, plain, 4).images["sha256"]) == "abd"


@pytest.mark.parametrize(
    ("labels", "masks", "said"),
    [
        ("maa", ["masks/a.png", None, None], None),
        ("mma", ["masks/a.png", None, None], None),
        ("mma", [None, None, None], "0 of 2 manipulated test photos have a true mask: nothing "
         "trained on this can be promoted; give masks for the test photos, or name another test "
         "set (evaluate.gate_dataset in params.yaml)"),
        ("aa", [None, None], "there is no manipulated test photo: nothing"),
        ("m", ["masks/a.png"], "there is no authentic test photo: nothing"),
        ("", [], "there is no manipulated test photo: nothing"),
    ],
)  # fmt: skip
def test_what_test_photos_lack_for_a_decision(
    labels: str, masks: list[str | None], said: str | None
) -> None:
    names = {"m": "manipulated", "a": "authentic"}
    images = pd.DataFrame({"label": [names[one] for one in labels], "mask_path": masks})
    why = undecidable(images)
    assert why is None if said is None else str(why).startswith(said)


@pytest.mark.parametrize(
    ("names", "photos"),
    [(("train", "val", "test", "train"), 5), (("val",), 20), (("train",), 20), ((), 20)],
)
def test_the_data_set_of_the_gates_needs_no_manifest(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple, photos: int
) -> None:
    if names:
        _split(folders, *names)
    monkeypatch.chdir(tmp_path)
    import_dataset(folders, Path("data/bench"), name="b", licence="none", source_name="made")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["evaluate"] |= {"datasets": ["demo", "bench"], "gate_dataset": "bench"}
    found = deciding(parse(values))
    expected = held_back(Path("data/bench"), SETTINGS)[0].images
    assert len(found) == photos == len(expected)
    assert list(found["mask_path"].notna()) == list(expected["mask_path"].notna())
    assert undecidable(found) is None
