"""Teachers that encode a photo once, which is slow, and then answer any number of boxes.

What a photo was encoded to is kept on disk by the photo's content, so another box on a photo seen
before costs the decoder alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from components.core.files import sha256_json
from components.core.paths import EMBEDDING_CACHE, state_dir
from components.pseudo_label.cache import Embeddings, maker
from components.pseudo_label.candidates import Candidates, Prompt
from components.pseudo_label.networks import NetworkTeacher

_BOXES = 8  # decoded together; fixed, because the batch size changes float sums
_PHOTOS = {"cpu": 1, "cuda": 4}  # encoded together, fixed as well
_OFFSET = 1.0  # of the stability score, in logits, as in Segment Anything's mask generator

Embedding = list[np.ndarray]  # float32, of one photo


class EncodingTeacher(NetworkTeacher):
    """Its subclasses encode a batch of photos, decode boxes, and enlarge what they decoded.

    `stability` is Segment Anything's score: IoU of the masks at logits above +1 and above -1.
    Arguments are `NetworkTeacher`'s, and what an embedding depends on besides photo and weights:
    modules and libraries, as `cache.maker` takes them.
    """

    processes = False
    encodes = True

    def __init__(
        self,
        name: str,
        sha256: str,
        margin: float,
        threads: int,
        half: bool | None,
        made_by: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        super().__init__(name, sha256, margin, threads, half)
        self._made_by, self._kept = made_by, Embeddings(state_dir() / EMBEDDING_CACHE)

    @abstractmethod
    def _encode(self, photos: Sequence[np.ndarray], batch: int) -> Sequence[Embedding]:
        """The embeddings of at most `batch` photos, computed as a full batch."""

    @abstractmethod
    def _decode(
        self, embedding: Sequence[Tensor], boxes: np.ndarray, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, K, h, w) and predicted IoU (N, K) for boxes (N, 4).

        `shape` is the photo's height and width.
        """

    @abstractmethod
    def _enlarge(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        """Logits (1, K, h, w) of one box at the photo's own resolution, (1, K, H, W)."""

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[Iterator[Candidates]]:
        """Photos are encoded in batches, where their embeddings are not kept already."""
        size = _PHOTOS[self.device]
        for start in range(0, len(prompts), size):
            some = prompts[start : start + size]
            for prompt, embedding in zip(some, self._embed(some, size), strict=True):
                yield self._decoded(prompt, embedding)

    def _embed(self, prompts: Sequence[Prompt], batch: int) -> list[Embedding]:
        """One embedding a photo, of at most a batch of them."""
        keys = [self._key(prompt) for prompt in prompts]
        found = [self._kept.get(key) if key else None for key in keys]
        missing = [n for n, embedding in enumerate(found) if embedding is None]
        if missing:
            with torch.inference_mode():
                made = self._encode([prompts[n].photo for n in missing], batch)
            for n, embedding in zip(missing, made, strict=True):
                found[n] = embedding
                if key := keys[n]:
                    self._kept.put(key, embedding)
        return [embedding for embedding in found if embedding is not None]

    def _key(self, prompt: Prompt) -> str | None:
        """What an embedding depends on; None where the photo has no name by content."""
        if prompt.sha256 is None:
            return None
        return sha256_json([prompt.sha256, self.sha256, self.settings, maker(*self._made_by)])

    @torch.inference_mode()
    def _decoded(self, prompt: Prompt, embedding: Embedding) -> Iterator[Candidates]:
        height, width = prompt.photo.shape[:2]
        known = [torch.from_numpy(part)[None].to(self.device) for part in embedding]
        for start in range(0, len(prompt.boxes), _BOXES):
            boxes = prompt.boxes[start : start + _BOXES]
            logits, iou = self._decode(known, boxes, (height, width))
            for index in range(len(boxes)):
                full = self._enlarge(logits[index : index + 1], (height, width))
                yield Candidates(
                    torch.sigmoid(full).cpu().numpy(),
                    iou[index : index + 1].clamp(0, 1).cpu().numpy(),
                    stability(full).cpu().numpy(),
                )


def stability(logits: Tensor) -> Tensor:
    """Stability score of logits (N, K, H, W): float32 (N, K), 0 where nothing is foreground."""
    tight = (logits > _OFFSET).sum(dim=(-2, -1)).float()
    loose = (logits > -_OFFSET).sum(dim=(-2, -1)).float()
    return tight / loose.clamp(min=1)
