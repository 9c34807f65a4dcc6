"""Modules of transformers with the weights of a checkpoint on this disk, all of them or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError

from sam3_widget.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

Kind = TypeVar("Kind", bound="PreTrainedModel")
NAMED = 3
"""How many missing weights an error names."""


def load_whole(kind: type[Kind], folder: Path, *, dtype: torch.dtype, config: PreTrainedConfig | None = None) -> Kind:
    """Return a model of transformers that reads every one of its weights from a folder.

    Transformers itself draws at random what it misses there, and answers with noise.

    Parameters
    ----------
    kind : type of PreTrainedModel
    folder : Path
        With ``config.json`` and the weights.
    dtype : torch.dtype
        Of the weights.
    config : PreTrainedConfig, optional
        In place of the one in the folder.

    Raises
    ------
    WeightsError
        The weights cannot be read, do not fit, or some are missing.
    """
    try:
        loaded: Any = kind.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        message = f"could not load the checkpoint in {folder} as {kind.__name__}: {error}"
        raise WeightsError(message) from error
    model: Kind
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        message = f"{folder} is not a whole checkpoint of {kind.__name__}: {len(missing)} weights are missing ({named})"
        raise WeightsError(message)
    return model
