"""The contract every model fulfils: encode an image once, then refine one instance in milliseconds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.errors import UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[float], None]
"""Called by a model with the finished fraction, 0 to 1. It raises ``CancelledError`` to stop the work."""


def no_progress(fraction: float) -> None:
    """Ignore progress; never cancels."""


@dataclass(frozen=True)
class Capabilities:
    """What a model can do. A view offers only these controls."""

    points: bool = True
    boxes: bool = False
    mask_prompt: bool = False
    text: bool = False
    exemplars: bool = False
    video: bool = False

    def to_json(self) -> dict[str, bool]:
        """Return the flags by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class InstancePrompts:
    """All prompts of one instance, in pixels of the original image.

    Attributes
    ----------
    points : (P, 2) float32
        ``(x, y)``; pixel ``(i, j)`` covers ``[i, i + 1) x [j, j + 1)``.
    labels : (P,) bool
        True includes, False excludes.
    box : (4,) float32 or None
        ``(x1, y1, x2, y2)``.
    """

    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: NDArray[np.float32] | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether a single positive click is all there is: the case for several candidates."""
        return self.box is None and len(self.points) == 1 and bool(self.labels[0])


@dataclass(frozen=True)
class Candidates:
    """The masks a decoder offers for one instance, best first.

    Attributes
    ----------
    logits : (K, h, w) float32
        Scores over the *whole* image at the model's own resolution (no padding), K from 1 to 3.
        Zero is the boundary at the default threshold; a sigmoid makes probabilities of them.
    scores : (K,) float32
        Predicted IoU of each, descending, 0 to 1.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


class Embedding:
    """What an encoder made of one image. Models subclass it with whatever their decoder needs.

    Parameters
    ----------
    height, width : int
        Size of the original image in pixels.
    nbytes : int
        Memory that this embedding holds, for the cache's bound.
    """

    def __init__(self, height: int, width: int, nbytes: int) -> None:
        self.height = height
        self.width = width
        self.nbytes = nbytes


class Model(ABC):
    """One segmentation model. It runs on the engine's worker thread, one call at a time.

    Attributes
    ----------
    name : str
        The name ``load_model`` knows it by.
    capabilities : Capabilities
    """

    name: str
    capabilities: Capabilities

    @abstractmethod
    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        """Encode an ``(H, W, 3)`` uint8 RGB image; called once per image."""

    @abstractmethod
    def refine(
        self,
        embedding: Embedding,
        prompts: InstancePrompts,
        previous: NDArray[np.float32] | None = None,
    ) -> Candidates:
        """Decode one instance.

        Parameters
        ----------
        embedding : Embedding
            From this model's own :meth:`encode`.
        prompts : InstancePrompts
            All prompts of the instance, not only the newest. There may be none when ``previous`` is given.
        previous : (h, w) float32, optional
            Logits over the whole image to start from: this model's earlier answer, or another mask at any
            resolution.

        Returns
        -------
        Candidates
            Up to three while the prompt is ambiguous, one otherwise.
        """

    def unsupported(self, what: str, instead: str) -> UnsupportedError:
        """Return the error for a prompt this model cannot serve."""
        return UnsupportedError(f"the model {self.name!r} does not take {what}; {instead}")
