"""A document from plain JSON: what :mod:`sam3_widget.core.saved` made of it, checked row by row."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget import errors
from sam3_widget.core import commands, prompts
from sam3_widget.core.answers import Answer, Finding
from sam3_widget.core.commands import Command
from sam3_widget.core.document import Record, Step
from sam3_widget.core.prompts import Box, Exemplar, Point, Stroke
from sam3_widget.core.rows import Row
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.saved import unpack
from sam3_widget.core.state import ConceptState, InstanceState, Settings, State
from sam3_widget.errors import FormatError, ModelError, Sam3WidgetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_MOST_BYTES = 1 << 28
"""Of one answer: more than any model says, and a bound for what a damaged file can ask for."""
_PAIR = 2


def from_plain(whole: Mapping[str, Any], height: int, width: int) -> Record[State]:
    """Return the history that :func:`~sam3_widget.core.saved.to_plain` described.

    Parameters
    ----------
    whole : mapping
        Its tables.
    height, width : int
        Of the image in pixels.

    Raises
    ------
    FormatError
        It is incomplete, or contradicts itself; the message says where, and what was expected.
    """
    return _Reader(Row(whole, "the file"), height, width).record()


class _Reader:
    """The tables, read in their order: a row names only what came before it."""

    def __init__(self, file: Row, height: int, width: int) -> None:
        self._file, self._height, self._width = file, height, width
        self._masks = [self._mask(text, k) for k, text in enumerate(file.items("masks"))]
        self._points = [
            Point(*self._position(file, [x, y]), bool(on), file.whole("points", owner), file.whole("points", number))
            for x, y, on, owner, number in file.lists("points", 5)
        ]
        self._strokes = [self._stroke(row) for row in file.rows("strokes")]
        self._answers: list[Answer] = []
        for row in file.rows("answers"):
            self._answers.append(self._answer(row))
        self._findings: list[Finding] = []
        for row in file.rows("findings"):
            self._findings.append(self._finding(row))
        self._instances = [self._instance(row) for row in file.rows("instances")]
        self._concepts = [self._concept(row) for row in file.rows("concepts")]
        self._states = [self._state(row) for row in file.rows("states")]

    def record(self) -> Record[State]:
        """Return the history."""
        past, future = ([self._step(row) for row in self._file.rows(name)] for name in ("past", "future"))
        return Record(self._file.place("state", self._states), tuple(past), tuple(future))

    def _mask(self, text: object, place: int) -> RunLengths:
        where = f"masks[{place}]"
        with _refusing(where):
            mask = RunLengths.from_bytes(_bytes(text, where))
        if (mask.height, mask.width) != (self._height, self._width):
            message = f"{where} must be of {self._height} x {self._width} pixels, got {mask.height} x {mask.width}"
            raise FormatError(message)
        return mask

    def _stroke(self, row: Row) -> Stroke:
        with _refusing(row.where):
            path = prompts.polyline(row.items("path"), self._width, self._height)
        number = row.integer("stroke_id")
        return Stroke(path, row.number("radius"), row.flag("positive"), row.integer("object_id"), number)

    def _answer(self, row: Row) -> Answer:
        made = Answer(newest=row.integer("newest", 0))
        if "logits" in row:
            made.logits, made.scores = _logits(row, 3), tuple(row.numbers("scores"))
            row.check(len(made.logits) == len(made.scores), "scores", f"a score for each of {len(made.logits)} masks")
            return made
        made.error = _error(row)
        if "previous" in row:
            previous = row.items("previous")
            row.check(len(previous) == _PAIR, "previous", "the place of an answer, and which of its masks")
            before = row.picks("previous", self._answers, previous[:1])[0]
            made.previous = (before, row.whole("previous", previous[1]))
            _check_chosen(row, "previous", made, 0)
        return made

    def _finding(self, row: Row) -> Finding:
        made = Finding(row.pick("previous", self._findings), row.text("text"))
        if "logits" not in row:
            made.error = _error(row)
            return made
        made.answers = row.picks("answers", self._answers)
        shapes = {None if a.logits is None else a.logits.shape for a in made.answers}
        row.check(len(shapes) < _PAIR and None not in shapes, "answers", "the places of answers of one size")
        made.presence = row.number("presence") if "presence" in row else math.nan
        made.best = row.number("best")
        placed = row.lists("places", 5)
        made.places = {row.whole("places", number): self._corners(row, box) for number, *box in placed}
        pairs = row.lists("object_ids", _PAIR)
        made.object_ids = {row.whole("object_ids", k): row.whole("object_ids", v) for k, v in pairs}
        made.semantic, made.previous = _logits(row, 2), None
        return made

    def _instance(self, row: Row) -> InstanceState:
        object_id, box = row.integer("object_id"), row.items("box")
        made = InstanceState(
            object_id,
            row.text("label", ""),
            row.picks("points", self._points),
            Box(*self._corners(row, box), object_id=object_id) if box else None,
            row.picks("strokes", self._strokes),
            row.pick("imported", self._masks),
            found=row.pick("found", self._answers),
            matched=row.pick("matched", self._answers),
            concept_id=row.optional("concept_id"),
            answer=row.pick("answer", self._answers),
            candidate=row.integer("candidate", 0),
            labelled=row.flag("labelled"),
            visible=not row.flag("hidden"),
            locked=row.flag("locked"),
        )
        _check_done(row, "found", made.found)
        _check_done(row, "matched", made.matched)
        if made.answer:
            _check_chosen(row, "candidate", made.answer, made.candidate)
        return made

    def _concept(self, row: Row) -> ConceptState:
        return ConceptState(
            row.integer("concept_id"),
            row.text("text", ""),
            self._exemplars(row),
            self._spot(row),
            row.number("score_threshold"),
            self._dismissed(row),
            row.picks("away", self._instances),
            row.pick("finding", self._findings),
            self._settled(row.inner("settled")) if "settled" in row else None,
            row.text("label", ""),
        )

    def _settled(self, row: Row) -> tuple[object, ...]:
        """Return what the instances of a concept were last made of (``core/matching.py``)."""
        told = []
        for object_id, place, touched in row.lists("instances", 3):
            matched = None if place is None else row.picks("instances", self._answers, [place])[0]
            told.append((row.whole("instances", object_id), matched, bool(touched)))
        finding, level = row.pick("finding", self._findings), row.number("score_threshold")
        return finding, level, self._spot(row), self._exemplars(row), self._dismissed(row), tuple(told)

    def _dismissed(self, row: Row) -> tuple[Answer, ...]:
        dismissed = row.picks("dismissed", self._answers)
        _check_done(row, "dismissed", *dismissed)
        return dismissed

    def _exemplars(self, row: Row) -> tuple[Exemplar, ...]:
        made = []
        for each in row.rows("exemplars"):
            box, point = each.items("box"), each.items("point")
            each.check(box or point, "box", "(x1, y1, x2, y2), where there is no point")
            made.append(
                Exemplar(
                    each.flag("positive"),
                    each.integer("concept_id"),
                    each.integer("exemplar_id"),
                    self._corners(each, box) if box else None,
                    self._position(each, point) if point else None,
                )
            )
        return tuple(made)

    def _spot(self, row: Row) -> tuple[float, float] | None:
        return self._position(row, row.items("at")) if "at" in row else None

    def _state(self, row: Row) -> State:
        settings = row.inner("settings")
        made = State(
            self._height,
            self._width,
            row.picks("instances", self._instances),
            row.optional("selected"),
            Settings(
                settings.number("mask_threshold"),
                settings.integer("fill_holes"),
                settings.integer("min_area"),
                settings.number("score_threshold"),
            ),
            tuple(row.items("classes")),
            row.picks("concepts", self._concepts),
            row.optional("concept"),
            row.integer("next_concept_id"),
            row.integer("next_object_id"),
            row.integer("next_prompt_id"),
        )
        settings.check(0 < made.settings.mask_threshold < 1, "mask_threshold", "a probability between 0 and 1")
        row.check(all(isinstance(name, str) for name in made.classes), "classes", "a list of names")
        ids, concepts = [i.object_id for i in made.instances], [c.concept_id for c in made.concepts]
        row.check(len({*ids}) == len(ids), "instances", "instances of different ids")
        row.check(len({*concepts}) == len(concepts), "concepts", "concepts of different ids")
        row.check(made.next_object_id > max(ids, default=0), "next_object_id", "above all ids of its instances")
        row.check(made.next_concept_id > max(concepts, default=0), "next_concept_id", "above all ids of its concepts")
        row.check(made.selected in {None, *ids}, "selected", "the id of one of its instances")
        row.check(made.concept in {None, *concepts}, "concept", "the id of one of its concepts")
        of = {i.concept_id for i in made.instances}
        row.check(of <= {None, *concepts}, "instances", "instances of its own concepts")
        row.check(not any(i.empty for i in made.instances), "instances", "instances that something was said of")
        return made

    def _step(self, row: Row) -> Step[State]:
        given = row.take("args", dict, "an object")
        args = {
            name: row.inner("args").inner(name).place("mask", self._masks) if isinstance(value, dict) else value
            for name, value in given.items()
        }
        state, name = row.place("state", self._states), row.text("name")
        with _refusing(row.where):
            checked = commands.normalised(state, name, args)
        gesture = row.text("gesture") if "gesture" in row else None
        return Step(Command(name, checked, row.number("time")), state, gesture)

    def _corners(self, row: Row, values: Sequence[object]) -> prompts.Corners:
        with _refusing(row.where):
            return prompts.corners(values, self._width, self._height)

    def _position(self, row: Row, values: Sequence[object]) -> tuple[float, float]:
        with _refusing(row.where):
            x, y = values if len(values) == _PAIR else (values, None)
            return prompts.position(x, y, self._width, self._height)


def _bytes(text: object, where: str) -> bytes:
    """Return what base64 text holds."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError) as error:
        message = f"{where} must be base64 ({error})"
        raise FormatError(message) from None


