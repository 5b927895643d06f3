"""The registry model: the predictor as an MLflow "model from code", so nothing is pickled.

Log it with this file as `python_model`, `student.onnx` and `student.json` of one folder as
artifacts, `signature()` as its signature and `code_paths=["components"]`.

Input: a table with the column `image`, each the base64 text of an image file or an array of whole
numbers 0..255, nested as (H, W, 3) RGB or (H, W) grey, of any size. Output: one row an image -
`score` and `area` (see `predictor.Prediction`) and `mask_png`, the base64 text of an 8-bit grey PNG
of the probability, at the image's size. A bad image refuses the whole request (HTTP 400).
"""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType
from PIL import Image

from components.core.errors import InputError
from components.core.images import decode_photo
from components.core.stream import batches
from components.serving.predictor import Predictor

COLUMN = "image"
MAX_MEGAPIXELS = 64.0
_MAX_CHARACTERS = 128 * 2**20  # of base64: 96 MB of file


def signature() -> ModelSignature:
    """Types of the input and output tables."""
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), COLUMN)]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.double, "area"),
                ColSpec(DataType.string, "mask_png"),
            ]
        ),
    )


def _refuse(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=INVALID_PARAMETER_VALUE)


def decode(value: object, row: int) -> np.ndarray:
    """One photo uint8 (H, W, 3) from base64 text or an array; raises MlflowException (400)."""
    name = f"row {row}"
    if isinstance(value, list | np.ndarray):
        return _from_array(value, name)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise _refuse(f"{name}: {COLUMN} is neither base64 text nor an array but {kind}")
    if len(value) > _MAX_CHARACTERS:
        raise _refuse(f"{name}: {COLUMN} is longer than {_MAX_CHARACTERS} characters")
    try:
        return decode_photo(base64.b64decode(value, validate=True), name, MAX_MEGAPIXELS)
    except (binascii.Error, ValueError) as error:
        raise _refuse(f"{name}: {COLUMN} is not base64 text ({error})") from None
    except InputError as error:
        raise _refuse(error.line()) from None


def _from_array(value: list[Any] | np.ndarray, name: str) -> np.ndarray:
    """A nested list or array of whole numbers 0..255, grey or RGB."""
    wanted = f"{COLUMN} is not an array (H, W, 3) or (H, W) of whole numbers 0..255"
    try:
        array = np.asarray(value)
        # A table may hold rows that are arrays themselves.
        array = np.stack([np.stack(list(r)) for r in array]) if array.dtype == object else array
    except (ValueError, TypeError):
        raise _refuse(f"{name}: {wanted}") from None
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if not (grey or colour) or array.dtype.kind not in "iu" or not array.size:
        raise _refuse(f"{name}: {wanted}")
    height, width = array.shape[:2]
    if height * width > MAX_MEGAPIXELS * 1e6:
        raise _refuse(f"{name}: {width}x{height} is larger than {MAX_MEGAPIXELS:g} megapixels")
    if array.min() < 0 or array.max() > 255:
        raise _refuse(f"{name}: {wanted}")
    photo = array.astype(np.uint8)
    return np.repeat(photo[..., None], 3, axis=2) if grey else photo


def _png(grey: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class StudentModel(PythonModel):
    """The student behind MLflow's pyfunc interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the student from the folder its artifacts lie in."""
        folders = {Path(path).parent for path in context.artifacts.values()}
        if len(folders) != 1:
            raise MlflowException("the student's files must lie in one folder")
        self._predictor = Predictor(folders.pop())

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Score every image of the table; there are no `params`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, naming the first bad row and what is wrong;
                INTERNAL_ERROR where the model's answer is unusable.
        """
        if not isinstance(model_input, pd.DataFrame) or COLUMN not in model_input:
            raise _refuse(f"expected a table with the column {COLUMN!r}")
        photos = (decode(text, row) for row, text in enumerate(model_input[COLUMN]))
        rows = []
        for batch in batches(photos, lambda photo: photo.shape[0] * photo.shape[1]):
            try:
                answers = self._predictor.predict(batch)
            except InputError as error:  # the model is wrong, not the request: HTTP 500
                raise MlflowException(error.line()) from None
            rows += [(found.score, found.area, _png(found.grey())) for found in answers]
        return pd.DataFrame(rows, columns=["score", "area", "mask_png"])


# A model-from-code file ends by naming its model; only MLflow imports it for that.
mlflow.models.set_model(StudentModel())
