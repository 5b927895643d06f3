"""Seeds: one number in params.yaml, one stream per purpose; and how torch is run.

Thread counts fix float sums; the allocator only decides how long a step takes.
"""

from __future__ import annotations

import ctypes
import hashlib

import numpy as np


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose (e.g. `derive(7, "boxes", image_id)`).

    Streams of different purposes are independent, so adding a photo changes no other photo.
    """
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """NumPy's generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def fix_torch(seed: int, threads: int) -> None:
    """Seed torch, fix its thread count and ask for deterministic kernels.

    The thread count decides how float sums are split, so it is a parameter like any other.
    """
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling memory that is about to be overwritten costs a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def hold_memory() -> None:
    """Keep freed memory in this process: for a training, which asks for the same again each step.

    Large tensors otherwise go back to the system and come back as fresh pages, up to half of a
    step on a CPU. A C library without `mallopt` is left as it is.
    """
    mmap_max, trim, pad = -4, -1, -2  # glibc's M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    settings = ((mmap_max, 0), (trim, 2**31 - 1), (pad, 512 << 20))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in settings:
            mallopt(name, value)
