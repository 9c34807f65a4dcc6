"""What a session gives away: instances and concepts as they were when they were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core import masks
from sam3_widget.core.answers import FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.core.prompts import Box, Exemplar, Point, Stroke
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import ConceptState, InstanceState, State
    from sam3_widget.live import LivePicture


@dataclass(frozen=True, eq=False)
class Instance:
    """One object as it was when it was asked for.

    Attributes
    ----------
    object_id : int
        Stable for the life of the session.
    label : str
        Class name, "" while there is none.
    score : float
        How sure the model is, 0 to 1: of a detected mask that it is the concept, of a refined one the IoU that it
        predicts. NaN for an imported or painted mask, and before the first answer.
    candidate_scores : tuple of float
        Predicted IoU of each mask the model offered, best first; more than one after an ambiguous click.
    candidate : int
        Which of them is chosen.
    points, strokes : tuple
        The prompts, oldest first.
    prompt_box : Box or None
    concept_id : int or None
        The concept that it is an instance of.
    note : str or None
        What one should know of how the model took its prompts.
    runs : RunLengths
        The mask as run lengths.
    """

    object_id: int
    label: str
    score: float
    candidate_scores: tuple[float, ...]
    candidate: int
    points: tuple[Point, ...]
    strokes: tuple[Stroke, ...]
    prompt_box: Box | None
    visible: bool
    locked: bool
    concept_id: int | None
    note: str | None
    runs: RunLengths

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, ``(H, W)`` bool, exactly as drawn."""
        return self.runs.to_mask()

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return self.runs.area

    @property
    def box(self) -> NDArray[np.float32]:
        """The tight box of the mask, ``(4,)`` float32 ``(x1, y1, x2, y2)`` in pixels; zeros for an empty mask."""
        return np.array(self.runs.bbox or (0, 0, 0, 0), np.float32)

    @classmethod
    def of(cls, document: LivePicture, state: InstanceState) -> Instance:
        """Make the public view of an instance."""
        return cls(
            object_id=state.object_id,
            label=state.label,
            score=score_of(state),
            candidate_scores=state.answer.scores if state.answer else (),
            candidate=state.candidate,
            points=state.points,
            strokes=state.strokes,
            prompt_box=state.box,
            visible=state.visible,
            locked=state.locked,
            concept_id=state.concept_id,
            note=document.note(state),
            runs=document.mask(state),
        )


def score_of(state: InstanceState) -> float:
    """Return the score of what is shown, NaN where no model made it."""
    basis = state.basis
    if isinstance(basis, tuple):
        return basis[0].scores[basis[1]]
    carried = state.carried is not None and basis is state.carried.mask and not state.strokes
    return state.carried.score if carried and state.carried else float("nan")


@dataclass(frozen=True, eq=False)
class Concept:
    """A concept as it was when it was asked for.

    Attributes
    ----------
    concept_id : int
        Stable for the life of the session.
    text : str
        "" where exemplars alone say it.
    exemplars : tuple of Exemplar
        Oldest first.
    at : (x, y) or None
        Only the instance here is meant.
    score_threshold : float
        Score that a detection must reach.
    presence : float
        Probability that it is in the image at all, 0 to 1; NaN before the first answer.
    object_ids : tuple of int
        Its instances.
    semantic_logits : (h, w) float32
        Scores over the whole image that a pixel belongs to the concept, whichever instance it is of; -8 before the
        first answer.
    note : str or None
        Why there is nothing, where there is nothing.
    size : (height, width)
        Of the image in pixels.
    mask_threshold : float
        The session's.
    """

    concept_id: int
    text: str
    exemplars: tuple[Exemplar, ...]
    at: tuple[float, float] | None
    score_threshold: float
    presence: float
    object_ids: tuple[int, ...]
    semantic_logits: NDArray[np.float32]
    note: str | None
    size: tuple[int, int]
    mask_threshold: float

    @property
    def semantic_mask(self) -> NDArray[np.bool_]:
        """The pixels that belong to the concept, ``(H, W)`` bool, at the session's mask threshold."""
        return masks.compose(self.semantic_logits, self.size, masks.logit(self.mask_threshold)).to_mask()

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.object_ids)

    @classmethod
    def of(cls, document: LivePicture, state: ConceptState) -> Concept:
        """Make the public view of a concept."""
        whole, shown = document.state, state.shown
        found = shown.semantic if shown else None
        return cls(
            concept_id=state.concept_id,
            text=state.text,
            exemplars=state.exemplars,
            at=state.at,
            score_threshold=state.score_threshold,
            presence=shown.presence if shown else float("nan"),
            object_ids=members_of(whole, state),
            semantic_logits=np.full((1, 1), -masks.SURE, np.float32) if found is None else found.astype(np.float32),
            note=note_of(whole, state),
            size=(whole.height, whole.width),
            mask_threshold=whole.settings.mask_threshold,
        )


def members_of(state: State, concept: ConceptState) -> tuple[int, ...]:
    """Return the ids of a concept's instances."""
    return tuple(i.object_id for i in state.instances if i.concept_id == concept.concept_id)


def note_of(state: State, concept: ConceptState) -> str | None:
    """Return why a concept has no instances, or None where it has some or its answer is still open."""
    if concept.pending or members_of(state, concept):
        return None
    shown = concept.shown
    if shown is None:
        return "Give words or a positive exemplar: what it is not says too little" if not concept.finding else None
    if concept.at is not None:
        return f"Nothing like {concept.name} at ({concept.at[0]:g}, {concept.at[1]:g})"
    if shown.best >= concept.score_threshold:
        return "Everything found was excluded or removed"
    if shown.best < FLOOR:
        return f"Nothing like {concept.name} found"
    return f"Nothing reaches the threshold: the best score is {shown.best:.2f}"
