"""MobileSAM (Zhang et al., arXiv 2306.14289): Segment Anything's decoder behind a TinyViT encoder.

The encoder is timm's TinyViT (5M, at 1024 pixels) with two changes of MobileSAM's: the last stage
keeps the resolution of the one before, and Segment Anything's neck takes the place of the
classifier. Its published weights name the tensors as TinyViT's authors do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from components.pseudo_label.teachers.sam.model import State

_SIDE, _PATCH, _WIDTH = 1024, 16, 256
_DIMS, _HEADS = (64, 128, 160, 320), (2, 4, 5, 10)  # by stage
# TinyViT's names of tensors and timm's.
_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    # A stage of timm begins with the merging of patches that ends the one before it there.
    (r"^layers\.(\d+)\.downsample\.", lambda found: f"stages.{int(found[1]) + 1}.downsample."),
    (r"\.c\.weight$", ".conv.weight"),
)
_ENCODER, _UNUSED = "image_encoder.", re.compile(r"image_encoder\.(norm_)?head\.")


class Encoder(nn.Module):
    """Photos (B, 3, S, S) to embeddings (B, 256, S/16, S/16)."""

    img_size = _SIDE

    def __init__(self) -> None:
        super().__init__()
        # On the CPU even where the rest is made without memory: it fills tables of indices.
        with torch.device("cpu"):
            body: Any = TinyVit(
                num_classes=0, embed_dims=_DIMS, num_heads=_HEADS, drop_path_rate=0.0
            )
        body.head, body.stages[3].downsample.conv2.conv.stride = nn.Identity(), (1, 1)
        self.body = body
        convolution = partial(nn.Conv2d, bias=False)
        self.neck = nn.Sequential(
            convolution(_DIMS[-1], _WIDTH, 1),
            LayerNorm2d(_WIDTH),
            convolution(_WIDTH, _WIDTH, 3, padding=1),
            LayerNorm2d(_WIDTH),
        )

    def forward(self, photos: Tensor) -> Tensor:
        """See the class."""
        return self.neck(self.body.forward_features(photos))


def build() -> Sam:
    """The untrained model."""
    grid = (_SIDE // _PATCH, _SIDE // _PATCH)
    return Sam(
        image_encoder=Encoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=_WIDTH,
            image_embedding_size=grid,
            input_image_size=(_SIDE, _SIDE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=_WIDTH, mlp_dim=2048, num_heads=8),
            transformer_dim=_WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )


def renamed(state: State) -> State:
    """The published names to this model's; the classifier, which nothing uses, is left out."""
    return {_renamed(name): value for name, value in state.items() if not _UNUSED.match(name)}


def _renamed(name: str) -> str:
    inner = name.removeprefix(_ENCODER)
    if inner == name or inner.startswith("neck."):
        return name
    for theirs, ours in _NAMES:
        inner = re.sub(theirs, ours, inner)
    return f"{_ENCODER}body.{inner}"
