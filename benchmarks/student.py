"""What the student costs beyond its bare backbone, and against published networks, on one photo."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import peers as load_peers
from components.core.params import Distill
from components.core.seeds import fix_torch
from components.export.onnx import INPUT, export
from components.student.copies import joined
from components.student.model import Student, build, configure

SIZE = 512  # pixels a side
COUNTED = 224  # pixels a side at which operations are usually given
_WARM, _ROUNDS = 3, 15
_PEER_WARM, _PEER_ROUNDS = 1, 3  # they take seconds
Runs = Mapping[str, Callable[[], object]]


def bench_student(
    backbones: list[str], params: Distill, peers: Path | None = None
) -> dict[str, Any]:
    """Time students and their backbones alternately; the fastest round of each counts.

    So neither profits from a quiet moment, and what else the machine does is left out.

    Args:
        backbones: timm names; weights are random, which changes no time.
        params: the block `distill` that says all else.
        peers: a folder as `benchmarks.peers` wants it, or None.

    Returns:
        `size`, `threads`, `copies_seconds` (what finding copy-moves adds to the answer), and by
        backbone: `parameters`, `gmac_at_224`, the seconds that one photo takes as
        `backbone_seconds`, `student_seconds` and `onnx_seconds` (the exported student in ONNX
        Runtime), and `ratio`, student to backbone. With peers `peers`: the seconds of each peer and
        student, alternately; the `fastest` peer, and by backbone how many `times_faster` the
        student is.

    Raises:
        InputError: a folder without peers.
    """
    found: dict[str, Any] = {"size": SIZE, "threads": params.threads}
    found["copies_seconds"] = _copies_seconds()
    students = {}
    for name in backbones:
        fix_torch(params.seed, params.threads)
        changed = params.student.model_copy(update={"backbone": name})
        students[name] = build(configure(changed), "none").eval()
    others = {} if peers is None else load_peers(peers, SIZE)
    found |= {name: _one(student, params.threads) for name, student in students.items()}
    return found | ({"peers": _against(students, others)} if others else {})


@torch.inference_mode()
def _against(students: Mapping[str, Student], peers: Runs) -> dict[str, Any]:
    photo = _photo()
    own = {name: partial(student, photo) for name, student in students.items()}
    seconds = _fastest({**own, **peers}, _PEER_WARM, _PEER_ROUNDS)
    fastest = min(peers, key=seconds.__getitem__)
    faster = {name: seconds[fastest] / seconds[name] for name in own}
    return {"seconds": seconds, "fastest": fastest, "times_faster": faster}


def _copies_seconds() -> float:
    """The fastest round of `copies.joined` on a photo with structure of all sizes."""
    layers = [
        F.interpolate(torch.rand(1, 3, side, side), (SIZE, SIZE), mode="bicubic")
        for side in (8, 16, 32, 64, 128, SIZE)
    ]
    photo = torch.cat(layers).mean(0).mul(255).clamp(0, 255)
    pixels = photo.byte().permute(1, 2, 0).contiguous().numpy()
    answer = np.full(pixels.shape[:2], 0.05, np.float32)
    return _fastest({"copies": partial(joined, answer, pixels)}, _WARM, _ROUNDS)["copies"]


def gmac(run: Callable[[], object]) -> float:
    """Multiplications with addition that a call takes, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / 2e9)


def _photo() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)


def _fastest(runs: Runs, warm: int, rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm + rounds):
        for name, run in runs.items():
            taken = _seconds(run)
            if number >= warm:
                seconds[name].append(taken)
    return {name: min(taken) for name, taken in seconds.items()}


@torch.inference_mode()
def _one(student: Student, threads: int) -> dict[str, Any]:
    photo = _photo()
    session = _session(student, threads)
    given = photo.numpy()
    seconds = _fastest(
        {
            "backbone": partial(student.features, photo),
            "student": partial(student, photo),
            "onnx": partial(session.run, None, {INPUT: given}),
        },
        _WARM,
        _ROUNDS,
    )
    counted = torch.rand(1, 3, COUNTED, COUNTED)
    return {
        "parameters": sum(value.numel() for value in student.parameters()),
        "gmac_at_224": gmac(partial(student, counted)),
        **{f"{name}_seconds": taken for name, taken in seconds.items()},
        "ratio": seconds["student"] / seconds["backbone"],
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
