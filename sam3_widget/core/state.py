"""The state of a session: immutable snapshots that share arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sam3_widget.core.answers import Answer, Finding
from sam3_widget.core.palette import color_of, color_of_concept
from sam3_widget.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sam3_widget.core.prompts import Box, Corners, Exemplar, Point, Stroke
    from sam3_widget.core.runs import RunLengths


@dataclass(frozen=True, eq=False)
class Carried:
    """The mask of an object on a frame that propagation brought it to.

    Attributes
    ----------
    mask : RunLengths
        Of the frame's size; empty where the object is not in view.
    score : float
        How sure the tracker is, 0 to 1.
    forward : bool
        Whether it came from an earlier frame, not from a later one.
    """

    mask: RunLengths
    score: float
    forward: bool


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
    found : Answer or None
        What a detector made of it, where it was found by a concept: clicks start from it.
    matched : Answer or None
        The newest detection that is this object. For one that a person has changed it stands beside ``found``.
    carried : Carried or None
        On a frame of a clip, what propagation brought there: clicks start from it.
    concept_id : int or None
        The concept that it is an instance of.
    answer : Answer or None
        None where no decoder was asked: a detected, imported or painted mask.
    candidate : int
        Which candidate of the answer was chosen.
    labelled : bool
        Whether a person gave the label.
    visible, locked : bool
    """

    object_id: int
    label: str = ""
    points: tuple[Point, ...] = ()
    box: Box | None = None
    strokes: tuple[Stroke, ...] = ()
    imported: RunLengths | None = None
    found: Answer | None = None
    matched: Answer | None = None
    carried: Carried | None = None
    concept_id: int | None = None
    answer: Answer | None = None
    candidate: int = 0
    labelled: bool = False
    visible: bool = True
    locked: bool = False

    @property
    def color(self) -> str:
        """``#rrggbb``."""
        return color_of(self.object_id)

    @property
    def empty(self) -> bool:
        """Whether nothing is left that it could be made of."""
        return not (self.prompted or self.found or self.carried)

    @property
    def prompted(self) -> bool:
        """Whether a person said anything of its mask."""
        return bool(self.points or self.box or self.strokes or self.imported)

    @property
    def touched(self) -> bool:
        """Whether a person refined, labelled or locked it: no detection overwrites or removes it."""
        return self.prompted or self.labelled or self.locked

    @property
    def pending(self) -> bool:
        """Whether a model's answer to these prompts is under way."""
        return self.answer is not None and not self.answer.done and self.answer.error is None

    @property
    def basis(self) -> tuple[Answer, int] | RunLengths | None:
        """What the mask starts from: the newest answer with its chosen candidate, else what was there before it."""
        answered = self.answer.latest(self.candidate) if self.answer else None
        if answered is not None:
            return answered
        if self.found:
            return self.found, 0
        return self.imported or (self.carried.mask if self.carried else None)

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
        made = self.box or self.found or self.imported or self.strokes or self.carried
        started = made or any(p.positive for p in self.points)
        if not started or not (self.box or self.points):
            return replace(self, answer=None, candidate=0)
        previous = (self.answer, self.candidate) if self.answer and not afresh else None
        if previous is None and self.found:
            previous = (self.found, 0)
        newest = max([p.point_id for p in self.points] + [s.stroke_id for s in self.strokes], default=0)
        return replace(self, answer=Answer(previous, newest), candidate=0)


