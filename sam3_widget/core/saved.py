"""A document as plain JSON: every snapshot of its history, and what models said, each once.

Snapshots share instances, prompts, masks and answers, and so does what is made here: tables of all of them, in which
one row names another by its place. :mod:`sam3_widget.core.restored` is the way back.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError, Sam3WidgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from sam3_widget.core.answers import Answer, Finding
    from sam3_widget.core.document import Record, Step
    from sam3_widget.core.prompts import Stroke
    from sam3_widget.core.state import ConceptState, InstanceState, State

    Packed = MutableMapping[Answer | Finding, str]
    """The text of logits that were packed before: they are written once and never change."""

T = TypeVar("T")
C = TypeVar("C", bound="Answer | Finding")

_LEVEL = 1  # of zlib: a higher one takes several times as long, for a few per cent


def to_plain(record: Record[State], lock: AbstractContextManager[object], packed: Packed) -> dict[str, Any]:
    """Return a document as tables of plain values, in the order in which they can be read back.

    Parameters
    ----------
    record : Record
    lock : context manager
        Held, for a moment, while the answers of models are looked at.
    packed : mutable mapping
        Keeps the text of logits for the next time; give the same one again, or an empty one.

    Raises
    ------
    FormatError
        The document is of a frame of a clip.
    """
    return _Tables(record, lock).rows(packed)


def pack(logits: NDArray[np.float16]) -> str:
    """Return logits as text, without loss.

    Their bits as little-endian 16-bit integers, as PNG filters rows: differences from column to column, then from row
    to row; sign in the lowest bit; the low bytes of all, then the high ones; zlib; base64. Masks are smooth, so this
    takes two thirds of what their bytes would.
    """
    bits = np.ascontiguousarray(logits, "<f2").view("<u2")
    for axis in (-1, -2):
        bits = np.diff(bits, axis=axis, prepend=np.zeros_like(bits.take([0], axis)))
    signed = bits.view("<i2")
    folded = (signed << 1) ^ (signed >> 15)
    planes = folded.astype("<i2").view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), _LEVEL)).decode("ascii")


def unpack(data: bytes, shape: Sequence[int]) -> NDArray[np.float16]:
    """Return the logits whose bytes :func:`pack` deflated."""
    folded = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(2, -1).T).view("<u2").reshape(shape)
    bits = (folded >> 1) ^ (0 - (folded & 1)).astype("<u2")
    for axis in (-1, -2):
        bits = np.cumsum(bits, axis=axis, dtype="<u2")
    logits: NDArray[np.float16] = bits.view("<f2").astype(np.float16)
    return logits


class _Table(Generic[T]):
    """Objects in the order in which they came, each once."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self.items: list[T] = []
        self._places: dict[int, int] = {}
        for item in items:
            self.add(item)

    def __contains__(self, item: object) -> bool:
        return id(item) in self._places

    def add(self, item: T) -> None:
        if id(item) not in self._places:
            self._places[id(item)] = len(self.items)
            self.items.append(item)

    def place(self, item: object) -> int:
        return self._places[id(item)]

    def places(self, items: Iterable[object]) -> list[int]:
        return [self._places[id(item)] for item in items]


