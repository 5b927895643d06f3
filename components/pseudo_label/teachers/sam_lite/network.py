"""The network of `sam_lite`: segment-anything's prompting on a light image encoder.

Segment Anything (Kirillov et al. 2023) with its ViT replaced by EfficientNet-Lite0 and a feature
pyramid at stride 8; prompt encoder, two-way transformer and mask decoder are segment-anything's.
Fine features of stride 4 and 2 are added while the mask is upscaled, as SAM 2 does. Each box is
its own crop, so the box is also given as a filled map, through SAM's mask prompt and to the neck.
"""

from __future__ import annotations

from itertools import pairwise

import timm
import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CANDIDATES = 3
STRIDE = 8  # of the embedding grid; masks come at STRIDE / 4
_WIDTH = 128
_BACKBONE = "tf_efficientnet_lite0"
_TAPS = {0: 16, 1: 24, 2: 40, 4: 112, 5: 192}  # stage to channels, at strides 2, 4, 8, 16, 32
_FROZEN = 2  # the first stages keep ImageNet's filters: half the cost of a step, little to learn


class Trunk(nn.Module):
    """EfficientNet-Lite0 to stride 32, each batch norm folded into its convolution.

    Folded, it needs no statistics: the answer to one crop never depends on the others beside it,
    and a training step is a third cheaper.
    """

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        network = timm.create_model(_BACKBONE, num_classes=1000).eval()
        if state is not None:
            network.load_state_dict(state, strict=True)
        parts = dict(network.named_children())
        self.stem = nn.Sequential(parts["conv_stem"], parts["bn1"])
        self.stages = nn.ModuleList(list(parts["blocks"].children())[: max(_TAPS) + 1])
        for parent in list(self.modules()):
            _fold(parent)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, 3, S, S) to the tapped stages' maps; no gradient reaches the first ones."""
        with torch.no_grad():
            x = self.stem(x)
            maps = {}
            for index in range(_FROZEN):
                x = maps[index] = self.stages[index](x)
        for index in range(_FROZEN, len(self.stages)):
            x = self.stages[index](x)
            maps[index] = x
        return maps

    def learnable(self) -> list[nn.Parameter]:
        """The parameters that training moves."""
        return [p for stage in self.stages[_FROZEN:] for p in stage.parameters()]


def _fold(parent: nn.Module) -> None:
    """Fold the batch norms among a module's children into the convolution before each."""
    for (name, conv), (after, norm) in pairwise(_layers(parent)):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
            act = norm.act
            plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps).eval()
            plain.load_state_dict(norm.state_dict())
            setattr(parent, name, fuse_conv_bn_eval(conv, plain))
            setattr(parent, after, act)


def _layers(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in parent.named_children() if isinstance(m, nn.Conv2d | BatchNormAct2d)]


