"""By how much two versions of one output differ, and whether that is more than rounding.

On another processor, thread count or library, floats are added in another order; the tolerances
below are what such a change may do to each kind of file. Anything else must be equal bit by bit.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

WEIGHTS = 0.05  # largest difference of a weight
NUMBERS = 0.05  # largest difference of a metric, score or loss
PIXELS = 26  # largest difference of a pseudo-mask's pixel, of 255
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Match(StrEnum):
    """How two outputs compare."""

    EQUAL = "bit-equal"
    CLOSE = "within tolerance"
    DIFFERENT = "different"


@dataclass(frozen=True)
class Difference:
    """One output: its path in the workspace and by how much it differs (empty if bit-equal)."""

    path: str
    match: Match
    how: str = ""


def compare(path: str, before: bytes, after: bytes) -> Difference:
    """Compare two versions of a file; reports, which repeat other outputs, are not measured."""
    if before == after:
        return Difference(path, Match.EQUAL)
    suffix = path.rpartition(".")[2]
    if suffix == "html":
        return Difference(path, Match.CLOSE, "a report, whose numbers are compared elsewhere")
    if suffix not in _MEASURES:
        return Difference(path, Match.DIFFERENT, f"{len(before)} and {len(after)} bytes differ")
    measure, tolerance, unit = _MEASURES[suffix]
    try:
        largest = measure(before, after)
    except (ValueError, KeyError, OSError, pa.ArrowInvalid, DecodeError, SafetensorError) as error:
        return Difference(path, Match.DIFFERENT, f"cannot be compared ({error})")
    match = Match.CLOSE if largest <= tolerance else Match.DIFFERENT
    if math.isinf(largest):
        return Difference(path, match, "values that are not numbers differ")
    return Difference(path, match, f"{unit} differ by at most {largest:.3g} ({tolerance} allowed)")


def _arrays(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    if {n: t.shape for n, t in a.items()} != {n: t.shape for n, t in b.items()}:
        return math.inf
    return max((_gap(a[name], b[name]) for name in a), default=0.0)


def _gap(a: Any, b: Any) -> float:
    """Largest difference of two numbers, or arrays of one shape.

    Infinite where one is NaN, or infinite, and the other is not the same: no order of a sum does
    that, and max() would lose a NaN.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):
        gaps = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.where(np.isnan(gaps), np.inf, gaps).max(initial=0.0))


def _largest(a: Any, b: Any) -> float:
    """Largest difference of numbers in equal structures; infinite where anything else differs."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((_largest(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max((_largest(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float) and isinstance(b, float | int) and not isinstance(b, bool):
        return _gap(a, b)
    if isinstance(a, str) and isinstance(b, str) and _DIGEST.fullmatch(a) and _DIGEST.fullmatch(b):
        return 0.0  # the hash of another output, which is compared itself
    return 0.0 if a == b else math.inf


def _onnx(before: bytes, after: bytes) -> float:
    """Largest difference of a weight where the graphs are equal."""
    import onnx

    models = [onnx.load_model_from_string(data) for data in (before, after)]
    weights = [
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for model in models
    ]
    for model in models:
        del model.graph.initializer[:]
    if models[0].SerializeToString() != models[1].SerializeToString():
        return math.inf
    return _arrays(*weights)


def _parquet(before: bytes, after: bytes) -> float:
    a, b = (pq.read_table(io.BytesIO(data)).to_pylist() for data in (before, after))
    return _largest(a, b)


def _csv(before: bytes, after: bytes) -> float:
    texts = (csv.reader(io.StringIO(data.decode())) for data in (before, after))
    a, b = ([[_cell(cell) for cell in row] for row in text] for text in texts)
    return _largest(a, b)


def _cell(text: str) -> float | str:
    with suppress(ValueError):
        return float(text) if "." in text else text
    return text


def _png(before: bytes, after: bytes) -> float:
    a, b = (np.asarray(Image.open(io.BytesIO(data))) for data in (before, after))
    return _gap(a, b) if a.shape == b.shape else math.inf


_MEASURES: dict[str, tuple[Callable[[bytes, bytes], float], float, str]] = {
    "safetensors": (lambda a, b: _arrays(load_tensors(a), load_tensors(b)), WEIGHTS, "weights"),
    "onnx": (_onnx, WEIGHTS, "weights"),
    "json": (lambda a, b: _largest(json.loads(a), json.loads(b)), NUMBERS, "numbers"),
    "parquet": (_parquet, NUMBERS, "numbers"),
    "csv": (_csv, NUMBERS, "numbers"),
    "png": (_png, PIXELS, "pixels"),
}
