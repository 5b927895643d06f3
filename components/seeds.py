"""Seeds: one number in params.yaml, one stream per purpose; thread counts that fix float sums."""

from __future__ import annotations

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
    torch.backends.cudnn.benchmark = False
