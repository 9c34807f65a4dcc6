"""The engine runs one model on one worker thread: embeddings are kept, the newest question of an instance wins."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sam3_widget.errors import CancelledError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
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

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Take the news of what the worker does for this client: "encoding", "refining" or "idle"."""


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
        # An executor rather than a daemon thread: the interpreter waits for it before it takes OpenCV and torch apart.
        self._executor = ThreadPoolExecutor(1, f"sam3w-{model.name}")
        self._working = False
        self._worker: threading.Thread | None = None

    @property
    def on_worker(self) -> bool:
        """Whether the caller runs on the worker thread, which must never wait for itself."""
        return threading.current_thread() is self._worker

    def want(self, client: Client, wanted: Mapping[int, Answer]) -> None:
        """Say all that a client waits for, by ``object_id``; what it wanted before and not now is dropped."""
        with self._lock:
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

    def _start(self) -> None:
        if not self._working:
            self._working = True
            self._executor.submit(self._work)

    def _work(self) -> None:
        """Serve clients in turn until none waits."""
        self._worker = threading.current_thread()
        while True:
            with self._lock:
                client = self._next_client()
                if client is None:
                    self._working = False
                    return
            try:
                self._serve(client)
            except Exception as error:
                log.exception("%s failed", self.model.name)
                self._fail(client, error)

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
        embedding = self._embedding(client)
        with self._lock:
            desk = self._desks[client]
            desk.prepare = False
            object_id, answer = next(iter(desk.wanted.items()), (0, None))
        if embedding is None or answer is None:
            client.progressed("idle", None)
            return
        prompted = client.prompts_of(object_id, answer)
        if prompted is not None:
            client.progressed("refining", None)
            candidates = self.model.refine(embedding, *prompted)
            client.answered(answer, candidates)
        with self._lock:
            if desk.wanted.get(object_id) is answer:
                del desk.wanted[object_id]
            waiting = bool(desk.wanted)
        if not waiting:
            client.progressed("idle", None)

    def _embedding(self, client: Client) -> Embedding | None:
        """Return the embedding of a client's image, or None when encoding it was cancelled."""
        image = client.image
        found = self._embeddings.get(image.key)
        if found is not None:
            self._embeddings.move_to_end(image.key)
            return found
        desk = self._desks[client]

        def progress(fraction: float) -> None:
            if desk.cancelled or not threading.main_thread().is_alive():
                message = "cancelled while encoding"
                raise CancelledError(message)
            client.progressed("encoding", fraction)

        try:
            progress(0.0)
            embedding = self.model.encode(image.pixels, progress)
        except CancelledError:
            desk.cancelled = desk.prepare = False
            return None
        self._embeddings[image.key] = embedding
        while len(self._embeddings) > 1 and sum(e.nbytes for e in self._embeddings.values()) > self._cache_bytes:
            self._embeddings.popitem(last=False)
        return embedding

    def _fail(self, client: Client, error: Exception) -> None:
        with self._lock:
            desk = self._desks[client]
            dropped, desk.wanted, desk.prepare = desk.wanted, {}, False
        told = error if isinstance(error, ModelError) else ModelError(f"{self.model.name} failed: {error!r}")
        told.__cause__ = error
        client.failed(dropped, told)
        client.progressed("idle", None)


def engine_of(model: Model) -> Engine:
    """Return the engine of a model: always the same one, since a model must run on one thread only."""
    engine: Engine = vars(model).setdefault("_engine", Engine(model))
    return engine
