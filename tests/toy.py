"""A model for tests of everything but models: it paints discs and boxes, and writes down what it was asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.base import Candidates, Capabilities, Embedding, Model, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import InstancePrompts, Progress

SHAPE = (60, 80)
RADIUS = 6.0


class ToyModel(Model):
    """Discs of six logit pixels around clicks, filled boxes; an ambiguous click offers three radii.

    Attributes
    ----------
    asked : list
        The prompts and earlier logits of each refinement, in order.
    gate : threading.Event
        Refinement waits for it; set at first.
    encode_gate : threading.Event
        Encoding waits for it; set at first.
    fails : Exception or None
        Raised by the next refinement.
    """

    name = "toy"

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities(points=True, boxes=True, mask_prompt=True)
        self.asked: list[tuple[InstancePrompts, NDArray[np.float32] | None]] = []
        self.encoded = 0
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.encode_gate = threading.Event()
        self.encode_gate.set()
        self.encoding = threading.Event()
        self.refining = threading.Event()
        self.fails: Exception | None = None

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        self.threads.add(threading.current_thread().name)
        progress(0.25)
        self.encoding.set()
        while not self.encode_gate.wait(0.01):
            progress(0.5)
        self.encoded += 1
        return Embedding(*image.shape[:2], nbytes=image.nbytes)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        self.threads.add(threading.current_thread().name)
        self.asked.append((prompts, previous))
        self.refining.set()
        assert self.gate.wait(30)
        if self.fails:
            error, self.fails = self.fails, None
            raise error
        factors = (1.0, 1.5, 0.5) if prompts.ambiguous and previous is None else (1.0,)
        logits = np.stack([self._draw(embedding, prompts, previous, RADIUS * f) for f in factors])
        return Candidates(logits, np.linspace(0.9, 0.7, len(factors)).astype(np.float32))

    @staticmethod
    def _draw(
        embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None, radius: float
    ) -> NDArray[np.float32]:
        height, width = SHAPE
        scale = np.array([width / embedding.width, height / embedding.height])
        if previous is None:
            logits = np.full(SHAPE, -8, np.float32)
        else:
            logits = np.array(cv2.resize(previous, (width, height)), np.float32)
        if prompts.box is not None:
            x1, y1, x2, y2 = (prompts.box.reshape(2, 2) * scale).round().astype(int).ravel()
            logits[y1:y2, x1:x2] = 8
        ys, xs = np.mgrid[:height, :width] + 0.5
        for (x, y), positive in zip(prompts.points * scale, prompts.labels, strict=True):
            logits[np.hypot(xs - x, ys - y) < radius] = 8 if positive else -8
        return logits
