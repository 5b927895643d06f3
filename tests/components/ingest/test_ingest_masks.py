"""Masks as tools write them: what is no mask of black and white is named, never thresholded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import write_photo
from PIL import Image, ImageFilter

from components.core import images
from components.core.errors import InputError
from components.core.params import Prepare
from components.data import dataset as datasets
from components.ingest.importing import Imported, import_dataset, opened
from components.ingest.masks import MaskSeen, look
from components.ingest.merging import merge
from components.ingest.outcomes import USED, Outcome

SIZE = (96, 64)


def regions(
    *values: Any, mode: str = "L", back: Any = 0, size: tuple[int, int] = SIZE
) -> Image.Image:
    """A mask with a square region for each value."""
    made = Image.new(mode, size, back)
    for number, value in enumerate(values):
        made.paste(value, (8 + 24 * number, 16, 24 + 24 * number, 40))
    return made


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    made = regions(*range(1, len(colours)), mode="P")
    made.putpalette([value for colour in colours for value in colour])
    return made


def deep(*values: int) -> Image.Image:
    return Image.fromarray(np.asarray(regions(*values, mode="I")).astype(np.uint16))


def glow() -> Image.Image:
    """A region whose edges fade over a few pixels."""
    made = Image.new("L", (96, 64))
    made.paste(255, (20, 12, 60, 52))
    return made.filter(ImageFilter.GaussianBlur(4))


def seen(path: Path, mask: Image.Image, **save: Any) -> MaskSeen:
    mask.save(path, **save)
    return look(path, 64)


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (regions((255, 0, 0), (0, 255, 0), mode="RGB"), r"mask is coloured \(red, green\)"),
        (regions((0, 0, 255), mode="RGB"), r"mask is coloured \(blue\)"),
        (regions((250, 240, 20), (0, 230, 230), mode="RGB"), r"\(yellow, cyan\)"),
        (regions((255, 255, 255), (255, 0, 255), mode="RGB"), r"mask is coloured \(magenta\)"),
        (regions((255, 0, 0, 255), mode="RGBA"), r"mask is coloured \(red\)"),
        # The colours of Pascal VOC's classes.
        (palette((0, 0, 0), (128, 0, 0), (0, 128, 0)), r"mask is coloured \(red, green\)"),
        (regions(1), "mask has the values 0 and 1"),
        (regions(1, 2), "mask has the values 0, 1 and 2"),
        (regions(1, 2, 3), "mask has the values 0, 1, 2 and 3"),
        (regions(1, 1, 255), "mask has the values 0, 1 and 255"),  # 255 is 'ignore' of VOC
        (palette((0, 0, 0), (1, 1, 1)), "mask has the values 0 and 1"),
        (regions(128), "mask is grey"),
        (regions(100, 180), "mask is grey"),
        (regions(255, back=120), "mask is grey"),
        (regions(), "mask is empty"),
        (deep(1), "mask is empty"),
        (regions((255, 255, 255, 0), mode="RGBA"), "mask is empty"),
    ],
)
def test_a_mask_that_is_not_black_and_white_is_named(
    mask: Image.Image, problem: str, tmp_path: Path
) -> None:
    found = seen(tmp_path / "m.png", mask)
    assert re.search(problem, found.problem or "")
    assert (found.problem or "").endswith(": m.png; save it as 0 and 255, where 255 is manipulated")


@pytest.mark.parametrize(
    ("mask", "notes"),
    [
        (regions(255), ()),
        (regions(255).convert("1"), ()),
        (regions(255).convert("RGB"), ()),
        (palette((0, 0, 0), (255, 255, 255)), ()),
        (deep(65535), ()),
        (regions((255, 255, 255, 255), mode="RGBA"), ()),
        (regions(230, back=20), ()),
        (glow(), ("mask has soft edges: values above half mean manipulated",)),
        (regions(back=255), ("mask is all white",)),
        (regions(0, back=255), ("mask is mostly white: 94%",)),
    ],
)
def test_a_mask_of_black_and_white_is_taken(
    mask: Image.Image, notes: tuple[str, ...], tmp_path: Path
) -> None:
    found = seen(tmp_path / "m.png", mask)
    assert (found.problem, found.notes, found.size) == (None, notes, SIZE)


def test_the_noise_of_jpeg_is_no_colour_and_no_class(tmp_path: Path) -> None:
    for number, mask in enumerate((regions(255), regions((255, 255, 255), mode="RGB"))):
        for quality in (10, 50, 95):
            found = seen(tmp_path / f"{number}.jpg", mask, quality=quality)
            assert (found.problem, found.notes) == (None, ())
    red = seen(tmp_path / "red.jpg", regions((255, 0, 0), mode="RGB"), quality=30)
    assert "is coloured (red" in (red.problem or "")


# --- black and white exchanged


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., Path]:
    def make(*masks: Image.Image) -> Path:
        root = tmp_path / "source"
        (root / "Gt").mkdir(parents=True)
        for number, mask in enumerate(masks):
            write_photo(root / "Tp" / f"{number}.jpg", number)
            mask.save(root / "Gt" / f"{number}_gt.png")
        return root

    return make


WHITE = regions(0, back=255)
BLACK = regions(255)


def bring_in(source: Path, **options: Any) -> Imported:
    out = source.parent / "data" / "made"
    return import_dataset(source, out, name="m", licence="x", source_name="x", **options)


def photos(made: Imported) -> list[Outcome]:
    """What became of the photos."""
    return [row for row in made.outcomes if row.reason != USED]


def test_mostly_white_masks_of_most_photos_refuse_the_import(pairs: Callable[..., Path]) -> None:
    source = pairs(WHITE, BLACK, WHITE, BLACK, WHITE)
    said = (
        r"source: 3 of 5 masks are mostly white, as if inverted \(e\.g\. 0_gt\.png: 94%\); "
        "--invert-masks if they are, --keep-masks if the regions are that large"
    )
    for quarantine in (False, True):
        with pytest.raises(InputError, match=said):
            bring_in(source, quarantine=quarantine)
    made = bring_in(source, inverted=False)
    white = "mask is mostly white: 94%"
    assert [row.reason for row in photos(made)] == [white, "", white, "", white]


def test_half_of_the_masks_may_be_mostly_white(pairs: Callable[..., Path]) -> None:
    made = bring_in(pairs(WHITE, BLACK))
    assert [row.outcome for row in photos(made)] == ["noted", "taken"]


def test_inverted_masks_are_written_the_right_way_round(pairs: Callable[..., Path]) -> None:
    source = pairs(WHITE, WHITE)
    made = bring_in(source, inverted=True)
    assert {row.reason for row in photos(made)} == {"mask inverted"}
    for image in datasets.load(made.dataset.root).images:
        mask = images.open_mask(made.dataset.root / image["mask"])
        assert np.array_equal(mask, np.asarray(BLACK) > 127)
    assert images.open_mask(source / "Gt" / "0_gt.png").mean() > 0.9  # the source's is as it was
    # The same source again, into the data set that it made.
    with pytest.raises(InputError, match="as if inverted"):
        merge(source, made.dataset.root)
    assert merge(source, made.dataset.root, inverted=True).known == 2


def test_masks_that_are_not_inverted_are_not_inverted(pairs: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"2 of 2 masks are mostly white after --invert-masks"):
        bring_in(pairs(BLACK, BLACK), inverted=True)


def test_folders_that_are_only_looked_at_are_refused_alike(
    pairs: Callable[..., Path], settings: Prepare
) -> None:
    source = pairs(WHITE, WHITE)
    with (
        pytest.raises(InputError, match="2 of 2 masks are mostly white, as if inverted"),
        opened(source, source.parent / "scratch", settings),
    ):
        pass
