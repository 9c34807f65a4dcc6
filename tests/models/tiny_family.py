"""SAM, SAM-HQ, SAM 2 and EdgeTAM with a few ten thousand random weights: all the parts of the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import (
    EdgeTamConfig,
    EdgeTamModel,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

SIDE = 160
PATCH = 16
GRID = SIDE // PATCH
WIDTH = 32
"""Features of everything but the encoder."""
SEED = 4
"""Of weights that blow up rounding little, in all of the models."""

_VIT = {
    "hidden_size": 24,
    "output_channels": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "window_size": 3,
    "global_attn_indexes": [0, 2],
    "num_pos_feats": WIDTH // 2,
    "mlp_dim": 48,
}
_PROMPTS = {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": PATCH, "mask_input_channels": 8}
_DECODER = {"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": WIDTH}
_PYRAMID = {
    "fpn_hidden_size": WIDTH,
    "backbone_feature_sizes": [[4 * GRID, 4 * GRID], [2 * GRID, 2 * GRID], [GRID, GRID]],
}
_HIERA = {
    **_PYRAMID,
    "model_type": "sam2_vision_model",
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 2, 4],
        "window_size_per_stage": [4, 2, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    },
}
_REPVIT = {
    **_PYRAMID,
    "model_type": "edgetam_vision_model",
    "backbone_channel_list": [384, 192, 96, 48],
    "backbone_config": {
        "model_type": "timm_wrapper",
        "architecture": "repvit_m1",
        "num_classes": 2,
        "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    },
}


def _parts(vision: dict[str, object], **decoder: object) -> dict[str, dict[str, object]]:
    return {
        "vision_config": vision,
        "prompt_encoder_config": dict(_PROMPTS),
        "mask_decoder_config": {**_DECODER, **decoder},
    }


def _sam2_video() -> Sam2VideoModel:
    """As the public checkpoints of SAM 2 are: what follows objects through a video comes with them."""
    memory = {
        "image_size": SIDE,
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 64,
    }
    return Sam2VideoModel(Sam2VideoConfig(**_parts(_HIERA), **memory))


WIDE = 128
"""Features of the video models that can be run: transformers fixes those of a memory at 64."""


def _wide() -> dict[str, object]:
    """Return what SAM 2 and EdgeTAM have in common, encoder included: EdgeTAM's own comes through another package."""
    return {
        "vision_config": {**_HIERA, "fpn_hidden_size": WIDE},
        "prompt_encoder_config": {**_PROMPTS, "hidden_size": WIDE},
        "mask_decoder_config": {**_DECODER, "hidden_size": WIDE, "iou_head_hidden_dim": WIDE},
        "image_size": SIDE,
        "memory_attention_hidden_size": WIDE,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_encoder_hidden_size": WIDE,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": WIDE,
        "memory_fuser_embed_dim": WIDE,
        "memory_fuser_intermediate_dim": 64,
    }


def _sam2_clip(**settings: object) -> Sam2VideoModel:
    return Sam2VideoModel(Sam2VideoConfig(**_wide(), memory_attention_feed_forward_hidden_size=64, **settings))


def _edgetam_clip() -> EdgeTamVideoModel:
    latents = (GRID // 2) ** 2
    perceiver = {
        "memory_attention_mlp_hidden_size": 64,
        "memory_attention_rope_k_sizes": [GRID // 2, GRID // 2],
        "perceiver_resampler_num_latents": latents,
        "perceiver_resampler_num_latents_2d": latents,
        "perceiver_resampler_mlp_intermediate_size": 64,
    }
    return EdgeTamVideoModel(EdgeTamVideoConfig(**_wide(), **perceiver))


BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "sam": lambda: SamModel(SamConfig(**_parts(_VIT))),
    "sam_hq": lambda: SamHQModel(SamHQConfig(**_parts(_VIT, vit_dim=_VIT["hidden_size"]))),
    "sam2": lambda: Sam2Model(Sam2Config(**_parts(_HIERA))),
    "sam2_video": _sam2_video,
    "edgetam": lambda: EdgeTamModel(EdgeTamConfig(**_parts(_REPVIT))),
    "sam2.1_clip": _sam2_clip,
    "sam2_clip": lambda: _sam2_clip(
        enable_temporal_pos_encoding_for_object_pointers=False, enable_occlusion_spatial_embedding=False
    ),
    "edgetam_clip": _edgetam_clip,
}
"""How to build each model, by its ``model_type``; those that can be run on a clip by their edition."""


def tiny_family(kind: str, seed: int = SEED) -> PreTrainedModel:
    """Return a model whose weights let every part of it matter.

    transformers would start from weights so small, and from so many zeros, that a part that is left out does not
    show. Here signals keep their size from layer to layer, and attention is soft enough not to blow up rounding.
    """
    model = BUILDERS[kind]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + noise / 10)
            elif parameter.ndim < 2:
                parameter.copy_(noise / 10)
            elif name.endswith("pos_embed") or (parameter.ndim == 2 and ("embed" in name or "token" in name)):
                parameter.copy_(noise)
            else:
                gain = 0.4 if "q_proj" in name or "k_proj" in name else 1.0
                parameter.copy_(gain * noise / parameter[0].numel() ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("positional_embedding"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return model.eval()


def save_family(kind: str, folder: Path, seed: int = SEED) -> Path:
    """Write a tiny checkpoint as ``save_pretrained`` does, and return its folder."""
    tiny_family(kind, seed).save_pretrained(folder)
    return folder
