from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core import images
from components.core.images import PhotoError

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((60, 40))
)


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


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "BMP"])
def test_lossless_formats_come_back_exactly(format: str) -> None:
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
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


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(SMOOTH, format, exif=exif)
    mirrored = SMOOTH[:, ::-1] if orientation in (2, 4, 5, 7) else SMOOTH
    turned = np.rot90(mirrored, {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0))
    array = images.decode_photo(data, "x")
    assert array.shape == turned.shape
    assert np.abs(array.astype(int) - turned).mean() < (8 if format in ("JPEG", "WEBP") else 0.1)
    assert images.image_size(data, "x") == turned.shape[1::-1]


def test_damaged_exif_does_not_lose_the_photo() -> None:
    data = encode(SMOOTH, "JPEG", exif=b"Exif\0\0garbage")
    assert images.decode_photo(data, "x").shape == (40, 60, 3)


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert images.decode_photo(data, "x").max() == 10


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
        (encode(np.zeros((4, 4), np.float32), "TIFF"), "floating-point"),
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


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_gives_pixels_or_a_photo_error_and_nothing_else(seed: int) -> None:
    stream = np.random.default_rng(seed)
    format = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")[seed % 5]
    data = bytearray(encode(SMOOTH, format))
    for _ in range(int(stream.integers(1, 12))):
        data[int(stream.integers(len(data)))] = int(stream.integers(256))
    try:
        array = images.decode_photo(bytes(data), "x", max_megapixels=1)
    except PhotoError:
        return
    assert array.dtype == np.uint8
    assert array.ndim == 3
