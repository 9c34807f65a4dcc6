"""What models say: cells that are written once and that every snapshot of a document shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.core.prompts import Corners

FLOOR = 0.05
"""Score below which a detection is forgotten: no threshold goes lower."""


class Answer:
    """What a model said to one set of prompts: written once, shared by every snapshot that asked.

    An undo and a redo find the answer where it was; a set of prompts that was skipped while newer ones were
    decoded has none yet.

    Parameters
    ----------
    previous : (Answer, int), optional
        The answer that these prompts corrected, and which of its candidates was chosen.
    newest : int
        The largest id of the prompts.
    """

    def __init__(self, previous: tuple[Answer, int] | None = None, newest: int = 0) -> None:
        self.previous = previous
        self.newest = newest
        self.logits: NDArray[np.float16] | None = None
        self.scores: tuple[float, ...] = ()
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the model has answered."""
        return self.logits is not None

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return 0 if self.logits is None else self.logits.nbytes

    def write(self, logits: NDArray[np.float32], scores: tuple[float, ...]) -> None:
        """Store ``(K, h, w)`` logits and their K scores, best first; later calls change nothing."""
        if self.logits is None:
            self.logits = logits.astype(np.float16)
            self.scores = scores
            self.error = None
            self.previous = None

    def latest(self, candidate: int) -> tuple[Answer, int] | None:
        """Return this answer with its chosen candidate or, while it is not there, the nearest one before it."""
        answer, chosen = self, candidate
        while not answer.done:
            if answer.previous is None:
                return None
            answer, chosen = answer.previous
        return answer, chosen


class Finding:
    """What a model found of one concept: written once, shared by every snapshot that asked.

    Parameters
    ----------
    previous : Finding, optional
        What was found before the concept was changed; it counts until this one is there.
    text : str
        The words that were looked for.

    Attributes
    ----------
    answers : tuple of Answer
        One for each detection above :data:`FLOOR`, best first: what its instance starts from.
    presence : float
        Probability that the concept is in the image, NaN before the answer.
    best : float
        The highest score of all detections, 0 where there was none.
    semantic : (h, w) float16 or None
        Logits over the whole image.
    places : mapping
        The box that each exemplar made by a click turned out to have, by ``exemplar_id``.
    object_ids : dict
        The id that each detection was given first, by its index: every snapshot gives it the same.
    error : Exception or None
    """

    def __init__(self, previous: Finding | None = None, text: str = "") -> None:
        self.previous = previous
        self.text = text
        self.answers: tuple[Answer, ...] = ()
        self.presence = float("nan")
        self.best = 0.0
        self.semantic: NDArray[np.float16] | None = None
        self.places: Mapping[int, Corners] = {}
        self.object_ids: dict[int, int] = {}
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the model has answered."""
        return self.semantic is not None

    def write(
        self,
        logits: NDArray[np.float32],
        scores: NDArray[np.float32],
        presence: float,
        semantic: NDArray[np.float32],
        places: Mapping[int, Corners],
    ) -> None:
        """Store ``(N, h, w)`` logits, N scores, best first, and ``(h, w)`` semantic logits; only once."""
        if self.done:
            return
        answers = []
        for mask, score in zip(logits, scores.tolist(), strict=True):
            if score < FLOOR:
                break
            answers.append(Answer())
            answers[-1].write(mask[None], (score,))
        self.answers = tuple(answers)
        self.presence = presence
        self.best = float(scores[0]) if len(scores) else 0.0
        self.places = places
        self.error = None
        self.semantic = semantic.astype(np.float16)  # from here on it is done
        self.previous = None

    def latest(self) -> Finding | None:
        """Return this finding or, while it is not there, the nearest one before it."""
        found: Finding | None = self
        while found is not None and not found.done:
            found = found.previous
        return found