class _Tables:
    """All that the snapshots of a document are made of."""

    def __init__(self, record: Record[State], lock: AbstractContextManager[object]) -> None:
        self._record = record
        steps = (*record.past, *record.future)
        self._states = _Table([*(s.state for s in record.past), record.state, *(s.state for s in record.future)])
        self._concepts = _Table(c for s in self._states.items for c in s.concepts)
        self._instances = _Table(i for s in self._states.items for i in s.instances)
        for concept in self._concepts.items:
            for away in concept.away:
                self._instances.add(away)
        if any(i.carried for i in self._instances.items):
            message = "a frame of a clip cannot be saved on its own"
            raise FormatError(message)
        self._points = _Table(point for i in self._instances.items for point in i.points)
        self._strokes = _Table(stroke for i in self._instances.items for stroke in i.strokes)
        self._masks = _Table(i.imported for i in self._instances.items if i.imported)
        for step in steps:
            for value in step.command.args.values():
                if isinstance(value, RunLengths):
                    self._masks.add(value)
        with lock:  # an answer that comes meanwhile is written whole, or not at all
            self._findings, self._answers = self._cells()
            self._said = [_answer(a, self._answers) for a in self._answers.items]
            self._found = [_finding(f, self._findings, self._answers) for f in self._findings.items]

    def _cells(self) -> tuple[_Table[Finding], _Table[Answer]]:
        """Return everything that was asked, each after what it corrects."""
        findings: _Table[Finding] = _Table()
        answers: _Table[Answer] = _Table()
        for concept in self._concepts.items:
            for finding in (concept.finding, _told_finding(concept)):
                _chain(findings, finding, lambda f: f.previous)
            for answer in concept.dismissed:
                answers.add(answer)
        for finding in findings.items:
            for answer in finding.answers:
                answers.add(answer)
        for instance in self._instances.items:
            for cell in (instance.found, instance.matched, instance.answer):
                _chain(answers, cell, lambda a: a.previous[0] if a.previous else None)
        for concept in self._concepts.items:  # detections of earlier words, perhaps
            for told in _told_rows(concept):
                _chain(answers, told[1], lambda a: a.previous[0] if a.previous else None)
        return findings, answers

    def rows(self, packed: Packed) -> dict[str, Any]:
        """Return the tables."""
        cells: list[Answer | Finding] = [*self._answers.items, *self._findings.items]
        for cell, row in zip(cells, [*self._said, *self._found], strict=True):
            if "logits" in row:
                if cell not in packed:
                    packed[cell] = pack(row["logits"])
                row["logits"] = packed[cell]
        return {
            "masks": [base64.b64encode(m.to_bytes()).decode("ascii") for m in self._masks.items],
            "points": [[p.x, p.y, int(p.positive), p.object_id, p.point_id] for p in self._points.items],
            "strokes": [_stroke(s) for s in self._strokes.items],
            "answers": self._said,
            "findings": self._found,
            "instances": [self._instance(i) for i in self._instances.items],
            "concepts": [self._concept(c) for c in self._concepts.items],
            "states": [self._state(s) for s in self._states.items],
            "past": [self._step(s) for s in self._record.past],
            "future": [self._step(s) for s in self._record.future],
            "state": self._states.place(self._record.state),
        }

    def _instance(self, instance: InstanceState) -> dict[str, Any]:
        cells = {"found": instance.found, "matched": instance.matched, "answer": instance.answer}
        return _given(
            object_id=instance.object_id,
            label=instance.label or None,
            points=self._points.places(instance.points) or None,
            box=instance.box and instance.box.xyxy,
            strokes=self._strokes.places(instance.strokes) or None,
            imported=None if instance.imported is None else self._masks.place(instance.imported),
            **{name: None if cell is None else self._answers.place(cell) for name, cell in cells.items()},
            concept_id=instance.concept_id,
            candidate=instance.candidate or None,
            labelled=instance.labelled or None,
            hidden=not instance.visible or None,
            locked=instance.locked or None,
        )

    def _concept(self, concept: ConceptState) -> dict[str, Any]:
        return _given(
            concept_id=concept.concept_id,
            text=concept.text or None,
            label=concept.label or None,
            exemplars=_exemplars(concept.exemplars) or None,
            at=concept.at,
            score_threshold=concept.score_threshold,
            dismissed=self._answers.places(concept.dismissed) or None,
            away=self._instances.places(concept.away) or None,
            finding=None if concept.finding is None else self._findings.place(concept.finding),
            settled=self._settled(concept),
        )

    def _settled(self, concept: ConceptState) -> dict[str, Any] | None:
        """Describe what the instances of a concept were last made of (``core/matching.py``)."""
        if not isinstance(concept.settled, tuple):
            return None
        finding, threshold, at, exemplars, dismissed, _ = concept.settled
        rows = [
            [object_id, None if matched is None else self._answers.place(matched), touched]
            for object_id, matched, touched in _told_rows(concept)
        ]
        return {
            "finding": None if finding is None else self._findings.place(finding),
            "score_threshold": threshold,
            "at": at,
            "exemplars": _exemplars(exemplars),
            "dismissed": self._answers.places(dismissed),
            "instances": rows,
        }

    def _state(self, state: State) -> dict[str, Any]:
        return {
            "instances": self._instances.places(state.instances),
            "selected": state.selected,
            "concepts": self._concepts.places(state.concepts),
            "concept": state.concept,
            "settings": asdict(state.settings),
            "classes": list(state.classes),
            "next_concept_id": state.next_concept_id,
            "next_object_id": state.next_object_id,
            "next_prompt_id": state.next_prompt_id,
        }

    def _step(self, step: Step[State]) -> dict[str, Any]:
        command = step.command
        args = dict(command.args)
        if "boxes" in args:
            args["boxes"] = [[*box, owner] for box, owner in args["boxes"]]
        args |= {k: {"mask": self._masks.place(v)} for k, v in args.items() if isinstance(v, RunLengths)}
        return _given(
            name=command.name,
            args=args,
            time=command.time,
            state=self._states.place(step.state),
            gesture=step.gesture,
        )


