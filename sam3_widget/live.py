"""A document that a model answers: what sessions and widgets share."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sam3_widget.core import masks, matching, prompts
from sam3_widget.core.document import Document
from sam3_widget.core.image import Image
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.state import State
from sam3_widget.engine import engine_of
from sam3_widget.errors import InvalidPromptError, LockedError, ModelError
from sam3_widget.models.base import InstancePrompts, Model
from sam3_widget.models.catalog import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from sam3_widget.core.answers import Answer, Finding
    from sam3_widget.core.commands import Command
    from sam3_widget.core.document import Record
    from sam3_widget.core.prompts import Corners, Exemplar
    from sam3_widget.core.state import InstanceState
    from sam3_widget.engine import Cell, Key
    from sam3_widget.models.base import Candidates, Detections, Question

log = logging.getLogger(__name__)

LOCK = threading.RLock()
"""One lock for all documents: their observers run under it, and may drive another document (linked widgets)."""
_CACHE_BYTES = 256 << 20
_RenderKey = tuple["tuple[Answer, int] | RunLengths | None", object, float, masks.Hygiene, object]
_NEEDS = {
    "add_point": ("points", "points"),
    "set_points": ("points", "points"),
    "add_box": ("boxes", "boxes"),
    "set_boxes": ("boxes", "boxes"),
    "set_mask": ("mask_prompt", "masks as prompts"),
    "set_text": ("text", "text"),
    "add_concept": ("text", "text"),
    "add_exemplar": ("exemplars", "exemplars"),
    "add_exemplar_point": ("exemplars", "exemplars"),
}


class Listener(Protocol):
    """Whoever shows a document."""

    def changed(self) -> None:
        """Take the news of a new revision; called in order, under the document's lock."""

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Take the news of how far ``"encoding"`` or ``"detecting"`` is, 0 to 1; ``"idle"`` when it is over.

        On the worker thread.
        """

    def failed(self, error: Exception) -> None:
        """Take an error of the model; on the worker thread."""


class Picture(Protocol):
    """What is said of one picture: :class:`Document`, or a frame of a clip."""

    @property
    def state(self) -> State:
        """The current snapshot."""

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first."""

    @property
    def undo_title(self) -> str | None:
        """What an undo would take back, in words."""

    @property
    def redo_title(self) -> str | None:
        """What a redo would bring back, in words."""

    def run(self, name: str, args: Mapping[str, Any], gesture: str | None = None) -> None:
        """Apply a command and record it."""

    def select(self, object_id: object) -> None:
        """Select an instance."""

    def select_concept(self, concept_id: object) -> None:
        """Make a concept the active one."""

    def amend(self, change: Callable[[State], State]) -> None:
        """Replace the state by what a model's answer makes of it."""

    def undo(self) -> bool:
        """Take the last command back."""

    def redo(self) -> bool:
        """Bring the last undone command back."""


