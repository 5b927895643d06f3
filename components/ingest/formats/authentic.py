"""A plain folder or tree of authentic photos, without any annotation.

It is never detected: that all photos are authentic is for a person to say (`--authentic`).
"""

from __future__ import annotations

from pathlib import Path

from components.data.manifest import AUTHENTIC
from components.ingest.formats import folders
from components.ingest.formats.record import Reading, Record
from components.ingest.formats.source import Source, target


def read(source: Source) -> Reading:
    """All photos below the folder, or the one that was given."""
    photos = [photo for photo in source.photos() if source.path in (photo, source.root)]
    masks = set(folders.masks_beside(source))
    return Reading([_record(source, photo, photo in masks) for photo in photos])


def _record(source: Source, photo: Path, mask: bool) -> Record:
    problem = "called like the mask of a photo beside it" if mask else None
    name = target(source.relative(photo))
    return Record(photo, name, AUTHENTIC, problem=problem, stated=True)
