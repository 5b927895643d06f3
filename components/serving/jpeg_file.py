"""What the structure of a JPEG file tells: tables, sampling, scans, segments.

Read from the bytes alone, without decoding; a file that is damaged or made to confuse gives what
was read before the damage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from components.core.jpeg import STANDARD

_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES = {
    0xC0: "baseline",
    0xC1: "extended sequential",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "extended sequential, arithmetic coding",
    0xCA: "progressive, arithmetic coding",
}
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends a scan's data
_MOST = 10_000  # segments; real files have some tens
_KINDS = (
    (0xE0, b"JFIF\0", "JFIF"),
    (0xE1, b"Exif\0", "EXIF"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/", "XMP"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/", "XMP, extended"),
    (0xE2, b"ICC_PROFILE\0", "colour profile (ICC)"),
    (0xE2, b"MPF\0", "further pictures (MPF)"),
    (0xEB, b"JP", "JUMBF (content credentials)"),
    (0xEC, b"Ducky", "Ducky (Photoshop, Save for Web)"),
    (0xED, b"Photoshop 3.0\0", "Photoshop resources, IPTC"),
    (0xEE, b"Adobe", "Adobe"),
)


class Segment(NamedTuple):
    """A segment of the file."""

    marker: int  # second byte
    start: int  # of its content
    content: bytes


class Structure(NamedTuple):
    """What was found in a JPEG."""

    process: str | None  # baseline, progressive, ...
    sampling: str | None  # of chroma, e.g. 4:2:0; in full where it has no usual name
    scans: int
    tables: dict[int, list[list[int]]]  # quantisation, by number, 8 rows of 8
    segments: list[tuple[str, int, int]]  # of metadata: kind, how many, bytes
    comments: list[bytes]
    after: int  # bytes behind the end of the picture; 0 as well where it has no end


def structure(data: bytes) -> Structure | None:
    """Read a JPEG file; None for other files."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    process = sampling = None
    scans, after = 0, 0
    tables: dict[int, list[list[int]]] = {}
    kinds: dict[str, tuple[int, int]] = {}
    comments = []
    for segment in _segments(data):
        marker, start, content = segment
        if marker == _END:
            after = len(data) - start
        elif marker == _SCAN:
            scans += 1
        elif marker == 0xDB:
            tables |= _tables(content)
        elif marker in _FRAMES or (0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            process = _FRAMES.get(marker, "another coding process")
            sampling = _sampling(content)
        elif marker == _COMMENT or 0xE0 <= marker <= 0xEF:
            kind = _kind(segment)
            number, size = kinds.get(kind, (0, 0))
            kinds[kind] = number + 1, size + len(content)
            comments += [content] if marker == _COMMENT else []
    listed = [(kind, *found) for kind, found in kinds.items()]
    return Structure(process, sampling, scans, tables, listed, comments, after)


def _segments(data: bytes) -> Iterator[Segment]:
    """Segments in order, up to the end of the first picture or to what is none."""
    place = 2
    for _ in range(_MOST):
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        if place + 2 > len(data) or data[place] != 0xFF:
            return
        marker, place = data[place + 1], place + 2
        if marker == _END:
            yield Segment(marker, place, b"")
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[place : place + 2])
        if length < 2 or place + length > len(data):
            return
        yield Segment(marker, place + 2, data[place + 2 : place + length])
        place += length
        if marker == _SCAN:
            following = _NEXT.search(data, place)
            if following is None:
                return
            place = following.start()


def _kind(segment: Segment) -> str:
    """What a segment of metadata is."""
    if segment.marker == _COMMENT:
        return "comment"
    for marker, start, name in _KINDS:
        if segment.marker == marker and segment.content.startswith(start):
            return name
    return f"APP{segment.marker - 0xE0}, unknown"


def _tables(content: bytes) -> dict[int, list[list[int]]]:
    """The quantisation tables of a segment, whole ones, as 8 rows of 8."""
    found, place = {}, 0
    while place < len(content):
        wide, number = content[place] >> 4, content[place] & 15
        size = 128 if wide else 64
        values = content[place + 1 : place + 1 + size]
        if len(values) < size:
            break
        zigzag = np.frombuffer(values, ">u2" if wide else np.uint8)
        table = np.empty(64, dtype=int)
        table[_ZIGZAG] = zigzag
        found[number] = table.reshape(8, 8).tolist()
        place += 1 + size
    return found


def _zigzag() -> list[int]:
    """Places in a table, row by row, in the order of the file."""

    def order(place: int) -> tuple[int, int]:
        row, column = divmod(place, 8)
        diagonal = row + column
        return diagonal, row if diagonal % 2 else column

    return sorted(range(64), key=order)


_ZIGZAG = _zigzag()
_SAMPLING = {
    ((1, 1), (1, 1)): "4:4:4",
    ((2, 1), (1, 1)): "4:2:2",
    ((2, 2), (1, 1)): "4:2:0",
    ((1, 2), (1, 1)): "4:4:0",
    ((4, 1), (1, 1)): "4:1:1",
}


def _sampling(frame: bytes) -> str | None:
    """How finely colour is stored, from a frame header."""
    factors = (
        [(byte >> 4, byte & 15) for byte in frame[7 : 6 + 3 * frame[5] : 3]] if frame[5:] else []
    )
    if len(factors) == 1:
        return "grey, no colour stored"
    if len(factors) == 3 and factors[1] == factors[2] and tuple(factors[:2]) in _SAMPLING:
        return _SAMPLING[factors[0], factors[1]]
    return f"{', '.join(f'{h}x{v}' for h, v in factors)} (by component)" if factors else None


def standard_quality(table: list[list[int]]) -> int | None:
    """The quality at which libjpeg's standard luminance table is this one; None where at none."""
    values = np.array(table).ravel()
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        scaled = np.clip((STANDARD.astype(int) * scale + 50) // 100, 1, 255)
        if np.array_equal(scaled, values):
            return quality
    return None
