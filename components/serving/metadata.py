"""What a photo's file says of itself: EXIF, embedded thumbnail, colour profile, traces of programs.

All of it comes from outside: text is cut and what does not print is escaped, numbers are shown as
stored, XML is searched and never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from components.core import images
from components.core.errors import brief

_TEXT = 200  # characters of a value
_TAGS, _NUMBERS, _MARKS = 300, 16, 40  # at most: tags, numbers in one value, traces of programs
_THUMBNAIL_MEGAPIXELS = 4.0
_SAME_ASPECT = 0.02  # relative difference that rounding to whole pixels can make in a small picture
_IFDS = {
    "Photo": ExifTags.IFD.Exif,
    "GPS": ExifTags.IFD.GPSInfo,
    "Interoperability": ExifTags.IFD.Interop,
    "Thumbnail": ExifTags.IFD.IFD1,
}
_POINTERS = {tag.value for tag in ExifTags.IFD}
_PROGRAMS = {
    ExifTags.Base.ProcessingSoftware: "EXIF ProcessingSoftware",
    ExifTags.Base.Software: "EXIF Software",
    ExifTags.Base.HostComputer: "EXIF HostComputer",
}
_XMP = re.compile(
    rb"(?:xmp:CreatorTool|stEvt:softwareAgent|x:xmptk)"
    rb"""(?:\s*=\s*["']([^"']{1,400})|>([^<]{1,400})<)"""
)
_XMP_BYTES = 1_000_000  # of the packet that are searched


def text(value: object, limit: int = _TEXT) -> str:
    """A value as text that is safe to show: no control or direction characters, cut at `limit`."""
    long = str(value) if not isinstance(value, str) else value
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in long[:limit].strip("\0 ")
    )
    return shown + (f" ... ({len(long)} characters)" if len(long) > limit else "")


class Tag(NamedTuple):
    """One EXIF tag."""

    group: str
    name: str
    value: str


class Thumbnail(NamedTuple):
    """The small picture that a camera or program stored in the file."""

    photo: np.ndarray  # uint8 (H, W, 3), as stored
    other_aspect: bool  # whether its sides relate differently than those of the stored photo


class Exif(NamedTuple):
    """All that EXIF says."""

    tags: list[Tag]
    left_out: int  # further tags
    position: tuple[float, float] | None  # latitude and longitude in degrees
    thumbnail: Thumbnail | None
    thumbnail_error: str | None  # why there is one that cannot be shown


class Profile(NamedTuple):
    """The colour profile (ICC)."""

    name: str
    size: int  # bytes


def opened(data: bytes) -> Image.Image:
    """A photo's header; `data` is one that `components.core.images` has decoded before."""
    return Image.open(BytesIO(data))


def exif(image: Image.Image) -> Exif:
    """Read EXIF; of a group that is damaged the reason is its only tag."""
    block = image.getexif()
    groups: dict[str, Mapping[int, Any]] = {"Image": block}
    every = []
    for group, place in _IFDS.items():
        if group == "Thumbnail" and image.format == "TIFF":  # where it is the next page
            continue
        try:
            groups[group] = block.get_ifd(place)
        except Exception as error:  # Pillow raises almost anything on hostile offsets
            every.append(Tag(group, "could not be read", text(brief(error))))
    every += [
        Tag(group, _name(group, number), _value(group, number, value))
        for group, tags in groups.items()
        for number, value in tags.items()
        if number not in _POINTERS
    ]
    thumbnail, problem = _thumbnail(image, groups.get("Thumbnail", {}))
    position = _position(groups.get("GPS", {}))
    return Exif(every[:_TAGS], len(every[_TAGS:]), position, thumbnail, problem)


def _name(group: str, number: int) -> str:
    names = ExifTags.GPSTAGS if group == "GPS" else ExifTags.TAGS
    return names.get(number, f"tag 0x{number:04x}")


