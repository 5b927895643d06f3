"""Decisions into a data set, or into the inbox that schedules take in.

They are written as a COCO folder for a moment, with the photos as they were seen. `add` merges it
as any other annotations: new photos are added, known ones get what was decided. `send` uploads it
as a batch. Doing it again adds and sends nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.annotate.decisions import CANNOT_TELL, NOT_USABLE, Decision, by_photo
from components.annotate.photos import Photo
from components.core.files import (
    inside,
    read_json,
    sha256_bytes,
    sha256_json,
    write_bytes,
    write_json,
)
from components.core.images import PhotoError
from components.data.dataset import CARD
from components.ingest.formats.record import Box, Record
from components.ingest.importing import import_dataset
from components.ingest.inbox import Inbox
from components.ingest.merging import merge
from components.ingest.writers import coco

SCHEMA = 1  # of the file that says what was sent
SENT = "sent.json"


@dataclass
class Added:
    """What became of the decided photos."""

    added: int = 0  # new in the data set, or sent
    replaced: int = 0  # known, with other boxes or another label than before
    known: int = 0  # known, as decided; or sent before
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (photo, reason)
    batch: str | None = None  # in the inbox, if one was sent


def add(
    photos: Sequence[Photo],
    decisions: Sequence[Decision],
    root: Path,
    source_name: str,
    max_megapixels: float,
    scratch: Path,
) -> Added:
    """Put what was decided into the data set in the folder `root`, which is made if it is missing.

    Raises:
        InputError: as `merging.merge` and `importing.import_dataset`.
    """
    made = Added()
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".adding-") as folder:
        if coco_folder := _written(photos, by_photo(decisions), Path(folder), made):
            _import(coco_folder, root, source_name, max_megapixels, made)
    return made


def send(
    photos: Sequence[Photo], decisions: Sequence[Decision], inbox: Inbox, scratch: Path
) -> Added:
    """Send what was decided since the last time as one batch, named after the folder `scratch`.

    Raises:
        InputError, UnavailableError: as `Inbox.send`; nothing counts as sent then.
    """
    opinions, kept = by_photo(decisions), scratch / SENT
    now = {name: sha256_json([asdict(one) for one in said]) for name, said in opinions.items()}
    sent = read_json(kept)["sent"] if kept.is_file() else {}
    new = {name: said for name, said in opinions.items() if sent.get(name) != now[name]}
    made = Added(known=len(opinions) - len(new))
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".adding-") as folder:
        if coco_folder := _written(photos, new, Path(folder), made):
            for name, _ in made.left_out:
                new.pop(name)
            made.added = len(new)
            made.batch = f"{scratch.name}-{sha256_json([now[name] for name in new])[:12]}"
            inbox.send(made.batch, coco_folder)
            sent |= {name: now[name] for name in new}
            write_json(kept, {"schema": SCHEMA, "sent": sent})
    return made


def _written(
    photos: Sequence[Photo], opinions: Mapping[str, Sequence[Decision]], folder: Path, made: Added
) -> Path | None:
    """The COCO folder of what is decided, made below a folder; None if nothing is.

    What is left out is added to `made`.
    """
    there, records = {photo.name: photo for photo in photos}, []
    for name, said in opinions.items():
        record = _record(there.get(name), said, folder / "photos")
        if isinstance(record, Record):
            records.append(record)
        else:
            made.left_out.append((name, record))
    if not records:
        return None
    coco.write(records, folder / "coco", "unknown")
    return folder / "coco"


def _import(source: Path, root: Path, source_name: str, max_megapixels: float, made: Added) -> None:
    if (root / CARD).is_file():
        done = merge(source, root, format="coco", replaces=True, max_megapixels=max_megapixels)
        made.added, made.replaced, made.known = len(done.added), len(done.replaced), done.known
        made.left_out += done.rejected
        return
    new = import_dataset(
        source,
        root,
        name=root.name,
        licence="unknown",
        source_name=source_name,
        format="coco",
        quarantine=True,
        max_megapixels=max_megapixels,
    )
    made.added = len(new.dataset.images)
    made.left_out += new.quarantined


def _record(photo: Photo | None, opinions: Sequence[Decision], folder: Path) -> Record | str:
    """What is decided about a photo, its file placed below a folder; or why it is left out.

    Of two people who draw boxes the first one's are taken.
    """
    said, marks = opinions[0], {one.mark for one in opinions}
    if len(marks) > 1:
        return f"opinions differ: {', '.join(sorted(marks))}"
    if said.mark in (CANNOT_TELL, NOT_USABLE):
        return said.mark
    if photo is None:
        return "is not in the source any more"
    try:
        data = photo.read()
    except PhotoError as error:
        return error.reason
    if sha256_bytes(data) != said.photo_sha256:
        return "has changed since it was decided"
    path = inside(folder, photo.name)
    write_bytes(path, data)
    boxes, new = [], [box for box in said.boxes if tuple(box) not in photo.boxes]
    for x0, y0, x1, y1 in said.boxes:
        drawn = (said.annotator, said.seconds / len(new)) if [x0, y0, x1, y1] in new else ()
        boxes.append(Box(x0, y0, x1 - x0, y1 - y0, *drawn))
    size = (said.width, said.height)
    return Record(path, photo.name, said.mark, boxes=tuple(boxes), size=size, stated=True)
