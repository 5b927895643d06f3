"""What the student costs beyond its bare backbone: latency of both in one run, on one photo."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.params import Distill
from components.seeds import fix_torch
from components.student.model import Student, build, configure
from components.student.onnx import INPUT, export

SIZE = 512  # pixels a side
COUNTED = 224  # pixels a side at which operations are usually given
_WARM, _ROUNDS = 3, 15


def bench_student(backbones: list[str], params: Distill) -> dict[str, Any]:
    """Time students and their backbones alternately; the fastest round of each counts.

    So neither profits from a quiet moment, and what else the machine does is left out.

    Args:
        backbones: timm names; weights are random, which changes no time.
        params: the block `distill` that says all else.

    Returns:
        `size`, `threads`, and by backbone: `parameters`, `gmac_at_224`, the seconds that one photo
        takes as `backbone_seconds`, `student_seconds` and `onnx_seconds` (the exported student in
        ONNX Runtime), and `ratio`, student to backbone.
    """
    found: dict[str, Any] = {"size": SIZE, "threads": params.threads}
    for name in backbones:
        fix_torch(params.seed, params.threads)
        changed = params.model_copy(update={"backbone": name})
        found[name] = _one(build(configure(changed), "none").eval(), params.threads)
    return found


@torch.inference_mode()
def _one(student: Student, threads: int) -> dict[str, Any]:
    photo = torch.rand(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    session = _session(student, threads)
    given = photo.numpy()
    runs: list[Callable[[], object]] = [
        lambda: student.features(photo),
        lambda: student(photo),
        lambda: session.run(None, {INPUT: given}),
    ]
    seconds: list[list[float]] = []
    for number in range(_WARM + _ROUNDS):
        row = [_seconds(run) for run in runs]
        if number >= _WARM:
            seconds.append(row)
    bare, whole, onnx = (min(column) for column in zip(*seconds, strict=True))
    with FlopCounterMode(display=False) as counter:
        student(torch.rand(1, 3, COUNTED, COUNTED))
    return {
        "parameters": sum(value.numel() for value in student.parameters()),
        "gmac_at_224": counter.get_total_flops() / 2e9,
        "backbone_seconds": bare,
        "student_seconds": whole,
        "onnx_seconds": onnx,
        "ratio": whole / bare,
    }


def _session(student: Student, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        export(student, path)
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
