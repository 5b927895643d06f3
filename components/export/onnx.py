"""The student as one ONNX file, and the check that ONNX Runtime agrees with torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from components.core.errors import CheckError, InputError, brief
from components.core.files import atomic, sha256_file
from components.core.seeds import generator
from components.student import store
from components.student.config import GRAPH, GRAPH_HASH
from components.student.model import MAX_MEGABYTES, Student
from components.student.runtime import session

INPUT, OUTPUT, OPSET = "photo", "probability", 18
BATCH = 2
# What the graph is traced at, whatever the student's own size: windowed attention pads only where
# its windows do not fit, tracing keeps the branch it takes, and at 64 every backbone pads.
TRACED = 64


class Difference(TypedDict):
    """Largest absolute difference in probability at one size."""

    height: int
    width: int
    largest_difference: float


class _Probability(nn.Module):
    """The student with its sigmoid, as the exported graph has it."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, photo: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 1, H, W) in (0, 1)."""
        return self.student(photo).sigmoid()


def export(student: Student, path: str | Path) -> None:
    """Write an ONNX file with its weights inside, atomically.

    Input `photo`: float32 (B, 3, H, W), RGB in [0, 1]; output `probability`: float32 (B, 1, H, W).
    Batch, height and width are free. The metadata `student` is the student's config as JSON: size,
    view, thresholds (its temperature is part of the graph).

    Raises:
        CheckError: the file is larger than 25 MB.
    """
    free = {0: "batch", 2: "height", 3: "width"}
    with atomic(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The tracing exporter: the dynamo one needs minutes for free sizes, because "same"
            # padding makes it solve for every size at every convolution.
            torch.onnx.export(
                _Probability(student).eval(),
                (torch.rand(BATCH, 3, TRACED, TRACED),),
                str(temporary),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: free, OUTPUT: free},
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, {"student": student.config.model_dump_json()})
        onnx.save(model, temporary)
        if temporary.stat().st_size > MAX_MEGABYTES * 1e6:
            raise CheckError(f"larger than {MAX_MEGABYTES} MB", where=str(path))


def save(student: Student, folder: Path) -> None:
    """Write all files of a student: weights, ONNX twin, and the config that vouches for both."""
    export(student, folder / GRAPH)
    store.save(student, folder, **{GRAPH_HASH: sha256_file(folder / GRAPH)})


def differences(
    student: Student, path: str | Path, sizes: Sequence[Sequence[int]]
) -> list[Difference]:
    """Largest difference in probability between torch and ONNX Runtime, per (height, width).

    The photos are blocks of random colour under noise, so that the features see edges too.

    Raises:
        InputError: not an ONNX file.
        CheckError: the graph does not run at one of the sizes.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    running = session(data, str(path), threads=1)
    model, found = _Probability(student).eval(), []
    for height, width in sizes:
        draw = generator(0, "parity", height, width)
        blocks = draw.random((BATCH, 3, -(-height // 16), -(-width // 16)), dtype=np.float32)
        photo = blocks.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
        photo = 0.8 * photo + 0.2 * draw.random(photo.shape, dtype=np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(photo)).numpy()
        try:
            (answer,) = running.run([OUTPUT], {INPUT: photo})
        except Exception as error:  # as above
            raise CheckError(
                f"ONNX Runtime fails at {height}x{width} ({brief(error)})", where=str(path)
            ) from None
        same = answer.shape == expected.shape
        largest = float(np.abs(answer - expected).max()) if same else float("inf")
        found.append(Difference(height=height, width=width, largest_difference=largest))
    return found


def check_parity(found: Sequence[Difference], tolerance: float) -> None:
    """Raise CheckError where torch and ONNX Runtime differ by more than `tolerance`, or by NaN."""
    for row in found:
        if not row["largest_difference"] <= tolerance:
            raise CheckError(
                f"ONNX differs from torch by {row['largest_difference']:.2g} in probability at "
                f"{row['height']}x{row['width']} (at most {tolerance:g} allowed)",
                where="export",
            )
