"""MobileSAM's checkpoint with drawn weights, and what its reference package answers with them.

The JSON file beside this has the names and shapes of the reference package's tensors and some of
its numbers; `python tests/mobile_sam_support.py` writes it, where that package is installed.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FACTS = Path(__file__).with_suffix(".json")
BOXES = np.array([[40.0, 30, 200, 150], [5, 5, 120, 210]])


def photo() -> np.ndarray:
    """Noise over shades, 320x240: every window of the encoder sees something else."""
    y, x = np.mgrid[:240, :320]
    shades = np.stack([x * 0.7, y, 255 - x * 0.5], axis=-1)
    noise = np.random.default_rng(5).normal(0, 30, shades.shape)
    return np.clip(shades + noise, 0, 255).astype(np.uint8)


def facts() -> dict[str, Any]:
    return json.loads(FACTS.read_text())


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Drawn by name, so that they do not depend on any order; signals keep their size."""
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: list[int]) -> Tensor:
    random, kind = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(1)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        values = random.uniform(0.5, 1.5, shape)
    elif kind == "weight":
        values = random.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
    else:
        values = random.normal(0, 0.3, shape)
    return torch.from_numpy(values.astype(np.float32))


def reference(state: dict[str, Tensor]) -> Any:
    """The reference package's predictor, the photo set."""
    from mobile_sam import SamPredictor, sam_model_registry

    model = sam_model_registry["vit_t"]()
    model.load_state_dict(state)
    predictor = SamPredictor(model.eval())
    predictor.set_image(photo())
    return predictor


def answer(predictor: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embedding (C, G, G), probabilities (N, 4, H, W), and predicted IoU (N, 4)."""
    masks, scores = [], []
    for box in BOXES:
        options = {"box": box, "return_logits": True}
        single, one, _ = predictor.predict(multimask_output=False, **options)
        several, three, _ = predictor.predict(multimask_output=True, **options)
        masks.append(np.concatenate([single, several]))
        scores.append(np.concatenate([one, three]))
    return predictor.features[0].numpy(), 1 / (1 + np.exp(-np.stack(masks))), np.stack(scores)


def sample(values: np.ndarray) -> list[float]:
    """Some numbers from all over an array."""
    return [round(float(v), 5) for v in values.reshape(-1)[:: max(1, values.size // 97)]]


def main() -> None:
    from mobile_sam import sam_model_registry

    shapes = {n: list(v.shape) for n, v in sam_model_registry["vit_t"]().state_dict().items()}
    names = ("embedding", "probability", "iou")
    found = dict(zip(names, map(sample, answer(reference(weights(shapes)))), strict=True))
    lines = [f'"tensors": {json.dumps(shapes)}', *(f'"{n}": {json.dumps(found[n])}' for n in names)]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
