"""The distillation loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from components.core.params import Loss

BAND = 16  # a mask's edge is a band of this share of the view's side (1 / BAND) round its outline


def distillation(logits: Tensor, target: Tensor, weight: Tensor, settings: Loss) -> Tensor:
    """Soft binary cross-entropy against the teacher's mask, with Dice and edges as switches.

    BoxPromptIML, arXiv 2511.20359: the student learns the pseudo-mask pixel by pixel. An authentic
    photo's target is zero everywhere.

    Args:
        logits: float32 (B, 1, H, W).
        target: float32 (B, 1, H, W), probabilities.
        weight: float32 (B,), how much each photo counts.
        settings: `dice` is the weight of that term, `boundary` what an edge pixel's cross-entropy
            counts more than another's.

    Returns:
        float32 (B,): each photo's weighted loss, in nats (plus `dice`).
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if settings.boundary:
        loss = loss * (1 + settings.boundary * edges(target))
    each = loss.mean((1, 2, 3))
    if settings.dice:
        each = each + settings.dice * dice(logits.sigmoid(), target)
    return each * weight


def dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum(p^2) + sum(t^2)) per photo: V-Net, Milletari et al. 2016.

    Squared sums make p = t the minimum for soft targets too. Few manipulated pixels count as much
    as many, which is what keeps the student from staying unsure of all.

    Args:
        probability: float32 (B, 1, H, W).
        target: float32 (B, 1, H, W), probabilities.

    Returns:
        float32 (B,); 0 where no pixel of the target is above 0.5, as the term means nothing there.
    """
    common = (probability * target).sum((1, 2, 3))
    both = (probability.square() + target.square()).sum((1, 2, 3))
    present = target.amax((1, 2, 3)) > 0.5
    return (1 - 2 * common / both.clamp_min(1e-6)) * present


def edges(target: Tensor) -> Tensor:
    """1 in a band round each mask's outline, else 0: float32 of the target's shape."""
    reach = max(1, target.shape[-1] // (2 * BAND))
    hard = (target > 0.5).float()
    grown = F.max_pool2d(hard, 2 * reach + 1, stride=1, padding=reach)
    shrunk = -F.max_pool2d(-hard, 2 * reach + 1, stride=1, padding=reach)
    return grown - shrunk
