"""The photos to annotate: of a folder, an S3 prefix, a run of `iml score`, or a data set to check.

They are known to the page by their number alone, and nothing outside the source is read: a link
that leads out of its folder is a photo that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from components.annotate.ranking import Ranked
from components.core import images
from components.core.errors import InputError
from components.core.files import read_json
from components.data import dataset as datasets
from components.serving.score import SETTINGS
from components.serving.sources import SCHEME, Item, open_source
from components.serving.table import FAILED, TABLE, read

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1, half-open


class Photo(NamedTuple):
    """A photo of the source."""

    name: str  # unique; its path below the source, of a data set below its `photos/`
    read: Callable[[], bytes]  # from any thread; raises `images.PhotoError`
    boxes: tuple[Corners, ...] = ()  # known so far, of a data set
    label: str | None = None  # likewise
    reason: str | None = None  # why it is shown now, where an order says so


def find(place: str, own: Path) -> list[Photo]:
    """The photos at an address, in its order: of a run of `iml score` by score, else by name.

    Files below `own`, where decisions are kept, are left out.

    Raises:
        InputError: nothing is there, or no photo.
    """
    folder = Path(place)
    if (folder / datasets.CARD).is_file():
        found = _of_dataset(folder)
    elif (folder / TABLE).exists():
        found = _of_scores(folder, own)
    else:
        found = _of_source(place, own)
    if not found:
        raise InputError("no photos in it", where=place)
    return found


def ordered(photos: Sequence[Photo], ranked: Sequence[Ranked]) -> list[Photo]:
    """Photos in the order of a ranking, with its reasons; those that it lacks come last."""
    left = {photo.name: photo for photo in photos}
    first = [left.pop(row.name)._replace(reason=row.reason) for row in ranked]
    return [*first, *left.values()]


def _of_source(place: str, own: Path) -> list[Photo]:
    source = open_source(place, own)
    root = None if place.startswith(SCHEME) else Path(place).resolve()

    def photo(item: Item) -> Photo:
        def read() -> bytes:
            if root and not Path(item.place).resolve().is_relative_to(root):
                raise images.PhotoError("a link that leads out of the folder", item.name)
            return source.read(item)

        return Photo(item.name, read)

    return [photo(item) for item in source.items()]


def _of_scores(folder: Path, own: Path) -> list[Photo]:
    """The photos that were scored, and are still there."""
    there = {photo.name: photo for photo in _of_source(read_json(folder / SETTINGS)["source"], own)}
    table = read(folder / TABLE, "name", "status", "score")
    table = table.sort_values(["score", "name"], ascending=[False, True], na_position="last")
    names = table.loc[table["status"] != FAILED, "name"]
    return [there[name] for name in names if name in there]


def _of_dataset(folder: Path) -> list[Photo]:
    """The photos of a data set, with the boxes and labels that are to be checked."""
    dataset, below = datasets.load(folder), datasets.Inside(folder)
    boxes: dict[object, list[Corners]] = {image["id"]: [] for image in dataset.images}
    for row in dataset.annotations:
        x, y, width, height = row["bbox"]
        boxes[row["image_id"]].append((x, y, x + width, y + height))

    def photo(name: str, boxes: list[Corners], label: str) -> Photo:
        path = below(f"{datasets.PHOTOS}/{name}")
        return Photo(name, lambda: images.read_bytes(path), tuple(boxes), label)

    rows = sorted(dataset.images, key=lambda image: image["file_name"])
    return [photo(image["file_name"], boxes[image["id"]], image["label"]) for image in rows]
