"""What pairs are made from: photos, cut-out objects, and photos with regions people drew.

A fixed share of each, chosen by the hash of its bytes, is never trained on: the tuning set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat

from components.core.errors import InputError, brief
from components.core.images import image_size, read_bytes
from components.synthesis.paste import bounds

_HELD_OUT = 7  # one source in this many tunes
_PHOTO_SIDE, _CUTOUT_SIDE = 1280, 480  # larger sources are shrunk: crops never need more
_PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass
class Sources:
    """Decoded sources.

    Attributes:
        photos: uint8 (H, W, 3), RGB.
        cutouts: uint8 (H, W, 4), RGBA.
        regions: photo uint8 (H, W, 3) with one or several label maps uint16 (H, W).
        digest: SHA-256 over the bytes of every file behind them, in order.
    """

    photos: list[np.ndarray] = field(default_factory=list)
    cutouts: list[np.ndarray] = field(default_factory=list)
    regions: list[tuple[np.ndarray, list[np.ndarray]]] = field(default_factory=list)
    digest: str = ""


def load(photos: list[Path], cutouts: list[Path], regions: Path | None, held_out: bool) -> Sources:
    """Read one side of the sources: what trains, or what tunes.

    Args:
        photos: folders of photos, searched through.
        cutouts: folders of RGBA pictures, searched through.
        regions: a folder with `images/NAME.jpg` and `segments/NAME.mat` (BSDS500's key
            `groundTruth`, a list of label maps `Segmentation`), or None.
        held_out: the tuning share instead of the training share.

    Raises:
        InputError: an unreadable picture, or not one photo, cut-out or (where a folder of them is
            given) photo with regions on this side.
    """
    found = Sources()
    digest = hashlib.sha256()
    for path, data in _chosen(photos, held_out, digest):
        found.photos.append(_shrunk(_decode(data, path, cv2.IMREAD_COLOR), _PHOTO_SIDE))
    for path, data in _chosen(cutouts, held_out, digest):
        found.cutouts.append(_cutout(_decode(data, path, cv2.IMREAD_UNCHANGED), path))
    if regions is not None:
        for path, data in _chosen([regions / "images"], held_out, digest):
            photo = _decode(data, path, cv2.IMREAD_COLOR)
            found.regions.append((photo, _label_maps(regions / "segments" / f"{path.stem}.mat")))
    counts = {"photos": len(found.photos), "cut-outs": len(found.cutouts)}
    if regions is not None:
        counts["photos with regions"] = len(found.regions)
    if lacking := [name for name, count in counts.items() if not count]:
        raise InputError(
            f"no {' and no '.join(lacking)} to {'hold out' if held_out else 'train on'}: the hash "
            f"of each decides, one in {_HELD_OUT} is held out",
            where=", ".join(map(str, [*photos, *cutouts, *filter(None, [regions])])),
            hint="give more of them",
        )
    found.digest = digest.hexdigest()
    return found


def _chosen(folders: list[Path], held_out: bool, digest: hashlib._Hash) -> list[tuple[Path, bytes]]:
    """The pictures of one side, each content once, in the order of their hashes."""
    by_hash: dict[str, tuple[Path, bytes]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError("no such folder", where=str(folder))
        for path in sorted(folder.rglob("*")):
            known = path.suffix.lower() in _PICTURES and not path.name.startswith(".")
            if known and not path.is_dir():
                data = read_bytes(path)
                by_hash.setdefault(hashlib.sha256(data).hexdigest(), (path, data))
    chosen = {k: v for k, v in by_hash.items() if (int(k[:8], 16) % _HELD_OUT == 0) == held_out}
    for key in sorted(chosen):
        digest.update(bytes.fromhex(key))
    return [chosen[key] for key in sorted(chosen)]


def _decode(data: bytes, path: Path, flags: int) -> np.ndarray:
    """RGB or RGBA uint8."""
    image_size(data, str(path))  # complains of what OpenCV would fail on
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None:
        raise InputError("not a readable picture", where=str(path))
    if picture.dtype == np.uint16:
        picture = (picture // 256).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 4:
        return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _cutout(picture: np.ndarray, path: Path) -> np.ndarray:
    """A cut-out trimmed to its opaque part."""
    if picture.shape[2] != 4:
        raise InputError("a cut-out needs an alpha channel", where=str(path))
    seen = picture[..., 3] > 127
    if not seen.any():
        raise InputError("this cut-out is transparent throughout", where=str(path))
    x0, y0, x1, y1 = bounds(seen)
    return _shrunk(picture[y0:y1, x0:x1], _CUTOUT_SIDE)


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _label_maps(path: Path) -> list[np.ndarray]:
    try:
        truth = loadmat(path)["groundTruth"][0]
        maps = [np.ascontiguousarray(one["Segmentation"][0, 0]) for one in truth]
    except MemoryError:
        raise
    except Exception as error:  # SciPy's reader raises almost anything on foreign files
        raise InputError(f"no label maps ({brief(error)})", where=str(path)) from None
    if not maps:
        raise InputError("no label maps", where=str(path))
    return maps
