"""The state of a session: immutable snapshots that share arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.palette import color_of
from sam3_widget.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.prompts import Box, Point, Stroke
    from sam3_widget.core.runs import RunLengths


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


@dataclass(frozen=True)
class InstanceState:
    """One instance with everything a person said of it.

    Attributes
    ----------
    object_id : int
        Stable for the life of the session.
    label : str
        Class name, "" while there is none.
    points, strokes : tuple
    box : Box or None
    imported : RunLengths or None
        An imported mask that refinement started from.
    answer : Answer or None
        None where no model was asked: an imported or painted mask.
    candidate : int
        Which candidate of the answer was chosen.
    visible, locked : bool
    """

    object_id: int
    label: str = ""
    points: tuple[Point, ...] = ()
    box: Box | None = None
    strokes: tuple[Stroke, ...] = ()
    imported: RunLengths | None = None
    answer: Answer | None = None
    candidate: int = 0
    visible: bool = True
    locked: bool = False

    @property
    def color(self) -> str:
        """``#rrggbb``."""
        return color_of(self.object_id)

    @property
    def empty(self) -> bool:
        """Whether no prompt is left."""
        return not (self.points or self.box or self.strokes or self.imported)

    @property
    def pending(self) -> bool:
        """Whether a model's answer to these prompts is under way."""
        return self.answer is not None and not self.answer.done and self.answer.error is None

    @property
    def basis(self) -> tuple[Answer, int] | RunLengths | None:
        """What the mask starts from: the newest answer with its chosen candidate, else the imported mask."""
        return (self.answer.latest(self.candidate) if self.answer else None) or self.imported

    @cached_property
    def enforced_strokes(self) -> tuple[Stroke, ...]:
        """The strokes still obeyed: a later click of the other kind on a stroke releases it."""
        return self._strokes_after(self.points)

    @property
    def prior_strokes(self) -> tuple[Stroke, ...]:
        """The strokes that the next question starts from: only clicks that were answered have released any.

        The click that releases a stroke is meant to change it, not to forget it.
        """
        known = self.basis[0].newest if isinstance(self.basis, tuple) else 0
        return self._strokes_after([p for p in self.points if p.point_id <= known])

    def _strokes_after(self, points: Sequence[Point]) -> tuple[Stroke, ...]:
        def released(stroke: Stroke) -> bool:
            later = (p for p in points if p.point_id > stroke.stroke_id and p.positive != stroke.positive)
            return any(stroke.covers(p.x, p.y) for p in later)

        return tuple(stroke for stroke in self.strokes if not released(stroke))

    def asked(self, *, afresh: bool = False) -> InstanceState:
        """Return the instance with a question to the model in place of its answer.

        Parameters
        ----------
        afresh : bool
            Forget the earlier answers: after a prompt is moved or removed, so that its effect goes with it.
        """
        started = self.box or self.imported or self.strokes or any(p.positive for p in self.points)
        if not started or not (self.box or self.points):
            return replace(self, answer=None, candidate=0)
        previous = (self.answer, self.candidate) if self.answer and not afresh else None
        newest = max([p.point_id for p in self.points] + [s.stroke_id for s in self.strokes], default=0)
        return replace(self, answer=Answer(previous, newest), candidate=0)


@dataclass(frozen=True)
class Settings:
    """How logits become masks, for all instances; a change never asks the model.

    Attributes
    ----------
    mask_threshold : float
        Probability that a pixel must exceed, between 0 and 1.
    fill_holes : int
        Largest hole that is filled, in pixels of the original image.
    min_area : int
        Smallest island that stays, in pixels of the original image.
    """

    mask_threshold: float = 0.5
    fill_holes: int = 0
    min_area: int = 0


@dataclass(frozen=True)
class State:
    """A snapshot of everything that undo restores."""

    height: int
    width: int
    instances: tuple[InstanceState, ...] = ()
    selected: int | None = None
    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()
    next_object_id: int = 1
    next_prompt_id: int = 1

    def instance(self, object_id: int) -> InstanceState:
        """Return the instance with this id, or raise ``NotFoundError``."""
        for instance in self.instances:
            if instance.object_id == object_id:
                return instance
        known = ", ".join(str(i.object_id) for i in self.instances) or "none"
        message = f"there is no object with object_id {object_id}; there are: {known}"
        raise NotFoundError(message)

    def owner(self, what: str, prompt_id: int) -> InstanceState:
        """Return the instance that holds a point or stroke; ``what`` is "point" or "stroke"."""
        held: Callable[[InstanceState], set[int]] = (
            (lambda i: {p.point_id for p in i.points})
            if what == "point"
            else (lambda i: {s.stroke_id for s in i.strokes})
        )
        for instance in self.instances:
            if prompt_id in held(instance):
                return instance
        message = f"there is no {what} with {what}_id {prompt_id}"
        raise NotFoundError(message)

    def put(self, instance: InstanceState) -> State:
        """Return the state with this instance in the place of the one with its id, or added at the end."""
        if all(i.object_id != instance.object_id for i in self.instances):
            return replace(self, instances=(*self.instances, instance))
        swapped = tuple(instance if i.object_id == instance.object_id else i for i in self.instances)
        return replace(self, instances=swapped)

    def without(self, object_id: int) -> State:
        """Return the state without this instance; a neighbour takes over its selection."""
        index = self.instances.index(self.instance(object_id))
        rest = self.instances[:index] + self.instances[index + 1 :]
        selected = self.selected
        if selected == object_id:
            selected = rest[min(index, len(rest) - 1)].object_id if rest else None
        return replace(self, instances=rest, selected=selected)
