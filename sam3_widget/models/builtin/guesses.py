"""Where an object of a video may be on a frame, and what the decoder makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.builtin.appearance import box_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.models.base import Question
    from sam3_widget.models.builtin.appearance import Look
    from sam3_widget.models.builtin.runtime import Runtime

    Plane = NDArray[np.float32]
    Mask = NDArray[np.bool_]

CONTRAST = 25.0
"""Slope of the logit of being the object over the difference of two cosines."""
CERTAIN = 4.0
"""Most that features or motion say for a place, and features against it."""
MARGIN = 0.08
"""Width of the strip between an object and the box that the decoder gets, as a share of the box."""


@dataclass(frozen=True)
class Guess:
    """Where an object is thought to be, before the decoder is asked.

    Attributes
    ----------
    look : Look
    odds : (h, w) float32
        By how much each cell looks more like the object than like the ground.
    question : Question
    """

    look: Look
    odds: Plane
    question: Question

    @classmethod
    def of(cls, look: Look, likely: Plane, moved: Plane | float = 0.0) -> Guess | None:
        """Return the question for what features and motion say of each cell; None where both say there is nothing."""
        prior = np.clip(CONTRAST * likely, -CERTAIN, CERTAIN) + moved
        if not (prior > 0).any():
            return None
        x1, y1, x2, y2 = look.window
        end = np.array([x2 - x1, y2 - y1] * 2)
        box = box_of(prior > 0) * end / np.array(look.grid[::-1] * 2)
        air = MARGIN * (box[2:] - box[:2])
        box = np.clip(box + np.concatenate([-air, air]), 0, end).astype(np.float32)
        return cls(look, likely, (InstancePrompts(box=box), prior.astype(np.float32)))


@dataclass(frozen=True)
class Answer:
    """What the decoder made of a guess.

    Attributes
    ----------
    look : Look
    logits : (H, W) float32
        Of the whole picture.
    iou : float
        As the decoder predicts it.
    alike : float
        Share of the mask that looks like the object.
    """

    look: Look
    logits: Plane
    iou: float
    alike: float


def ask(runtime: Runtime, guesses: Mapping[int, Guess]) -> dict[int, Answer]:
    """Let the decoder draw the objects, those in one look together."""
    answers = {}
    for window in dict.fromkeys(guess.look.window for guess in guesses.values()):
        here = {object_id: guess for object_id, guess in guesses.items() if guess.look.window == window}
        look = next(iter(here.values())).look
        logits, quality = runtime.decode(look.seen, [guess.question for guess in here.values()])
        for (object_id, guess), drawn, ious in zip(here.items(), logits, quality, strict=True):
            whole = look.draw(drawn[0])
            inside = look.covered(whole > 0)
            alike = float(np.mean(guess.odds[inside] > 0)) if inside.any() else 0.0
            answers[object_id] = Answer(look, whole, float(ious[0]), alike)
    return answers


def likeliest(likely: Plane) -> Mask | None:
    """Return the connected part of a plane's positive places that has most in it."""
    count, parts = cv2.connectedComponents((likely > 0).astype(np.uint8))
    if count == 1:
        return None
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel(), likely.ravel())[1:]))
