"""Names of models, and how to load them: every widget of a process that asks for the same model shares it."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_widget.errors import ModelError, NotFoundError, WeightsError
from sam3_widget.models.base import Model
from sam3_widget.models.known import KNOWN, known
from sam3_widget.models.listing import ModelInfo, ModelList, describe
from sam3_widget.models.weights.checkpoint import Checkpoint, find_cached, lacking, open_folder, require, unimportable
from sam3_widget.models.weights.download import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    import torch

__all__ = ["ModelInfo", "ModelList", "list_models", "load_model", "unload_model"]

log = logging.getLogger(__name__)

BUILTIN = "builtin"
AUTO = "auto"
REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class _Options:
    """How a checkpoint is to run, as ``load_model`` was asked."""

    device: str | torch.device = AUTO
    dtype: str | torch.dtype = AUTO
    resolution: int | None = None
    cache_dir: Path | None = None
    offload_memory: bool = False


@dataclass
class _Loaded:
    """A model, and the names that it was asked for by."""

    model: Model
    names: set[str] = field(default_factory=set)


_LOCK = threading.RLock()
_loaded: dict[Hashable, _Loaded] = {}


def load_model(
    name: str | os.PathLike[str] = AUTO,
    *,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    resolution: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offload_memory: bool = False,
) -> Model:
    """Load a model; the same one again for the same checkpoint and options.

    Parameters
    ----------
    name : str or path
        * ``"builtin"`` ships with this package.
        * ``"auto"`` takes the best public checkpoint that is on this disk, else the built-in model. It never downloads;
          the model's ``name`` says which one it is.
        * A short name such as ``"sam3"`` or ``"sam2.1-tiny"`` (see :func:`list_models`), or any ``"owner/name"`` on the
          Hugging Face Hub: downloaded the first time, into the Hub's own cache.
        * A folder with a checkpoint for transformers.
    device : str or torch.device
        ``"auto"`` takes CUDA, else MPS, else the CPU.
    dtype : str or torch.dtype
        ``"auto"`` is bfloat16 on CUDA devices that have it, else float32.
    resolution : int, optional
        Pixels per side of the encoder's input, for SAM 3; by default what the checkpoint was trained at.
    cache_dir : path, optional
        A folder in which to keep what the encoder makes of images, so that an image seen before, in any session, is
        not encoded again.
    offload_memory : bool
        Whether what a tracker remembers of objects between the frames of a clip lies in main memory, from where each
        step fetches what it attends to, and not on the accelerator: for many objects, or many prompted frames, where it
        has little memory. The masks are the same; a step takes longer. Where a model runs on the CPU, nothing changes.

    Raises
    ------
    ModelError
        There is no model of that name, or an option does not fit it.
    WeightsError
        The checkpoint cannot be downloaded or read. The message says what to do.
    """
    folder = None if cache_dir is None else Path(cache_dir).expanduser()
    options = _Options(device, dtype, resolution, folder, offload_memory)
    if name == BUILTIN and options != _Options():
        message = (
            "the built-in model takes no device, dtype, resolution or cache_dir, nor offload_memory: "
            "they are for checkpoints"
        )
        raise ModelError(message)
    found = None if name == BUILTIN else _best_on_disk() if name == AUTO else _find(name)
    with _LOCK:
        key, make = _recipe(*found, options) if found else (BUILTIN, _make_builtin)
        entry = _loaded.get(key) or _Loaded(make())
        entry.names |= {entry.model.name, os.fspath(name)}
        _loaded[key] = entry
    return entry.model


def unload_model(model: str | os.PathLike[str] | Model) -> None:
    """Free a model: its worker ends, its weights leave memory, and a later :func:`load_model` loads it afresh.

    Widgets that still show the model keep their masks, and answer further clicks with an error.

    Parameters
    ----------
    model : str, path or Model
        A model, or a name that one was loaded by, with whatever options.

    Raises
    ------
    NotFoundError
        No model was loaded by that name.
    """
    with _LOCK:
        if isinstance(model, Model):
            chosen, models = [key for key, entry in _loaded.items() if entry.model is model], [model]
        else:
            chosen = [key for key, entry in _loaded.items() if os.fspath(model) in entry.names]
            models = [_loaded[key].model for key in chosen]
            if not models:
                names = ", ".join(sorted({name for entry in _loaded.values() for name in entry.names})) or "none"
                message = f"no model {os.fspath(model)!r} is loaded; loaded by these names: {names}"
                raise NotFoundError(message)
        for key in chosen:
            del _loaded[key]
    for each in models:
        _release(each)


def list_models() -> ModelList:
    """Return the models that can be loaded: those with a short name, and others of the SAM family on this disk.

    The list prints as a table. Nothing is downloaded or loaded for it.
    """
    return describe()


def _best_on_disk() -> tuple[str, Checkpoint] | None:
    """Return the best public checkpoint that is on this disk and can run here."""
    for entry in KNOWN:
        checkpoint = find_cached(entry.repo_id)
        if checkpoint is not None and (command := lacking(entry.family)):
            log.info("auto: %s is on this disk, but needs: %s", entry.repo_id, command)
        elif checkpoint is not None:
            log.info("auto: %s, from %s", entry.name, checkpoint.folder)
            return entry.name, checkpoint
    log.info("auto: the built-in model, since no public checkpoint is on this disk")
    return None


def _find(name: str | os.PathLike[str]) -> tuple[str, Checkpoint]:
    """Return the name that a model gets, and its checkpoint, downloaded if need be."""
    text = os.fspath(name)
    entry = known(text)
    if not isinstance(name, str) or (_is_path(text) and (entry is None or text != entry.name)):
        return text, open_folder(text)
    if entry is not None:
        require(entry.family)
        return entry.name, fetch(entry.repo_id)
    if REPO_ID.fullmatch(text):
        return text, fetch(text)
    names = [AUTO, BUILTIN, *(each.name for each in KNOWN)]
    close = get_close_matches(text.lower(), names, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    message = (
        f"there is no model {text!r}; {hint}expected one of: {', '.join(names)}; owner/name on the Hugging Face Hub; "
        "or the path of a folder. list_models() shows what is on this disk"
    )
    raise WeightsError(message)


def _is_path(text: str) -> bool:
    """Whether a name means a folder on this disk; ``owner/name`` does where a checkpoint lies there."""
    path = Path(text).expanduser()
    if REPO_ID.fullmatch(text):
        return (path / "config.json").is_file()
    return path.exists() or text.startswith("~") or "/" in text or os.sep in text


def _recipe(name: str, checkpoint: Checkpoint, options: _Options) -> tuple[Hashable, Callable[[], Model]]:
    """Return what tells the model of a checkpoint from others, and how to load it."""
    require(checkpoint.family)
    make: Callable[..., Model]
    try:  # torch and transformers load with these
        from sam3_widget.models.sam.runtime import choose_runtime  # noqa: PLC0415

        if checkpoint.family == "sam3":
            from sam3_widget.models.sam3.model import Sam3  # noqa: PLC0415

            make = Sam3.from_folder
        else:
            from sam3_widget.models.sam.family import SamFamily  # noqa: PLC0415

            make = SamFamily.from_folder
    except ImportError as error:
        raise unimportable(error) from error
    runtime = choose_runtime(options.device, options.dtype)
    key = (checkpoint.folder.resolve(), runtime, options.resolution, options.cache_dir, options.offload_memory)
    return key, partial(
        make,
        checkpoint.folder,
        name=name,
        device=runtime.device,
        dtype=runtime.dtype,
        resolution=options.resolution,
        cache_dir=options.cache_dir,
        offload_memory=options.offload_memory,
    )


def _make_builtin() -> Model:
    from sam3_widget.models.builtin import BuiltinModel  # noqa: PLC0415 - torch loads with it

    return BuiltinModel()


def _release(model: Model) -> None:
    """End a model's worker and give its memory back, whoever still holds the model."""
    engine = vars(model).get("_engine")
    if engine is not None:
        engine.close()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for part in _modules(model, torch.nn.Module):
        part.to("meta")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _modules(owner: object, kind: type[torch.nn.Module]) -> Iterator[torch.nn.Module]:
    """Yield the networks that a model, or a part of this package that it is made of, holds."""
    for part in vars(owner).values():
        if isinstance(part, kind):
            yield part
        elif type(part).__module__.startswith(f"{__package__}.") and hasattr(part, "__dict__"):
            yield from _modules(part, kind)
