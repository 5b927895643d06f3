"""Photos and masks: the one place where image files are opened and written.

Files are hostile until shown otherwise: the header is checked before a pixel is decoded, a
truncated file fails instead of being filled with grey, and every complaint is a `PhotoError` with
a short reason that fits a quarantine list. Formats are known by their content, never by their name.
"""

from __future__ import annotations

import functools
import os
import stat
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from components.core.errors import InputError
from components.core.files import atomic, sha256_file

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp"})
UNREAD = frozenset({".gif", ".raw"})
MAX_MEGAPIXELS = 64.0
MAX_SIDE = 65_500  # pixels; more cannot be saved as JPEG, as training and robustness do

# A pixel takes at most 8 bytes (16-bit RGBA) before compression; twice that is no honest photo.
_BYTES_PER_PIXEL = 16


@functools.cache
def decoder() -> dict[str, str]:
    """What decides the pixels of a photo: this module's code and Pillow; part of cache keys."""
    return {"code": sha256_file(__file__), "pillow": PIL.__version__}


class PhotoError(InputError):
    """A photo or mask that cannot be used; `reason` is the short why."""

    def __init__(self, reason: str, name: str) -> None:
        self.reason, self.name = reason, name
        super().__init__(reason, where=name, hint="replace the file or leave it out")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Survive the trip back from a worker process."""
        return type(self), (self.reason, self.name)


@functools.lru_cache(maxsize=8)
def _allow(pixels: int) -> None:
    """Let Pillow open what our own limit allows; its limit is only ever raised to ours."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, pixels)


def read_bytes(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> bytes:
    """The bytes of a regular, non-empty file of believable size; raises PhotoError."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("not a regular file", str(path))
        if status.st_size > _BYTES_PER_PIXEL * max_megapixels * 1e6:
            raise PhotoError(f"{status.st_size / 1e6:.0f} MB is too large a file", str(path))
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise PhotoError("no such file", str(path)) from None
    except OSError as error:
        raise PhotoError(f"cannot be read ({error.strerror})", str(path)) from None


def _open(data: bytes, name: str, max_megapixels: float) -> Image.Image:
    """The header only: format and size checked, nothing decoded."""
    if not data:
        raise PhotoError("empty file (0 bytes)", name)
    _allow(int(max_megapixels * 1e6))
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise PhotoError("not a JPEG, PNG, TIFF, WebP or BMP image", name) from None
    except Image.DecompressionBombError:
        raise PhotoError(f"larger than {max_megapixels:g} megapixels", name) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on hostile headers
        raise PhotoError(f"damaged header ({error})", name) from None
    width, height = image.size
    if width < 1 or height < 1:
        raise PhotoError(f"has no pixels ({width}x{height})", name)
    if width * height > max_megapixels * 1e6:
        raise PhotoError(f"{width}x{height} is larger than {max_megapixels:g} megapixels", name)
    if max(width, height) > MAX_SIDE:
        raise PhotoError(f"{width}x{height} has a side above {MAX_SIDE} pixels", name)
    return image


def _on_its_side(image: Image.Image) -> bool:
    """Whether turning it upright by EXIF would swap its sides."""
    if image.format == "TIFF":  # Pillow has swapped them
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # as in `_turn`
        return False


def _turn(image: Image.Image) -> None:
    """Turn decoded pixels upright by EXIF, in place."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # a damaged EXIF block does not make the pixels unusable
        return


def _decode(data: bytes, name: str, max_megapixels: float) -> Image.Image:
    """First frame, fully decoded and upright, in the file's own mode."""
    image = _open(data, name, max_megapixels)
    try:
        image.load()
        if image.mode == "F":
            raise PhotoError("floating-point pixels", name)
        _turn(image)
        return image
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # as above: truncated and damaged files
        raise PhotoError(f"truncated or damaged ({error})", name) from None


def _to_rgb(image: Image.Image, background: int) -> Image.Image:
    """8-bit RGB: 16-bit scaled, palettes resolved, transparency laid over a plain background."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.int64) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        plain = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(plain, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_photo(data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decode a photo from bytes, so that one read serves hashing and decoding.

    Transparency is laid over white (what a viewer shows); of several frames the first is taken.

    Args:
        data: the whole file.
        name: what to call it in a complaint.
        max_megapixels: refused above this, from the header alone.

    Returns:
        uint8 (H, W, 3), RGB, upright by EXIF orientation, writable.

    Raises:
        PhotoError: empty, not an accepted format, too large, truncated or damaged.
    """
    image = _decode(data, name, max_megapixels)
    try:
        return np.array(_to_rgb(image, background=255))
    except (ValueError, OSError) as error:
        raise PhotoError(f"cannot be converted to RGB ({error})", name) from None


def open_photo(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read and decode a photo file; see `decode_photo`."""
    return decode_photo(read_bytes(path, max_megapixels), str(path), max_megapixels)


def mask_values(data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decode a mask's pixels from bytes: uint8 (H, W), or (H, W, 3) where they may have colours.

    Transparency counts as black. Raises PhotoError as `decode_photo` does.
    """
    image = _decode(data, name, max_megapixels)
    try:
        if image.mode in ("1", "L"):
            return np.asarray(image.convert("L"))
        return np.asarray(_to_rgb(image, background=0))
    except (ValueError, OSError) as error:
        raise PhotoError(f"cannot be converted to a mask ({error})", name) from None


def marked(values: np.ndarray) -> np.ndarray:
    """What a mask's values mark: bool (H, W), true where any channel exceeds half (127 of 255)."""
    return (values if values.ndim == 2 else values.max(axis=2)) > 127


def decode_mask(data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decode a mask from bytes: `marked` of its `mask_values`."""
    return marked(mask_values(data, name, max_megapixels))


def open_mask(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read and decode a mask file; see `decode_mask`."""
    return decode_mask(read_bytes(path, max_megapixels), str(path), max_megapixels)


def image_size(data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """(width, height) in pixels as decoding would give them, from the header alone."""
    image = _open(data, name, max_megapixels)
    width, height = image.size
    return (height, width) if _on_its_side(image) else (width, height)


def save_grey(path: str | Path, array: np.ndarray) -> None:
    """Write uint8 (H, W) as an 8-bit grey PNG, atomically; equal pixels give equal bytes."""
    _save(path, array, "(H, W)", array.ndim == 2)


def save_photo(path: str | Path, array: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as an RGB PNG, atomically; equal pixels give equal bytes."""
    _save(path, array, "(H, W, 3)", array.ndim == 3 and array.shape[2] == 3)


def _save(path: str | Path, array: np.ndarray, wanted: str, fits: bool) -> None:
    if array.dtype != np.uint8 or not fits:
        raise ValueError(f"expected uint8 {wanted}, not {array.dtype} {array.shape}")
    # A fixed level and no metadata: equal pixels give equal bytes.
    with atomic(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG", compress_level=4)
