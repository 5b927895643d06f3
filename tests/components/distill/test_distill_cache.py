from __future__ import annotations

import dataclasses
import resource
from concurrent.futures import ThreadPoolExecutor, wait

import grimp
import numpy as np
import pandas as pd
import pytest
from edits import behind, edited

from components.core.errors import InputError
from components.core.images import open_photo, save_grey, save_photo
from components.data.manifest import Manifest
from components.distill.cache import CODE, data_key, decoded, kept_size
from components.distill.examples import annotation_hours, counts, weigh
from components.synthesis.degrade import recompress


def test_rows_are_photos_and_masks_at_their_own_size(made, tmp_path, settings):
    data = decoded(made.examples(), settings(), tmp_path / "cache")
    assert data.photos.shape == (14, 96, 96, 3)
    assert data.masks.shape == (14, 96, 96)
    assert list(data.train) == list(range(10))
    assert list(data.val) == [10, 11, 12, 13]
    assert list(data.manipulated) == [True, False] * 7
    frame = made.manifest.images
    for row, manipulated in enumerate(data.manipulated):
        photo, mask = data.photo(row)
        assert photo.shape[:2] == mask.shape == kept_size(*frame.loc[row, ["width", "height"]], 96)
        assert (mask.max() > 200) == manipulated
        if manipulated:  # the square is where the photo is bright
            assert photo[mask > 220].mean() > 180
            assert photo[mask == 0].mean() < 120
    assert counts(made.examples()) == {
        "train_manipulated": 5,
        "train_authentic": 5,
        "val_manipulated": 2,
        "val_authentic": 2,
        "pool": 0,
    }


def test_both_kinds_of_photo_are_saved_once_more(made, tmp_path, settings):
    """Authentic and manipulated alike, at a quality that says nothing of the kind."""
    examples = made.examples()
    data = decoded(examples, settings(zoom=2.0), tmp_path / "cache")
    qualities = set()
    for row, example in enumerate(examples):
        quality = 70 + int(example.sha256[:8], 16) % 26
        original = open_photo(example.photo)
        assert np.array_equal(data.photo(row)[0], recompress(original, quality))
        assert not np.array_equal(data.photo(row)[0], original)
        qualities.add((example.mask is None, quality))
    assert len(qualities) > 8


def test_second_time_nothing_is_decoded(made, tmp_path, settings):
    seen = []
    first = decoded(
        made.examples(), settings(), tmp_path / "cache", lambda *step: seen.append(step)
    )
    assert seen[-1] == (14, 14)
    seen.clear()
    again = decoded(
        made.examples(), settings(), tmp_path / "cache", lambda *step: seen.append(step)
    )
    assert seen == []
    assert np.array_equal(first.photos, again.photos)


@pytest.mark.parametrize("how", ["changed", "truncated", "lost"])
def test_damaged_cache_is_made_again(made, tmp_path, how, settings):
    first = decoded(made.examples(), settings(), tmp_path / "cache")
    wanted = np.array(first.photos)
    path = tmp_path / "cache" / first.key / "photos.npy"
    data = bytearray(path.read_bytes())
    if how == "lost":
        path.unlink()
    else:
        data[-1] ^= 255
        path.write_bytes(data if how == "changed" else data[:1000])
    assert np.array_equal(decoded(made.examples(), settings(), tmp_path / "cache").photos, wanted)


def test_a_second_process_waits_and_harms_nothing(made, tmp_path, settings):
    """The first one's temporary folder is not taken for one of a killed run."""
    examples, root = made.examples(), tmp_path / "cache"
    with ThreadPoolExecutor(1) as pool:
        others = []

        def progress(done: int, total: int) -> None:
            if done == 1:
                others.append(pool.submit(decoded, examples, settings(zoom=2.0), root))
                wait(others, timeout=0.5)

        first = decoded(examples, settings(), root, progress)
        second = others[0].result()
    assert first.photos.shape[1:3] == (96, 96)
    assert second.photos.shape[1:3] == (128, 128)


@pytest.mark.parametrize("module", CODE)
def test_key_is_the_code_too(made, monkeypatch, module):
    key = data_key(made.examples(), 64, False)
    with monkeypatch.context() as patch:
        edited(patch, module)
        assert data_key(made.examples(), 64, False) != key
        edited(patch, "components.distill.examples")
        assert data_key(made.examples(), 64, False) == key


def test_key_covers_every_module_that_makes_pixels():
    # `infer` only resizes here; what `examples` collects is in the key by content.
    beside = {"components.core.seeds", "components.data.manifest", "components.distill.examples"}
    core = {"code", "errors", "files", "images", "params", "paths", "progress", "stream", "weights"}
    beside |= {f"components.core.{name}" for name in core}
    graph = grimp.build_graph("components", cache_dir=None)
    found = {name for name in behind(graph, *CODE) if name in CODE or ".student." not in name}
    assert found - beside == {*CODE}


def test_key_is_content(made):
    before = made.examples()
    key = data_key(before, 64, False)
    assert data_key(made.examples(), 64, False) == key
    assert data_key(before, 64, True) != key
    assert data_key(before, 96, False) != key
    path = made.pseudo / "masks/sub/p00.png.png"
    save_grey(path, np.zeros_like(np.ones((80, 80), np.uint8)))
    assert data_key(made.examples(), 64, False) != key
    key = data_key(before, 64, False)
    before[0].photo.write_bytes(b"\0\0\0\x18ftypheic")  # as if it had been HEIC before
    assert data_key(before, 64, False) != key
    other = [dataclasses.replace(before[0], split="val"), *before[1:]]
    assert data_key(other, 64, False) != key


