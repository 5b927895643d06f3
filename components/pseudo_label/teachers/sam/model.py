"""Segment Anything as a box-prompted teacher.

The network is segment-anything's own; only what surrounds it is here: checked loading, box prompts
and soft masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from components.core.weights import read_third_party
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.encoding import Embedding, EncodingTeacher
from components.pseudo_label.networks import load_tensors

State = Mapping[str, Tensor]


class SamTeacher(EncodingTeacher):
    """A Segment Anything model; four candidates a box (whole, part, subpart, and the single one).

    Arguments are `EncodingTeacher`'s and the model, with its weights; `half` concerns the encoder
    alone.
    """

    def __init__(
        self,
        name: str,
        model: Sam,
        sha256: str,
        margin: float,
        threads: int,
        half: bool | None,
        made_by: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        super().__init__(name, sha256, margin, threads, half, made_by)
        self._model = model.float().eval().to(self.device)
        self._resize = ResizeLongestSide(model.image_encoder.img_size)

    def _encode(self, photos: Sequence[np.ndarray], batch: int) -> list[Embedding]:
        """Photos as SamPredictor prepares them."""
        side = self._model.image_encoder.img_size
        full = torch.zeros(batch, 3, side, side, device=self.device)
        for place, photo in enumerate(photos):
            small = torch.as_tensor(self._resize.apply_image(photo), device=self.device)
            full[place] = self._model.preprocess(small.permute(2, 0, 1).contiguous()[None])[0]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            made = self._model.image_encoder(full)
        return [[one] for one in made[: len(photos)].float().cpu().numpy()]

    def _decode(
        self, embedding: Sequence[Tensor], boxes: np.ndarray, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        scaled = self._resize.apply_boxes(boxes, shape)
        prompt = torch.as_tensor(scaled, dtype=torch.float32, device=self.device)
        sparse, dense = self._model.prompt_encoder(points=None, boxes=prompt, masks=None)
        return self._model.mask_decoder.predict_masks(
            image_embeddings=embedding[0],
            image_pe=self._model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )

    def _enlarge(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        inner = self._resize.get_preprocess_shape(*shape, self._resize.target_length)
        return self._model.postprocess_masks(logits, inner, shape)


def load(
    name: str,
    checkpoint: Checkpoint,
    margin: float,
    threads: int,
    build: Callable[[], Sam] | None = None,
    half: bool | None = None,
    *,
    made_by: tuple[tuple[str, ...], tuple[str, ...]],
    renamed: Callable[[State], State] = lambda state: state,
) -> SamTeacher:
    """A teacher from a `.pth` in the official key format, whose SHA-256 becomes the teacher's.

    Args:
        name: of the teacher.
        checkpoint: its weights.
        margin: see `NetworkTeacher`, as `threads` and `half`.
        threads: of torch.
        build: makes the untrained model; without it segment-anything's registry does by `name`.
        half: bfloat16 products.
        made_by: see `EncodingTeacher`.
        renamed: from the checkpoint's names of tensors to the model's.

    Raises:
        InputError: another kind of file, or weights of another model.
    """
    where = str(checkpoint.path)
    with checkpoint.open() as (file, sha256):
        state = renamed(read_third_party(file, where))
    with torch.device("meta"):  # no memory and no random numbers for weights about to be replaced
        model = (build or sam_model_registry[name])()
    load_tensors(model, state, name, where, assign=True)
    return SamTeacher(name, model, sha256, margin, threads, half, made_by)
