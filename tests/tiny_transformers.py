"""Small models of transformers with drawn weights, saved as their authors publish them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

_SIDE, _WIDTH = 128, 32
_PROMPTS = {"hidden_size": _WIDTH, "image_size": _SIDE, "patch_size": 16, "mask_input_channels": 4}
_DECODER = {
    "hidden_size": _WIDTH,
    "mlp_dim": 64,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
}
_SCALES = {
    "fpn_hidden_size": _WIDTH,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
}
KINDS = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam")


def save(folder: Path, kind: str) -> Path:
    """A model of a kind and its processor in a folder, with `save_pretrained`."""
    torch.manual_seed(11)
    model, images = _HOW[kind]()
    lively(model).save_pretrained(folder)
    images.save_pretrained(folder)
    return folder


def lively(model: Any) -> Any:
    """Weights that let signals through at their size, as trained ones do: answers differ."""
    for values in model.parameters():
        if values.dim() > 1:
            torch.nn.init.normal_(values, std=1 / math.sqrt(values[0].numel()))
    return model.eval()


def save_sam(folder: Path, model: Any) -> None:
    """A Segment Anything of segment-anything's classes, its weights as a `SamModel`."""
    import transformers as t

    encoder, prompts = model.image_encoder, model.prompt_encoder
    width, side = prompts.embed_dim, encoder.img_size
    vision = {
        "hidden_size": encoder.patch_embed.proj.out_channels,
        "output_channels": width,
        "num_hidden_layers": len(encoder.blocks),
        "num_attention_heads": encoder.blocks[0].attn.num_heads,
        "image_size": side,
        "window_size": encoder.blocks[0].window_size,
        "global_attn_indexes": [n for n, b in enumerate(encoder.blocks) if not b.window_size],
        "num_pos_feats": width // 2,
        "mlp_dim": encoder.blocks[0].mlp.lin1.out_features,
    }
    prompt = {**_PROMPTS, "hidden_size": width, "image_size": side, "mask_input_channels": 16}
    prompt["image_embedding_size"] = prompts.image_embedding_size[0]
    decoder = {"hidden_size": width, "num_attention_heads": 4, "iou_head_hidden_dim": width}
    config = t.SamConfig(
        vision_config=vision,
        prompt_encoder_config=prompt,
        mask_decoder_config={**decoder, "mlp_dim": 128},
    )
    made = t.SamModel(config)
    state = {_sam_name(name): value for name, value in model.state_dict().items()}
    shared = "positional_embedding"
    state[f"shared_image_embedding.{shared}"] = state[f"prompt_encoder.shared_embedding.{shared}"]
    made.load_state_dict(state)
    made.save_pretrained(folder)
    t.SamImageProcessor(
        size={"longest_edge": side}, pad_size={"height": side, "width": side}
    ).save_pretrained(folder)


def _sam_name(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = re.sub(theirs, ours, name)
    return name


_RENAMED = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj", "patch_embed.projection"),
    (r"vision_encoder\.blocks", "vision_encoder.layers"),
    (r"(vision_encoder\.layers\.\d+)\.norm(\d)", r"\1.layer_norm\2"),
    (r"neck\.0", "neck.conv1"),
    (r"neck\.1", "neck.layer_norm1"),
    (r"neck\.2", "neck.conv2"),
    (r"neck\.3", "neck.layer_norm2"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"point_embeddings", "point_embed"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"(transformer\.layers\.\d+)\.norm(\d)", r"\1.layer_norm\2"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"((?:hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0", r"\1.proj_in"),
    (r"((?:hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2", r"\1.proj_out"),
    (r"((?:hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1", r"\1.layers.0"),
)


def _sam(kind: str) -> tuple[Any, Any]:
    import transformers as t

    letters = {"sam": "Sam", "sam_hq": "SamHQ"}[kind]
    vision = {
        "hidden_size": 32,
        "output_channels": _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": _SIDE,
        "window_size": 3,
        "global_attn_indexes": [1],
        "num_pos_feats": _WIDTH // 2,
        "mlp_dim": 64,
    }
    decoder = {**_DECODER, "vit_dim": 32} if kind == "sam_hq" else _DECODER
    prompts = {**_PROMPTS, "image_embedding_size": _SIDE // 16}
    config = getattr(t, f"{letters}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    images = t.SamImageProcessor(
        size={"longest_edge": _SIDE}, pad_size={"height": _SIDE, "width": _SIDE}
    )
    return getattr(t, f"{letters}Model")(config), images


def _sam2(kind: str) -> tuple[Any, Any]:
    import transformers as t

    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 12,
        "image_size": [_SIDE, _SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [12, 24, 48, 96],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 7, 4],
        "global_attention_blocks": [3],
    }
    vision = {**_SCALES, "backbone_config": hiera, "backbone_channel_list": [96, 48, 24, 12]}
    parts = {
        "vision_config": vision,
        "prompt_encoder_config": _PROMPTS,
        "mask_decoder_config": _DECODER,
    }
    if kind == "sam2":
        return t.Sam2Model(t.Sam2Config(**parts)), _stretched()
    config = t.Sam2VideoConfig(
        **parts,
        image_size=_SIDE,
        memory_attention_hidden_size=_WIDTH,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_encoder_hidden_size=_WIDTH,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=_WIDTH,
        memory_fuser_embed_dim=_WIDTH,
        memory_fuser_intermediate_dim=64,
        memory_fuser_num_layers=1,
    )
    return t.Sam2VideoModel(config), _stretched()


def _edgetam() -> tuple[Any, Any]:
    import transformers as t

    backbone = t.TimmWrapperConfig(
        architecture="repvit_m0_9",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = {
        **_SCALES,
        "backbone_config": backbone.to_dict(),
        "backbone_channel_list": [384, 192, 96, 48],
    }
    config = t.EdgeTamConfig(
        vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER
    )
    return t.EdgeTamModel(config), _stretched()


def _stretched() -> Any:
    import transformers as t

    return t.Sam2ImageProcessor(size={"height": _SIDE, "width": _SIDE})


_HOW = {
    "sam": lambda: _sam("sam"),
    "sam_hq": lambda: _sam("sam_hq"),
    "sam2": lambda: _sam2("sam2"),
    "sam2_video": lambda: _sam2("sam2_video"),
    "edgetam": _edgetam,
}
