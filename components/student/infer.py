"""Photos of any size through the student, memory bounded.

The rule is part of the student's config (`view`):

- `resize`: the photo is resized to the student's square (`config.size`, bilinear with antialiasing,
  aspect ratio given up), the probability map is resized back to the photo's own size (the same
  way). Edits that vanish at that size are not found.
- `tiles`: squares of `config.size` of the photo's own pixels, overlapping by at least
  `config.overlap` of their side, averaged with weights that fall off linearly towards a square's
  rim (see `tiles`). A photo that fits into one square is resized to it, as above.

Copy-moves are found at the photo's own size (`config.copies`, see `copies`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.student.copies import joined
from components.student.model import Student
from components.student.tiles import answers

BATCH = 8


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, C) or (H, W) to the square (size, size[, C]), antialiased.

    Integer arithmetic: the same bytes on any number of threads.
    """
    return resize(image, size, size)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """As `shrink`, to any size."""
    # torch takes no read-only arrays, such as a memory-mapped cache gives.
    own = np.require(np.atleast_3d(image), requirements=("C", "W"))
    planes = torch.from_numpy(own).permute(2, 0, 1)[None]
    small = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=True)
    array = small[0].permute(1, 2, 0).contiguous().numpy()
    return array if image.ndim == 3 else array[:, :, 0]


def to_tensor(photos: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S) in [0, 1], channels-last in memory."""
    return torch.from_numpy(photos).permute(0, 3, 1, 2).float().div_(255)


def enlarge(probability: Tensor, height: int, width: int) -> np.ndarray:
    """A map float32 (S, S) at a photo's own size: float32 (height, width) in [0, 1]."""
    native = F.interpolate(
        probability[None, None], size=(height, width), mode="bilinear", antialias=True
    )
    return native[0, 0].clamp_(0, 1).numpy()


def probabilities(student: Student, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Probability of "manipulated" per pixel, at each photo's own size.

    As `network`, and with the copy-moves of a student whose config wants them.
    """
    maps = network(student, photos)
    if not student.config.copies:
        return maps
    return [joined(found, photo) for found, photo in zip(maps, photos, strict=True)]


@torch.inference_mode()
def network(student: Student, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The network's own answer per pixel, at each photo's own size: all that a training changes.

    Args:
        student: in evaluation mode, on any device.
        photos: uint8 (H, W, 3) RGB, of any and differing sizes.

    Returns:
        One float32 (H, W) in [0, 1] per photo. Only these and one batch of squares are held.
    """
    config = student.config

    def squares(batch: np.ndarray) -> np.ndarray:
        photos = to_tensor(batch).to(student.mean.device)
        return student(photos).sigmoid()[:, 0].cpu().numpy()

    def native(square: np.ndarray, height: int, width: int) -> np.ndarray:
        return enlarge(torch.from_numpy(square), height, width)

    overlap = config.overlap if config.view == "tiles" else None
    return answers(photos, config.size, overlap, squares, shrink, native, BATCH)
