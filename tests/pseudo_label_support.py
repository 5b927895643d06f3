"""Small photos with a known object, data sets of them, and a tiny Segment Anything."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from edits import edited
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from components.core.images import save_grey, save_photo
from components.core.params import PseudoLabel
from components.data.manifest import BOXES, IMAGES, Manifest
from components.pseudo_label import cache, encoding, registry
from components.pseudo_label.candidates import Candidates, Teacher


def settings(**changes: object) -> PseudoLabel:
    values = {
        "teacher": "grabcut",
        "checkpoint": "",
        "margin": 0.05,
        "min_confidence": 0.0,
        "threads": 1,
    }
    return PseudoLabel.model_validate({**values, **changes})


def scene(
    seed: int, height: int = 96, width: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy green photo with one red ellipse: photo, its mask, a loose box (1, 4)."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    centre = (int(random.integers(45, width - 45)), int(random.integers(35, height - 35)))
    axes = (int(random.integers(18, 28)), int(random.integers(14, 22)))
    cv2.ellipse(mask, centre, axes, 20, 0, 360, 1, -1)
    photo = np.full((height, width, 3), (40, 120, 50), np.float64)
    photo[mask > 0] = (200, 60, 40)
    photo = np.clip(photo + random.normal(0, 12, photo.shape), 0, 255).astype(np.uint8)
    ys, xs = np.nonzero(mask)
    box = np.array([[xs.min() - 3.0, ys.min() - 2.0, xs.max() + 4.0, ys.max() + 3.0]])
    return photo, mask > 0, box


def make_dataset(root: Path, count: int) -> Manifest:
    """A data set folder of `count` manipulated photos and one authentic, and its manifest."""
    images, boxes = [], []
    for index in range(count):
        photo, mask, box = scene(index)
        name = f"{'deep/' if index % 2 else ''}p{index:03d}.png"
        save_photo(root / "photos" / name, photo)
        save_grey(root / "masks" / name, mask.astype(np.uint8) * 255)
        kind = "splice/free" if index % 3 else "splice/geometric"
        images.append(_image(root, name, "manipulated", f"masks/{name}", kind))
        boxes.append(dict(zip(BOXES.names, [name, *box[0], "simulated", None], strict=True)))
    save_photo(root / "photos" / "z.png", scene(999)[0])
    images.append(_image(root, "z.png", "authentic", None, None))
    frame = pd.DataFrame(images, columns=IMAGES.names)
    return Manifest(
        frame.sort_values("image_id", ignore_index=True),
        pd.DataFrame(boxes, columns=BOXES.names).sort_values("image_id"),
    )


def _image(root: Path, name: str, label: str, mask: str | None, kind: str | None) -> dict:
    data = (root / "photos" / name).read_bytes()
    return {
        "image_id": name,
        "dataset": root.name,
        "pool": False,
        "path": f"photos/{name}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 128,
        "height": 96,
        "label": label,
        "mask_path": mask,
        "split": "train",
        "group": name,
        "source": "test",
        "kind": kind,
        "phash": "0" * 16,
        "n_boxes": int(mask is not None),
    }


def made_otherwise(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """As if OpenCV (`cv2`) or a module, by its dotted name, were another until the test ends."""
    if what == "cv2":
        monkeypatch.setattr(cv2, "__version__", "another")
    else:
        edited(monkeypatch, what)
    fresh = functools.cache(cache.maker.__wrapped__)
    for module in (registry, encoding):
        monkeypatch.setattr(module, "maker", fresh)


def joined(parts: Iterable[Candidates]) -> Candidates:
    """One object from the answers to consecutive boxes of one photo."""
    some = [(part.probability, part.predicted_iou, part.stability) for part in parts]
    return Candidates(*map(np.concatenate, zip(*some, strict=True)))


def predict(teacher: Teacher, photo: np.ndarray, boxes: np.ndarray) -> Candidates:
    """A teacher's answers to all boxes of a photo at once."""
    return joined(teacher.stream(photo, boxes))


def tree(folder: Path) -> dict[str, str]:
    """Relative path to SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tiny_sam() -> Sam:
    """segment-anything's own classes, built small: image 256, dim 96, depth 4."""
    torch.manual_seed(3)
    side, patch, dim = 256, 16, 64
    return Sam(
        image_encoder=ImageEncoderViT(
            depth=4,
            embed_dim=96,
            img_size=side,
            mlp_ratio=4,
            num_heads=4,
            patch_size=patch,
            norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1, 3),
            window_size=7,
            out_chans=dim,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(side // patch, side // patch),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer_dim=dim,
            iou_head_hidden_dim=dim,
            transformer=TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=128, num_heads=4),
        ),
    ).eval()
