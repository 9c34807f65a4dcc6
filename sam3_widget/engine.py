"""The engine runs one model on one worker thread: embeddings are kept, the newest question of an instance wins."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sam3_widget.core.answers import Answer, Finding
from sam3_widget.errors import CancelledError, ModelError
from sam3_widget.models.base import ConceptPrompts, InstancePrompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sam3_widget.core.image import Image
    from sam3_widget.core.prompts import Corners, Exemplar
    from sam3_widget.models.base import Candidates, Detections, Embedding, Model, Question

log = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
"""Memory that embeddings may take; the ones used longest ago go first."""
_SPOT = 0.02
"""Half the side, as a share of the image's longer one, of the exemplar that a click on nothing makes."""

Cell = Answer | Finding
Key = tuple[str, int]
"""``("object", object_id)`` or ``("concept", concept_id)``."""


class Client(Protocol):
    """What the engine asks of a session, on its worker thread."""

    @property
    def image(self) -> Image:
        """The image that all its questions are about."""

    def question_of(self, key: Key, answer: Answer) -> Question | None:
        """Return prompts and earlier logits, or None when nobody waits for this answer any more."""

    def words_of(self, key: Key, finding: Finding) -> tuple[str, Sequence[Exemplar]] | None:
        """Return words and exemplars, or None when nobody waits for this finding any more."""

    def box_of(self, candidates: Candidates) -> Corners | None:
        """Return the tight box of the best mask in pixels of the image; None where it is empty."""

    def answered(self, answers: Mapping[Answer, Candidates]) -> None:
        """Take answers."""

    def found(self, finding: Finding, detections: Detections, places: Mapping[int, Corners]) -> None:
        """Take what was found, and the box of each exemplar that was a click, by ``exemplar_id``."""

    def failed(self, cells: Mapping[Key, Cell], error: Exception) -> None:
        """Take the news that these questions will not be answered."""

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Take the news of how far ``"encoding"`` or ``"detecting"`` is, 0 to 1; ``"idle"`` when it is over."""


@dataclass
class _Desk:
    """What one client waits for."""

    wanted: dict[Key, Cell]
    cancelled: bool = False
    prepare: bool = False
    places: dict[Exemplar, Corners] = field(default_factory=dict)


class Engine:
    """One worker thread for one model, shared by all sessions that use the model.

    Parameters
    ----------
    model : Model
    cache_bytes : int
        Bound of the memory that embeddings take. The newest one is kept whatever its size.

    Attributes
    ----------
    exclusive : threading.RLock
        Held while the model runs; whoever runs it on another thread takes it too.
    """

    def __init__(self, model: Model, cache_bytes: int = CACHE_BYTES) -> None:
        self.model = model
        self._cache_bytes = cache_bytes
        self._embeddings: OrderedDict[str, Embedding] = OrderedDict()
        self._desks: OrderedDict[Client, _Desk] = OrderedDict()
        self._lock = threading.Lock()
        self.exclusive = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closing = False
        _running.add(self)

    @property
    def on_worker(self) -> bool:
        """Whether the caller runs on the worker thread, which must never wait for itself."""
        return threading.current_thread() is self._thread

    def want(self, client: Client, wanted: Mapping[Key, Cell]) -> None:
        """Say all that a client waits for; what it wanted before and not now is dropped."""
        if self._closing and wanted:
            client.failed(wanted, self._unloaded())
            return
        with self._lock:
            if not wanted and client not in self._desks:
                return
            desk = self._desks.setdefault(client, _Desk({}))
            desk.wanted = {**{k: a for k, a in wanted.items() if desk.wanted.get(k) is a}, **wanted}
            if wanted:
                desk.cancelled = False
            self._start()

    def prepare(self, client: Client) -> None:
        """Encode a client's image ahead of its first question."""
        with self._lock:
            self._desks.setdefault(client, _Desk({})).prepare = True
            self._start()

    def cancel(self, client: Client) -> None:
        """Stop encoding for a client at the model's next step, and drop its questions."""
        with self._lock:
            desk = self._desks.get(client)
            if desk is None:
                return
            desk.cancelled, desk.prepare = True, False
            dropped, desk.wanted = desk.wanted, {}
        if dropped:
            client.failed(
                dropped, CancelledError("cancelled: the next prompt, or the same words again, goes on from here")
            )

    def close(self) -> None:
        """Stop at the model's next step, wait until the worker has ended, and let the embeddings go."""
        self._closing = True
        thread = self._thread
        if thread is not None and not self.on_worker:
            thread.join()
        if not self.on_worker:
            with self.exclusive:  # whoever runs the model on another thread sees that it is over
                pass
        self._embeddings.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the model on another thread than the worker, one call at a time.

        Raises
        ------
        ModelError
            The model was unloaded.
        """
        with self.exclusive:
            if self._closing:
                raise self._unloaded()
            yield

    def _unloaded(self) -> ModelError:
        return ModelError(f"the model {self.model.name!r} was unloaded: load it again")

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name=f"sam3w-{self.model.name}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """Serve clients in turn until none waits."""
        while True:
            with self._lock:
                client = None if self._closing else self._next_client()
                if client is None:
                    self._thread = None
                    left = {c: d.wanted for c, d in self._desks.items() if d.wanted}
                    self._desks.clear()
                    break
            self._serve_safely(client)
        for client, wanted in left.items():
            client.failed(wanted, self._unloaded())

    def _next_client(self) -> Client | None:
        """Return the client that was served longest ago of those that wait; forget those that do not.

        Whoever has asked something goes before those whose image is only to be ready when they do.
        """
        for client, desk in list(self._desks.items()):
            if not (desk.wanted or desk.prepare):
                del self._desks[client]
        asking = (client for client, desk in self._desks.items() if desk.wanted)
        found = next(asking, next(iter(self._desks), None))
        if found is not None:
            self._desks.move_to_end(found)
        return found

    def _give_way(self, client: Client) -> None:
        """Between two steps of an encoding that nobody waits for, answer others whose image is encoded."""
        with self._lock:
            asking = [c for c, desk in self._desks.items() if desk.wanted and c is not client]
        for other in asking:
            if other.image.key in self._embeddings:
                self._serve_safely(other)

    def _serve_safely(self, client: Client) -> None:
        try:
            self._serve(client)
        except Exception as error:  # whatever a model raises must not end the worker
            log.exception("%s failed", self.model.name)
            self._fail(client, None, error)

    def _serve(self, client: Client) -> None:
        """Answer a client's clicks, else one of its concepts, or encode its image."""
        desk = self._desks[client]
        embedding = self._embedding(client, desk)
        with self._lock:
            desk.prepare = False
            wanted = dict(desk.wanted)
        if embedding is None or not wanted:
            return
        clicks = {key: cell for key, cell in wanted.items() if isinstance(cell, Answer)}
        key, cell = next(iter(wanted.items()))
        if clicks:
            self._refine(client, desk, embedding, clicks)
        elif isinstance(cell, Finding):
            self._detect(client, desk, embedding, key, cell)
        self._bound()  # an embedding grows with what is asked of it

    def _refine(self, client: Client, desk: _Desk, embedding: Embedding, clicks: Mapping[Key, Answer]) -> None:
        """Answer as many questions about instances as the model decodes at once."""
        asked: dict[Key, Answer] = {}
        questions: list[Question] = []
        for key, answer in clicks.items():
            question = client.question_of(key, answer)
            if question is not None:  # else taken back meanwhile, and want() has been told what counts instead
                asked[key] = answer
                questions.append(question)
            if len(questions) == self.model.batch:
                break
        if not questions:
            return
        try:
            with self.exclusive:
                found = [checked(c) for c in self.model.refine_many(embedding, questions)]
        except Exception as error:  # one instance's failure is not another's
            if len(asked) > 1:
                for key, answer in asked.items():
                    self._refine(client, desk, embedding, {key: answer})
                return
            log.exception("%s failed", self.model.name)
            self._fail(client, set(asked), error)
            return
        client.answered(dict(zip(asked.values(), found, strict=True)))
        self._done(desk, asked)

    def _detect(self, client: Client, desk: _Desk, embedding: Embedding, key: Key, finding: Finding) -> None:
        """Look for one concept; first for the things under those of its exemplars that are clicks."""
        concept = client.words_of(key, finding)
        if concept is None:
            return

        def progress(fraction: float) -> None:
            if desk.cancelled or self._closing or desk.wanted.get(key) is not finding:
                message = "cancelled while detecting"
                raise CancelledError(message)
            client.progressed("detecting", fraction)

        text, exemplars = concept
        try:
            progress(0.0)
            for exemplar in exemplars:
                if exemplar not in desk.places:
                    desk.places[exemplar] = self._place(client, embedding, exemplar)
            places = {e.exemplar_id: desk.places[e] for e in exemplars}
            prompts = ConceptPrompts(
                text,
                np.array([places[e.exemplar_id] for e in exemplars], np.float32).reshape(-1, 4),
                np.array([e.positive for e in exemplars], np.bool_),
            )
            with self.exclusive:
                detections = checked_detections(self.model.detect(embedding, prompts, progress))
        except CancelledError:
            return  # whoever cancelled has told the client, or wants something else by now
        except Exception as error:  # one concept's failure is not another's
            log.exception("%s failed", self.model.name)
            self._fail(client, {key}, error)
            return
        finally:
            client.progressed("idle", None)
        while clicks := {k: c for k, c in dict(desk.wanted).items() if isinstance(c, Answer)}:
            self._refine(client, desk, embedding, clicks)  # so that what was drawn meanwhile is not found once more
            if clicks.items() <= desk.wanted.items():
                break
        client.found(finding, detections, places)
        self._done(desk, {key: finding})

    def _place(self, client: Client, embedding: Embedding, exemplar: Exemplar) -> Corners:
        """Return the box of an exemplar; that of the mask under the click where it is one."""
        if exemplar.box is not None or exemplar.point is None:
            assert exemplar.box is not None  # noqa: S101 - an exemplar is a box or a click
            return exemplar.box
        click = InstancePrompts(np.array([exemplar.point], np.float32), np.ones(1, np.bool_))
        with self.exclusive:
            candidates = checked(self.model.refine(embedding, click))
        box = client.box_of(candidates)
        if box is not None:
            return box
        x, y = exemplar.point
        reach = max(2.0, _SPOT * max(embedding.width, embedding.height))
        right, bottom = min(embedding.width, x + reach), min(embedding.height, y + reach)
        return (max(0.0, x - reach), max(0.0, y - reach), right, bottom)

    def _done(self, desk: _Desk, cells: Mapping[Key, Cell]) -> None:
        with self._lock:
            for key, cell in cells.items():
                if desk.wanted.get(key) is cell:
                    del desk.wanted[key]

    def _embedding(self, client: Client, desk: _Desk) -> Embedding | None:
        """Return the embedding of a client's image, or None when encoding it was cancelled."""
        image = client.image
        found = self._embeddings.get(image.key)
        if found is not None:
            self._embeddings.move_to_end(image.key)
            return found

        def progress(fraction: float) -> None:
            if desk.cancelled or self._closing:
                message = "cancelled while encoding"
                raise CancelledError(message)
            client.progressed("encoding", fraction)
            if not desk.wanted:
                self._give_way(client)

        try:
            progress(0.0)
            with self.exclusive:
                embedding = self.model.encode(image.pixels, progress)
        except CancelledError:
            desk.cancelled = desk.prepare = False
            return None
        finally:
            client.progressed("idle", None)
        self._embeddings[image.key] = embedding
        return embedding

    def _bound(self) -> None:
        """Keep embeddings within their bound: the oldest give back what can be made again, then go."""
        for held in list(self._embeddings.values())[:-1]:
            if self._held() > self._cache_bytes:
                with self.exclusive:
                    held.trim()
        while len(self._embeddings) > 1 and self._held() > self._cache_bytes:
            self._embeddings.popitem(last=False)

    def _held(self) -> int:
        return sum(e.nbytes for e in self._embeddings.values())

    def _fail(self, client: Client, keys: set[Key] | None, error: Exception) -> None:
        """Tell a client that some of its questions, or (None) all of them, will not be answered."""
        with self._lock:
            desk = self._desks[client]
            dropped = {k: a for k, a in desk.wanted.items() if keys is None or k in keys}
            desk.wanted = {k: a for k, a in desk.wanted.items() if k not in dropped}
            desk.prepare = False
        told = (
            error
            if isinstance(error, ModelError)
            else ModelError(f"{self.model.name} failed with {type(error).__name__}: {error}")
        )
        told.__cause__ = error
        client.failed(dropped, told)


