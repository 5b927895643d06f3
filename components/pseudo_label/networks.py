"""What teachers that are torch networks share: device, precision, threads, checked tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.core.seeds import fix_torch
from components.pseudo_label.candidates import Candidates, Prompt, Teacher


class NetworkTeacher(Teacher):
    """A teacher that is a torch network, on the GPU where there is one, with a guess of its IoU.

    Args:
        name: as in params.yaml.
        sha256: of the weights.
        margin: share of a box added on each side before prompting.
        threads: of torch, fixed, because they change float sums.
        half: bfloat16 products; None where the processor has them in hardware.
    """

    def __init__(
        self, name: str, sha256: str, margin: float, threads: int, half: bool | None
    ) -> None:
        fix_torch(0, threads)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name, self.sha256, self.margin, self.prior = name, sha256, margin, np.nan
        self.half = _has_bfloat16(self.device) if half is None else half
        self.settings = {
            "device": self.device,
            "threads": threads,
            "precision": "bfloat16" if self.half else "float32",
        }

    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """`answers` for one photo."""
        return next(self.answers([Prompt(photo, boxes)]))


def _has_bfloat16(device: str) -> bool:
    """Whether it is faster at bfloat16 than at float32: AMX on a CPU, Ampere or later on a GPU."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def load_tensors(
    network: nn.Module, state: Mapping[str, Tensor], name: str, where: str, assign: bool = False
) -> None:
    """Load a checkpoint's tensors into a network; InputError unless they are exactly its own.

    `name` is the teacher's and `where` the tensors' origin, for the error. `assign` takes the
    tensors themselves instead of copying them, for a network on the meta device.
    """
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    excess = sorted(state.keys() - wanted.keys())
    reshaped = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if missing or excess or reshaped:
        raise InputError(
            f"not weights of {name}: {len(missing)} tensors missing, {len(excess)} unknown, "
            f"{len(reshaped)} of another shape (first: {(missing + excess + reshaped)[0]})",
            where=where,
            hint="set pseudo_label.teacher to the architecture this checkpoint was made for",
        )
    network.load_state_dict(state, strict=True, assign=assign)
