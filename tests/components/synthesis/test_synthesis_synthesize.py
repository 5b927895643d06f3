"""A whole data set: bytes from the seed, exact masks, honest boxes, nothing half-made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.core.images import open_mask, open_photo
from components.core.seeds import generator
from components.data import dataset
from components.synthesis import compose
from components.synthesis.paste import bounds
from components.synthesis.sources import deal, open_base, open_cutout
from components.synthesis.synthesize import encode, published, recorded, synthesize

Make = Callable[..., np.ndarray]
Sources = tuple[list[Path], list[Path]]


def _synthesize(out: Path, sources: Sources, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "manipulated": 20,
        "authentic": 10,
        "seed": 7,
        "jitter": 0.1,
        "licence": "CC0-1.0",
        "source": "made in a test",
        "size": (168, 112),
        "workers": 1,
    }
    photos, cutouts = sources
    synthesize(out, photos, cutouts, **{**arguments, **changes})
    return out


def _bytes(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Path:
    return _synthesize(tmp_path_factory.mktemp("made") / "demo", sources)


def test_same_bytes_whatever_the_workers_and_the_listing(
    made: Path, sources: Sources, tmp_path: Path
) -> None:
    turned = (sources[0][::-1], sources[1][::-1])
    again = _synthesize(tmp_path / "demo", turned, workers=2)
    assert _bytes(again) == _bytes(made)


def test_another_seed_gives_other_photos(made: Path, sources: Sources, tmp_path: Path) -> None:
    other = _synthesize(tmp_path / "demo", sources, seed=8, manipulated=3, authentic=2)
    before = {path.read_bytes() for path in (made / "photos").iterdir()}
    assert not before & {path.read_bytes() for path in (other / "photos").iterdir()}


def test_the_folder_is_a_data_set(made: Path) -> None:
    found = dataset.load(made)
    assert (found.name, found.licence, found.source) == ("demo", "CC0-1.0", "made in a test")
    assert (found.boxes, found.split) == ("given", "grouped")
    labels = Counter(image["label"] for image in found.images)
    assert labels == {"manipulated": 20, "authentic": 10}
    assert len(list((made / "photos").iterdir())) == 30
    assert len(list((made / "masks").iterdir())) == 20
    for image in found.images:
        height, width = open_photo(made / "photos" / image["file_name"]).shape[:2]
        assert (image["width"], image["height"]) == (width, height)
        assert {width, height} == {168, 112}


def test_all_kinds_are_there_and_only_manipulated_photos_have_any(made: Path) -> None:
    kinds = Counter(image.get("kind") for image in dataset.load(made).images)
    assert kinds[None] == 10
    assert set(kinds) == {None, "splice", "copy-move", "removal"}
    assert kinds["splice"] >= 10


def test_masks_are_binary_and_boxes_contain_them_within_the_jitter(made: Path) -> None:
    found = dataset.load(made)
    for image in found.images:
        boxes = [row for row in found.annotations if row["image_id"] == image["id"]]
        if image["label"] == "authentic":
            assert "mask" not in image
            assert not boxes
            continue
        with Image.open(made / image["mask"]) as file:
            assert set(np.unique(np.asarray(file))) == {0, 255}
        mask = open_mask(made / image["mask"])
        assert mask.shape == (image["height"], image["width"])
        assert 0.01 <= mask.mean() <= 0.3
        covered = np.zeros_like(mask)
        for row in boxes:
            x, y, width, height = row["bbox"]
            assert row["annotator"] == "simulated"
            assert "seconds" not in row
            assert 0 <= x < x + width <= image["width"] + 0.01
            assert 0 <= y < y + height <= image["height"] + 0.01
            inside = np.zeros_like(mask)
            inside[int(np.ceil(y)) : int(y + height), int(np.ceil(x)) : int(x + width)] = True
            covered |= inside
            x0, y0, x1, y1 = bounds(mask & inside)
            if len(boxes) == 1:
                assert max(x0 - x, x + width - x1) <= 0.1 * (x1 - x0) + 0.02
                assert max(y0 - y, y + height - y1) <= 0.1 * (y1 - y0) + 0.02
        assert covered[mask].all()


def test_no_jitter_gives_tight_boxes(sources: Sources, tmp_path: Path) -> None:
    out = _synthesize(tmp_path / "tight", sources, jitter=0.0, manipulated=6, authentic=0)
    found = dataset.load(out)
    for image in found.images:
        boxes = [row["bbox"] for row in found.annotations if row["image_id"] == image["id"]]
        if len(boxes) == 1:
            x0, y0, x1, y1 = bounds(open_mask(out / image["mask"]))
            assert boxes[0] == [x0, y0, x1 - x0, y1 - y0]


def test_both_labels_are_saved_at_many_qualities(made: Path) -> None:
    for label in ("manipulated", "authentic"):
        tables = set()
        for image in dataset.load(made).images:
            if image["label"] == label:
                with Image.open(made / "photos" / image["file_name"]) as file:
                    tables.add(str({k: list(v) for k, v in file.quantization.items()}))
        assert len(tables) >= 5, label


def test_a_small_data_set_uses_the_same_photos_for_both_labels(
    sources: Sources, tmp_path: Path
) -> None:
    out = _synthesize(tmp_path / "small", sources, manipulated=3, authentic=3)
    images = dataset.load(out).images
    assert [i["source"] for i in images[:3]] == [i["source"] for i in images[3:]]
    assert [i["label"] for i in images] == ["manipulated"] * 3 + ["authentic"] * 3


def test_both_labels_come_from_the_same_photos_and_groups(made: Path) -> None:
    images = dataset.load(made).images
    of = {
        label: {(image["source"], image["group"]) for image in images if image["label"] == label}
        for label in ("authentic", "manipulated")
    }
    assert of["authentic"] <= of["manipulated"]
    groups = {}
    for image in images:
        assert groups.setdefault(image["source"], image["group"]) == image["group"]
    assert len(set(groups.values())) == 4  # eight photos in pairs


def test_the_manipulated_pixels_stand_out_from_the_compression(
    sources: Sources, tmp_path: Path
) -> None:
    """With the same draws, the photo with and without its manipulation differ in the mask only."""
    group = deal(*sources, 7)[0]
    photo = open_base(group.photos[0], (168, 112), generator(1, "base"))
    cutout = open_cutout(group.cutouts[0])
    composition = compose.splice(photo, [cutout], generator(2, "splice"))
    assert composition is not None
    for name, pixels in (("with", composition.photo), ("without", photo)):
        (tmp_path / f"{name}.jpg").write_bytes(encode(pixels, 90))
    with_it, without = (
        open_photo(tmp_path / f"{name}.jpg").astype(int) for name in ("with", "without")
    )
    difference = np.abs(with_it - without).mean(axis=2)
    x0, y0, x1, y1 = bounds(composition.touched)
    far = np.ones(difference.shape, bool)
    far[max(0, y0 - 18) : y1 + 18, max(0, x0 - 18) : x1 + 18] = False  # JPEG works in 16x16 blocks
    assert far.any()
    assert difference[far].max() == 0
    assert difference[composition.mask].mean() > 5


def test_progress_counts_to_the_end(sources: Sources, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    _synthesize(
        tmp_path / "few",
        sources,
        manipulated=2,
        authentic=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_with_something_in_it_is_left_alone(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "boxes.json").write_text("mine")
    with pytest.raises(InputError, match="already exists and is not empty"):
        _synthesize(tmp_path / "kept", sources)
    assert (tmp_path / "kept" / "boxes.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    (tmp_path / "empty").mkdir()
    _synthesize(tmp_path / "empty", sources, manipulated=1, authentic=1)
    assert (tmp_path / "empty" / "boxes.json").is_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_photo_stops_it_and_leaves_nothing(
    workers: int, sources: Sources, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        _synthesize(tmp_path / "out", ([*sources[0], broken], sources[1]), workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.jpg"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"manipulated": 0, "authentic": 0}, "0 manipulated and 0 authentic"),
        ({"manipulated": -1}, "-1 manipulated"),
        ({"jitter": 0.7}, "jitter 0.7"),
        ({"jitter": float("nan")}, "jitter nan"),
        ({"size": (100, 200)}, "size 100x200"),
    ],
)
def test_wrong_wishes(
    changes: dict[str, Any], complaint: str, sources: Sources, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=complaint):
        _synthesize(tmp_path / "out", sources, **changes)
    assert not list(tmp_path.iterdir())


def test_a_cutout_without_alpha_is_refused_before_any_work(
    sources: Sources, tmp_path: Path
) -> None:
    seen: list[int] = []
    cutouts = [*sources[1], sources[0][0]]
    with pytest.raises(InputError, match="without transparency"):
        _synthesize(
            tmp_path / "out", (sources[0], cutouts), progress=lambda done, total: seen.append(done)
        )
    assert not seen
    assert not list(tmp_path.iterdir())


def _tables(data: bytes) -> dict[int, list[int]]:
    with Image.open(BytesIO(data)) as image:
        return {key: list(table) for key, table in image.quantization.items()}


def test_the_draws_depend_on_the_stream_alone(make_photo: Make) -> None:
    """Two different photos, one stream: the same JPEG tables, so the tables tell nothing."""
    seen = set()
    for seed in range(10):
        first, second = (
            _tables(published(make_photo(photo), generator(seed, "publish"))) for photo in (1, 2)
        )
        assert first == second
        seen.add(str(first))
    assert len(seen) > 4


def test_size_is_kept_and_the_photo_stays_itself(make_photo: Make) -> None:
    photo = make_photo(4, height=101, width=151)
    for seed in range(12):
        with Image.open(BytesIO(published(photo, generator(seed, "size")))) as image:
            assert image.format == "JPEG"
            result = np.asarray(image)
        assert result.shape == photo.shape
        assert np.abs(result.astype(int) - photo).mean() < 10


def test_a_recorded_photo_has_been_a_jpeg_once(make_photo: Make) -> None:
    photo = make_photo(5)
    made = recorded(photo, generator(1, "record"))
    assert made.shape == photo.shape
    assert 0 < np.abs(made.astype(int) - photo).mean() < 8
