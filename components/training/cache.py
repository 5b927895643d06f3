"""Training photos and pseudo-masks, decoded once: memory-mapped arrays at the student's size.

The key is content: the photos' SHA-256, the pseudo-masks' bytes and the size. A folder appears
under its key only when it is complete, and it is checked whenever it is opened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data import images
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest
from components.errors import InputError
from components.files import inside, read_json, sha256_bytes, sha256_file, sha256_json, write_json
from components.student.infer import shrink
from components.training.augment import recompress

Progress = Callable[[int, int], None]
FORMAT = 2
QUALITY = (70, 95)  # of the JPEG that every photo goes through, both inclusive
PHOTOS, MASKS, INDEX = "photos.npy", "masks.npy", "index.json"


@dataclass(frozen=True)
class Example:
    """One photo to learn from; `mask` is None for an authentic one, whose mask is all zero."""

    image_id: str
    split: str
    photo: Path
    sha256: str
    megapixels: float
    mask: Path | None
    mask_sha256: str | None


@dataclass(frozen=True)
class Decoded:
    """The arrays of one cache folder.

    Attributes:
        key: what it was made from.
        photos: uint8 (N, S, S, 3), memory-mapped.
        masks: uint8 (N, S, S), pseudo-mask probability * 255, memory-mapped.
        manipulated: bool (N,).
        train: row numbers of the training photos.
        val: row numbers of the validation photos.
    """

    key: str
    photos: np.ndarray
    masks: np.ndarray
    manipulated: np.ndarray
    train: np.ndarray
    val: np.ndarray


def collect(manifest: Manifest, dataset: Path, pseudo: Path) -> list[Example]:
    """The photos to learn from: every authentic one, and each with an accepted pseudo-mask.

    Args:
        manifest: what `prepare` made.
        dataset: the data set's folder, below which the manifest's paths lie.
        pseudo: the folder of `pseudo_label` (`labels.parquet`, `masks/`).

    Raises:
        InputError: no labels, a mask that is missing, or nothing to learn from or to select on.
    """
    accepted = _accepted(pseudo / "labels.parquet")
    examples = []
    for row in manifest.images.to_dict("records"):
        if row["split"] not in ("train", "val"):
            continue
        mask = None
        if row["label"] == MANIPULATED:
            if row["image_id"] not in accepted:
                continue
            mask = inside(pseudo / "masks", f"{row['image_id']}.png")
        examples.append(
            Example(
                image_id=row["image_id"],
                split=row["split"],
                photo=inside(dataset, row["path"]),
                sha256=row["sha256"],
                megapixels=(row["width"] * row["height"] + 1) / 1e6,
                mask=mask,
                mask_sha256=_digest(mask) if mask else None,
            )
        )
    _check(examples)
    return examples


def _accepted(path: Path) -> set[str]:
    """Ids of the photos whose pseudo-mask the teacher stage accepted."""
    try:
        labels = pq.read_table(path, columns=["image_id", "accepted"]).to_pandas()
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), mend="run `iml run`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not the teacher's labels ({error})", where=str(path)) from None
    return set(labels.loc[labels["accepted"].astype(bool), "image_id"])


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except FileNotFoundError:
        raise InputError("no such pseudo-mask", where=str(path), mend="run `iml run`") from None


def _check(examples: list[Example]) -> None:
    """Something manipulated to learn from and something manipulated to select on."""
    for split, mend in (
        ("train", "loosen pseudo_label.min_confidence or add manipulated photos"),
        ("val", "raise prepare.split.val: the best epoch is chosen on it"),
    ):
        if not any(example.mask for example in examples if example.split == split):
            raise InputError(
                f"no manipulated photo with an accepted pseudo-mask in split {split!r}",
                where="distill",
                mend=mend,
            )


def data_key(examples: list[Example], size: int) -> str:
    """Content key of the decoded arrays."""
    rows = [[e.image_id, e.split, e.sha256, e.mask_sha256] for e in examples]
    facts = {"format": FORMAT, "size": size, "rows": rows, "decoder": images.decoder()}
    return sha256_json(facts)


def decoded(
    examples: list[Example], size: int, root: Path, progress: Progress | None = None
) -> Decoded:
    """Open the arrays of these photos below `root`, decoding them first where they are not there.

    Raises:
        InputError: a photo or pseudo-mask that changed since its stage ran, or cannot be decoded.
    """
    key = data_key(examples, size)
    folder = root / key
    if not _intact(folder):
        shutil.rmtree(folder, ignore_errors=True)
        _decode_all(examples, size, folder, progress)
    split = np.array([example.split for example in examples])
    return Decoded(
        key=key,
        photos=np.load(folder / PHOTOS, mmap_mode="r"),
        masks=np.load(folder / MASKS, mmap_mode="r"),
        manipulated=np.array([example.mask is not None for example in examples]),
        train=np.flatnonzero(split == "train"),
        val=np.flatnonzero(split == "val"),
    )


def _intact(folder: Path) -> bool:
    """Whether the folder is there and both arrays are what was written."""
    try:
        hashes = read_json(folder / INDEX)
        return all(sha256_file(folder / name) == hashes[name] for name in (PHOTOS, MASKS))
    except (InputError, OSError, KeyError, TypeError):
        return False


def _decode_all(
    examples: list[Example], size: int, folder: Path, progress: Progress | None
) -> None:
    """Fill a temporary folder on all cores, then rename it: it is complete or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".decoding-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".decoding-"))
    try:
        shape = (len(examples), size, size)
        photos = _array(temporary / PHOTOS, (*shape, 3))
        masks = _array(temporary / MASKS, shape)

        def fill(row: int) -> None:
            """Decode one photo into its row."""
            photos[row], mask = _decode(examples[row], size)
            if mask is not None:
                masks[row] = mask

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for done, _ in enumerate(pool.map(fill, range(len(examples))), start=1):
                    if progress:
                        progress(done, len(examples))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
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


def _decode(example: Example, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """One photo and its pseudo-mask at the student's size."""
    # The manifest says how large the photo is; the default limit only covers tiny files' metadata.
    limit = max(images.MAX_MEGAPIXELS, example.megapixels)
    data = images.read_bytes(example.photo, limit)
    if sha256_bytes(data) != example.sha256:
        raise InputError(
            "the photo changed since `prepare` ran", where=str(example.photo), mend="run `iml run`"
        )
    photo = images.decode_photo(data, str(example.photo), limit)
    if example.mask is None:
        return shrink(_same_tables(photo, example), size), None
    mask = images.open_photo(example.mask, limit)[:, :, 0]
    if mask.shape != photo.shape[:2]:
        raise InputError(
            f"pseudo-mask is {mask.shape[1]}x{mask.shape[0]}, the photo "
            f"{photo.shape[1]}x{photo.shape[0]}",
            where=str(example.mask),
        )
    return shrink(_same_tables(photo, example), size), shrink(mask, size)


def _same_tables(photo: np.ndarray, example: Example) -> np.ndarray:
    """The photo saved once more, authentic and manipulated alike.

    In many data sets the two were saved with different JPEG tables, which tell them apart without
    a look at the manipulation; the student would learn those.
    """
    low, high = QUALITY
    return recompress(photo, low + int(example.sha256[:8], 16) % (high - low + 1))


def counts(examples: list[Example]) -> dict[str, int]:
    """Photos per split and label, e.g. `{"train_manipulated": 88, ...}`."""
    found = Counter((e.split, MANIPULATED if e.mask else AUTHENTIC) for e in examples)
    return {
        f"{split}_{label}": found[split, label]
        for split in ("train", "val")
        for label in (MANIPULATED, AUTHENTIC)
    }
