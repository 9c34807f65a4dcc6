"""OpenCV's GrabCut behind the contract of this package's models: what clicks gave before networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.base import Candidates, Capabilities, Embedding, InstancePrompts, Model, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import Progress

MOST_PIXELS = 250_000
"""A larger image is shrunk to this area: the time of a cut grows with it."""
ITERATIONS = 5
CLICK_RADIUS = 0.01
"""Of the longer side: what a click is sure about."""
FIRST_RADIUS = 0.25
"""Of the shorter side: where the object probably is as long as clicks are all that is known."""
COMPONENTS = 5
"""Colours of a side that GrabCut fits; it needs as many pixels."""
LOGIT = 4.0


class GrabCutEmbedding(Embedding):
    """The image, shrunk, and the factor by which it was."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        self.scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        super().__init__(height, width, self.image.nbytes)


class GrabCut(Model):
    """GrabCut (Rother et al., "GrabCut: interactive foreground extraction using iterated graph cuts", SIGGRAPH 2004).

    Clicks are discs of sure foreground and background. The cut starts from the earlier mask; without one, from the
    inside of the box; without both, from a large disc around each positive click.
    """

    name = "grabcut"
    capabilities = Capabilities(points=True, boxes=True, mask_prompt=True)

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> GrabCutEmbedding:
        """Shrink the image."""
        progress(1.0)
        return GrabCutEmbedding(image)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Cut once; the score is a constant, since GrabCut gives none."""
        if not isinstance(embedding, GrabCutEmbedding):
            message = f"embedding must be from this model's encode, got {type(embedding).__name__}"
            raise TypeError(message)
        labels = mark(embedding, prompts, previous)
        foreground = np.count_nonzero(labels & 1)  # GC_FGD and GC_PR_FGD are the odd labels
        if min(foreground, labels.size - foreground) >= COMPONENTS:
            cv2.setRNGSeed(0)  # the colours start from random ones
            background, object_ = np.zeros((1, 65)), np.zeros((1, 65))
            cv2.grabCut(embedding.image, labels, None, background, object_, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        logits = np.where(labels & 1, np.float32(LOGIT), np.float32(-LOGIT))
        return Candidates(logits[None], np.array([0.5], np.float32))


def mark(
    embedding: GrabCutEmbedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """Return GrabCut's label of each pixel before the cut."""
    height, width = embedding.image.shape[:2]
    labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    points = [(int(x), int(y)) for x, y in prompts.points * embedding.scale]
    if previous is not None:
        labels[cv2.resize(previous, (width, height), interpolation=cv2.INTER_LINEAR) > 0] = cv2.GC_PR_FGD
    elif prompts.box is not None:
        labels[:] = cv2.GC_PR_FGD
    else:
        for point, positive in zip(points, prompts.labels, strict=True):
            if positive:
                cv2.circle(labels, point, round(FIRST_RADIUS * min(width, height)), cv2.GC_PR_FGD, cv2.FILLED)
    labels[[0, -1]] = labels[:, [0, -1]] = cv2.GC_PR_BGD
    if prompts.box is not None:
        x1, y1, x2, y2 = (prompts.box * embedding.scale).round().astype(int)
        inside = np.zeros(labels.shape, np.bool_)
        inside[y1:y2, x1:x2] = True
        labels[~inside] = cv2.GC_BGD
    radius = max(1, round(CLICK_RADIUS * max(width, height)))
    for point, positive in zip(points, prompts.labels, strict=True):
        cv2.circle(labels, point, radius, cv2.GC_FGD if positive else cv2.GC_BGD, cv2.FILLED)
    return labels
