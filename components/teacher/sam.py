"""Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643) as a box-prompted teacher.

The network is segment-anything's own; only what surrounds it is here: checked loading, box prompts
and soft masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from components.errors import InputError
from components.files import sha256_file
from components.seeds import fix_torch
from components.teacher.candidates import Candidates, Teacher
from components.weights import load_third_party

_BOXES = 8  # decoded together; fixed, because the batch size changes float sums
_OFFSET = 1.0  # of the stability score, in logits, as in the paper's mask generator


class SamTeacher(Teacher):
    """A Segment Anything model; four candidates a box (whole, part, subpart, and the single one).

    `stability` is the paper's score: IoU of the masks at logits above +1 and above -1.
    """

    def __init__(self, name: str, model: Sam, sha256: str, margin: float, threads: int) -> None:
        fix_torch(0, threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name, self.sha256, self.margin = name, sha256, margin
        self.prior, self.processes = np.nan, False
        self.settings = {
            "algorithm": "segment-anything/1",
            "torch": torch.__version__,
            "device": device,
            "threads": threads,
        }
        self._model = model.float().eval().to(device)

    @torch.inference_mode()
    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """Encode the photo once, decode its boxes eight at a time, upscale one at a time."""
        predictor = SamPredictor(self._model)
        predictor.set_image(photo)
        for start in range(0, len(boxes), _BOXES):
            scaled = predictor.transform.apply_boxes(boxes[start : start + _BOXES], photo.shape[:2])
            logits, iou = self._decode(predictor.get_image_embedding(), scaled)
            for index in range(len(scaled)):
                full = self._model.postprocess_masks(
                    logits[index : index + 1], predictor.input_size, photo.shape[:2]
                )
                yield Candidates(
                    torch.sigmoid(full).cpu().numpy(),
                    iou[index : index + 1].clamp(0, 1).cpu().numpy(),
                    _stability(full).cpu().numpy(),
                )

    def _decode(
        self, embedding: torch.Tensor, boxes: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Low-resolution logits (N, 4, h, w) and predicted IoU (N, 4) for boxes (N, 4)."""
        prompt = torch.as_tensor(boxes, dtype=torch.float32, device=self._model.device)
        sparse, dense = self._model.prompt_encoder(points=None, boxes=prompt, masks=None)
        return self._model.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self._model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )


def _stability(logits: torch.Tensor) -> torch.Tensor:
    """Stability score of logits (N, K, H, W): float32 (N, K), 0 where nothing is foreground."""
    tight = (logits > _OFFSET).sum(dim=(-2, -1)).float()
    loose = (logits > -_OFFSET).sum(dim=(-2, -1)).float()
    return tight / loose.clamp(min=1)


def load(
    name: str,
    path: Path,
    margin: float,
    threads: int,
    build: Callable[[], Sam] | None = None,
) -> SamTeacher:
    """A teacher from a checkpoint in the official key format.

    Args:
        name: of the architecture in segment-anything's registry, if `build` is not given.
        path: the `.pth` file; its SHA-256 becomes the teacher's.
        margin: share of a box added on each side before prompting.
        threads: torch threads, fixed, because they change float sums.
        build: makes the untrained model.

    Raises:
        InputError: not a file of weights, or weights of another architecture.
    """
    sha256 = sha256_file(path)
    state = load_third_party(path, sha256)
    with torch.device("meta"):  # no memory and no random numbers for weights about to be replaced
        model = (build or sam_model_registry[name])()
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    excess = sorted(state.keys() - wanted.keys())
    reshaped = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if missing or excess or reshaped:
        first = (missing + excess + reshaped)[0]
        raise InputError(
            f"not weights of {name}: {len(missing)} tensors missing, {len(excess)} unknown, "
            f"{len(reshaped)} of another shape (first: {first})",
            where=str(path),
            mend="set pseudo_label.teacher to the architecture this checkpoint was made for",
        )
    model.load_state_dict(state, strict=True, assign=True)
    return SamTeacher(name, model, sha256, margin, threads)
