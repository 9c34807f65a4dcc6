"""A session given anew to another model: its commands in their order, each to the object that it was said of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core.script import explicit
from sam3_widget.errors import NotFoundError, Sam3WidgetError
from sam3_widget.live import LiveDocument

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from sam3_widget.core.commands import Command
    from sam3_widget.core.document import Step
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import State
    from sam3_widget.models.base import Model

SAME = 0.5
"""IoU from which what another model found is the same object."""
_SIDE = 512  # masks are compared at this many samples at most
_PROMPTS = {"point_id", "stroke_id", "exemplar_id"}


@dataclass(frozen=True)
class Refused:
    """A command that the other model could not serve.

    Attributes
    ----------
    command : Command
    reason : str
    """

    command: Command
    reason: str


def replayed(
    former: LiveDocument, model: str | os.PathLike[str] | Model | None = None
) -> tuple[LiveDocument, tuple[Refused, ...]]:
    """Give the commands of a document to a model: see :meth:`sam3_widget.Session.replay`.

    Returns
    -------
    live : LiveDocument
        On the same image, with the model's answers.
    refused : tuple of Refused
        The commands that are not in it, or that the model did not answer; oldest first.
    """
    with former.lock:
        record = former.record
    first = record.past[0].state if record.past else record.state
    live = LiveDocument(former.image, former.model if model is None else model, first.classes)
    return live, _Replayer(former, live).run([*record.past], record.state)


@dataclass
class _Replayer:
    """The way through the commands, and what stands for what on the other side."""

    former: LiveDocument
    live: LiveDocument
    prompts: dict[int, int] = field(default_factory=dict)
    concepts: dict[int, int] = field(default_factory=dict)
    objects: dict[int, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def run(self, past: Sequence[Step[State]], last: State) -> tuple[Refused, ...]:
        """Say each command again; return those that were refused."""
        for step, after in zip(past, [*(s.state for s in past), last][1:], strict=True):
            before = self.live.state
            try:
                for name, args in explicit(step):
                    self.live.run(name, self._translated(args, step.state))
            except Sam3WidgetError as error:
                self.refused.append(Refused(step.command, str(error)))
            if self.live.state is not before:
                self._learn(step.state, after, before, self.live.state)
        return tuple(self.refused)

    def _learn(self, before: State, after: State, before_here: State, after_here: State) -> None:
        """Note which of the new ids stand for which."""
        numbers = range(before.next_prompt_id, after.next_prompt_id)
        here = range(before_here.next_prompt_id, after_here.next_prompt_id)
        self.prompts.update(zip(numbers, here, strict=False))
        numbers = range(before.next_concept_id, after.next_concept_id)
        here = range(before_here.next_concept_id, after_here.next_concept_id)
        self.concepts.update(zip(numbers, here, strict=False))
        self.objects.update(zip(_started(before, after), _started(before_here, after_here), strict=False))

    def _translated(self, args: Mapping[str, Any], before: State) -> dict[str, Any]:
        """Return a command's arguments with the ids of this side."""
        told = dict(args)
        for name, value in args.items():
            if value is None:
                continue
            if name in _PROMPTS:
                told[name] = _known(self.prompts, value, "prompt")
            elif name == "concept_id":
                told[name] = _known(self.concepts, value, "concept")
            elif name == "object_id":
                told[name] = self._object(value, before)
            elif name in {"points", "boxes"}:
                told[name] = [(*row[:-1], None if row[-1] is None else self._object(row[-1], before)) for row in value]
        return told

    def _object(self, object_id: int, before: State) -> int:
        """Return what stands for an object; a number that none has yet stays, if it is free."""
        there = {i.object_id: i for i in self.live.state.instances}
        if self.objects.get(object_id) in there:
            return self.objects[object_id]
        was = next((i for i in before.instances if i.object_id == object_id), None)
        if was is None:
            given = {*there, *self.objects.values()}
            free = object_id if object_id not in given else max(given) + 1
            return self.objects.setdefault(object_id, free)
        mask, concept, taken = self.former.mask(was), self.concepts.get(was.concept_id or 0), set(self.objects.values())
        alike = [
            (i.concept_id == concept, iou, k == object_id, k)
            for k, i in there.items()
            if k not in taken and (iou := _iou(mask, self.live.mask(i))) >= SAME
        ]
        if not alike:
            message = f"object {object_id} is not there: it was refused, or this model found nothing in its place"
            raise NotFoundError(message)
        self.objects[object_id] = max(alike)[-1]
        return self.objects[object_id]


def _started(before: State, after: State) -> list[int]:
    """Return the ids of the instances that a person started in between."""
    known = {i.object_id for i in before.instances}
    return [i.object_id for i in after.instances if i.prompted and i.object_id not in known]


def _known(ids: Mapping[int, int], number: int, what: str) -> int:
    if number not in ids:
        message = f"{what} {number} is not there: it was refused"
        raise NotFoundError(message)
    return ids[number]


def _iou(first: RunLengths, second: RunLengths) -> float:
    height, width = min(first.height, _SIDE), min(first.width, _SIDE)
    a, b = first.sampled(height, width), second.sampled(height, width)
    either = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / either if either else 0.0
