"""What image encoders made of images, kept on disk: an image seen before needs no second pass."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sam3_widget.core.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FORMAT = "sam3_widget encoder output 1"
NAME = "encoded"
SAMPLE = 64
"""Values of each weight that a fingerprint looks at."""


class EmbeddingStore:
    """A folder of encoder outputs, one file for each image and model.

    A file that is damaged, or that something else wrote, counts as absent, and is written anew. A folder that
    cannot be written is a warning in the log, not an error: the store only saves time.

    Parameters
    ----------
    folder : Path
        Created when the first output is saved.
    model : str
        What made the outputs, from :func:`fingerprint`.
    shape : tuple of int
        Of every output.
    """

    def __init__(self, folder: Path, model: str, shape: tuple[int, ...]) -> None:
        self._folder = folder
        self._model = model
        self._shape = shape

    def load(self, key: str) -> torch.Tensor | None:
        """Return the output for the image of this key, float16 on the CPU, or None."""
        file = self._file(key)
        try:
            with safe_open(file, framework="pt") as stored:
                metadata = stored.metadata() or {}
                encoded: torch.Tensor = stored.get_tensor(NAME)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("ignored %s: %s", file, error)
            return None
        fits = encoded.dtype == torch.float16 and tuple(encoded.shape) == self._shape
        if not fits or metadata != self._metadata(key, encoded):
            log.warning("ignored %s: it is not what this model made of this image", file)
            return None
        return encoded

    def save(self, key: str, encoded: torch.Tensor) -> torch.Tensor:
        """Keep an encoder's output for the image of this key, and return what :meth:`load` will return for it."""
        half = encoded.detach().to("cpu", torch.float16).contiguous()
        if not torch.isfinite(half).all():
            log.warning("not stored: values of this image are too large for float16")
            return encoded.clone()
        content = save({NAME: half}, metadata=self._metadata(key, half))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._file(key), content)
        except OSError as error:
            log.warning("not stored in %s: %s", self._folder, error)
        return half

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}-{self._model}.safetensors"

    def _metadata(self, key: str, encoded: torch.Tensor) -> dict[str, str]:
        """Return what says that a file holds this model's output for this image, undamaged."""
        digest = hashlib.sha256(encoded.numpy().tobytes()).hexdigest()
        return {"format": FORMAT, "model": self._model, "image": key, "content": digest}


def _write(file: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whoever else writes it at the same time."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remembered(
    store: EmbeddingStore | None,
    images: Sequence[NDArray[np.uint8]],
    encode: Callable[[list[NDArray[np.uint8]]], Iterable[torch.Tensor]],
) -> list[torch.Tensor]:
    """Return the outputs of images, of which only those that the store does not hold are encoded, all at once.

    Parameters
    ----------
    store : EmbeddingStore or None
    images : sequence of (H, W, 3) uint8
    encode : callable
        Returns an output for each image; it is called with an empty list where there is nothing to encode.
    """
    if store is None:
        return list(encode(list(images)))
    keys = [Image(image).key for image in images]
    known = {key: store.load(key) for key in keys}
    fresh = {key: image for key, image in zip(keys, images, strict=True) if known[key] is None}
    made = zip(fresh, encode(list(fresh.values())), strict=True)
    outputs = {key: output for key, output in known.items() if output is not None}
    outputs |= {key: store.save(key, output) for key, output in made}
    return [outputs[key] for key in keys]


def fingerprint(weights: Iterable[torch.Tensor], *settings: object) -> str:
    """Return a name for an encoder that changes with its weights and settings.

    Parameters
    ----------
    weights : iterable of tensors
        The first values of each are looked at.
    settings : objects
        All else that the output depends on, such as the resolution; told apart by their ``repr``.
    """
    sample = torch.cat([weight.detach().flatten()[:SAMPLE].float() for weight in weights])
    content = hashlib.sha256(repr(settings).encode())
    content.update(sample.cpu().numpy().tobytes())
    return content.hexdigest()[:16]
