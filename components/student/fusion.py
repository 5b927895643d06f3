"""Memory-guided gated fusion (MGFM) of BoxPromptIML, arXiv 2511.20359.

With F_i the backbone's features at scale i, all at the finest grid (stride 4) after projection:

    F'_i    = resize(ReLU(BN(Conv1x1(F_i))))
    G_i     = sigmoid(Conv1x1(F'_i))                        one gate per scale and place
    fused   = sum_i G_i * F'_i
    A_base  = ReLU(BN(Conv3x3(fused)))                      the real-time observation
    A_mem   = softmax(Q(fused) M^T / sqrt(C)) M             recall from the bank M of P prototypes
    A_final = alpha * (A_base * mean_i(G_i)) + (1 - alpha) * A_mem
    logits  = Conv3x3(A_final)

Without gates G_i is 1; without dual guidance A_final has A_base alone; without a bank alpha
is 1. Every A_* is a feature response of C channels, not a map of logits, so one head reads the
observation and the recall alike. M is a parameter: gradients shape it during training and nothing
changes it afterwards.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIOR = 0.06  # share of manipulated pixels that the untrained head answers


class Responses(NamedTuple):
    """The parts of the equation, on the finest scale's grid: (B, C, h, w) unless said otherwise."""

    gates: list[Tensor]  # per scale, (B, 1, h, w) in (0, 1); empty where there are none
    fused: Tensor  # gated sum of the scales
    base: Tensor  # A_base
    memory: Tensor | None  # A_mem; None where there is no bank
    alpha: Tensor  # scalar in [0, 1]
    final: Tensor  # A_final


def _on(grid: torch.Size, part: Tensor) -> Tensor:
    """A map (B, C, h, w) at the size of `grid`."""
    if part.shape[-2:] == grid:
        return part
    return F.interpolate(part, size=grid, mode="bilinear", align_corners=False)


class MemoryBank(nn.Module):
    """P learnable prototypes, recalled by scaled dot-product attention at every place."""

    def __init__(self, channels: int, prototypes: int) -> None:
        super().__init__()
        self.query = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, channels))
        self.scale = 1 / math.sqrt(channels)

    def forward(self, fused: Tensor) -> Tensor:
        """(B, C, h, w) to the recalled mixture of prototypes, (B, C, h, w)."""
        # Both products are 1x1 convolutions: channels-last stays channels-last, nothing is moved.
        keys = (self.prototypes * self.scale)[:, :, None, None]
        values = self.prototypes.t()[:, :, None, None]
        return F.conv2d(F.conv2d(self.query(fused), keys).softmax(dim=1), values)


class MemoryGuidedFusion(nn.Module):
    """Four scales to one map of logits at the finest scale's grid."""

    def __init__(
        self,
        scales: list[int],
        channels: int,
        prototypes: int,
        alpha: Literal["learned"] | float,
        *,
        gates: bool = True,
        dual_guidance: bool = True,
    ) -> None:
        """Make the layers for `scales` of these channels, finest first; see `Network`.

        A learned alpha is the sigmoid of a parameter, 0.5 at first; without prototypes alpha is 1.
        Dual guidance needs gates.
        """
        super().__init__()
        self.guided = gates and dual_guidance
        self.project = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
            )
            for width in scales
        )
        self.gate = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in scales if gates)
        self.base = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.memory = MemoryBank(channels, prototypes) if prototypes else None
        self.head = nn.Conv2d(channels, 1, 3, padding=1)
        # Few pixels are manipulated: starting at that rate leaves the features free to find them.
        self.head.bias = nn.Parameter(torch.tensor([math.log(PRIOR / (1 - PRIOR))]))
        self.alpha_logit: nn.Parameter | None = None
        if prototypes and alpha == "learned":
            self.alpha_logit = nn.Parameter(torch.zeros(()))
        self.fixed_alpha = float(alpha) if prototypes and alpha != "learned" else 1.0

    def alpha(self) -> Tensor:
        """Weight of the real-time observation, a scalar in [0, 1]."""
        if self.alpha_logit is not None:
            return self.alpha_logit.sigmoid()
        return torch.tensor(self.fixed_alpha)

    def _scales(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """F'_i and G_i on the finest grid; no G_i where there are no gates.

        A 1x1 convolution and a bilinear resize can change places: the gates' are done before the
        resize, where there are fewer places.
        """
        grid = features[0].shape[-2:]
        scales = [project(part) for project, part in zip(self.project, features, strict=True)]
        opened = [gate(scale) for gate, scale in zip(self.gate, scales, strict=False)]
        return [_on(grid, scale) for scale in scales], [_on(grid, one).sigmoid() for one in opened]

    def responses(self, features: list[Tensor]) -> Responses:
        """The parts of the equation for the backbone's features, finest scale first."""
        scales, gates = self._scales(features)
        if gates:
            fused = gates[0] * scales[0]
            for opened, scale in zip(gates[1:], scales[1:], strict=True):
                fused = torch.addcmul(fused, opened, scale)
        else:
            fused = sum(scales[1:], scales[0])
        base = self.base(fused)
        guided = base * (sum(gates[1:], gates[0]) / len(gates)) if self.guided else base
        if self.memory is None:
            return Responses(gates, fused, base, None, self.alpha(), guided)
        alpha, recalled = self.alpha(), self.memory(fused)
        final = torch.lerp(recalled, guided, alpha.to(guided))
        return Responses(gates, fused, base, recalled, alpha, final)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, 1, h, w) at the finest scale's grid."""
        return self.head(self.responses(features).final)
