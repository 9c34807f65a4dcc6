"""SAM 3 with a few hundred thousand random weights: all the parts of the real one, in no time.

``python -m tests.models.tiny FOLDER`` writes its checkpoint, to try the widget on without the real one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, Sam3VideoConfig, Sam3VideoModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDE = 168
PATCH = 14
WIDTH = 32
"""Features of everything."""
HEADS = 4
TOKENS = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> dict[str, int]:
    """Return a token for every byte, inside a word and at its end, and the special ones."""
    characters = sorted(ByteLevel.alphabet())
    return {token: index for index, token in enumerate([*characters, *(c + "</w>" for c in characters), START, END])}


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Return CLIP's tokenizer without merges: each byte is a token."""
    return CLIPTokenizer(vocab=vocabulary(), merges=[], model_max_length=TOKENS)


def tiny_config() -> Sam3VideoConfig:
    """Return a configuration with two or more of everything, so that mixed-up axes and levels show."""
    tokens = vocabulary()
    layers: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": HEADS}
    grid = SIDE // PATCH
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            **layers,
            "model_type": "sam3_vit_model",
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": PATCH,
            "window_size": 4,
            "global_attn_indexes": [1, 3],
            "pretrain_image_size": 4 * PATCH,
        },
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
    }
    text = {
        **layers,
        "model_type": "clip_text_model",
        "vocab_size": len(tokens),
        "projection_dim": 16,
        "num_hidden_layers": 2,
        "max_position_embeddings": TOKENS,
        "hidden_act": "gelu",
        "bos_token_id": tokens[START],
        "eos_token_id": tokens[END],
        "pad_token_id": tokens[END],
    }
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {**layers, "num_layers": 2},
        "detr_encoder_config": {**layers, "num_layers": 2},
        "detr_decoder_config": {**layers, "num_layers": 2, "num_queries": 12},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": HEADS},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "image_size": SIDE,
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": PATCH},
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 2 * WIDTH,
            "num_attention_heads": HEADS,
            "iou_head_hidden_dim": WIDTH,
        },
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_feed_forward_hidden_size": 2 * WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": WIDTH // 2,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 2 * WIDTH,
    }
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * grid)


def tiny_sam3(seed: int = 0) -> Sam3VideoModel:
    """Return the model with weights that let every part of it matter.

    transformers would start from weights so small, and from so many zeros, that all answers are about zero and that
    a part which is left out does not show. Here signals keep their size from layer to layer.
    """
    model = Sam3VideoModel(tiny_config())
    generator = torch.Generator().manual_seed(seed)
    tracker = model.tracker_model
    with torch.no_grad():
        for frequencies in (tracker.shared_image_embedding, tracker.prompt_encoder.shared_embedding):
            frequencies.positional_embedding.normal_(generator=generator)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight") or ("layer_norm" in name and name.endswith("weight")):
                parameter.copy_(1 + noise / 10)
            elif parameter.ndim < 2:
                parameter.copy_(noise / 10)
            elif "embed" in name or "token" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    model.eval()
    _calibrate(model, torch.randn(1, 3, SIDE, SIDE, generator=generator))
    return model


@torch.no_grad()
def _calibrate(model: Sam3VideoModel, pixels: torch.Tensor) -> None:
    """Shift and scale the detector's last layers: of a typical image and phrase some queries count as found.

    Their scores scatter around 0.5, and the logits of masks around 0.
    """
    detector = model.detector_model
    mask_decoder, scoring = detector.mask_decoder, detector.dot_product_scoring
    seen: dict[str, torch.Tensor] = {}
    watched = {"maps": mask_decoder.instance_projection, "text": scoring.text_proj}
    hooks = [
        part.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
        for name, part in watched.items()
    ]
    tokens = tiny_tokenizer()("thing", padding="max_length", max_length=TOKENS, return_tensors="pt")
    output = detector(pixel_values=pixels, **tokens)
    for hook in hooks:
        hook.remove()
    detector.detr_decoder.presence_head.layer3.bias += 3 - output.presence_logits[0]
    mask_decoder.instance_projection.bias -= seen["maps"].mean((0, 2, 3))
    _scale(
        mask_decoder.instance_projection, 4 / (output.pred_masks - output.pred_masks.mean((2, 3), keepdim=True)).std()
    )
    _scale(mask_decoder.semantic_projection, 3 / output.semantic_seg.std())
    _scale(scoring.query_proj, 3 / output.pred_logits.std())
    middle = output.pred_logits.mean() * 3 / output.pred_logits.std()
    text = seen["text"][0]
    scoring.query_proj.bias -= text * middle / (text.square().sum() * scoring.scale)


def _scale(layer: Any, factor: torch.Tensor) -> None:
    layer.weight *= factor
    layer.bias *= factor


def save_sam3(folder: Path, model: Sam3VideoModel | None = None) -> Path:
    """Write a checkpoint folder as the hub has it: configuration, weights, tokenizer and preprocessing."""
    (model or tiny_sam3()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    processing = {
        "image_processor_type": "Sam3ImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": size,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processing), encoding="utf-8")
    return folder


if __name__ == "__main__":
    save_sam3(Path(sys.argv[1]))