@dataclass(frozen=True)
class ConceptState:
    """A phrase, exemplars, or both, that stand for every matching thing in the image.

    Attributes
    ----------
    concept_id : int
    text : str
        "" where exemplars alone say it.
    exemplars : tuple of Exemplar
        Oldest first.
    at : (x, y) or None
        Only the instance here is meant.
    score_threshold : float
        Score that a detection must reach.
    dismissed : tuple of Answer
        The detections that a person removed.
    away : tuple of InstanceState
        Instances that a threshold or a negative exemplar took away, as they come back.
    finding : Finding or None
        None where there is nothing to look for: negative exemplars alone.
    settled : object
        What its instances were last made of: see :func:`sam3_widget.core.matching.settle`.
    label : str
        Class of what is found; "" is that of its words.
    """

    concept_id: int
    text: str = ""
    exemplars: tuple[Exemplar, ...] = ()
    at: tuple[float, float] | None = None
    score_threshold: float = 0.5
    dismissed: tuple[Answer, ...] = ()
    away: tuple[InstanceState, ...] = ()
    finding: Finding | None = None
    settled: object = None
    label: str = ""

    @property
    def found_as(self) -> str:
        """The class of what is found."""
        return self.label or self.text

    @property
    def name(self) -> str:
        """What a person reads."""
        return f"“{self.text}”" if self.text else "the exemplars"

    @property
    def color(self) -> str:
        """``#rrggbb``."""
        return color_of_concept(self.concept_id)

    @property
    def pending(self) -> bool:
        """Whether the model is looking for it."""
        return self.finding is not None and not self.finding.done and self.finding.error is None

    @property
    def shown(self) -> Finding | None:
        """The newest finding that is there."""
        return self.finding.latest() if self.finding else None

    @property
    def negative_boxes(self) -> tuple[Corners, ...]:
        """The boxes of its negative exemplars, as far as they are known."""
        return tuple(e.box for e in self.exemplars if e.box and not e.positive)

    def asked(self) -> ConceptState:
        """Return the concept with a question to the model in place of its finding."""
        if not self.text and not any(e.positive for e in self.exemplars):
            return replace(self, finding=None)
        return replace(self, finding=Finding(self.finding, self.text))


@dataclass(frozen=True)
class Settings:
    """How scores and logits become masks, for all instances; a change never asks the model.

    Attributes
    ----------
    mask_threshold : float
        Probability that a pixel must exceed, between 0 and 1.
    fill_holes : int
        Largest hole that is filled, in pixels of the original image.
    min_area : int
        Smallest island that stays, in pixels of the original image.
    score_threshold : float
        Of new concepts.
    """

    mask_threshold: float = 0.5
    fill_holes: int = 0
    min_area: int = 0
    score_threshold: float = 0.5


@dataclass(frozen=True)
class State:
    """A snapshot of everything that undo restores."""

    height: int
    width: int
    instances: tuple[InstanceState, ...] = ()
    selected: int | None = None
    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()
    concepts: tuple[ConceptState, ...] = ()
    concept: int | None = None
    next_concept_id: int = 1
    next_object_id: int = 1
    next_prompt_id: int = 1

    @property
    def answers(self) -> set[Answer]:
        """Everything that models have said and that this snapshot keeps."""
        found = {a for i in self.instances for a in (i.answer, i.found, i.matched) if a}
        return found.union(*(c.finding.answers for c in self.concepts if c.finding))

    def instance(self, object_id: int) -> InstanceState:
        """Return the instance with this id, or raise ``NotFoundError``."""
        for instance in self.instances:
            if instance.object_id == object_id:
                return instance
        known = ", ".join(str(i.object_id) for i in self.instances) or "none"
        message = f"there is no object with object_id {object_id}; there are: {known}"
        raise NotFoundError(message)

    def concept_of(self, concept_id: int) -> ConceptState:
        """Return the concept with this id, or raise ``NotFoundError``."""
        for concept in self.concepts:
            if concept.concept_id == concept_id:
                return concept
        known = ", ".join(f"{c.concept_id} ({c.name})" for c in self.concepts) or "none"
        message = f"there is no concept with concept_id {concept_id}; there are: {known}"
        raise NotFoundError(message)

    def put_concept(self, concept: ConceptState) -> State:
        """Return the state with this concept in the place of the one with its id, or added at the end."""
        if all(c.concept_id != concept.concept_id for c in self.concepts):
            return replace(self, concepts=(*self.concepts, concept))
        swapped = tuple(concept if c.concept_id == concept.concept_id else c for c in self.concepts)
        return replace(self, concepts=swapped)

    def named(self, label: str) -> State:
        """Return the state with a class name on offer."""
        return self if not label or label in self.classes else replace(self, classes=(*self.classes, label))

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

    def without(self, object_id: int, *, hand_on: bool = True) -> State:
        """Return the state without this instance; a neighbour takes over its selection, or (``hand_on``) nobody."""
        index = self.instances.index(self.instance(object_id))
        rest = self.instances[:index] + self.instances[index + 1 :]
        selected = self.selected
        if selected == object_id:
            selected = rest[min(index, len(rest) - 1)].object_id if rest and hand_on else None
        return replace(self, instances=rest, selected=selected)