def _value(group: str, number: int, value: Any) -> str:
    """A tag's value, as stored."""
    if group != "GPS" and number == ExifTags.Base.MakerNote and isinstance(value, bytes):
        return f"{len(value)} bytes of the maker's own, not read"
    if group != "GPS" and 0x9C9B <= number <= 0x9C9F and isinstance(value, bytes | tuple):
        return text(bytes(value).decode("utf-16-le", "replace"))  # Windows' own tags
    if isinstance(value, tuple | list):
        more = f", ... ({len(value)} values)" if len(value) > _NUMBERS else ""
        return ", ".join(_one(part) for part in value[:_NUMBERS]) + more
    return _one(value)


def _one(value: Any) -> str:
    if isinstance(value, IFDRational):
        numerator, denominator = value.numerator, value.denominator
        return text(numerator if denominator == 1 else f"{numerator}/{denominator}")
    if isinstance(value, bytes):
        start = value[8:] if value[:8] in (b"ASCII\0\0\0", b"\0" * 8) else value
        bare = start.rstrip(b"\0 ")
        if all(32 <= byte < 127 for byte in bare[:_TEXT]):
            return text(bare.decode("ascii", "backslashreplace"))
        return f"{len(value)} bytes: {value[:_NUMBERS].hex(' ')}" + (
            " ..." if len(value) > _NUMBERS else ""
        )
    return text(value)


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, where both can be read."""
    found = []
    for place, (side, negative) in {2: (1, "S"), 4: (3, "W")}.items():
        try:
            degrees, minutes, seconds = (float(part) for part in gps[place])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        value = degrees + minutes / 60 + seconds / 3600
        found.append(-value if str(gps.get(side, "")).strip("\0 ").upper() == negative else value)
    latitude, longitude = found
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def _thumbnail(image: Image.Image, tags: Mapping[int, Any]) -> tuple[Thumbnail | None, str | None]:
    """The embedded picture, or why it cannot be shown; neither where there is none."""
    block = image.info.get("exif")
    offset = tags.get(ExifTags.Base.JpegIFOffset)
    length = tags.get(ExifTags.Base.JpegIFByteCount)
    if not isinstance(block, bytes) or offset is None or length is None:
        return None, None
    try:
        start = int(offset) + (6 if block.startswith(b"Exif\0\0") else 0)
        photo = images.decode_photo(
            block[start : start + int(length)], "thumbnail", _THUMBNAIL_MEGAPIXELS
        )
    except images.PhotoError as error:
        return None, text(error.reason)
    except (TypeError, ValueError, OverflowError) as error:
        return None, text(error)
    height, width = photo.shape[:2]
    aspect = width * image.height / (height * image.width)
    return Thumbnail(photo, abs(aspect - 1) > _SAME_ASPECT), None


def profile(image: Image.Image) -> Profile | None:
    """The colour profile; None where there is none.

    Raises:
        ImageCms.PyCMSError: it cannot be read.
    """
    data = image.info.get("icc_profile")
    if not data:
        return None
    found = ImageCms.getOpenProfile(BytesIO(data))
    return Profile(text(ImageCms.getProfileDescription(found).strip()), len(data))


def programs(image: Image.Image, comments: list[bytes]) -> list[tuple[str, str]]:
    """Where a program left its name or a comment, and what it wrote; each once."""
    found = dict.fromkeys(
        (where, text(what)) for where, what in _programs(image, comments) if str(what).strip("\0 ")
    )
    return list(found)[:_MARKS]


def _programs(image: Image.Image, comments: list[bytes]) -> Iterator[tuple[str, object]]:
    block = image.getexif()
    for number, where in _PROGRAMS.items():
        if number in block:
            yield where, _one(block[number])
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    raw = packet.encode(errors="replace") if isinstance(packet, str) else packet
    for match in _XMP.finditer(raw[:_XMP_BYTES]):
        where = "XMP " + re.split(rb"[\s=>]", match.group())[0].decode("ascii", "replace")
        yield where, (match.group(1) or match.group(2)).decode("utf-8", "backslashreplace")
    for comment in comments:
        yield "JPEG comment", comment.decode("utf-8", "backslashreplace")
    for key, value in getattr(image, "text", {}).items():  # of a PNG
        if key != "XML:com.adobe.xmp":
            yield f"PNG {text(key, 40)}", value
