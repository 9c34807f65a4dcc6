"""The engine runs one model on one worker thread: embeddings are kept, the newest question of an instance wins."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sam3_widget.errors import CancelledError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.core.image import Image
    from sam3_widget.core.state import Answer
    from sam3_widget.models.base import Candidates, Embedding, InstancePrompts, Model

log = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
"""Memory that embeddings may take; the ones used longest ago go first."""

Prompted = tuple["InstancePrompts", "NDArray[np.float32] | None"]


class Client(Protocol):
    """What the engine asks of a session, on its worker thread."""

    @property
    def image(self) -> Image:
        """The image that all its questions are about."""

    def prompts_of(self, object_id: int, answer: Answer) -> Prompted | None:
        """Return prompts and earlier logits, or None when nobody waits for this answer any more."""

    def answered(self, answer: Answer, candidates: Candidates) -> None:
        """Take an answer."""

    def failed(self, answers: Mapping[int, Answer], error: Exception) -> None:
        """Take the news that these questions will not be answered."""

    def progressed(self, fraction: float | None) -> None:
        """Take the news of how far encoding is, 0 to 1; None when it is over."""


@dataclass
class _Desk:
    """What one client waits for."""

    wanted: dict[int, Answer]
    cancelled: bool = False
    prepare: bool = False


class Engine:
    """One worker thread for one model, shared by all sessions that use the model.

    Parameters
    ----------
    model : Model
    cache_bytes : int
        Bound of the memory that embeddings take. The newest one is kept whatever its size.
    """

    def __init__(self, model: Model, cache_bytes: int = CACHE_BYTES) -> None:
        self.model = model
        self._cache_bytes = cache_bytes
        self._embeddings: OrderedDict[str, Embedding] = OrderedDict()
        self._desks: OrderedDict[Client, _Desk] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        _running.add(self)

    @property
    def on_worker(self) -> bool:
        """Whether the caller runs on the worker thread, which must never wait for itself."""
        return threading.current_thread() is self._thread

    def want(self, client: Client, wanted: Mapping[int, Answer]) -> None:
        """Say all that a client waits for, by ``object_id``; what it wanted before and not now is dropped."""
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
            client.failed(dropped, CancelledError("cancelled: the next click goes on from here"))

    def close(self) -> None:
        """Stop at the model's next step and wait until the worker has ended."""
        self._closing = True
        thread = self._thread
        if thread is not None:
            thread.join()

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
                    return
            try:
                self._serve(client)
            except Exception as error:  # whatever a model raises must not end the worker
                log.exception("%s failed", self.model.name)
                self._fail(client, None, error)

    def _next_client(self) -> Client | None:
        """Return the client that was served longest ago of those that wait; forget those that do not."""
        for client, desk in list(self._desks.items()):
            if desk.wanted or desk.prepare:
                self._desks.move_to_end(client)
                return client
            del self._desks[client]
        return None

    def _serve(self, client: Client) -> None:
        """Answer one question of a client, or encode its image."""
        desk = self._desks[client]
        embedding = self._embedding(client, desk)
        with self._lock:
            desk.prepare = False
            object_id, answer = next(iter(desk.wanted.items()), (0, None))
        if embedding is None or answer is None:
            return
        prompted = client.prompts_of(object_id, answer)
        if prompted is None:  # taken back meanwhile, and want() has been told what counts instead
            return
        try:
            candidates = _checked(self.model.refine(embedding, *prompted))
        except Exception as error:  # one instance's failure is not another's
            log.exception("%s failed", self.model.name)
            self._fail(client, object_id, error)
            return
        client.answered(answer, candidates)
        with self._lock:
            if desk.wanted.get(object_id) is answer:
                del desk.wanted[object_id]

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
            client.progressed(fraction)

        try:
            progress(0.0)
            embedding = self.model.encode(image.pixels, progress)
        except CancelledError:
            desk.cancelled = desk.prepare = False
            return None
        finally:
            client.progressed(None)
        self._embeddings[image.key] = embedding
        while len(self._embeddings) > 1 and sum(e.nbytes for e in self._embeddings.values()) > self._cache_bytes:
            self._embeddings.popitem(last=False)
        return embedding

    def _fail(self, client: Client, object_id: int | None, error: Exception) -> None:
        """Tell a client that one of its questions, or (None) all of them, will not be answered."""
        with self._lock:
            desk = self._desks[client]
            dropped = {k: a for k, a in desk.wanted.items() if object_id in {None, k}}
            desk.wanted = {k: a for k, a in desk.wanted.items() if k not in dropped}
            desk.prepare = False
        told = error if isinstance(error, ModelError) else ModelError(f"{self.model.name} failed: {error!r}")
        told.__cause__ = error
        client.failed(dropped, told)


def _checked(candidates: Candidates) -> Candidates:
    """Return a model's answer, or raise an error that says how it breaks the contract."""
    logits, scores = candidates.logits, candidates.scores
    if logits.ndim != 3 or not logits.size or scores.shape != logits.shape[:1]:  # noqa: PLR2004 - K, h, w
        message = f"candidates must be (K, h, w) logits with (K,) scores, got {logits.shape} with {scores.shape}"
        raise ModelError(message)
    if not (np.isfinite(logits).all() and np.isfinite(scores).all()):
        message = "candidates must be finite numbers"
        raise ModelError(message)
    return candidates


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
