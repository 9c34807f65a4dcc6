"""Run the network: pictures and prompts of the image in, numpy out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file

from sam3_widget.models.base import Embedding, no_progress
from sam3_widget.models.builtin.geometry import LIMIT
from sam3_widget.models.builtin.guide import Guide, fit
from sam3_widget.models.builtin.network import STRIDE, Features, Network, Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sam3_widget.models.base import Progress, Question

INPUT_AREA = 384 * 512
"""Pixels of the network's input, whatever the image's size."""
LONGEST_INPUT = 2048
PICTURE_AREA = 1024 * 768
"""Most pixels of the picture that contours follow; it has as many cells as the logits."""

Window = tuple[int, int, int, int]
"""Part of a picture, ``(x1, y1, x2, y2)`` in its pixels."""


class BuiltinEmbedding(Embedding):
    """The network's features of an image.

    Parameters
    ----------
    size : (height, width)
        Of the image, in whose pixels prompts are.
    picture : (h, w, 3) uint8
        The image at the size of the logits.
    features : Features
        Of the picture, stretched to the network's input.
    """

    def __init__(self, size: tuple[int, int], picture: NDArray[np.uint8], features: Features) -> None:
        self._fixed = features.nbytes + picture.nbytes
        super().__init__(*size, self._fixed)
        self.picture = picture
        self.features = features
        self.parts: dict[Window, BuiltinEmbedding] = {}

    @property
    def coarse(self) -> tuple[int, int]:
        """Size of the network's own logits: half that of its input."""
        height, width = self.features.f2.shape[-2:]
        return height, width

    @cached_property
    def guide(self) -> Guide:
        """What makes contours follow the picture's."""
        guide = Guide(self.picture, self.coarse)
        self.nbytes += guide.nbytes
        return guide

    def keep(self, window: Window, part: BuiltinEmbedding) -> None:
        """Keep what was seen of a part of the picture, enlarged."""
        self.parts[window] = part
        self.nbytes += part.nbytes

    def forget_all_but(self, windows: Sequence[Window]) -> None:
        """Drop the parts that are not among these."""
        for window in set(self.parts) - set(windows):
            self.nbytes -= self.parts.pop(window).nbytes

    def trim(self) -> None:
        """Forget the parts and the guide."""
        self.parts.clear()
        self.__dict__.pop("guide", None)
        self.nbytes = self._fixed


class Runtime:
    """The network with its weights.

    Parameters
    ----------
    weights : path
        As ``training/builtin/train.py`` writes them.
    """

    def __init__(self, weights: Path) -> None:
        self._network = Network()
        self._network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
        self._network.eval().requires_grad_(requires_grad=False).channels_last()

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> BuiltinEmbedding:
        """Encode an ``(H, W, 3)`` RGB image of any size."""
        progress(0.0)
        height, width = image.shape[:2]
        picture = reduce(image)
        pixels = torch.from_numpy(fit(picture, input_size(height, width))).permute(2, 0, 1)[None]
        progress(0.2)
        with torch.inference_mode():
            normal = ((pixels.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
            return BuiltinEmbedding((height, width), picture, self._network.encoder(normal))

    def decode(
        self, embedding: BuiltinEmbedding, questions: Sequence[Question]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode N instances of one image.

        Returns
        -------
        (N, 4, h, w), (N, 4) float32
            Logits at half the size of the network's input, and predicted IoU, of the answer to clear prompts and of
            three candidates for an ambiguous one.
        """
        with torch.inference_mode():
            features = embedding.features if len(questions) == 1 else embedding.features.each(len(questions))
            fine, _, quality = self._network.decoder(features, to_network(embedding, questions))
            return fine.contiguous().numpy(), quality.sigmoid().numpy()


def reduce(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with at most :data:`PICTURE_AREA` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, (PICTURE_AREA / (height * width)) ** 0.5)
    if scale == 1:
        return np.array(image, order="C")  # a copy: the caller may go on writing to it
    rows, columns = (min(max(1, round(side * scale)), PICTURE_AREA) for side in (height, width))
    return np.asarray(fit(image, (rows, columns)), np.uint8)


def input_size(height: int, width: int) -> tuple[int, int]:
    """Return the size of the network's input nearest to an image's proportions: about :data:`INPUT_AREA` pixels."""
    scale = (INPUT_AREA / (height * width)) ** 0.5
    rows, columns = (min(max(1, round(side * scale / STRIDE)) * STRIDE, LONGEST_INPUT) for side in (height, width))
    return rows, columns


def bounded(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits without infinities."""
    return np.clip(np.nan_to_num(logits, nan=-LIMIT), -LIMIT, LIMIT).astype(np.float32)


def to_network(embedding: BuiltinEmbedding, questions: Sequence[Question]) -> Prompts:
    """Return the prompts of N instances as the decoder takes them."""
    count, most = len(questions), max([1, *(len(prompts.points) for prompts, _ in questions)])
    rows, columns = embedding.coarse
    factors = np.array([2 * columns / embedding.width, 2 * rows / embedding.height], np.float32)
    points, labels = np.zeros((count, most, 2), np.float32), np.full((count, most), -1, np.int64)
    boxes, prior = np.full((count, 4), np.nan, np.float32), np.full((count, 1, rows // 2, columns // 2), np.nan)
    for n, (prompts, logits) in enumerate(questions):
        clicks = len(prompts.points)
        points[n, :clicks], labels[n, :clicks] = prompts.points * factors, prompts.labels
        if prompts.box is not None:
            boxes[n] = prompts.box * np.tile(factors, 2)
        if logits is not None:
            prior[n, 0] = fit(bounded(logits), (rows // 2, columns // 2))
    arrays = (points, labels, boxes, prior.astype(np.float32))
    return Prompts(*(torch.from_numpy(array) for array in arrays))
