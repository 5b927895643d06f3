"""Sources: the photos and cut-outs that go into a composition, and which of them belong together.

A source group holds two photos and the cut-outs that only these two may receive, so that neither
a photo nor a pasted object is ever on both sides of a split that respects groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from components.core.errors import InputError
from components.core.images import PhotoError, decode_photo, open_photo, read_bytes
from components.core.seeds import generator
from components.synthesis.paste import bounds

_SMALLEST = 0.5  # of the output's sides; a smaller photo would be blurred by enlarging it


@dataclass(frozen=True)
class Group:
    """Photos and cut-outs that may meet in one composition; `name` is the manifest's group."""

    name: str
    photos: tuple[Path, ...]
    cutouts: tuple[Path, ...]


def deal(photos: Sequence[Path], cutouts: Sequence[Path], seed: int) -> list[Group]:
    """Deal all sources into groups: pairs of photos, as many groups as cut-outs allow.

    Raises InputError for no photos, no cut-outs, or two photos of one name.
    """
    for what, paths in (("photos", photos), ("cut-outs", cutouts)):
        if not paths:
            raise InputError(f"no {what} to compose from", hint=f"name a folder with {what}")
    by_name: dict[str, Path] = {}
    for path in photos:
        if path.stem in by_name:
            raise InputError(
                f"has the same name as {by_name[path.stem]}",
                where=str(path),
                hint="rename one: a photo's name is its source group",
            )
        by_name[path.stem] = path
    count = max(1, min(len(photos) // 2, len(cutouts)))
    photos, cutouts = _shuffled(photos, seed), _shuffled(cutouts, seed)
    groups = []
    for index in range(count):
        mine = tuple(photos[index::count])
        name = "+".join(path.stem for path in mine[:2])
        groups.append(Group(name, mine, tuple(cutouts[index::count])))
    return groups


def _shuffled(paths: Sequence[Path], seed: int) -> list[Path]:
    """In an order that depends on the names and the seed, not on how they were listed."""
    ordered = sorted(paths, key=lambda path: (path.name, str(path)))
    order = generator(seed, "sources", len(ordered)).permutation(len(ordered))
    return [ordered[index] for index in order]


def open_cutout(path: Path) -> np.ndarray:
    """Read a cut-out: uint8 (H, W, 4) RGBA, trimmed to what can be seen.

    Raises InputError where it is unreadable, has no alpha channel, or cuts nothing (or all) out.
    """
    data = read_bytes(path)
    decode_photo(data, str(path))  # every check of a hostile file is there
    with Image.open(BytesIO(data)) as image:
        if not image.has_transparency_data:
            raise InputError(
                "a cut-out without transparency",
                where=str(path),
                hint="use PNG or WebP with an alpha channel",
            )
        rgba = np.array(image.convert("RGBA"))
    seen = rgba[..., 3] > 127
    if not seen.any() or seen.all():
        raise InputError(
            "transparency cuts nothing out" if seen.any() else "a cut-out that cannot be seen",
            where=str(path),
            hint="leave it out",
        )
    x0, y0, x1, y1 = bounds(seen)
    return rgba[y0:y1, x0:x1]


def open_base(path: Path, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Read a photo, uint8 (H, W, 3), cut at a random place to the output's (longer, shorter) side.

    Upright photos give upright output; 70-100 % of the photo is taken where it is large enough.
    Raises PhotoError where it is unreadable, or smaller than half the output.
    """
    photo = open_photo(path)
    height, width = photo.shape[:2]
    out_w, out_h = size if width >= height else size[::-1]
    room = min(width / out_w, height / out_h)
    if room < _SMALLEST:
        raise PhotoError(f"{width}x{height} is too small for {out_w}x{out_h} output", str(path))
    scale = rng.uniform(min(room, max(1.0, 0.7 * room)), room)
    cut_w, cut_h = min(width, round(out_w * scale)), min(height, round(out_h * scale))
    left, top = (int(rng.integers(0, limit + 1)) for limit in (width - cut_w, height - cut_h))
    cut = photo[top : top + cut_h, left : left + cut_w]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(cut, (out_w, out_h), interpolation=method)
