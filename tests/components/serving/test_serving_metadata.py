"""What a file says of itself: read, cut and escaped; hostile files give what can be read."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from components.core import images
from components.serving import metadata
from components.serving.metadata import text

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Core 5.1"><rdf:Description '
    b'xmp:CreatorTool="Adobe Photoshop 21.0"><stEvt:softwareAgent>GIMP \xff</stEvt:softwareAgent>'
)


def saved(size: tuple[int, int] = (60, 80), kind: str = "JPEG", **options: object) -> Image.Image:
    """A photo's file, opened after it was decoded, as a report finds it."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    images.decode_photo(file.getvalue(), "photo")
    return metadata.opened(file.getvalue())


def tags(**groups: dict[int, object]) -> Image.Exif:
    exif = Image.Exif()
    exif.update(groups.pop("Image", {}))
    for name, values in groups.items():
        exif.get_ifd(metadata._IFDS[name]).update(values)
    return exif


def shown(exif: bytes, kind: str = "JPEG") -> dict[str, str]:
    found = metadata.exif(saved(kind=kind, exif=exif))
    return {tag.name: tag.value for tag in found.tags}


def test_text_prints_and_is_cut() -> None:
    assert text("caf\u00e9 \u5199") == "caf\u00e9 \u5199"
    assert text("a\u202eb\nc\x1b[31m\0") == "a\\u202eb\\nc\\x1b[31m"
    assert text("\udce9") == "\\udce9"
    assert text("a" * 500) == "a" * 200 + " ... (500 characters)"
    assert text(7) == "7"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_tags_are_shown_as_stored(kind: str) -> None:
    base = ExifTags.Base
    exif = tags(
        Image={base.Make: "<script>alert(1)</script>", base.Software: "Paint \u202ex"},
        Photo={
            base.ExposureTime: IFDRational(1, 250),
            base.ISOSpeedRatings: 400,
            base.ExifVersion: b"0232",
        },
        GPS={1: "S", 2: (52.0, 30.0, 0.0), 3: "W", 4: (13.0, 24.0, 18.0)},
    ).tobytes()
    found = shown(exif, kind)
    assert found["Make"] == "<script>alert(1)</script>"
    assert (found["ExposureTime"], found["ISOSpeedRatings"]) == ("1/250", "400")
    assert found["ExifVersion"] == "0232"
    assert found["GPSLatitude"] == "52, 30, 0"
    assert not {"ExifOffset", "GPSInfo"} & set(found)
    position = metadata.exif(saved(kind=kind, exif=exif)).position
    assert position == pytest.approx((-52.5, -13.405))


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {2: (1.0, 2.0, 3.0)},
        {2: (1.0, 2.0), 4: (1.0, 2.0, 3.0)},
        {2: (IFDRational(1, 0), 0.0, 0.0), 4: (1.0, 2.0, 3.0)},
        {2: (91.0, 0.0, 0.0), 4: (1.0, 2.0, 3.0)},
        {2: "north", 4: "east"},
    ],
)
def test_a_position_that_makes_no_sense_is_none(gps: dict[int, object]) -> None:
    position = metadata._position(gps)
    assert position is None


def test_values_by_kind() -> None:
    def one(number: int, value: object, group: str = "Photo") -> str:
        return metadata._value(group, number, value)

    base = ExifTags.Base
    assert one(base.MakerNote, b"\1" * 9000) == "9000 bytes of the maker's own, not read"
    assert one(base.UserComment, b"ASCII\0\0\0hello\0\0") == "hello"
    assert one(0x9C9B, "t\u00edtulo".encode("utf-16-le"), "Image") == "t\u00edtulo"
    dots = bytes([255, 254, 0, 1])
    assert one(700, dots * 9) == f"36 bytes: {(dots * 4).hex(' ')} ..."
    assert one(1, tuple(range(500))).endswith("14, 15, ... (500 values)")
    assert one(1, IFDRational(0, 0)) == "0/0"
    assert one(1, IFDRational(8, 1)) == "8"
    assert one(1, "x" * 100_000).endswith("(100000 characters)")


