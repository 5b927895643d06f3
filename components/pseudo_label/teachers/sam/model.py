"""Segment Anything as a box-prompted teacher.

The network is segment-anything's own; only what surrounds it is here: checked loading, box prompts
and soft masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from components.core.files import sha256_json
from components.core.paths import EMBEDDING_CACHE, state_dir
from components.core.weights import read_third_party
from components.pseudo_label.cache import Embeddings, maker
from components.pseudo_label.candidates import Candidates, Prompt
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.networks import NetworkTeacher, load_tensors
from components.pseudo_label.teachers.sam import ENCODER, LIBRARIES

_BOXES = 8  # decoded together; fixed, because the batch size changes float sums
_PHOTOS = {"cpu": 1, "cuda": 4}  # encoded together, fixed as well
_OFFSET = 1.0  # of the stability score, in logits, as in the paper's mask generator


class SamTeacher(NetworkTeacher):
    """A Segment Anything model; four candidates a box (whole, part, subpart, and the single one).

    `stability` is the paper's score: IoU of the masks at logits above +1 and above -1. Arguments
    are `NetworkTeacher`'s and the model, with its weights; `half` concerns the encoder alone.
    """

    processes = False

    def __init__(
        self, name: str, model: Sam, sha256: str, margin: float, threads: int, half: bool | None
    ) -> None:
        super().__init__(name, sha256, margin, threads, half)
        self._model = model.float().eval().to(self.device)
        self._resize = ResizeLongestSide(model.image_encoder.img_size)
        grid = model.prompt_encoder.image_embedding_size
        shape = (model.prompt_encoder.embed_dim, *grid)
        self._kept = Embeddings(state_dir() / EMBEDDING_CACHE, shape)

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[Iterator[Candidates]]:
        """Photos are encoded in batches, where their embeddings are not kept already."""
        size = _PHOTOS[self.device]
        for start in range(0, len(prompts), size):
            some = prompts[start : start + size]
            for prompt, embedding in zip(some, self._embed(some), strict=True):
                yield self._decoded(prompt, embedding)

    def _embed(self, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """One float32 (C, G, G) a photo, at most a batch of them."""
        keys = [self._key(prompt) for prompt in prompts]
        found = [self._kept.get(key) if key else None for key in keys]
        missing = [n for n, embedding in enumerate(found) if embedding is None]
        if missing:
            made = self._encode([prompts[n].photo for n in missing])
            for n, embedding in zip(missing, made, strict=True):
                found[n] = embedding
                if key := keys[n]:
                    self._kept.put(key, embedding)
        return [embedding for embedding in found if embedding is not None]

    def _key(self, prompt: Prompt) -> str | None:
        """What an embedding depends on; None where the photo has no name by content."""
        if prompt.sha256 is None:
            return None
        made_by = maker(ENCODER, LIBRARIES)
        return sha256_json([prompt.sha256, self.sha256, self.settings, made_by])

    @torch.inference_mode()
    def _encode(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Photos as SamPredictor prepares them, padded to a full batch."""
        side = self._model.image_encoder.img_size
        batch = torch.zeros(_PHOTOS[self.device], 3, side, side, device=self.device)
        for place, photo in enumerate(photos):
            small = torch.as_tensor(self._resize.apply_image(photo), device=self.device)
            batch[place] = self._model.preprocess(small.permute(2, 0, 1).contiguous()[None])[0]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            embedding = self._model.image_encoder(batch)
        return list(embedding[: len(photos)].float().cpu().numpy())

    def _decoded(self, prompt: Prompt, embedding: np.ndarray) -> Iterator[Candidates]:
        shape = prompt.photo.shape[:2]
        inner = self._resize.get_preprocess_shape(*shape, self._resize.target_length)
        known = torch.from_numpy(embedding)[None].to(self.device)
        for start in range(0, len(prompt.boxes), _BOXES):
            scaled = self._resize.apply_boxes(prompt.boxes[start : start + _BOXES], shape)
            logits, iou = self._decode(known, scaled)
            for index in range(len(scaled)):
                yield self._candidates(logits[index], iou[index], inner, shape)

    @torch.inference_mode()
    def _candidates(
        self, logits: Tensor, iou: Tensor, inner: tuple[int, int], shape: tuple[int, ...]
    ) -> Candidates:
        """One box's masks at the photo's own resolution."""
        full = self._model.postprocess_masks(logits[None], inner, shape)
        return Candidates(
            torch.sigmoid(full).cpu().numpy(),
            iou[None].clamp(0, 1).cpu().numpy(),
            _stability(full).cpu().numpy(),
        )

    @torch.inference_mode()
    def _decode(self, embedding: Tensor, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, 4, h, w) and predicted IoU (N, 4) for boxes (N, 4)."""
        prompt = torch.as_tensor(boxes, dtype=torch.float32, device=self._model.device)
        sparse, dense = self._model.prompt_encoder(points=None, boxes=prompt, masks=None)
        return self._model.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self._model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )


def _stability(logits: Tensor) -> Tensor:
    """Stability score of logits (N, K, H, W): float32 (N, K), 0 where nothing is foreground."""
    tight = (logits > _OFFSET).sum(dim=(-2, -1)).float()
    loose = (logits > -_OFFSET).sum(dim=(-2, -1)).float()
    return tight / loose.clamp(min=1)


def load(
    name: str,
    checkpoint: Checkpoint,
    margin: float,
    threads: int,
    build: Callable[[], Sam] | None = None,
    half: bool | None = None,
) -> SamTeacher:
    """A teacher from a `.pth` in the official key format, whose SHA-256 becomes the teacher's.

    `build` makes the untrained model, without it segment-anything's registry does by `name`; see
    `SamTeacher` for the rest. Raises InputError for other files, or weights of another model.
    """
    where = str(checkpoint.path)
    with checkpoint.open() as (file, sha256):
        state = read_third_party(file, where)
    with torch.device("meta"):  # no memory and no random numbers for weights about to be replaced
        model = (build or sam_model_registry[name])()
    load_tensors(model, state, name, where, assign=True)
    return SamTeacher(name, model, sha256, margin, threads, half)
