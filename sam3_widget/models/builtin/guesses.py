"""Where an object of a video may be on a frame, and what the decoder makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.builtin.appearance import alike, box_of
from sam3_widget.models.builtin.geometry import LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.models.base import Question
    from sam3_widget.models.builtin.appearance import Appearance, Look
    from sam3_widget.models.builtin.runtime import Runtime

    Plane = NDArray[np.float32]
    Mask = NDArray[np.bool_]

CONTRAST = 25.0
"""Slope of the logit of being the object over the difference of two cosines."""
CERTAIN = 4.0
"""Most that features say for or against a place."""
MARGIN = 0.08
"""Width of the strip between an object and the box that the decoder gets, as a share of the box."""
STRANGE = 0.25
"""An island is not the object's where it looks like it by less than this share of what the largest part does."""
GAP = 3
"""Cells, odd, by which parts of one thing may be apart."""


@dataclass(frozen=True)
class Guess:
    """Where an object is thought to be, before the decoder is asked.

    Attributes
    ----------
    look : Look
    odds : (h, w) float32
        By how much each cell looks more like the object than like the ground.
    known : Appearance
        Of the object, where it was prompted.
    question : Question
        Prompts in pixels of the look's window, and a prior.
    """

    look: Look
    odds: Plane
    known: Appearance
    question: Question

    @classmethod
    def of(cls, look: Look, odds: Plane, known: Appearance, moved: Plane | float = 0.0) -> Guess | None:
        """Return the guess from what features and motion say of each cell; None where both say there is nothing.

        Parameters
        ----------
        look, odds, known
            As the attributes.
        moved : (h, w) float32
            Logits that motion adds.
        """
        prior = np.clip(CONTRAST * odds, -CERTAIN, CERTAIN) + moved
        if not (prior > 0).any():
            return None
        x1, y1, x2, y2 = look.window
        end = np.array([x2 - x1, y2 - y1] * 2)
        box = box_of(prior > 0) * end / np.tile(look.grid[::-1], 2)
        air = MARGIN * (box[2:] - box[:2])
        box = np.clip(box + np.concatenate([-air, air]), 0, end)
        return cls(look, odds, known, (InstancePrompts(box=box.astype(np.float32)), prior.astype(np.float32)))


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
    """Let the decoder draw the objects, those in one look together; returned by ``object_id``."""
    answers = {}
    for window in dict.fromkeys(guess.look.window for guess in guesses.values()):
        here = {object_id: guess for object_id, guess in guesses.items() if guess.look.window == window}
        look = next(iter(here.values())).look
        logits, quality = runtime.decode(look.seen, [guess.question for guess in here.values()])
        for (object_id, guess), drawn, ious in zip(here.items(), logits, quality, strict=True):
            whole = look.draw(drawn[0])
            prune(whole, look, guess.known)
            inside = look.covered(whole > 0)
            share = float(np.mean(guess.odds[inside] > 0)) if inside.any() else 0.0
            answers[object_id] = Answer(look, whole, float(ious[0]), share)
    return answers


def prune(logits: Plane, look: Look, known: Appearance) -> None:
    """Take away, in place, islands that look much less like the object than the largest part of the mask does."""
    x1, y1, x2, y2 = look.window
    here = logits[y1:y2, x1:x2]
    count, parts, stats, _ = cv2.connectedComponentsWithStats((here > 0).astype(np.uint8))
    if count == 2:  # noqa: PLR2004 - ground and one part
        return
    # A label has to survive as it is, which no interpolation but this one lets it.
    at = np.asarray(cv2.resize(parts.astype(np.float32), look.grid[::-1], interpolation=cv2.INTER_NEAREST), np.intp)
    places, inside = at[at > 0], at > 0
    counts = np.bincount(places, minlength=count)
    shares = np.bincount(places, alike(look.cells[:, inside].T, [known]) > 0, count) / np.maximum(counts, 1)
    strange = (counts > 0) & (shares < STRANGE * shares[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])])
    here[strange[parts]] = -LIMIT


def likeliest(odds: Plane) -> Mask | None:
    """Return the positive places of the part of a plane that has most in it, None where there are none."""
    inside = odds > 0
    count, parts = cv2.connectedComponents(cv2.dilate(inside.astype(np.uint8), np.ones((GAP, GAP), np.uint8)))
    if count == 1:
        return None
    return np.asarray(inside & (parts == np.argmax(np.bincount(parts[inside], odds[inside], count))))
