"""The built-in model: a small network that ships with the package, so that there is nothing to download."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Candidates, Capabilities, Detections, Embedding, Model, no_progress
from sam3_widget.models.builtin.exemplars import search
from sam3_widget.models.builtin.geometry import LIMIT, bound_by_box, keep_settled, nudge, obey_clicks
from sam3_widget.models.builtin.guide import fit
from sam3_widget.models.builtin.runtime import BuiltinEmbedding, Runtime, bounded
from sam3_widget.models.builtin.tracker import FlowTracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import ConceptPrompts, Frames, InstancePrompts, Progress

SIZE_COUNTS = 0.03
"""What a candidate's score gains with the logarithm of its share of the image."""
ALIKE = 0.9
"""IoU from which two candidates are no choice."""
FILLED = 0.5
"""IoU of the box of an earlier mask with a drawn box from which they are of the same thing."""
WEIGHTS = Path(__file__).with_name("weights.safetensors")


class BuiltinModel(Model):
    """A convolutional encoder, and a decoder that answers clicks, boxes and masks on its features.

    Parameters
    ----------
    weights : path
        As ``training/builtin/train.py`` writes them.
    """

    name = "builtin"
    capabilities = Capabilities(points=True, boxes=True, mask_prompt=True, exemplars=True, video=True)

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._runtime = Runtime(weights)

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> BuiltinEmbedding:
        """Run the encoder on an ``(H, W, 3)`` uint8 RGB image."""
        embedding = self._runtime.encode(image, progress)
        progress(1.0)
        return embedding

    def refine(
        self,
        embedding: Embedding,
        prompts: InstancePrompts,
        previous: NDArray[np.float32] | None = None,
    ) -> Candidates:
        """Decode one instance; see :meth:`sam3_widget.models.base.Model.refine`.

        A positive click outside the box stays inside the mask; there the box does not bound. Earlier logits of
        something else than what the box is drawn around are forgotten.
        """
        seen = self._own(embedding)
        if previous is not None and prompts.box is not None and not fills(prompts.box, previous, seen):
            previous = None
        if previous is None and prompts.box is None and len(prompts.points) == 0:
            message = "nothing to refine: expected at least one point, a box or previous logits"
            raise InvalidPromptError(message)
        size = (seen.picture.shape[0], seen.picture.shape[1])
        if previous is None and prompts.box is None and not prompts.labels.any():
            # Only negative clicks: they say what is not meant, so nothing is.
            nothing = obeying(np.full(size, -LIMIT, np.float32), seen, prompts)
            return Candidates(nothing[None], np.zeros(1, np.float32))
        logits, quality = (each[0] for each in self._runtime.decode(seen, [(prompts, previous)]))
        if prompts.ambiguous and previous is None:
            logits, quality = distinct(logits[1:], quality[1:])
        else:
            logits, quality = logits[:1], quality[:1]
        before = None
        if previous is not None and prompts.box is None:
            before = np.asarray(fit(bounded(previous), size), np.float32)
            if len(prompts.points) == 0:
                return Candidates(before[None], quality)
        return Candidates(np.stack([finish(each, seen, prompts, before) for each in logits]), quality)

    def detect_many(
        self, embeddings: Sequence[Embedding], concepts: Sequence[ConceptPrompts], progress: Progress = no_progress
    ) -> list[Detections]:
        """Find what looks like the exemplars in each image; a concept has no text here."""
        for concept in concepts:
            if concept.text.strip():
                what, instead = "text", "draw a box around an example, or load a model like SAM 3"
                raise self.unsupported(what, instead)
            if not concept.labels.any():
                message = "nothing to look for: expected a text, or at least one positive exemplar"
                raise InvalidPromptError(message)
        found = []
        for number, (embedding, concept) in enumerate(zip(embeddings, concepts, strict=True)):
            report = partial(_report, progress, number, len(embeddings))
            found.append(search(self._runtime, self._own(embedding), concept, report))
        return found

    def tracker(self, frames: Frames) -> FlowTracker:
        """Return what carries objects through a clip; see :class:`sam3_widget.models.builtin.tracker.FlowTracker`."""
        return FlowTracker(self._runtime, frames)

    def _own(self, embedding: Embedding) -> BuiltinEmbedding:
        """Return an embedding, if it is one of this model's."""
        if not isinstance(embedding, BuiltinEmbedding):
            message = f"expected an embedding made by {self.name!r}, got {type(embedding).__name__}"
            raise TypeError(message)
        return embedding


def distinct(
    logits: NDArray[np.float32], quality: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the candidates for a single click and their scores, best first, without those much like a better one.

    People mean large things more often than small ones, so of two that are predicted alike the larger one is better.
    """
    masks = logits > 0
    scores = np.clip(quality + SIZE_COUNTS * np.log(masks.mean((1, 2)) + 1e-3), 0, 1).astype(np.float32)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if all(
            np.count_nonzero(masks[index] & masks[other]) <= ALIKE * np.count_nonzero(masks[index] | masks[other])
            for other in kept
        ):
            kept.append(index)
    return logits[kept], scores[kept]


def finish(
    logits: NDArray[np.float32], seen: BuiltinEmbedding, prompts: InstancePrompts, before: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the network's logits with the picture's contours, what was settled ``before``, and all promises kept."""
    size = (seen.height, seen.width)
    sharp = seen.guide.sharpen(nudge(bounded(logits), prompts.points, prompts.labels, size))
    if before is not None:
        sharp = keep_settled(sharp, before, prompts.points, prompts.labels, size)
    return obeying(sharp, seen, prompts)


def fills(box: NDArray[np.float32], logits: NDArray[np.float32], seen: Embedding) -> bool:
    """Return whether a mask's own box is about the one that was drawn."""
    x, y, width, height = cv2.boundingRect((logits > 0).astype(np.uint8))
    scale = np.array([seen.width / logits.shape[1], seen.height / logits.shape[0]])
    corners = np.concatenate([np.array([x, y]) * scale, np.array([x + width, y + height]) * scale])
    low, high = np.maximum(corners[:2], box[:2]), np.minimum(corners[2:], box[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(corners[2:] - corners[:2]) + np.prod(box[2:] - box[:2])) - shared
    return shared > FILLED * both


def _report(progress: Progress, number: int, count: int, fraction: float) -> None:
    """Report the progress on one of several images."""
    progress((number + fraction) / count)


def obeying(logits: NDArray[np.float32], seen: Embedding, prompts: InstancePrompts) -> NDArray[np.float32]:
    """Return ``(h, w)`` logits that keep the promises about box and clicks."""
    size = (seen.height, seen.width)
    inside = logits if prompts.box is None else bound_by_box(logits, prompts.box, size)
    return obey_clicks(inside, prompts.points, prompts.labels, size)
