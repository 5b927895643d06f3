"""Photos and masks: the one place where image files are opened and written.

Files are hostile until shown otherwise: the header is checked before a pixel is decoded, a
truncated file fails instead of being filled with grey, and every complaint is a `PhotoError` with
a short reason that fits a quarantine list. Formats are known by their content, never by their name;
only where folders are searched the suffix tells what looks like a photo.

Pixels of more than 8 bits are scaled to 8: 16-bit ones by their range, 32-bit and floating-point
ones of a TIFF, which has no fixed range, by the smallest usual one that holds them (floating-point:
0..1, 0..255, 0..65535; integers: 0..255, 0..65535, 0..2^32-1). Values that suit none are refused.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import warnings
from importlib.metadata import version
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from components.core.errors import InputError
from components.core.files import atomic, sha256_file

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF")  # HEIC is added where it occurs
WHAT = "JPEG, PNG, TIFF, WebP, BMP, HEIC or AVIF"
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp",
    ".heic", ".heif", ".hif", ".avif",
})  # fmt: skip
# Of photos and pictures that are not read: raw files of cameras, and others.
UNREAD = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".x3f",
    ".bpg", ".dds", ".exr", ".gif", ".hdr", ".heics", ".heifs", ".ico", ".j2k", ".jp2", ".jpf",
    ".jpx", ".jxl", ".jxr", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psb", ".psd", ".svg", ".tga",
    ".wdp", ".xcf",
})  # fmt: skip
MAX_MEGAPIXELS = 64.0
MAX_SIDE = 65_500  # pixels; more cannot be saved as JPEG, as training and robustness do

# A pixel takes at most 8 bytes (16-bit RGBA) before compression; twice that is no honest photo.
_BYTES_PER_PIXEL = 16

_RANGES = {"I": (255, 65_535, 2**32 - 1), "F": (1, 255, 65_535)}  # by mode, see above
_HEIF_SIZE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)  # width and height of a coded picture
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@functools.cache
def decoder() -> dict[str, str]:
    """What decides the pixels of photos: this module's code and Pillow; part of cache keys."""
    return {"code": sha256_file(__file__), "pillow": PIL.__version__}


def pixels_id(path: str | Path, sha256: str) -> str:
    """What a photo's pixels are known by in cache keys, beside `decoder`: its bytes' SHA-256.

    For HEIC the version of the library that decodes it as well; no other photo depends on it.
    """
    try:
        with open(path, "rb") as file:
            heif = _is_heif(file.read(12))
    except OSError:  # whoever reads it will say so
        heif = False
    return f"{sha256} pillow-heif {version('pillow-heif')}" if heif else sha256


def looks_like_photo(name: str) -> bool:
    """Whether a file's name is a photo's, of a format that is read or not; hidden files are not."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES | UNREAD and not path.name.startswith(".")


def refuse_unread(name: str | Path) -> None:
    """Raise PhotoError for a file whose suffix is in `UNREAD`, before its bytes are fetched.

    A camera's raw file would otherwise pass for the TIFF that its thumbnail is.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix in UNREAD:
        raise PhotoError(f"{suffix[1:].upper()} files are not read, only {WHAT}", str(name))


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
    refuse_unread(path)
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


def _is_heif(head: bytes) -> bool:
    """Whether a file's first 12 bytes are HEIC's; `mif1` and `msf1` may be AVIF's as well."""
    return head[4:8] == b"ftyp" and head[8:12] in (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
        *(b"mif1", b"msf1"),
    )


@functools.cache
def _with_heif() -> tuple[str, ...]:
    """Formats with HEIC, whose library is imported only when it is needed."""
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return (*FORMATS, "HEIF")


def _unknown(data: bytes) -> str:
    """Why Pillow knows no image in these bytes."""
    if data.startswith(_TIFF_MAGIC):
        return "TIFF with a damaged header or pixels that are not read (e.g. floating-point RGB)"
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF with a damaged header or a codec that is not read"
    return f"not a {WHAT} image"


