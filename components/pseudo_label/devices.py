"""Where teachers compute: the device, and whether it multiplies bfloat16 in hardware."""

from __future__ import annotations

from pathlib import Path

import torch


def device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16(name: str) -> bool:
    """Whether it is faster at bfloat16 than at float32: AMX on a CPU, Ampere or later on a GPU."""
    if name == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
