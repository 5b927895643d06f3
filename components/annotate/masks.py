"""What the page shows: photos as they were decoded, and the teacher's mask of a box.

The mask is the one that the stage `pseudo_label` would train on (the same teacher, parameters and
choice), so a box that it gets wrong can be drawn again. Photos are decoded beforehand, and encoded
where the teacher keeps that.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np

from components.annotate.photos import Corners, Photo
from components.core.files import sha256_bytes
from components.core.images import PhotoError, decode_photo
from components.core.params import PseudoLabel
from components.evaluate.pictures import PREDICTED, thumbnail
from components.pseudo_label import registry
from components.pseudo_label.candidates import Prompt, Teacher
from components.pseudo_label.quality import PseudoMask, pseudo_masks
from components.pseudo_label.teachers.sam.model import SamTeacher
from components.pseudo_label.teachers.sam_lite.model import SIZE, SamLiteTeacher, cut

_KEPT = 6  # decoded photos in memory
_QUALITY = 95  # of the JPEG that the page shows, without subsampling of colours
_LONGEST = 512  # pixels of a mask's longer side on the page
_COLOUR = PREDICTED[::-1]  # as in all overlays; OpenCV's order
_RIM = (0, 0, 0, 255)
_OPACITY = 0.45
_HALF = 127


class Ready(NamedTuple):
    """A photo that was read."""

    pixels: np.ndarray  # uint8 (H, W, 3), RGB, upright
    sha256: str  # of its bytes
    jpeg: bytes  # all its pixels, for any browser


class Shown(NamedTuple):
    """The teacher's answer to a box, as the page shows it."""

    png: bytes  # the mask in colour, more opaque where it is more probable
    place: Corners  # the part of the photo that it covers
    confidence: float
    fallback: str | None  # why the box itself is the mask, if it is


class Assistant:
    """Reads photos ahead and asks the teacher; safe to call from any thread.

    `photo` and `mask` raise `images.PhotoError` for a photo that cannot be read.
    """

    def __init__(
        self, photos: Sequence[Photo], settings: PseudoLabel, max_megapixels: float
    ) -> None:
        self._photos, self._most = photos, max_megapixels
        self._reader, self._thinker = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._reading: OrderedDict[int, Future[Ready]] = OrderedDict()
        self._awaited: set[Future[Shown]] = set()  # masks that people wait for
        self._lock = Lock()
        # torch keeps its settings by thread: all its work is done in this one.
        self.teacher = self._thinker.submit(_build, settings).result()
        self._answer = functools.lru_cache(maxsize=256)(self._asked)

    def photo(self, number: int) -> Ready:
        """A photo of the queue, decoded."""
        try:
            return self._started(number).result()
        except PhotoError:
            with self._lock:  # it may be read another time
                self._reading.pop(number, None)
            raise

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin with photos that will be wanted soon."""
        for number in numbers:
            self._started(number)

    def mask(self, number: int, box: Corners) -> Shown:
        """The teacher's mask of a box inside the photo."""
        return self._answer(number, box)

    def close(self) -> None:
        """Stop the threads."""
        for pool in (self._reader, self._thinker):
            pool.shutdown(cancel_futures=True)

    def _started(self, number: int) -> Future[Ready]:
        with self._lock:
            if number not in self._reading:
                self._reading[number] = self._reader.submit(self._read, number)
            self._reading.move_to_end(number)
            while len(self._reading) > _KEPT:
                self._reading.popitem(last=False)
            return self._reading[number]

    def _read(self, number: int) -> Ready:
        photo = self._photos[number]
        data = photo.read()
        pixels = decode_photo(data, photo.name, self._most)
        ready = Ready(pixels, sha256_bytes(data), _jpeg(pixels))
        if isinstance(self.teacher, SamTeacher):  # keeps the embedding, which takes seconds
            self._thinker.submit(self._encode, ready)
        return ready

    def _encode(self, ready: Ready) -> None:
        """Encode a photo beforehand, unless a person waits for a mask: then after that."""
        if self._awaited:
            self._thinker.submit(self._encode, ready)
            return
        height, width = ready.pixels.shape[:2]
        _asked_of(self.teacher, ready.pixels, (0, 0, width, height), ready.sha256)

    def _asked(self, number: int, box: Corners) -> Shown:
        ready, teacher = self.photo(number), self.teacher
        asked = self._thinker.submit(answer, teacher, ready.pixels, box, ready.sha256)
        self._awaited.add(asked)
        asked.add_done_callback(self._awaited.discard)
        return asked.result()


def _build(settings: PseudoLabel) -> Teacher:
    teacher = registry.build(settings)
    if isinstance(teacher, SamLiteTeacher):
        teacher.batch = 1  # a person waits: one box at a time, not padded to many
    answer(teacher, np.zeros((64, 64, 3), np.uint8), (16, 16, 48, 48), "")  # the first is slow
    return teacher


def _asked_of(teacher: Teacher, pixels: np.ndarray, box: Corners, sha256: str) -> PseudoMask:
    return next(pseudo_masks(teacher, [Prompt(pixels, np.array([box], np.float64), sha256)]))


def answer(teacher: Teacher, pixels: np.ndarray, box: Corners, sha256: str) -> Shown:
    """A teacher's mask of one box."""
    left, top, right, bottom = seen = _seen(teacher, pixels, box)
    x0, y0, x1, y1 = box
    inner = (x0 - left, y0 - top, x1 - left, y1 - top)
    found = _asked_of(teacher, pixels[top:bottom, left:right], inner, sha256)
    place, png = _coloured(found.mask, seen)
    return Shown(png, place, found.confidence, found.reason if found.fallback else None)


def _seen(teacher: Teacher, pixels: np.ndarray, box: Corners) -> tuple[int, int, int, int]:
    """The part of a photo that a teacher looks at: x0, y0, x1, y1.

    `sam_lite` answers as for the whole photo, in a fraction of the time: it cuts the same window
    out of this part. Its sides begin at even pixels because Python rounds halves to even ones.
    """
    height, width = pixels.shape[:2]
    if not isinstance(teacher, SamLiteTeacher):
        return 0, 0, width, height
    left, top, right, bottom = cut(pixels, np.asarray(box), SIZE).window
    return left - left % 2, top - top % 2, right, bottom


def _coloured(mask: np.ndarray, seen: tuple[int, int, int, int]) -> tuple[Corners, bytes]:
    """Where a mask, uint8 (H, W), is not empty, and that part as PNG, at most `_LONGEST` large."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
    left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 1)
    part = thumbnail(mask[top:bottom, left:right], _LONGEST)
    picture = np.empty((*part.shape, 4), np.uint8)
    picture[..., :3] = _COLOUR
    picture[..., 3] = np.rint(part * _OPACITY)
    outlines, _ = cv2.findContours(
        (part > _HALF).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    for colour, width in ((_RIM, 3), ((*_COLOUR, 255), 1)):  # to be seen on any photo
        cv2.drawContours(picture, outlines, -1, colour, width)
    place = (seen[0] + left, seen[1] + top, seen[0] + right, seen[1] + bottom)
    return tuple(float(side) for side in place), _written(
        ".png", picture, cv2.IMWRITE_PNG_COMPRESSION, 1
    )  # type: ignore[return-value]


def _jpeg(pixels: np.ndarray) -> bytes:
    """Pixels of a photo as JPEG without subsampling: what is seen at high zoom is the photo's."""
    options = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
    full = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    return _written(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), *options, *full)


def _written(kind: str, pixels: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(kind, pixels, options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {kind}")
    return data.tobytes()