def _is_raw(image: Image.Image, data: bytes) -> bool:
    """Whether a TIFF is a camera's raw file, of which Pillow would show the thumbnail."""
    tags = getattr(image, "tag_v2", {})
    subfile = tags.get(ExifTags.Base.NewSubfileType, 0)
    return bool(
        data[8:10] == b"CR" or ExifTags.Base.DNGVersion in tags or (subfile and subfile & 1)
    )


def _open(data: bytes, name: str, max_megapixels: float) -> Image.Image:
    """The header only: format and size checked, nothing decoded."""
    if not data:
        raise PhotoError("empty file (0 bytes)", name)
    _allow(int(max_megapixels * 1e6))
    try:
        image = Image.open(BytesIO(data), formats=_with_heif() if _is_heif(data) else FORMATS)
        raw = image.format == "TIFF" and _is_raw(image, data)
    except UnidentifiedImageError:
        raise PhotoError(_unknown(data), name) from None
    except Image.DecompressionBombError:
        raise PhotoError(f"larger than {max_megapixels:g} megapixels", name) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on hostile headers
        raise PhotoError(f"damaged header ({error})", name) from None
    if raw:
        raise PhotoError("camera's raw file, or a thumbnail as its first image", name)
    width, height = image.size
    if width < 1 or height < 1:
        raise PhotoError(f"has no pixels ({width}x{height})", name)
    if width * height > max_megapixels * 1e6:
        raise PhotoError(f"{width}x{height} is larger than {max_megapixels:g} megapixels", name)
    for coded in _HEIF_SIZE.findall(data) if image.format == "HEIF" else ():
        # The header may show a corner of what is decoded; the library holds to these sizes.
        if int.from_bytes(coded[:4]) * int.from_bytes(coded[4:]) > max_megapixels * 1e6:
            raise PhotoError(f"larger than {max_megapixels:g} megapixels", name)
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


def _load(image: Image.Image, name: str) -> None:
    """Decode the first frame."""
    try:
        image.load()
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # as above: truncated and damaged files
        raise PhotoError(f"truncated or damaged ({error})", name) from None


def _decode(data: bytes, name: str, max_megapixels: float) -> Image.Image:
    """First frame, fully decoded and upright, in the file's own mode."""
    image = _open(data, name, max_megapixels)
    _load(image, name)
    _turn(image)
    return image


def _scaled(image: Image.Image) -> np.ndarray:
    """Grey pixels of more than 8 bits as uint8 (H, W); raises ValueError for an unusual range."""
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    depth = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    values = np.asarray(image)
    if image.mode == "I" and depth == 32 and tags.get(ExifTags.Base.SampleFormat, (1,))[0] == 1:
        values = values.view(np.uint32)  # as which Pillow has read it
    ranges = _RANGES.get(image.mode)
    top = _range(values, ranges) if ranges else 2**depth - 1
    if image.mode == "F":
        scaled = np.rint(values.astype(np.float64) * 255 / top)
    else:
        scaled = values.astype(np.int64) * 255 // top
    grey = np.clip(scaled, 0, 255).astype(np.uint8)
    white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return 255 - grey if white_is_zero else grey


def _range(values: np.ndarray, tops: tuple[int, ...]) -> int:
    """The top of the smallest range that holds the values, or nearly, and that they fill a bit."""
    low, high = float(values.min()), float(values.max())
    for top in tops:
        slack = top / 100  # what sharpening adds at edges
        if -slack <= low and high <= top + slack and (top == tops[0] or high >= top / 32):
            return top
    known = " or ".join(f"0..{top}" for top in tops)
    raise ValueError(f"pixels from {low:g} to {high:g}, which is none of {known}")


def _to_rgb(image: Image.Image, background: int) -> Image.Image:
    """8-bit RGB: deeper pixels scaled, palettes resolved, transparency over a plain background."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled(image)).convert("RGB")
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


def check_photo(data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """(width, height) of a photo, upright; raises PhotoError where `decode_photo` does.

    It is decoded, but nothing is made of the pixels unless that could fail.
    """
    image = _open(data, name, max_megapixels)
    _load(image, name)
    if image.mode.startswith(("I", "F")):
        decode_photo(data, name, max_megapixels)
    width, height = image.size
    return (height, width) if _on_its_side(image) else (width, height)


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
