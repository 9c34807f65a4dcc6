"""From pixels to what an image encoder takes, equal to the processors of transformers, without torchvision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from sam3_widget.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Channels = tuple[float, float, float]

HALF: Channels = (0.5, 0.5, 0.5)
"""Mean and standard deviation of SAM 3."""
CONFIGURATIONS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Preprocess:
    """Resize images to a square and normalise them.

    Attributes
    ----------
    side : int
        Pixels per side of the encoder's input.
    mean, std : (3,) float
        Per channel, of values from 0 to 1.
    stretch : bool
        True fills the square whatever the image's proportions (SAM 2 and 3). False keeps them, and pads with
        zeros on the right and at the bottom (SAM).
    """

    side: int
    mean: Channels = HALF
    std: Channels = HALF
    stretch: bool = True

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, in pixels of the square, that an image of this size takes up there."""
        if self.stretch:
            return self.side, self.side
        scale = self.side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def scale(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the factors ``(x, y)`` from pixels of an image of this size to pixels of the square."""
        rows, columns = self.size(height, width)
        return np.array([columns / width, rows / height], np.float32)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return images as one batch.

        The resizing is done on the uint8 values, rounding included, as the processors of transformers do: on
        floats the result would differ by up to one grey level.

        Parameters
        ----------
        images : sequence of (H, W, 3) uint8
            RGB, each of its own size.

        Returns
        -------
        (N, 3, side, side) float32
            On the CPU.
        """
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> torch.Tensor:
        size = self.size(*image.shape[:2])
        pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None]
        resized = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)[0].float()
        mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (self.mean, self.std))
        normal = (resized - mean) / std
        return functional.pad(normal, (0, self.side - size[1], 0, self.side - size[0]))


def read_channels(folder: Path, mean: Channels = HALF, std: Channels = HALF) -> tuple[Channels, Channels]:
    """Return the mean and the standard deviation per channel that a checkpoint's folder states.

    Parameters
    ----------
    folder : Path
        With ``preprocessor_config.json`` or ``processor_config.json``; what neither says stays as given.
    mean, std : (3,) float
        What counts where the folder says nothing.

    Raises
    ------
    ModelError
        What it states is not three numbers.
    """
    for name in CONFIGURATIONS:
        file = folder / name
        if not file.is_file():
            continue
        try:
            stated = json.loads(file.read_text(encoding="utf-8"))
            stated = stated.get("image_processor", stated)
            return _three(stated.get("image_mean", mean)), _three(stated.get("image_std", std))
        except (ValueError, TypeError, AttributeError) as error:
            message = f"{file} is damaged: expected image_mean and image_std of three numbers each ({error})"
            raise ModelError(message) from error
    return mean, std


def _three(values: Sequence[float]) -> Channels:
    first, second, third = (float(value) for value in values)
    return first, second, third