def _logits(row: Row, dimensions: int) -> NDArray[np.float16]:
    """Return what :func:`~sam3_widget.core.saved.pack` made text of."""
    shape = [row.whole("shape", side) for side in row.items("shape")]
    size = 2 * math.prod(shape)
    row.check(len(shape) == dimensions and 0 < size <= _MOST_BYTES, "shape", f"the {dimensions} sides of logits")
    try:
        data = zlib.decompressobj().decompress(_bytes(row.text("logits"), row.where), size + 1)
    except zlib.error as error:
        message = f"{row.where}: logits are damaged ({error})"
        raise FormatError(message) from None
    if len(data) != size:
        message = f"{row.where}: logits of shape {shape} must have {size} bytes, got {min(len(data), size + 1)}"
        raise FormatError(message)
    logits = unpack(data, shape)
    row.check(not np.isnan(logits).any(), "logits", "numbers")
    return logits


def _error(row: Row) -> Sam3WidgetError | None:
    """Return why a question was not answered."""
    told = row.items("error")
    if not told:
        return None
    row.check(len(told) == _PAIR and all(isinstance(word, str) for word in told), "error", "a code and a message")
    kinds = {k.code: k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Sam3WidgetError)}
    return kinds.get(told[0], ModelError)(told[1])


def _check_done(row: Row, name: str, *answers: Answer | None) -> None:
    row.check(all(a is None or a.done for a in answers), name, "the place of an answer that is there")


def _check_chosen(row: Row, name: str, answer: Answer, candidate: int) -> None:
    """Refuse a choice that the answer does not offer."""
    there, chosen = answer.latest(candidate) or (None, 0)
    row.check(there is None or chosen < len(there.scores), name, "below the number of its candidates")


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Say where what another part of the package refuses stands in the file."""
    try:
        yield
    except Sam3WidgetError as error:
        message = f"{where}: {error}"
        raise FormatError(message) from error