class Neck(nn.Module):
    """Feature pyramid (Lin et al. 2017) of strides 8, 16 and 32 into one grid of stride 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(_TAPS[stage], width, 1) for stage in (2, 4, 5))
        self.box = nn.Conv2d(1, width, 3, padding=1)
        self.smooth = nn.ModuleList(_block(width) for _ in range(3))

    def forward(self, maps: dict[int, Tensor], box: Tensor) -> Tensor:
        """Stage maps and the box's map on the grid, (B, 1, G, G), to (B, width, G, G)."""
        fine, middle, coarse = (
            lateral(maps[stage]) for lateral, stage in zip(self.lateral, (2, 4, 5), strict=True)
        )
        x = self.smooth[0](coarse + self.box(F.avg_pool2d(box, 4)))
        x = self.smooth[1](middle + _double(x) + self.box(F.avg_pool2d(box, 2)))
        return self.smooth[2](fine + _double(x) + self.box(box))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _block(width: int) -> nn.Module:
    """A residual depthwise 5x5 and pointwise pair (ConvNeXt's block, Liu et al. 2022)."""
    return _Residual(
        nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width),
            LayerNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, width, 1),
        )
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Decoder(MaskDecoder):
    """SAM's mask decoder for one box per image, with fine features in the upscaling."""

    def __init__(self, width: int) -> None:
        super().__init__(
            transformer_dim=width,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=width, num_heads=8, mlp_dim=4 * width
            ),
            num_multimask_outputs=CANDIDATES,
            iou_head_hidden_dim=width,
        )
        self.skip4 = nn.Conv2d(_TAPS[1], width // 4, 1)
        self.skip2 = nn.Conv2d(_TAPS[0], width // 8, 1)

    def candidates(
        self, embedding: Tensor, position: Tensor, sparse: Tensor, dense: Tensor, fine: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 3, 4G, 4G) and predicted IoU (B, 3) from an embedding (B, C, G, G)."""
        count = len(embedding)
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output.expand(count, -1, -1), sparse], dim=1)
        source = embedding + dense
        hidden, image = self.transformer(source, position.expand(count, -1, -1, -1), tokens)
        grid = image.transpose(1, 2).reshape(source.shape)
        first, norm, act, second, last = self.output_upscaling
        grid = act(norm(first(grid) + self.skip4(fine[1])))
        grid = last(second(grid) + self.skip2(fine[0]))
        # Token 0 predicts IoU, token 1 is SAM's single mask, which a lone box does not use.
        weights = torch.stack(
            [self.output_hypernetworks_mlps[k](hidden[:, 1 + k]) for k in range(1, 1 + CANDIDATES)],
            dim=1,
        )
        logits = torch.einsum("bkc,bchw->bkhw", weights, grid)
        return logits, torch.sigmoid(self.iou_prediction_head(hidden[:, 0])[:, 1:])


class SamLite(nn.Module):
    """Crops and boxes to candidate masks.

    `size` is the side of the square crop in pixels, a multiple of 32, and changes no parameter's
    shape; `state` is ImageNet weights under timm's names, or None for random ones.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, state: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.trunk = Trunk(state)
        self.neck = Neck(_WIDTH)
        self.prompt_encoder = PromptEncoder(_WIDTH, (1, 1), (1, 1), mask_in_chans=16)
        self.mask_decoder = Decoder(_WIDTH)
        # Where training starts from: inside the box more likely than outside.
        self.inside = nn.Parameter(torch.ones(CANDIDATES))
        mean, deviation = timm.data.IMAGENET_INCEPTION_MEAN, timm.data.IMAGENET_INCEPTION_STD
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False
        )
        self.trunk.requires_grad_(False)
        for parameter in self.trunk.learnable():
            parameter.requires_grad_(True)
        # Unused: SAM's parts for points, for the absence of a mask prompt, for its single mask.
        prompts = self.prompt_encoder
        prompts.point_embeddings[:2].requires_grad_(False)
        prompts.not_a_point_embed.requires_grad_(False)
        prompts.no_mask_embed.requires_grad_(False)
        self.mask_decoder.output_hypernetworks_mlps[0].requires_grad_(False)
        self.set_size(size)

    def set_size(self, size: int) -> None:
        """Take crops of another side; every parameter fits any multiple of 32."""
        grid = size // STRIDE
        self.size = size
        self.prompt_encoder.input_image_size = (size, size)
        self.prompt_encoder.image_embedding_size = (grid, grid)
        self.prompt_encoder.mask_input_size = (4 * grid, 4 * grid)

    def forward(self, crops: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 3, S/2, S/2) of the candidate masks, and predicted IoU (B, 3) in 0..1.

        Crops are float32 (B, 3, S, S), RGB in 0..255; boxes float32 (B, 4), x0, y0, x1, y1 in the
        crop's pixels, half-open.
        """
        x = (crops / 255 - self.mean) / self.deviation
        maps = self.trunk(x.contiguous(memory_format=torch.channels_last))
        filled = coverage(boxes, self.size, self.size // 2)
        # SAM reads box corners as pixel centres.
        sparse, dense = self.prompt_encoder(None, boxes - 0.5, 2 * filled - 1)
        embedding = self.neck(maps, F.avg_pool2d(filled, 4))
        position = self.prompt_encoder.get_dense_pe()
        logits, iou = self.mask_decoder.candidates(
            embedding, position, sparse, dense, [maps[0], maps[1]]
        )
        return logits + self.inside.view(1, -1, 1, 1) * (4 * filled - 2), iou


def coverage(boxes: Tensor, size: int, cells: int) -> Tensor:
    """(B, 1, cells, cells): the share of each cell of a size x size crop that a box covers."""
    edges = torch.arange(cells + 1, device=boxes.device, dtype=boxes.dtype) * (size / cells)
    low, high = edges[:-1], edges[1:]

    def along(start: Tensor, end: Tensor) -> Tensor:
        inside = torch.minimum(high, end[:, None]) - torch.maximum(low, start[:, None])
        return inside.clamp(min=0) / (size / cells)

    across, down = along(boxes[:, 0], boxes[:, 2]), along(boxes[:, 1], boxes[:, 3])
    return (down[:, :, None] * across[:, None, :])[:, None]
