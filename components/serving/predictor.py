"""The student as people use it: photos in, probability maps and two numbers out.

It runs on ONNX Runtime; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.core.metrics import check_probability, image_score, predicted_area
from components.student.config import GRAPH
from components.student.runtime import Runtime


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo."""

    probability: np.ndarray  # float32 (H, W) in 0..1, at the photo's native size
    score: float  # how manipulated the photo looks as a whole, 0..1 (mean of its highest 1 %)
    area: float  # share of its pixels above 0.5

    def grey(self) -> np.ndarray:
        """The probability as a picture: uint8 (H, W), rounded probability times 255."""
        return np.rint(self.probability * 255).astype(np.uint8)


class Predictor:
    """A student loaded from a folder with `student.onnx` and `student.json`.

    Later programs call it in a version's own code (see `own_code`): name, argument and `predict`
    stay as they are.
    """

    def __init__(self, folder: str | Path, threads: int = 0, device: str = "cpu") -> None:
        """Load and check the student; `threads` and `device` as in `components.student.runtime`.

        Raises:
            InputError: a file is missing, was changed or cut short, or is of another schema.
        """
        self._folder = Path(folder)
        self._student = Runtime(folder, threads, device)
        self.weights_sha256 = self._student.weights_sha256
        self.device = device

    def probabilities(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Photos uint8 (H, W, 3), RGB, of any size, to float32 (H, W) each."""
        return self._student.probabilities(photos)

    def predict(self, photos: Sequence[np.ndarray]) -> list[Prediction]:
        """Photos uint8 (H, W, 3), RGB, of any size, to one `Prediction` each, in order.

        Raises:
            InputError: an answer is no probability map, for example because weights are NaN.
        """
        maps = self.probabilities(photos)
        try:
            for photo, prob in zip(photos, maps, strict=True):
                check_probability(prob, photo.shape[:2])
        except ValueError as error:
            raise InputError(
                f"the model's answer is unusable ({error})",
                where=str(self._folder / GRAPH),
                hint="use another model",
            ) from None
        return [Prediction(prob, image_score(prob), predicted_area(prob)) for prob in maps]
