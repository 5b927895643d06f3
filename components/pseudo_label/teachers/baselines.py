"""Teachers without weights: the filled box, and OpenCV's GrabCut started from the box.

GrabCut is Rother et al., "GrabCut": interactive foreground extraction using iterated graph cuts,
SIGGRAPH 2004. Both need nothing on disk and no network.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from components.core.files import sha256_json
from components.pseudo_label.candidates import BOX_PRIOR, Candidates, Teacher
from components.pseudo_label.prompts import fill, pixels
from components.pseudo_label.registry import TeacherSpec

_SEED = 7  # GrabCut's colour models start from k-means, which draws
_ITERATIONS = 3  # more change little; the last one is run apart to see whether it is settled
_CONTEXT = 0.25  # background seen round the box, as a share of its sides
_LONG_SIDE = 512  # larger crops are shrunk: cost grows with area, boxes are coarse anyway
_PRIOR = 0.75  # mean IoU with BSDS500 regions of masks that are not degenerate


def _identity(name: str, settings: dict[str, str | int | float]) -> str:
    """The hash of a teacher that has no weights: of its name, algorithm and settings."""
    return sha256_json({"name": name, **settings})


def _nothing(n: int = 1) -> np.ndarray:
    return np.full((n, 1), np.nan, np.float32)


class Box(Teacher):
    """The box as drawn, filled: the weakest possible teacher, and what others fall back to."""

    def __init__(self) -> None:
        self.name, self.margin, self.prior, self.processes = "box", 0.0, BOX_PRIOR, True
        self.settings = {"algorithm": "filled-box/1"}
        self.sha256 = _identity(self.name, self.settings)

    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """One mask per box: 1 inside, 0 outside."""
        height, width = photo.shape[:2]
        for box in boxes:
            mask = fill(box, width, height).astype(np.float32)
            yield Candidates(mask[None, None], _nothing(), _nothing())


class GrabCut(Teacher):
    """Colour models of inside and outside the box, cut where the edges are."""

    def __init__(self, margin: float, threads: int) -> None:
        cv2.setNumThreads(threads)
        self.name, self.margin, self.prior, self.processes = "grabcut", margin, _PRIOR, True
        self.settings = {
            "algorithm": "grabcut/1",
            "opencv": cv2.__version__,
            "seed": _SEED,
            "iterations": _ITERATIONS,
            "context": _CONTEXT,
            "long_side": _LONG_SIDE,
        }
        self.sha256 = _identity(self.name, self.settings)

    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """One mask per box; all zero where GrabCut finds nothing to separate.

        `stability` is the IoU of the masks of the last two iterations.
        """
        height, width = photo.shape[:2]
        for box in boxes:
            x0, y0, x1, y1 = _window(box, width, height)
            crop = np.ascontiguousarray(photo[y0:y1, x0:x1, ::-1])
            inside = np.asarray(box) - [x0, y0, x0, y0]
            mask, stability = _grabcut(crop, inside)
            probability = np.zeros((1, 1, height, width), np.float32)
            probability[0, 0, y0:y1, x0:x1] = mask
            yield Candidates(probability, _nothing(), np.array([[stability]], np.float32))


def _window(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with background round it, in whole pixels of the photo."""
    x0, y0, x1, y1 = pixels(box, width, height)
    dx, dy = int(_CONTEXT * (x1 - x0)) + 2, int(_CONTEXT * (y1 - y0)) + 2
    return max(0, x0 - dx), max(0, y0 - dy), min(width, x1 + dx), min(height, y1 + dy)


def _grabcut(crop: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    """GrabCut inside a crop uint8 (h, w, 3), BGR, from a box in the crop's pixels.

    Returns float32 (h, w) probability (fractional only along edges of a shrunken crop), and the
    stability; all zero and 0 where there is too little of either side to model its colours.
    """
    h, w = crop.shape[:2]
    scale = min(1.0, _LONG_SIDE / max(h, w))
    small = crop
    if scale < 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    inside = fill(box * scale, small.shape[1], small.shape[0])
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    outer, inner, no_rectangle = np.zeros((1, 65)), np.zeros((1, 65)), (0, 0, 0, 0)
    cv2.setRNGSeed(_SEED)
    try:
        cv2.grabCut(
            small, labels, no_rectangle, outer, inner, _ITERATIONS - 1, cv2.GC_INIT_WITH_MASK
        )
        before = labels & 1
        cv2.grabCut(small, labels, no_rectangle, outer, inner, 1, cv2.GC_EVAL)
    except cv2.error:
        return np.zeros((h, w), np.float32), 0.0
    after = labels & 1
    union = int((before | after).sum())
    stability = int((before & after).sum()) / union if union else 0.0
    mask = after.astype(np.float32)
    if scale < 1:
        mask = np.asarray(cv2.resize(mask, (w, h), interpolation=cv2.INTER_LINEAR))
    return mask, stability


SPECS = (
    TeacherSpec("box", "filled box", lambda params, _: Box(), (__name__,)),
    TeacherSpec(
        "grabcut",
        "GrabCut (OpenCV)",
        lambda params, _: GrabCut(params.margin, params.threads),
        (__name__,),
    ),
)
