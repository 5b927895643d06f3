"""The distillation loss and the score that picks the best epoch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy against the teacher's soft mask, mean over all pixels.

    BoxPromptIML, arXiv 2511.20359: the student learns the pseudo-mask pixel by pixel. An authentic
    photo's target is zero everywhere.

    Args:
        logits: float32 (B, 1, H, W).
        target: float32 (B, 1, H, W), probabilities.

    Returns:
        A scalar, in nats.
    """
    return F.binary_cross_entropy_with_logits(logits, target)


def pseudo_f1(logits: Tensor, target: Tensor) -> Tensor:
    """F1 per photo at probability 0.5 against the pseudo-mask cut at 0.5.

    Args:
        logits: float32 (B, 1, H, W).
        target: float32 (B, 1, H, W), probabilities.

    Returns:
        float64 (B,); NaN where the pseudo-mask is empty.
    """
    found, wanted = (logits > 0).flatten(1), (target > 0.5).flatten(1)
    hits = (found & wanted).sum(1, dtype=torch.float64)
    f1 = 2 * hits / (found.sum(1) + wanted.sum(1))
    return torch.where(wanted.any(1), f1, torch.nan)
