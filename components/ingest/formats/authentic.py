"""A plain folder or tree of authentic photos, without any annotation.

It is never detected: that all photos are authentic is for a person to say (`--authentic`).
"""

from __future__ import annotations

from components.data.manifest import AUTHENTIC
from components.ingest.formats.record import Reading, Record
from components.ingest.formats.source import Source, target


def read(source: Source) -> Reading:
    """All photos below the folder, or the one that was given."""
    photos = [photo for photo in source.photos() if source.path in (photo, source.root)]
    names = [source.relative(photo) for photo in photos]
    return Reading(
        [Record(source.root / name, target(name), AUTHENTIC, stated=True) for name in names]
    )