def _given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of plain values
    """Return what is not None: a row leaves out what it does not have."""
    return {name: value for name, value in values.items() if value is not None}


def _chain(table: _Table[C], cell: C | None, before: Callable[[C], C | None]) -> None:
    """Add a cell to a table, after those that it corrects."""
    chain = []
    while cell is not None and cell not in table:
        chain.append(cell)
        cell = before(cell)
    for each in reversed(chain):
        table.add(each)


def _answer(answer: Answer, answers: _Table[Answer]) -> dict[str, Any]:
    if answer.logits is not None:
        scores, shape = list(answer.scores), list(answer.logits.shape)
        return _given(newest=answer.newest or None, scores=scores, shape=shape, logits=answer.logits)
    previous = None if answer.previous is None else [answers.place(answer.previous[0]), answer.previous[1]]
    return _given(newest=answer.newest or None, previous=previous, error=_error(answer.error))


def _finding(finding: Finding, findings: _Table[Finding], answers: _Table[Answer]) -> dict[str, Any]:
    if finding.semantic is None:
        previous = None if finding.previous is None else findings.place(finding.previous)
        return _given(text=finding.text, previous=previous, error=_error(finding.error))
    return _given(
        text=finding.text,
        answers=answers.places(finding.answers),
        presence=None if math.isnan(finding.presence) else float(finding.presence),
        best=finding.best,
        places=[[number, *map(float, box)] for number, box in finding.places.items()] or None,
        object_ids=[list(pair) for pair in finding.object_ids.items()] or None,
        shape=list(finding.semantic.shape),
        logits=finding.semantic,
    )


def _error(error: Exception | None) -> list[str] | None:
    return None if error is None else [error.code if isinstance(error, Sam3WidgetError) else "model", str(error)]


def _stroke(stroke: Stroke) -> dict[str, Any]:
    return {
        "path": stroke.path,
        "radius": stroke.radius,
        "positive": stroke.positive,
        "object_id": stroke.object_id,
        "stroke_id": stroke.stroke_id,
    }


def _exemplars(exemplars: Iterable[Any]) -> list[Mapping[str, Any]]:
    return [
        _given(positive=e.positive, concept_id=e.concept_id, exemplar_id=e.exemplar_id, box=e.box, point=e.point)
        for e in exemplars
    ]


def _told_finding(concept: ConceptState) -> Finding | None:
    return concept.settled[0] if isinstance(concept.settled, tuple) else None


def _told_rows(concept: ConceptState) -> tuple[tuple[int, Answer | None, bool], ...]:
    return concept.settled[5] if isinstance(concept.settled, tuple) else ()