def _with_thumbnail(small: bytes, size: tuple[int, int], offset: int | None = None) -> Image.Image:
    """A JPEG whose EXIF has a second directory that points to these bytes."""
    first = b"\0\1" + b"\x01\x0f\0\2\0\0\0\4abc\0" + (26).to_bytes(4)
    place = offset if offset is not None else 8 + len(first) + 2 + 2 * 12 + 4
    second = b"\0\2" + b"".join(
        tag.to_bytes(2) + b"\0\4\0\0\0\1" + value.to_bytes(4)
        for tag, value in ((0x201, place), (0x202, len(small)))
    )
    block = b"Exif\0\0MM\0*\0\0\0\x08" + first + second + b"\0\0\0\0" + small
    return saved(size, exif=block)


def _small(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(("width", "other"), [(40, False), (30, True)])
def test_an_embedded_thumbnail_and_its_aspect(width: int, other: bool) -> None:
    found = metadata.exif(_with_thumbnail(_small(width, 30), (60, 80)))
    assert found.thumbnail is not None
    assert found.thumbnail.photo.shape == (30, width, 3)
    assert found.thumbnail.other_aspect is other
    assert found.thumbnail_error is None
    assert {"Make", "JpegIFOffset"} <= {tag.name for tag in found.tags}


@pytest.mark.parametrize(
    ("small", "offset"), [(b"no picture", None), (_small(40, 30), 60_000), (b"", None)]
)
def test_a_thumbnail_that_is_none_is_named(small: bytes, offset: int | None) -> None:
    found = metadata.exif(_with_thumbnail(small, (60, 80), offset))
    assert found.thumbnail is None
    assert found.thumbnail_error
    assert found.tags


def test_profile() -> None:
    found = metadata.profile(saved(icc_profile=SRGB))
    assert found is not None
    assert found.name == "sRGB built-in"
    assert found.size == len(SRGB)
    assert metadata.profile(saved()) is None
    with pytest.raises(ImageCms.PyCMSError):
        metadata.profile(saved(icc_profile=b"nonsense"))


def test_traces_of_programs() -> None:
    exif = tags(Image={ExifTags.Base.Software: "Paint 3", ExifTags.Base.Make: "Maker"})
    found = metadata.programs(
        saved(exif=exif, xmp=XMP), [b"by hand", b"\xff\xd8", b"\0", b"by hand"]
    )
    assert found == [
        ("EXIF Software", "Paint 3"),
        ("XMP x:xmptk", "Core 5.1"),
        ("XMP xmp:CreatorTool", "Adobe Photoshop 21.0"),
        ("XMP stEvt:softwareAgent", "GIMP \\xff"),
        ("JPEG comment", "by hand"),
        ("JPEG comment", "\\xff\\xd8"),
    ]
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "a castle, Steps: 20, Sampler: Euler a", zip=True)
    found = metadata.programs(saved(kind="PNG", pnginfo=notes), [])
    assert found == [("PNG parameters", "a castle, Steps: 20, Sampler: Euler a")]


def test_xml_is_searched_and_never_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + b"&b;" * 5000
    huge = b'xmp:CreatorTool="' + b"A" * 1_000_000
    packets = (bomb + XMP, b'xmp:CreatorTool="' * 3000, huge)
    for packet in packets:
        found = metadata.programs(saved(kind="PNG", pnginfo=_xmp(packet)), [])
        assert sum(len(what) for _, what in found) < 1000


def _xmp(packet: bytes) -> PngImagePlugin.PngInfo:
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", packet.decode("latin-1"))
    return notes


def test_of_very_many_tags_most_are_counted() -> None:
    exif = Image.Exif()
    for number in range(0xC800, 0xC800 + 700):
        exif[number] = number
    found = metadata.exif(saved(exif=exif))
    assert len(found.tags) + found.left_out >= 700
    assert len(found.tags) == 300
