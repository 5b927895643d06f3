"""A forensic front end: what is left of a photo after its smooth content is filtered away.

Three fixed high-pass filters of the spatial rich model (Fridrich & Kodovsky 2012), as chosen by
Zhou et al. 2018, on each colour channel. The mix that joins them to the photo starts at zero, so a
pretrained backbone first sees the photo alone and learns how much of the noise it wants.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIMIT = 3 / 255  # residuals beyond it are edges of the scene, not noise

_SQUARE_3 = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0] * 5]
_SQUARE_5 = [
    [-1, 2, -2, 2, -1],
    [2, -6, 8, -6, 2],
    [-2, 8, -12, 8, -2],
    [2, -6, 8, -6, 2],
    [-1, 2, -2, 2, -1],
]
_SECOND = [[0] * 5, [0] * 5, [0, 1, -2, 1, 0], [0] * 5, [0] * 5]


class HighPass(nn.Module):
    """Photos to what is added to their normalised colours."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = ((_SQUARE_3, 4), (_SQUARE_5, 12), (_SECOND, 2))
        bank = torch.stack([torch.tensor(kernel) / scale for kernel, scale in pairs])
        self.register_buffer("filters", bank.repeat(3, 1, 1)[:, None], persistent=False)
        self.mix = nn.Conv2d(9, 3, 1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def residuals(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 9, H, W) in [-1, 1]: three filters for each channel."""
        noise = F.conv2d(photos, self.filters, padding=2, groups=3)
        return noise.clamp(-LIMIT, LIMIT) / LIMIT

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H, W)."""
        return self.mix(self.residuals(photos))
