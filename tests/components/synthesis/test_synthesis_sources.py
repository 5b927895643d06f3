"""Reading and dealing sources, and the sources that come with the project."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.core.images import PhotoError, open_photo
from components.core.seeds import generator
from components.synthesis.sources import deal, open_base, open_cutout

Make = Callable[..., np.ndarray]
BUNDLED = Path(__file__).parents[3] / "data" / "demo-sources"


def _names(count: int, stem: str) -> list[Path]:
    return [Path(f"{stem}{index}.png") for index in range(count)]


@pytest.mark.parametrize(("photos", "cutouts"), [(121, 128), (9, 30), (20, 3), (1, 1), (3, 1)])
def test_every_source_is_in_exactly_one_group(photos: int, cutouts: int) -> None:
    groups = deal(_names(photos, "p"), _names(cutouts, "c"), seed=7)
    dealt_photos = [path for group in groups for path in group.photos]
    dealt_cutouts = [path for group in groups for path in group.cutouts]
    assert sorted(dealt_photos) == sorted(_names(photos, "p"))
    assert sorted(dealt_cutouts) == sorted(_names(cutouts, "c"))
    assert all(group.photos and group.cutouts for group in groups)
    assert len({group.name for group in groups}) == len(groups)


def test_dealing_ignores_the_order_of_the_list_but_not_the_seed() -> None:
    photos, cutouts = _names(12, "p"), _names(12, "c")
    assert deal(photos, cutouts, 1) == deal(photos[::-1], cutouts[::-1], 1)
    assert deal(photos, cutouts, 1) != deal(photos, cutouts, 2)


def test_nothing_to_compose_from() -> None:
    with pytest.raises(InputError, match="no photos"):
        deal([], _names(1, "c"), 1)
    with pytest.raises(InputError, match="no cut-outs"):
        deal(_names(1, "p"), [], 1)


def test_two_photos_of_one_name() -> None:
    with pytest.raises(InputError, match="same name"):
        deal([Path("a/x.jpg"), Path("b/x.png")], _names(1, "c"), 1)


def test_a_cutout_is_trimmed(tmp_path: Path) -> None:
    rgba = np.zeros((50, 60, 4), np.uint8)
    rgba[10:30, 20:45] = (200, 100, 50, 255)
    rgba[12, 25, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "object.png")
    np.testing.assert_array_equal(open_cutout(tmp_path / "object.png"), rgba[10:30, 20:45])


def test_unusable_cutouts(tmp_path: Path, make_photo: Make) -> None:
    photo = make_photo(1)
    Image.fromarray(photo).save(tmp_path / "plain.png")
    for name, alpha in (("opaque", 255), ("empty", 0)):
        rgba = np.dstack([photo, np.full(photo.shape[:2], alpha, np.uint8)])
        Image.fromarray(rgba).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("not a picture")
    whole = (tmp_path / "opaque.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, complaint in (
        ("plain", "without transparency"),
        ("opaque", "cuts nothing out"),
        ("empty", "cannot be seen"),
        ("text", "not a JPEG, PNG"),
        ("cut", "truncated or damaged"),
        ("absent", "no such file"),
    ):
        with pytest.raises(InputError, match=complaint) as caught:
            open_cutout(tmp_path / f"{name}.png")
        assert f"{name}.png" in caught.value.line()


def test_a_base_has_the_size_asked_for(tmp_path: Path, make_photo: Make) -> None:
    Image.fromarray(make_photo(1, 200, 420)).save(tmp_path / "wide.png")
    Image.fromarray(make_photo(2, 420, 200)).save(tmp_path / "upright.png")
    for seed in range(5):
        rng = generator(seed, "base")
        assert open_base(tmp_path / "wide.png", (192, 128), rng).shape == (128, 192, 3)
        assert open_base(tmp_path / "upright.png", (192, 128), rng).shape == (192, 128, 3)


def test_a_photo_that_is_too_small(tmp_path: Path, make_photo: Make) -> None:
    Image.fromarray(make_photo(1, 50, 60)).save(tmp_path / "small.png")
    with pytest.raises(PhotoError, match="60x50 is too small for 384x256"):
        open_base(tmp_path / "small.png", (384, 256), generator(1, "base"))


def test_bundled_sources_are_attributed_and_small_enough() -> None:
    files = {str(path.relative_to(BUNDLED)) for path in BUNDLED.rglob("*") if path.is_file()} - {
        "ATTRIBUTION.md",
        "licences/GPL-2.0.txt",
    }
    text = (BUNDLED / "ATTRIBUTION.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:photos|cutouts)/\S+) \| (.+) \| (.+) \| (.+) \| .+ \|$", text, re.M)
    assert {row[0] for row in rows} == files
    assert len(rows) == len(files)
    free = re.compile(r"CC0-1\.0|public domain|CC-BY(-SA)?-[1-4]\.0|GPL-2\.0-(only|or-later)")
    for name, author, origin, licence in rows:
        assert author.strip(), name
        assert origin.strip(), name
        assert free.fullmatch(licence), f"{name}: {licence}"
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 20e6


def test_bundled_sources_can_be_used_and_are_enough() -> None:
    photos = sorted((BUNDLED / "photos").iterdir())
    cutouts = sorted((BUNDLED / "cutouts").iterdir())
    assert len(deal(photos, cutouts, 7)) >= 40
    for path in photos:
        height, width = open_photo(path).shape[:2]
        assert min(width / 384, height / 256) >= 1 or min(height / 384, width / 256) >= 1, path
    for path in cutouts:
        assert open_cutout(path).shape[2] == 4
