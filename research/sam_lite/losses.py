"""The loss of candidate masks: the best of them learns, and each learns to know its IoU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_OTHERS = 0.05  # weight of the candidates that were not the best, so that none dies
_EDGE = 3.0  # extra weight of cells that the outline crosses


def candidate_loss(
    logits: Tensor, predicted: Tensor, target: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of K candidates for each of B pairs (Kirillov et al. 2023, section A.2).

    Cross-entropy weighted towards the outline plus Dice, on the best candidate of each pair; mean
    squared error of the predicted IoU on all. Dice against focal loss is SAM's choice; on crops
    that are a quarter foreground plain cross-entropy needs no focusing.

    Args:
        logits: float32 (B, K, h, w).
        predicted: float32 (B, K), IoU in 0..1.
        target: float32 (B, h, w), soft mask in 0..1.
        valid: float32 (B, h, w), 1 where the crop shows the photo.

    Returns:
        The loss, a scalar; IoU of every candidate at logit 0, (B, K), without gradient.
    """
    truth = target[:, None].expand_as(logits)
    seen = valid[:, None]
    edge = F.max_pool2d(target[:, None], 3, 1, 1) + F.max_pool2d(-target[:, None], 3, 1, 1)
    weight = seen * (1 + _EDGE * edge)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = (entropy * weight).sum((2, 3)) / weight.sum((2, 3))
    probability = torch.sigmoid(logits) * seen
    both = (probability * truth).sum((2, 3))
    dice = 1 - (2 * both + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    each = entropy + dice
    best = each.min(dim=1).values
    iou = candidate_iou(logits, target, valid)
    guess = (predicted - iou).square().mean()
    return best.mean() + _OTHERS * each.mean() + guess, iou


@torch.no_grad()
def candidate_iou(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """IoU (B, K) of logits > 0 with target > 0.5 where the crop shows the photo."""
    mask = (logits > 0) & (valid[:, None] > 0.5)
    truth = ((target > 0.5) & (valid > 0.5))[:, None]
    union = (mask | truth).sum((2, 3))
    return (mask & truth).sum((2, 3)) / union.clamp(min=1)
