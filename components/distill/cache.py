"""Training photos and pseudo-masks, decoded once into memory-mapped arrays.

Each photo is in the top left corner of a square: at its own resolution, or shrunk to fit. The key
is content: the photos' and masks' SHA-256 with their names and splits, the square's side, and the
code and libraries that make pixels. A folder appears under its key only when it is complete, and it
is checked whenever it is opened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from components.core import images
from components.core.code import code_sha256
from components.core.errors import InputError
from components.core.files import (
    alone,
    read_json,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_json,
)
from components.core.params import Distill
from components.core.progress import Progress
from components.core.stream import ahead
from components.distill.examples import Example, weigh
from components.student import infer
from components.synthesis import degrade

CODE = (__name__, degrade.__name__, infer.__name__)  # what makes pixels, besides the decoder
QUALITY = (70, 95)  # of the JPEG that every photo goes through, both inclusive
PHOTOS, MASKS, INDEX = "photos.npy", "masks.npy", "index.json"


@dataclass(frozen=True)
class Decoded:
    """The arrays of one cache folder."""

    key: str  # what they were made from
    photos: np.ndarray  # uint8 (N, K, K, 3), memory-mapped
    masks: np.ndarray  # uint8 (N, K, K), pseudo-mask probability * 255, memory-mapped
    sizes: np.ndarray  # int (N, 2), height and width of each photo in its square
    weights: np.ndarray  # float32 (N,), how much each photo counts in the loss
    manipulated: np.ndarray  # bool (N,)
    train: np.ndarray  # row numbers of the annotated training photos
    val: np.ndarray  # row numbers of the validation photos
    # Row numbers of the pool's photos, which only train
    pool: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def photo(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """A photo uint8 (H, W, 3) and its pseudo-mask uint8 (H, W), as they are kept."""
        height, width = self.sizes[row]
        return self.photos[row, :height, :width], self.masks[row, :height, :width]


def kept_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Height and width of a photo in a square of `side`: its own where it fits."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def data_key(examples: list[Example], side: int, binary: bool) -> str:
    """Content key of the decoded arrays."""
    rows = [
        [e.image_id, e.split, images.pixels_id(e.photo, e.sha256), e.mask_sha256] for e in examples
    ]
    return sha256_json(
        {
            "side": side,
            "binary": binary,
            "rows": rows,
            "decoder": images.decoder(),
            "code": code_sha256(*CODE),
            "versions": [module.__version__ for module in (torch, np, cv2)],
        }
    )


def decoded(
    examples: list[Example], params: Distill, root: Path, progress: Progress | None = None
) -> Decoded:
    """Open the arrays of these photos below `root`, decoding them first where they are not there.

    Raises:
        InputError: a photo or pseudo-mask that changed since its stage ran, or cannot be decoded;
            confidences that cannot weigh.
    """
    weights = weigh(examples, params.loss.confidence)
    side = round(params.student.size * params.zoom)
    binary = params.supervision == "masks"
    key = data_key(examples, side, binary)
    folder = root / key
    if not _intact(folder):
        root.mkdir(parents=True, exist_ok=True)
        with alone(root / ".lock"):  # one process decodes; others wait and find it done
            if not _intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _decode_all(examples, side, binary, folder, progress)
    split = np.array(["pool" if example.pool else example.split for example in examples])
    return Decoded(
        key=key,
        photos=np.load(folder / PHOTOS, mmap_mode="r"),
        masks=np.load(folder / MASKS, mmap_mode="r"),
        sizes=np.array([kept_size(e.width, e.height, side) for e in examples]),
        weights=weights,
        manipulated=np.array([example.mask is not None for example in examples]),
        train=np.flatnonzero(split == "train"),
        val=np.flatnonzero(split == "val"),
        pool=np.flatnonzero(split == "pool"),
    )


def _intact(folder: Path) -> bool:
    """Whether the folder is there and both arrays are what was written."""
    try:
        hashes = read_json(folder / INDEX)
        return all(sha256_file(folder / name) == hashes[name] for name in (PHOTOS, MASKS))
    except (InputError, OSError, KeyError, TypeError):
        return False


def _decode_all(
    examples: list[Example], side: int, binary: bool, folder: Path, progress: Progress | None
) -> None:
    """Fill a temporary folder on all cores, then rename it: it is complete or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".decoding-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".decoding-"))
    try:
        shape = (len(examples), side, side)
        photos = _array(temporary / PHOTOS, (*shape, 3))
        masks = _array(temporary / MASKS, shape)

        def fill(row: int) -> None:
            height, width = kept_size(examples[row].width, examples[row].height, side)
            photo, mask = _decode(examples[row], binary)
            photos[row, :height, :width] = infer.resize(photo, height, width)
            if mask is not None:
                masks[row, :height, :width] = infer.resize(mask, height, width)

        filled = ahead(range(len(examples)), fill, os.cpu_count())
        for done, _ in enumerate(filled, start=1):
            if progress:
                progress(done, len(examples))
        photos.flush()
        masks.flush()
        hashes = {name: sha256_file(temporary / name) for name in (PHOTOS, MASKS)}
        write_json(temporary / INDEX, hashes)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    # Take the space now: on a full disk this is an error, a write through the map a crash.
    with open(path, "rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _decode(example: Example, binary: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """One photo and its mask at their own size, the mask black and white where it is a true one."""
    # The manifest says how large the photo is; the default limit only covers tiny files' metadata.
    limit = max(images.MAX_MEGAPIXELS, (example.width * example.height + 1) / 1e6)
    data = images.read_bytes(example.photo, limit)
    if sha256_bytes(data) != example.sha256:
        raise InputError(
            "the photo changed since `prepare` ran", where=str(example.photo), hint="run `iml run`"
        )
    photo = images.decode_photo(data, str(example.photo), limit)
    if example.mask is None:
        return _same_tables(photo, example), None
    if binary:
        mask = images.open_mask(example.mask, limit).astype(np.uint8) * 255
    else:
        mask = images.open_photo(example.mask, limit)[:, :, 0]
    if mask.shape != photo.shape[:2]:
        raise InputError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}, the photo "
            f"{photo.shape[1]}x{photo.shape[0]}",
            where=str(example.mask),
        )
    return _same_tables(photo, example), mask


def _same_tables(photo: np.ndarray, example: Example) -> np.ndarray:
    """The photo saved once more, authentic and manipulated alike.

    In many data sets the two were saved with different JPEG tables, which tell them apart without
    a look at the manipulation; the student would learn those.
    """
    low, high = QUALITY
    return degrade.recompress(photo, low + int(example.sha256[:8], 16) % (high - low + 1))
