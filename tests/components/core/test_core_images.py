from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from components.core import images
from components.core.images import PhotoError

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((60, 40))
)


# HEIC without loss: neither subsampled nor converted to YCbCr.
EXACT = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}

pillow_heif.register_heif_opener()  # to write with


def encode(image: Image.Image | np.ndarray, format: str, **options: object) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def lying_png(width: int, height: int) -> bytes:
    """A tiny file whose header promises a huge photo."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels: np.ndarray, bits: int, kind: int, white_is_zero: bool = False) -> bytes:
    """A plain grey TIFF as other programs write it; `kind`: 1 unsigned, 2 signed, 3 float."""
    height, width = pixels.shape
    data = pixels.tobytes()
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
        (339, 3, kind),
    ]
    rows = b"".join(struct.pack("<HHII", tag, type, 1, value) for tag, type, value in tags)
    directory = struct.pack("<H", len(tags)) + rows + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def lying(data: bytes, width: int, height: int) -> bytes:
    """A HEIC or AVIF whose header says another size."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "BMP", "HEIF"])
def test_lossless_formats_come_back_exactly(format: str) -> None:
    options = {"WEBP": {"lossless": True, "exact": True}, "HEIF": EXACT}.get(format, {})
    array = images.decode_photo(encode(SMOOTH, format, **options), "x")
    assert array.dtype == np.uint8
    assert array.flags.writeable
    np.testing.assert_array_equal(array, SMOOTH)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_of_the_same_look(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(
            np.asarray(Image.fromarray(SMOOTH).convert("L")).astype(np.uint16) * 257
        )
        expected = np.asarray(Image.fromarray(SMOOTH).convert("L").convert("RGB"))
    else:
        image = Image.fromarray(SMOOTH).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    array = images.decode_photo(encode(image, "TIFF" if mode == "CMYK" else "PNG"), "x")
    assert array.shape == (40, 60, 3)
    np.testing.assert_array_equal(array, expected)


def test_transparency_is_laid_over_white_in_a_photo_and_counts_as_untouched_in_a_mask() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = (255, 255, 255, 0)
    pixels[1] = (255, 0, 0, 255)
    data = encode(pixels, "PNG")
    assert images.decode_photo(data, "x")[0].min() == 255
    assert images.decode_mask(data, "x").tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(SMOOTH, format, exif=exif.tobytes())
    assert (b"irot" in data) == (format in ("AVIF", "HEIF") and orientation in (3, 5, 6, 7, 8))
    mirrored = SMOOTH[:, ::-1] if orientation in (2, 4, 5, 7) else SMOOTH
    turned = np.rot90(mirrored, {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0))
    array = images.decode_photo(data, "x")
    assert array.shape == turned.shape
    assert np.abs(array.astype(int) - turned).mean() < (0.1 if format in ("PNG", "TIFF") else 8)
    assert images.image_size(data, "x") == turned.shape[1::-1]
    assert images.check_photo(data, "x") == turned.shape[1::-1]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF", "HEIF"])
def test_checking_says_what_decoding_says(format: str) -> None:
    whole = encode(SMOOTH, format)
    spoiled = [whole, *(whole[: len(whole) * part // 8] for part in range(1, 8))]
    for place in RNG.integers(0, len(whole), 40):
        spoiled.append(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
    said: list[tuple[object, object]] = []
    for data in spoiled:
        pair: list[object] = []
        for look in (images.check_photo, lambda *a: images.decode_photo(*a).shape[1::-1]):
            try:
                pair.append(look(data, "x"))
            except PhotoError as error:
                pair.append(error.reason)
        said.append((pair[0], pair[1]))
    assert all(one == other for one, other in said)
    assert len({isinstance(one, str) for one, _ in said}) == 2
    deep = encode(Image.fromarray(np.full((4, 4), 1e9, np.float32)), "TIFF")
    with pytest.raises(PhotoError, match="cannot be converted"):
        images.check_photo(deep, "x")


def test_damaged_exif_does_not_lose_the_photo() -> None:
    data = encode(SMOOTH, "JPEG", exif=b"Exif\0\0garbage")
    assert images.decode_photo(data, "x").shape == (40, 60, 3)


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert images.decode_photo(data, "x").max() == 10


def test_what_phones_write() -> None:
    """The suffix does not matter: HEIC is often sent as .jpg. EXIF in HEIC only informs."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(SMOOTH, "HEIF", exif=exif, **EXACT)  # in EXIF alone: not turned
    np.testing.assert_array_equal(images.decode_photo(data, "x.jpg"), SMOOTH)
    mif1 = data.replace(b"ftypheic", b"ftypmif1", 1)
    np.testing.assert_array_equal(images.decode_photo(mif1, "x"), SMOOTH)
    avif = encode(SMOOTH, "AVIF", quality=95).replace(b"ftypavif", b"ftypmif1", 1)
    assert np.abs(images.decode_photo(avif, "x").astype(int) - SMOOTH).mean() < 4
    frames = [Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)]
    mpo = encode(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    assert np.abs(images.decode_photo(mpo, "x").astype(int) - SMOOTH).mean() < 4
    assert images.image_size(mpo, "x") == (60, 40)


def test_of_several_pictures_in_heic_the_primary_one_is_taken() -> None:
    file = pillow_heif.from_pillow(Image.fromarray(255 - SMOOTH))
    file.add_from_pillow(Image.fromarray(SMOOTH))
    buffer = io.BytesIO()
    file.save(buffer, primary_index=1, **EXACT)
    np.testing.assert_array_equal(images.decode_photo(buffer.getvalue(), "x"), SMOOTH)


def test_ten_bits_of_heic_become_eight() -> None:
    deep, buffer = SMOOTH.astype(np.uint16) * 257, io.BytesIO()
    pillow_heif.encode("RGB;16", (60, 40), deep.tobytes(), buffer, **EXACT)
    np.testing.assert_array_equal(images.decode_photo(buffer.getvalue(), "x"), SMOOTH)


def test_the_heic_library_is_imported_only_for_heic() -> None:
    code = (
        "import sys; from components.core import images\n"
        "for data in sys.argv[1:]:\n"
        "    images.decode_photo(bytes.fromhex(data), 'x')\n"
        "    print('pillow_heif' in sys.modules)\n"
    )
    small = SMOOTH[:16, :16]
    files = [encode(small, format).hex() for format in ("JPEG", "AVIF", "HEIF")]
    command = [sys.executable, "-c", code, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_jpegs_are_inverted_as_adobe_writes_them(transform: int) -> None:
    """Pillow writes no YCCK, but the same bytes are YCCK when the marker says so."""
    planes = 255 - SMOOTH  # inks; without black, cyan is the complement of red, and so on
    if transform == 2:
        planes = 255 - np.asarray(Image.fromarray(planes).convert("YCbCr"))  # inverted in writing
    image = Image.fromarray(np.dstack([planes, np.zeros_like(planes[..., 0])]), "CMYK")
    data = encode(image, "JPEG", quality=98, subsampling=0)
    place = data.index(b"Adobe") + 11
    data = data[:place] + bytes([transform]) + data[place + 1 :]
    array = images.decode_photo(data, "x")
    assert np.abs(array.astype(int) - SMOOTH).mean() < 3


GREY = np.asarray(Image.fromarray(SMOOTH).convert("L"))


@pytest.mark.parametrize(
    ("pixels", "bits", "kind"),
    [
        (GREY.astype(np.uint16) * 257, 16, 1),
        (GREY.astype(np.uint32), 32, 1),
        (GREY.astype(np.uint32) * 257, 32, 1),
        (GREY.astype(np.uint32) * 16_843_009, 32, 1),
        (GREY.astype(np.int16), 16, 2),
        (GREY.astype(np.int32) * 257, 32, 2),
        (GREY.astype(np.float32) / 255, 32, 3),
        (GREY.astype(np.float32) / 255 * 1.004, 32, 3),  # ringing
        (GREY.astype(np.float32), 32, 3),
        (GREY.astype(np.float32) * 257, 32, 3),
    ],
)
def test_a_tiff_of_any_depth_is_scaled_to_the_same_look(
    pixels: np.ndarray, bits: int, kind: int
) -> None:
    array = images.decode_photo(tiff(pixels, bits, kind), "x")
    assert np.abs(array.astype(int) - GREY[..., None]).max() <= 1
    if kind != 3:
        np.testing.assert_array_equal(array, np.repeat(GREY[..., None], 3, axis=2))


def test_a_tiff_of_12_bits_and_one_whose_white_is_zero() -> None:
    packed = np.full((1, 3), 0xFF, np.uint8)  # two pixels of 4095
    data = bytearray(tiff(packed, 12, 1))
    data[data.index(struct.pack("<HHI", 256, 4, 1)) + 8] = 2
    assert images.decode_photo(bytes(data), "x").tolist() == [[[255] * 3, [255] * 3]]
    inverted = tiff(GREY.astype(np.uint16) * 257, 16, 1, white_is_zero=True)
    np.testing.assert_array_equal(images.decode_photo(inverted, "x")[..., 0], 255 - GREY)


@pytest.mark.parametrize(
    ("pixels", "bits", "kind"),
    [
        (np.float32([[0, 1, np.nan]]), 32, 3),
        (np.float32([[-1, 1]]), 32, 3),
        (np.float32([[0, 3]]), 32, 3),  # neither 0..1 nor a picture in 0..255
        (np.float32([[0, 1e9]]), 32, 3),
        (np.int32([[-300, 255]]), 32, 2),
        (np.int32([[0, 1000]]), 32, 2),
    ],
)
def test_deep_pixels_of_an_unusual_range_are_refused_with_it(
    pixels: np.ndarray, bits: int, kind: int
) -> None:
    with pytest.raises(PhotoError, match=r"pixels from \S+ to \S+, which is none of 0\.\."):
        images.decode_photo(tiff(pixels, bits, kind), "x")


def test_sixteen_bit_colours_keep_their_high_bytes() -> None:
    """Pillow reads them as 8 bits; written here by hand, since it does not write them."""
    deep = (SMOOTH.astype(np.uint16) * 256 + 17).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    plain = lying_png(60, 40)
    header = struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows))):
        start = plain.index(kind) - 4
        (length,) = struct.unpack(">I", plain[start : start + 4])
        chunk = struct.pack(">I", len(data)) + kind + data
        chunk += struct.pack(">I", zlib.crc32(kind + data))
        plain = plain[:start] + chunk + plain[start + 12 + length :]
    np.testing.assert_array_equal(images.decode_photo(plain, "x"), SMOOTH)


def test_a_palette_with_transparency_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    data = encode(image, "PNG", transparency=0)
    assert images.decode_photo(data, "x").tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("mark", [{254: 1}, {50706: b"\1\4\0\0"}])
def test_the_thumbnail_of_a_raw_file_does_not_pass_for_the_photo(mark: dict[int, object]) -> None:
    data = encode(SMOOTH, "TIFF", tiffinfo=mark)
    with pytest.raises(PhotoError, match="camera's raw file"):
        images.decode_photo(data, "x")
    with pytest.raises(PhotoError, match="camera's raw file"):
        images.image_size(data, "x")


def test_formats_that_are_not_read_are_refused_by_name_unread(tmp_path: Path) -> None:
    assert not images.SUFFIXES & images.UNREAD
    path = tmp_path / "a.NEF"
    path.write_bytes(encode(SMOOTH, "PNG"))
    with pytest.raises(PhotoError, match="NEF files are not read, only JPEG"):
        images.open_photo(path)
    names = ["a.HEIC", "b/c.nef", "d.jfif", ".e.jpg", "f.txt", "jpg"]
    assert [images.looks_like_photo(name) for name in names] == [True] * 3 + [False] * 3


def test_only_heic_depends_on_its_library(tmp_path: Path) -> None:
    for format in ("JPEG", "AVIF", "HEIF"):
        (tmp_path / format).write_bytes(encode(SMOOTH, format))
    assert images.pixels_id(tmp_path / "JPEG", "ab") == "ab"
    assert images.pixels_id(tmp_path / "AVIF", "ab") == "ab"
    assert images.pixels_id(tmp_path / "none", "ab") == "ab"
    assert images.pixels_id(tmp_path / "HEIF", "ab") == f"ab pillow-heif {pillow_heif.__version__}"
    assert "heif" not in str(images.decoder())


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("missing", [1, 2, 40, 300, 700])
def test_a_truncated_heic_or_avif_fails(format: str, missing: int) -> None:
    data = encode(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), format, quality=90)
    with pytest.raises(PhotoError, match=r"truncated|damaged header"):
        images.decode_photo(data[:-missing], "cut")


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_a_huge_heic_or_avif_is_refused_from_the_header(format: str) -> None:
    data = lying(encode(np.zeros((64, 64, 3), np.uint8), format), 9_000, 9_000)
    tracemalloc.start()
    with pytest.raises(PhotoError, match="larger than 64 megapixels"):
        images.decode_photo(data, "bomb")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def test_a_heic_larger_than_its_header_is_refused() -> None:
    cropped = lying(encode(SMOOTH, "HEIF"), 9_000, 9_000)  # which shows 60x40 of it
    assert b"clap" in cropped
    with pytest.raises(PhotoError, match="larger than 64 megapixels"):
        images.image_size(cropped, "bomb")
    with pytest.raises(PhotoError, match="truncated or damaged"):
        images.decode_photo(lying(encode(SMOOTH, "HEIF"), 24, 16), "lie")
    large = encode(Image.new("RGB", (3000, 2000)), "HEIF")
    with pytest.raises(PhotoError, match="exceeds"):
        images.decode_photo(lying(large, 60, 40), "lie")


@pytest.mark.parametrize("missing", [1, 2, 40, 500])
def test_a_truncated_jpeg_fails_instead_of_turning_grey(missing: int) -> None:
    data = encode(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8), "JPEG", quality=90)
    with pytest.raises(PhotoError, match="truncated"):
        images.decode_photo(data[:-missing], "cut.jpg")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"just some text", "not a JPEG"),
        (encode(SMOOTH, "GIF"), "not a JPEG"),
        (encode(SMOOTH, "PNG")[:-200], "truncated"),
        (encode(SMOOTH, "PNG")[:20], "header|not a JPEG"),
        (b"II*\0" + bytes(40), "TIFF with a damaged header"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC or AVIF with a damaged header"),
    ],
)
def test_unusable_bytes_give_one_short_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PhotoError, match=reason) as caught:
        images.decode_photo(data, "bad.png")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("bad.png: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("side", [60_000, 9_000])
def test_a_huge_header_is_refused_before_anything_is_allocated(side: int) -> None:
    tracemalloc.start()
    with pytest.raises(PhotoError, match="larger than 64 megapixels"):
        images.decode_photo(lying_png(side, side), "bomb.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("size", [(65_501, 1), (1, 65_501)])
def test_a_side_that_no_jpeg_can_hold_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError, match="has a side above 65500 pixels"):
        images.decode_photo(lying_png(*size), "long.png")


def test_the_limit_is_the_callers() -> None:
    data = encode(SMOOTH, "PNG")
    assert images.decode_photo(data, "x", max_megapixels=0.0024).shape == (40, 60, 3)
    with pytest.raises(PhotoError, match="60x40 is larger than"):
        images.decode_photo(data, "x", max_megapixels=0.0023)


def test_a_small_lie_about_the_size_is_found_while_decoding() -> None:
    with pytest.raises(PhotoError, match="truncated or damaged"):
        images.decode_photo(lying_png(500, 500), "lie.png")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file"):
        images.open_photo(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="not a regular file"):
        images.open_photo(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match="not a regular file"):
        images.open_photo(tmp_path / "pipe.jpg")


def test_an_unbelievably_large_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.jpg", "wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(PhotoError, match="too large a file"):
        images.open_photo(tmp_path / "big.jpg", max_megapixels=1)


@pytest.mark.parametrize("value", [127, 128])
def test_a_mask_is_cut_above_half_in_any_channel(value: int) -> None:
    expected = value > 127
    assert (
        images.decode_mask(encode(np.full((3, 3), value, np.uint8), "PNG"), "m").all() == expected
    )
    red = np.zeros((3, 3, 3), np.uint8)
    red[..., 0] = value
    assert images.decode_mask(encode(red, "PNG"), "m").all() == expected
    deep = np.full((3, 3), value * 257, np.uint16)
    assert images.decode_mask(encode(deep, "PNG"), "m").all() == expected


def test_saved_pictures_come_back_and_equal_pixels_give_equal_bytes(tmp_path: Path) -> None:
    images.save_photo(tmp_path / "deep" / "a.png", SMOOTH)
    images.save_photo(tmp_path / "b.png", SMOOTH.copy())
    np.testing.assert_array_equal(images.open_photo(tmp_path / "deep" / "a.png"), SMOOTH)
    assert (tmp_path / "deep" / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    images.save_grey(tmp_path / "g.png", SMOOTH[..., 0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), SMOOTH[..., 0])
    with pytest.raises(ValueError, match="uint8"):
        images.save_grey(tmp_path / "g.png", SMOOTH)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "deep", "g.png"]


def test_the_error_survives_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(PhotoError("empty file", "x.jpg")))
    assert (error.reason, error.name) == ("empty file", "x.jpg")


@pytest.mark.parametrize("seed", range(56))
def test_random_damage_gives_pixels_or_a_photo_error_and_nothing_else(seed: int) -> None:
    stream = np.random.default_rng(seed)
    format = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF", "HEIF")[seed % 7]
    data = bytearray(encode(SMOOTH, format))
    for _ in range(int(stream.integers(1, 12))):
        data[int(stream.integers(len(data)))] = int(stream.integers(256))
    try:
        array = images.decode_photo(bytes(data), "x", max_megapixels=1)
    except PhotoError:
        return
    assert array.dtype == np.uint8
    assert array.ndim == 3