def checked(candidates: Candidates) -> Candidates:
    """Return a model's answer, or raise an error that says how it breaks the contract."""
    logits, scores = candidates.logits, candidates.scores
    if logits.ndim != 3 or not logits.size or scores.shape != logits.shape[:1]:  # noqa: PLR2004 - K, h, w
        message = f"candidates must be (K, h, w) logits with (K,) scores, got {logits.shape} with {scores.shape}"
        raise ModelError(message)
    if not (np.isfinite(logits).all() and np.isfinite(scores).all()):
        message = "candidates must be finite numbers"
        raise ModelError(message)
    return candidates


def checked_detections(found: Detections) -> Detections:
    """Return what a model found, or raise an error that says how it breaks the contract."""
    count, finite = len(found.scores), np.isfinite(found.scores).all() and np.isfinite(found.semantic).all()
    if found.logits.ndim != 3 or len(found.logits) != count or found.semantic.ndim != 2:  # noqa: PLR2004
        message = (
            f"detections must be (N, h, w) logits with (N,) scores and (h, w) semantic logits, "
            f"got {found.logits.shape} with {found.scores.shape} and {found.semantic.shape}"
        )
        raise ModelError(message)
    if not (finite and np.isfinite(found.logits).all() and (np.diff(found.scores) <= 0).all()):
        message = "detections must be finite numbers, best first"
        raise ModelError(message)
    return found


_running: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End every worker before the interpreter takes OpenCV and torch apart under it."""
    for engine in list(_running):
        engine.close()


def engine_of(model: Model) -> Engine:
    """Return the engine of a model: always the same one, since a model must run on one thread only."""
    engine: Engine = vars(model).setdefault("_engine", Engine(model))
    return engine
