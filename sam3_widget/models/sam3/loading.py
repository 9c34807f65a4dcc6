"""Checkpoints of SAM 3 on this disk: configuration, weights and tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import transformers

from sam3_widget.errors import ModelError, WeightsError
from sam3_widget.models.weights.pretrained import load_whole

if TYPE_CHECKING:
    from pathlib import Path

    import torch


class Sam3VideoModel(transformers.Sam3VideoModel):  # type: ignore[no-untyped-call] # of transformers
    """The same model, which reads the part that clicks and masks go through in float32 whatever the rest is read in."""

    _keep_in_fp32_modules_strict = {"tracker_model"}  # noqa: RUF012 - as transformers has it


def load_sam3(
    folder: Path, dtype: torch.dtype, resolution: int | None = None
) -> tuple[Sam3VideoModel, transformers.PreTrainedTokenizerBase]:
    """Load a checkpoint of SAM 3, without a connection.

    Parameters
    ----------
    folder : Path
        As ``save_pretrained`` writes it, or as the hub's cache holds it.
    dtype : torch.dtype
        Of the weights.
    resolution : int, optional
        Pixels per side of the encoder's input; the checkpoint's own where None.

    Raises
    ------
    WeightsError
        The folder holds no whole checkpoint of SAM 3.
    ModelError
        The resolution does not fit it.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"{folder} holds no checkpoint that transformers can read: {error}"
        raise WeightsError(message) from error
    if not isinstance(config, transformers.Sam3VideoConfig):
        message = f"{folder} holds a {config.model_type!r} model, expected 'sam3_video' as in facebook/sam3"
        raise WeightsError(message)
    if resolution is not None:
        set_resolution(config, resolution)
    tokenizer = load_tokenizer(folder, config)
    return load_whole(Sam3VideoModel, folder, dtype=dtype, config=config), tokenizer


def load_tokenizer(folder: Path, config: transformers.Sam3VideoConfig) -> transformers.PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Transformers itself makes up one without words where the folder has none.

    Raises
    ------
    WeightsError
        The folder has none, or one that knows fewer words than the text encoder.
    """
    detector: Any = config.detector_config
    expected: int = detector.text_config.vocab_size
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"could not load the tokenizer in {folder}: {error}"
        raise WeightsError(message) from error
    if len(tokenizer) < expected:
        message = f"{folder} has no whole tokenizer: expected one of {expected} tokens, got {len(tokenizer)}"
        raise WeightsError(message)
    return cast("transformers.PreTrainedTokenizerBase", tokenizer)


def set_resolution(config: transformers.Sam3VideoConfig, resolution: int) -> None:
    """Let a model be built for images of so many pixels per side.

    Raises
    ------
    ModelError
        It is not a multiple of the encoder's patch.
    """
    detector: Any = config.detector_config
    patch: int = detector.vision_config.backbone_config.patch_size
    if resolution < patch or resolution % patch:
        message = (
            f"resolution must be a multiple of {patch} pixels, the side of one patch, got {resolution}; "
            f"this checkpoint was trained at {config.image_size}"
        )
        raise ModelError(message)
    config.image_size = resolution
    config.low_res_mask_size = 4 * resolution // patch