class LivePicture(ABC):
    """What is said of a picture, the engine that answers it, and those who watch.

    Every method may be called from any thread.

    Parameters
    ----------
    document : Picture
    model : Model

    Attributes
    ----------
    closed : str
        Why nothing can be said any more, because nobody would keep it; "" where it can.
    """

    def __init__(self, document: Picture, model: Model) -> None:
        self._document = document
        self.model = model
        self.closed = ""
        self.engine = engine_of(model)
        self.revision = 0
        self._changed = threading.Condition(LOCK)
        self._listeners: list[Listener] = []
        self._rendered: OrderedDict[_RenderKey, RunLengths] = OrderedDict()
        self._rendered_bytes = 0
        self._render_lock = threading.Lock()

    @property
    @abstractmethod
    def image(self) -> Image:
        """The picture."""

    @property
    def lock(self) -> threading.Condition:
        """Held while the document changes; take it to read several things of one revision."""
        return self._changed

    @property
    def state(self) -> State:
        """The current snapshot."""
        return self._document.state

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first."""
        return self._document.history

    @property
    def titles(self) -> tuple[str | None, str | None]:
        """What undo and redo would do, in words."""
        return self._document.undo_title, self._document.redo_title

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Register a listener; the returned function takes it away."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def run(self, name: str, args: Mapping[str, Any], *, gesture: str | None = None, wait: bool = True) -> State:
        """Run a command, ``undo``, ``redo`` or ``select``, and return the state it made.

        Parameters
        ----------
        name : str
        args : mapping
        gesture : str, optional
            See :meth:`Document.run`.
        wait : bool
            Return when the model's answers to this command are there. A call from the worker thread never waits.

        Raises
        ------
        LockedError
            The document is closed.
        Sam3WidgetError
            The command is refused and nothing changed, or (with ``wait``) the model failed; the prompts are kept.
        """
        need = _NEEDS.get(name)
        if need and not getattr(self.model.capabilities, need[0]):
            raise self.model.unsupported(need[1], "load a model that does")
        with self._changed:
            if self.closed:
                raise LockedError(self.closed)
            before = self.state
            known = set(cells_of(before).values())
            self._apply(name, args, gesture, known)
            after = self.state
            if name in {"set_text", "add_concept"}:  # their words may be looked for already
                known -= {cell for key, cell in cells_of(after).items() if key == ("concept", after.concept)}
            asked = {key: cell for key, cell in pending_of(after).items() if cell not in known}
            if after is not before:
                self._settle()
                self._schedule()
                self._notify()
            if wait and not self.engine.on_worker:
                for key, cell in asked.items():
                    self._wait(key, cell)
            return after

    def _apply(self, name: str, args: Mapping[str, Any], gesture: str | None, known: set[Cell]) -> None:
        """Let the document do it; ``known`` are the questions that were there before."""
        if name in {"undo", "redo"} and not args:
            travelled = self._document.undo() if name == "undo" else self._document.redo()
            for cell in set(cells_of(self.state).values()) - known if travelled else ():
                cell.error = None  # what failed or was cancelled is asked again
        elif name == "select" and set(args) == {"object_id"}:
            self._document.select(args["object_id"])
        elif name == "select_concept" and set(args) == {"concept_id"}:
            self._document.select_concept(args["concept_id"])
        else:
            given = self._boxed(args) if name == "add_exemplar_point" else args
            self._document.run(name, given, gesture)

    def settle(self) -> None:
        """Wait until the model has answered all that was asked, or has failed; not on the worker thread."""
        with self._changed:
            self._changed.wait_for(lambda: not pending_of(self.state))

    def prepare(self) -> None:
        """Encode the image ahead of the first prompt, without waiting."""
        self.engine.prepare(self)

    def cancel(self) -> None:
        """Stop what the model does for this document; prompts stay."""
        self.engine.cancel(self)

    def mask(self, instance: InstanceState) -> RunLengths:
        """Return the mask of an instance as it is drawn; computed once for each state it can have."""
        settings = self.state.settings
        strokes = instance.enforced_strokes
        hygiene = masks.Hygiene(settings.fill_holes, settings.min_area)
        cleaned = bool(settings.fill_holes or settings.min_area)
        keep = _kept(instance) if cleaned else ((), ())
        basis = instance.basis  # read once: an answer may arrive at any moment
        key = (basis, strokes, settings.mask_threshold, hygiene, keep)
        with self._render_lock:
            found = self._rendered.get(key)
            if found is not None:
                self._rendered.move_to_end(key)
                return found
        level = masks.logit(settings.mask_threshold)
        size = (self.state.height, self.state.width)
        base = basis if isinstance(basis, RunLengths) or basis is None else _logits(*basis)
        made = masks.compose(base, size, level, strokes, hygiene if cleaned else None, keep)
        with self._render_lock:
            if key in self._rendered:
                return self._rendered[key]
            self._rendered[key] = made
            self._rendered_bytes += _held_bytes(key, made)
            while self._rendered_bytes > _CACHE_BYTES and len(self._rendered) > 1:
                self._rendered_bytes -= _held_bytes(*self._rendered.popitem(last=False))
        return made

    def logits(self, instance: InstanceState) -> NDArray[np.float32]:
        """Return ``(h, w)`` logits of an instance; those of a mask that no model made are +-8."""
        basis = instance.basis
        if basis is not None and not isinstance(basis, RunLengths):
            return _logits(*basis)
        return masks.prior_from_mask(self.mask(instance))

    def note(self, instance: InstanceState) -> str | None:
        """Return what a person should know of how the model took an instance's prompts."""
        most, count = self.model.max_points, len(instance.points)
        if most is None or count <= most:
            return None
        return f"{self.model.name} looks at the first {most // 2} and the last {most // 2} of these {count} points"

    def question_of(self, key: Key, answer: Answer) -> Question | None:
        """Return what an instance asks, or None when an undo or a newer prompt made it stale."""
        with self._changed:
            instance = next((i for i in self.state.instances if i.object_id == key[1]), None)
            if instance is None or instance.answer is not answer:
                return None
            size = (self.state.height, self.state.width)
        said = prompts_of(instance)
        basis, strokes = instance.basis, instance.prior_strokes
        if basis is None or isinstance(basis, RunLengths):
            if basis is None and not strokes:
                return said, None
            return said, masks.prior_from_mask(masks.compose(basis, size, strokes=strokes))
        return said, masks.paint_logits(_logits(*basis), strokes, *size)

    def words_of(self, key: Key, finding: Finding) -> tuple[str, tuple[Exemplar, ...]] | None:
        """Return the words and exemplars of a concept, or None when a change made the question stale."""
        with self._changed:
            concept = next((c for c in self.state.concepts if c.concept_id == key[1]), None)
        return None if concept is None or concept.finding is not finding else (concept.text, concept.exemplars)

    def box_of(self, candidates: Candidates) -> Corners | None:
        """Return the tight box of the best candidate's mask, None where it is empty."""
        box = masks.compose(candidates.logits[0], (self.state.height, self.state.width)).bbox
        return None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))

    def answered(self, answers: Mapping[Answer, Candidates]) -> None:
        """Take the model's answers; a stale one is kept for a redo but shown to nobody."""
        with self._changed:
            for answer, candidates in answers.items():
                answer.write(candidates.logits, tuple(float(s) for s in candidates.scores))
            self._notify()

    def found(self, finding: Finding, detections: Detections, places: Mapping[int, Corners]) -> None:
        """Take what was found of a concept, and make instances of it."""
        with self._changed:
            finding.write(detections.logits, detections.scores, detections.presence, detections.semantic, places)
            self._settle()
            self._schedule()
            self._notify()

    def failed(self, cells: Mapping[Key, Cell], error: Exception) -> None:
        """Take the news that the model did not answer."""
        with self._changed:
            for cell in cells.values():
                if not cell.done:
                    cell.error = error
            self._notify()
        self._tell_each("failed", error)

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Pass on how far the model's work is."""
        self._tell_each("progressed", phase, fraction)

    def _boxed(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments of a click for a concept with the box of the concept's own instance under it."""
        state = self.state
        concept = state.concept if args.get("concept_id") is None else prompts.integer(args["concept_id"], "concept_id")
        if concept is None or "box" in args:
            return args
        at = prompts.position(args.get("x"), args.get("y"), state.width, state.height)
        x, y = int(at[0]), int(at[1])
        here = [self.mask(i) for i in state.instances if i.concept_id == concept and i.visible]
        here = [mask for mask in here if mask.window(x, y, x + 1, y + 1).any()]
        smallest = min(here, key=lambda mask: mask.area, default=None)
        return args if smallest is None else {**args, "box": smallest.bbox}

    def _settle(self) -> None:
        """Make instances of what was found of the current state's concepts."""
        if self.state.concepts:
            self._document.amend(lambda state: matching.settle(state, self._silhouette))

    def _silhouette(self, instance: InstanceState, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask of an instance, ``(h, w)`` bool, sampled at the pixels' centres."""
        return self.mask(instance).sampled(*size)

    def _schedule(self) -> None:
        self.engine.want(self, pending_of(self.state))

    def _notify(self) -> None:
        self.revision += 1
        self._changed.notify_all()
        self._tell_each("changed")

    def _tell_each(self, news: str, *about: object) -> None:
        for listener in list(self._listeners):
            try:
                getattr(listener, news)(*about)
            except Exception:  # one listener's mistake is not the document's, nor another listener's
                log.exception("a listener failed")

    def _wait(self, key: Key, cell: Cell) -> None:
        """Wait until a question is answered, has failed, or was taken back; the lock is free meanwhile."""
        self._changed.wait_for(lambda: cell.done or cell.error is not None or cells_of(self.state).get(key) is not cell)
        if cell.error is not None:
            raise cell.error


class Keeper(Protocol):
    """Whoever saves a document to a file as it goes."""

    path: Path

    def flush(self) -> None:
        """Return when all that was said so far is in the file."""

    def close(self) -> None:
        """Write what is new, and let the file go."""


class LiveDocument(LivePicture):
    """A document about one image.

    Parameters
    ----------
    image : object
        Whatever :meth:`Image.read` takes.
    model : str, path or Model
    classes : iterable of str
        Class names on offer.

    Attributes
    ----------
    keeper : Keeper or None
        Saves it as it goes.
    notice : str
        What a person should know of how it began, "" where there is nothing.
    """

    _document: Document

    def __init__(
        self, image: object, model: str | os.PathLike[str] | Model = "auto", classes: Iterable[str] = ()
    ) -> None:
        self._image = Image.read(image)
        state = State(self._image.height, self._image.width, classes=checked_classes(classes))
        super().__init__(Document(state), loaded(model))
        self.keeper: Keeper | None = None
        self.notice = ""

    @property
    def image(self) -> Image:
        """The image."""
        return self._image

    @property
    def record(self) -> Record[State]:
        """All that was said, with its history."""
        return self._document.record

    def restore(self, record: Record[State], classes: Iterable[str] = ()) -> None:
        """Go on from what was said before; these class names are on offer beside those that were."""
        with self.lock:
            self._document.restore(record)
            self._document.amend(lambda state: reduce(State.named, classes, state))
            self._settle()
            self._schedule()
            self._notify()


def loaded(model: object) -> Model:
    """Return a model given by name, by folder, or as it is."""
    found: object = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    if not isinstance(found, Model):
        message = f"model must be a name, a folder or a loaded model, got {model!r}"
        raise ModelError(message)
    return found


def checked_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Return class names, each once."""
    names = tuple(dict.fromkeys(classes)) if not isinstance(classes, str) else None
    if names is None or any(not isinstance(name, str) for name in names):
        message = f"classes must be a list of names, got {classes!r}"
        raise InvalidPromptError(message)
    return names


def prompts_of(instance: InstanceState) -> InstancePrompts:
    """Return the clicks and the box of an instance as models take them."""
    return InstancePrompts(
        points=np.array([(p.x, p.y) for p in instance.points], np.float32).reshape(-1, 2),
        labels=np.array([p.positive for p in instance.points], np.bool_),
        box=np.array(instance.box.xyxy, np.float32) if instance.box else None,
    )


def cells_of(state: State) -> dict[Key, Cell]:
    """Return what a state has asked."""
    cells: dict[Key, Cell] = {("object", i.object_id): i.answer for i in state.instances if i.answer}
    return cells | {("concept", c.concept_id): c.finding for c in state.concepts if c.finding}


def pending_of(state: State) -> dict[Key, Cell]:
    """Return what a state still waits for."""
    return {key: cell for key, cell in cells_of(state).items() if not cell.done and cell.error is None}


def _held_bytes(key: _RenderKey, mask: RunLengths) -> int:
    """Return the memory that an entry of the cache keeps alive."""
    basis = key[0]
    logits = basis[0].logits if isinstance(basis, tuple) else None
    return int(mask.counts.nbytes) + (int(logits.nbytes) if logits is not None else 0)


def _logits(answer: Answer, candidate: int) -> NDArray[np.float32]:
    assert answer.logits is not None  # noqa: S101 - a basis is always an answer that is there
    chosen: NDArray[np.float32] = answer.logits[candidate].astype(np.float32)
    return chosen


def _kept(
    instance: InstanceState,
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Return the positions that prompts speak for: inside, outside."""
    said = [((p.x, p.y), p.positive) for p in instance.points]
    said += [(at, s.positive) for s in instance.enforced_strokes for at in s.path]
    return tuple(at for at, inside in said if inside), tuple(at for at, inside in said if not inside)