def test_photo_that_changed_since_prepare(made, tmp_path, settings):
    path = made.dataset / "tiny/photos/sub/p03.png"
    save_photo(path, np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(InputError, match=r"p03\.png: the photo changed since"):
        decoded(made.examples(), settings(), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_mask_of_another_size(made, tmp_path, settings):
    save_grey(made.pseudo / "masks/sub/p02.png.png", np.zeros((9, 8), np.uint8))
    with pytest.raises(InputError, match="mask is 8x9"):
        decoded(made.examples(), settings(), tmp_path / "cache")


def test_mask_that_is_missing(made):
    (made.pseudo / "masks/sub/p02.png.png").unlink()
    with pytest.raises(InputError, match="no such mask"):
        made.examples()


def test_only_accepted_masks_are_learned(made):
    labels = pd.read_parquet(made.pseudo / "labels.parquet")
    labels.loc[labels["image_id"] == "sub/p04.png", "accepted"] = False
    labels.to_parquet(made.pseudo / "labels.parquet")
    assert "sub/p04.png" not in [example.image_id for example in made.examples()]
    assert "sub/p05.png" in [example.image_id for example in made.examples()]


def test_true_masks_to_compare_with(made, tmp_path, settings):
    """They replace the pseudo-masks, count in full and are black and white."""
    folder = made.dataset / "tiny/masks"
    images = made.manifest.images.copy()
    for row in images[images["label"] == "manipulated"].itertuples():
        mask = np.zeros((row.height, row.width), np.uint8)
        mask[:20, :30] = 200  # a mask may be grey
        save_grey(folder / f"{row.Index}.png", mask)
        images.loc[row.Index, "mask_path"] = f"tiny/masks/{row.Index}.png"
    images.loc[images["image_id"] == "sub/p04.png", "mask_path"] = None
    (made.pseudo / "labels.parquet").unlink()
    masked = dataclasses.replace(made, manifest=Manifest(images, made.manifest.boxes))
    found = masked.examples(supervision="masks")
    assert len(found) == 13
    assert "sub/p04.png" not in [example.image_id for example in found]
    assert {example.confidence for example in found if example.mask} == {1.0}
    data = decoded(found, settings(supervision="masks"), tmp_path / "cache")
    assert set(np.unique(data.photo(0)[1])) == {0, 255}


def test_a_share_of_the_training_photos(made):
    """Smaller shares lie in larger ones; validation stays whole."""

    def names(share):
        found = [(e.split, e.image_id) for e in made.examples(share=share)]
        return {name for split, name in found if split == "train"}, len(found)

    half, count = names(0.5)
    assert len(half) == 5
    assert count == 9
    assert names(0.2)[0] < half < names(1.0)[0]


def test_hours_of_drawing(made):
    """A box takes what was recorded, else 7 seconds; a mask 23 minutes."""
    names = made.manifest.select(label="manipulated").images["image_id"]
    boxes = pd.DataFrame({"image_id": names, "seconds": np.nan}).reset_index(drop=True)
    boxes.loc[0, "seconds"] = 20.0
    timed = Manifest(made.manifest.images, boxes)
    hours = annotation_hours(timed, made.examples())
    assert hours["boxes"] == pytest.approx((20 + 6 * 7) / 3600)
    assert hours["masks"] == pytest.approx(7 * 23 / 60)


@pytest.mark.parametrize("split", ["train", "val"])
def test_nothing_manipulated_in_a_split(made, split):
    frame = made.manifest.images
    gone = (frame["split"] == split) & (frame["label"] == "manipulated")
    left = Manifest(frame[~gone].reset_index(drop=True), made.manifest.boxes)
    with pytest.raises(InputError, match=f"no manipulated photo .* in split '{split}'"):
        dataclasses.replace(made, manifest=left).examples()


def test_no_labels(made):
    (made.pseudo / "labels.parquet").unlink()
    with pytest.raises(InputError, match="no such file"):
        made.examples()


def test_full_disk_is_an_error_and_leaves_nothing(made, tmp_path, settings):
    """A limit on file size stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            decoded(made.examples(), settings(), tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "cache").iterdir()) == []


def test_path_that_leaves_the_data_set(made):
    made.manifest.images.loc[0, "path"] = "../../runs/x.png"
    with pytest.raises(InputError, match="leaves this folder"):
        made.examples()


@pytest.mark.parametrize(
    ("width", "height", "kept"),
    [(80, 60, (60, 80)), (96, 96, (96, 96)), (192, 96, (48, 96)), (1, 5000, (96, 1))],
)
def test_a_photo_keeps_its_size_where_it_fits(width, height, kept):
    assert kept_size(width, height, 96) == kept


def test_weights_follow_confidence_and_keep_the_classes_balance(made):
    given = made.examples()
    plain, weighed = weigh(given, False), weigh(given, True)
    assert (plain == 1).all()
    masked = np.array([e.mask is not None for e in given])
    train = masked & np.array([e.split == "train" for e in given])
    assert (weighed[~masked] == 1).all()
    assert weighed[train].mean() == pytest.approx(1)
    confidence = np.array([e.confidence for e in given if e.mask is not None])
    np.testing.assert_allclose(weighed[masked] / weighed[masked][0], confidence / confidence[0])


@pytest.mark.parametrize("value", [float("nan"), -0.5, 0.0])
def test_confidences_that_cannot_weigh(made, value):
    given = [
        dataclasses.replace(e, confidence=value) if e.mask is not None else e
        for e in made.examples()
    ]
    with pytest.raises(InputError, match=r"no usable confidence; .*confidence: false"):
        weigh(given, True)
