"""From candidates to one pseudo-mask: choice, fallback, union over boxes, confidence.

Nothing here sees a true mask. The constants were set on BSDS500 regions with loosened boxes (not a
data set that is labelled): GrabCut masks covering under a fifth of their box had a mean IoU of 0.04
there and the filled box 0.45, so such a mask is degenerate and the box is the better answer.
A calibrated teacher's mask is weighed against the box by its expected IoU; where the two are even
was read off held-out composites.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from components.pseudo_label.candidates import BOX_PRIOR, Candidates, Prompt, Teacher
from components.pseudo_label.prompts import expand, fill, pixels

_THRESHOLD = 0.5  # probability from which a pixel belongs to the mask
_MIN_FILL = 0.2  # share of the box below which a mask is degenerate
_UNSURE = 0.3  # calibrated confidence below which the filled box is the better mask


@dataclass(frozen=True)
class Chosen:
    """The mask for one box: the best candidate, or the filled box.

    Attributes:
        mask: float32 (H, W), probability.
        predicted_iou, stability: of the candidate; NaN where it has none.
        box_fit: see `box_fit`.
        confidence: a calibrated teacher's predicted IoU; of others predicted IoU (the teacher's
            prior where it makes no guess) times stability times box fit, those that exist, in
            0..1; the filled box's prior on fallback.
        fallback: why the filled box was taken, or None.
    """

    mask: np.ndarray
    predicted_iou: float
    stability: float
    box_fit: float
    confidence: float
    fallback: str | None


@dataclass(frozen=True)
class PseudoMask:
    """The union over a photo's boxes.

    Attributes:
        mask: uint8 (H, W), probability times 255.
        predicted_iou, stability: means over boxes weighted by box area; None where unknown.
        box_fit, confidence: means over boxes weighted by box area.
        fallback: "box" where the filled box replaces at least one mask, else None.
        reason: which and why, or None.
    """

    mask: np.ndarray
    predicted_iou: float | None
    stability: float | None
    box_fit: float
    confidence: float
    fallback: str | None
    reason: str | None

    def numbers(self) -> dict[str, float | str | None]:
        """All but the mask: the columns of a label that depend on photo and boxes alone."""
        return {name: value for name, value in vars(self).items() if name != "mask"}

    def png(self) -> bytes:
        """The mask as an 8-bit grey PNG; equal pixels give equal bytes."""
        done, data = cv2.imencode(".png", self.mask, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        if not done:
            raise RuntimeError("OpenCV cannot write PNG")
        return data.tobytes()


def box_fit(mask: np.ndarray, box: np.ndarray) -> float:
    """How well a mask, bool (H, W), fits the box as drawn that it answers, in 0..1.

    (Share of the mask inside the box) * (IoU of the mask's extent inside it and the box).
    """
    x0, y0, x1, y1 = pixels(box, mask.shape[1], mask.shape[0])
    inside = mask[y0:y1, x0:x1]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return 0.0
    extent = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(inside.sum() / mask.sum() * extent / inside.size)


def _degenerate(mask: np.ndarray, box: np.ndarray, calibrated: bool) -> str | None:
    """Why a bool mask cannot be the answer to a box, or None.

    A calibrated teacher knows a thin object from a failure: its masks under a fifth of their box
    had a mean IoU of 0.54 on held-out pairs, the box 0.21.
    """
    x0, y0, x1, y1 = pixels(box, mask.shape[1], mask.shape[0])
    inside = int(mask[y0:y1, x0:x1].sum())
    if not inside:
        return "empty mask"
    share = inside / ((x1 - x0) * (y1 - y0))
    small = share < _MIN_FILL and not calibrated
    return f"mask fills {share:.0%} of the box" if small else None


def _score(parts: Iterable[float]) -> float:
    """Product of the numbers that exist."""
    return float(np.prod([part for part in parts if not np.isnan(part)]))


def choose(
    candidates: Candidates, box: np.ndarray, prior: float, calibrated: bool = False
) -> Chosen:
    """The best of a teacher's candidates (N = 1) for a box as drawn, or the filled box.

    `prior` and `calibrated` are the `Teacher`'s.
    """
    height, width = candidates.probability.shape[2:]
    best: Chosen | None = None
    reason: str | None = None
    for k in range(candidates.probability.shape[1]):
        probability = candidates.probability[0, k]
        mask = probability >= _THRESHOLD
        if why := _degenerate(mask, box, calibrated):
            reason = reason or why
            continue
        iou, stability = float(candidates.predicted_iou[0, k]), float(candidates.stability[0, k])
        fit = box_fit(mask, box)
        score = iou if calibrated else _score((prior if np.isnan(iou) else iou, stability, fit))
        if calibrated and score < _UNSURE:
            reason = reason or f"expected IoU is {score:.2f}"
            continue
        if best is None or score > best.confidence:
            best = Chosen(probability, iou, stability, fit, score, None)
    if best is not None:
        return best
    filled = fill(box, width, height).astype(np.float32)
    return Chosen(filled, np.nan, np.nan, 1.0, BOX_PRIOR, reason)


def _mean(values: list[float], weights: list[float]) -> float | None:
    """Weighted mean of the numbers that exist, None if none does."""
    known = [(v, w) for v, w in zip(values, weights, strict=True) if not np.isnan(v)]
    return sum(v * w for v, w in known) / sum(w for _, w in known) if known else None


def union(
    stream: Iterable[Candidates], boxes: np.ndarray, prior: float, calibrated: bool = False
) -> PseudoMask:
    """One pseudo-mask from the answers (each N = 1) to a photo's boxes as drawn, at least one.

    Only one box is in memory at a time. `prior` and `calibrated` are the `Teacher`'s.
    """
    merged: np.ndarray | None = None
    chosen: list[tuple[float, float, float, float]] = []
    reasons: list[str] = []
    for candidates, box in zip(stream, boxes, strict=True):
        one = choose(candidates, box, prior, calibrated)
        merged = one.mask.copy() if merged is None else np.maximum(merged, one.mask, out=merged)
        chosen.append((one.predicted_iou, one.stability, one.box_fit, one.confidence))
        if one.fallback:
            reasons.append(one.fallback)
    if merged is None:
        raise ValueError("a pseudo-mask needs at least one box")
    areas = [float(area) for area in (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])]
    iou, stability, fit, confidence = (_mean([row[i] for row in chosen], areas) for i in range(4))
    return PseudoMask(
        mask=np.rint(merged * 255).astype(np.uint8),
        predicted_iou=iou,
        stability=stability,
        box_fit=fit or 0.0,
        confidence=confidence or 0.0,
        fallback="box" if reasons else None,
        reason=f"{len(reasons)} of {len(boxes)} boxes: {reasons[0]}" if reasons else None,
    )


def pseudo_masks(teacher: Teacher, prompts: Sequence[Prompt]) -> Iterator[PseudoMask]:
    """Prompt a teacher with several photos and unite, photo by photo, its answers.

    Prompts hold the boxes as drawn; the teacher's margin is added here.
    """
    asked = []
    for prompt in prompts:
        height, width = prompt.photo.shape[:2]
        asked.append(replace(prompt, boxes=expand(prompt.boxes, teacher.margin, width, height)))
    for prompt, stream in zip(prompts, teacher.answers(asked), strict=True):
        yield union(stream, prompt.boxes, teacher.prior, teacher.calibrated)


def pseudo_mask(teacher: Teacher, photo: np.ndarray, boxes: np.ndarray) -> PseudoMask:
    """`pseudo_masks` of one photo."""
    return next(pseudo_masks(teacher, [Prompt(photo, boxes)]))
