"""Models of transformers as box-prompted teachers: loading, photos and boxes in, soft masks out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.errors import InputError
from components.pseudo_label.encoding import Embedding, EncodingTeacher
from components.pseudo_label.hub import CONFIG, Folder
from components.pseudo_label.teachers.huggingface.kinds import KINDS, check

_EXTRA = "pip install 'boxpromptiml[transformers]'"


class TransformersTeacher(EncodingTeacher):
    """Four candidates a box: the single mask and the three of an ambiguous prompt.

    Arguments are `EncodingTeacher`'s, the model with its weights, and what prepares its photos.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        images: Any,
        sha256: str,
        margin: float,
        threads: int,
        half: bool | None,
        made_by: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        super().__init__(name, sha256, margin, threads, half, made_by)
        self._model, self._images = model.float().eval().to(self.device), images
        if hasattr(model.mask_decoder, "dynamic_multimask_via_stability"):
            model.mask_decoder.dynamic_multimask_via_stability = False  # all four are weighed later

    def _encode(self, photos: Sequence[np.ndarray], batch: int) -> list[Embedding]:
        """Photos as the model's own image processor prepares them."""
        ready = self._images(list(photos), return_tensors="pt")["pixel_values"]
        full = torch.zeros(batch, *ready.shape[1:])
        full[: len(photos)] = ready
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            made = self._model.get_image_embeddings(full.to(self.device))
        parts = [part.float().cpu().numpy() for part in _flat(made)]
        return [[part[n] for part in parts] for n in range(len(photos))]

    def _decode(
        self, embedding: Sequence[Tensor], boxes: np.ndarray, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        height, width = self._inner(shape)
        scale = np.array([width / shape[1], height / shape[0]] * 2)
        prompt = torch.as_tensor(boxes * scale, dtype=torch.float32, device=self.device)[None]
        answers = [
            self._model(input_boxes=prompt, multimask_output=several, **self._known(embedding))
            for several in (False, True)
        ]
        logits = torch.cat([answer.pred_masks[0] for answer in answers], dim=1)
        return logits, torch.cat([answer.iou_scores[0] for answer in answers], dim=1)

    def _enlarge(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        sizes = [[shape]]
        if self._padded:
            sizes.append([self._inner(shape)])
        return self._images.post_process_masks([logits], *sizes, binarize=False)[0]

    @property
    def _padded(self) -> bool:
        """Whether a photo keeps its shape, in a corner of the square, or is stretched to it."""
        return bool(self._images.size.longest_edge)

    def _inner(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a photo takes in the square."""
        size = self._images.size
        if not self._padded:
            return size.height, size.width
        scale = size.longest_edge / max(shape)
        return int(shape[0] * scale + 0.5), int(shape[1] * scale + 0.5)

    def _known(self, embedding: Sequence[Tensor]) -> dict[str, Any]:
        """An embedding as the model takes it: one tensor, several scales, or one and early ones."""
        kind = self._model.config.model_type
        if kind == "sam":
            return {"image_embeddings": embedding[0]}
        if kind == "sam_hq":
            first, *early = embedding
            return {"image_embeddings": first, "intermediate_embeddings": early}
        return {"image_embeddings": list(embedding)}


def _flat(made: Any) -> list[Tensor]:
    """The tensors of an embedding in order."""
    if isinstance(made, Tensor):
        return [made]
    return [tensor for part in made for tensor in _flat(part)]


def load(
    name: str,
    folder: Folder,
    margin: float,
    threads: int,
    half: bool | None = None,
    *,
    made_by: tuple[tuple[str, ...], tuple[str, ...]],
) -> TransformersTeacher:
    """A teacher from a folder in Hugging Face format; the SHA-256 of its files is the teacher's.

    Raises InputError where transformers is missing, and for a folder that is no such model.
    """
    try:  # not by a statement: type checkers would read all of it
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise InputError("transformers is not installed", where=name, hint=_EXTRA) from None
    sha256 = folder.checked()
    kind = KINDS[check(folder.path / CONFIG)]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, found = getattr(transformers, kind.model).from_pretrained(
            folder.path,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
        images = getattr(transformers, kind.images).from_pretrained(
            folder.path, local_files_only=True
        )
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # its readers raise almost anything on a foreign file
        reason = " ".join(str(error).split())[:200]
        what = f"cannot be loaded as a {kind.model} ({type(error).__name__}: {reason})"
        raise InputError(what, where=str(folder.path)) from None
    _complete(found, kind.model, folder.path)
    return TransformersTeacher(name, model, images, sha256, margin, threads, half, made_by)


def _complete(found: dict[str, Any], model: str, path: Path) -> None:
    """InputError unless the weights are exactly the model's own."""
    counts = {name: found[f"{name}_keys"] for name in ("missing", "unexpected", "mismatched")}
    if any(counts.values()):
        listed = ", ".join(f"{len(keys)} {name}" for name, keys in counts.items())
        first = next(str(key) for keys in counts.values() for key in sorted(keys, key=str))
        raise InputError(f"not weights of {model}: tensors {listed} ({first})", where=str(path))
