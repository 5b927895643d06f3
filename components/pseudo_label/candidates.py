"""What a teacher is and what it answers: one or several soft candidate masks for each box.

Which of them becomes the pseudo-mask is decided in `components.pseudo_label.quality`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Confidence of a filled box: its mean IoU with BSDS500 regions, sides loosened by up to 10 %.
BOX_PRIOR = 0.49


@dataclass(frozen=True)
class Prompt:
    """A photo uint8 (H, W, 3), RGB, and boxes float64 (N, 4) inside it: x0, y0, x1, y1, half-open.

    `sha256` is of the photo's file where one is known; embeddings of the photo are cached under it.
    """

    photo: np.ndarray
    boxes: np.ndarray
    sha256: str | None = None


@dataclass(frozen=True)
class Candidates:
    """K candidate masks for each of N boxes of one photo.

    Attributes:
        probability: float32 (N, K, H, W), chance that a pixel is manipulated, in 0..1.
        predicted_iou: float32 (N, K), the teacher's own guess of its IoU; NaN where it makes none.
        stability: float32 (N, K), IoU of the mask cut a little tighter with the mask cut a little
            looser; NaN where the teacher's masks have no such cut.
    """

    probability: np.ndarray
    predicted_iou: np.ndarray
    stability: np.ndarray

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        shape = self.probability.shape
        if len(shape) != 4 or self.probability.dtype != np.float32:
            raise ValueError(f"probability: {self.probability.dtype} {shape}, not float32 NKHW")
        if self.predicted_iou.shape != shape[:2] or self.stability.shape != shape[:2]:
            raise ValueError("predicted_iou and stability must have probability's N and K")


@dataclass(frozen=True)
class Identity:
    """What a teacher's masks depend on besides photo and boxes; `maker` is `cache.maker`'s."""

    name: str
    sha256: str
    margin: float
    settings: Mapping[str, str | int | float]
    maker: Mapping[str, Any]


class Teacher(ABC):
    """A frozen model that answers box prompts.

    Attributes:
        name: as in params.yaml.
        sha256: of the weights; of name, algorithm and settings where there are none.
        settings: what else changes its masks, besides code and library versions.
        margin: share of a box added on each side before prompting.
        prior: mean IoU of its usable masks with BSDS500 regions, for teachers that make no guess
            of their own (`Candidates.predicted_iou` is NaN); NaN for the others.
        calibrated: whether `predicted_iou` is the IoU to be expected in the mean, so that it is
            the mask's confidence.
        processes: true where a copy in each worker process is the fast way to many photos.
        encodes: whether it keeps what a photo was encoded to, so that a second question is fast.
    """

    name: str
    sha256: str
    settings: dict[str, str | int | float]
    margin: float
    prior: float
    calibrated: bool = False
    processes: bool
    encodes: bool = False

    @abstractmethod
    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """The answers to one box of a `Prompt` after another (each N = 1), in bounded memory."""

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[Iterator[Candidates]]:
        """`stream` for each of several photos; teachers that gain by it take them together.

        A photo's answer does not depend on the others.
        """
        return (self.stream(prompt.photo, prompt.boxes) for prompt in prompts)
