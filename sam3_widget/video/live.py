"""A clip that a model answers: one document, with a view of each frame."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sam3_widget.core.clip import ClipDocument, ClipState, FrameDocument, frame_of
from sam3_widget.core.image import Image
from sam3_widget.core.state import State
from sam3_widget.errors import InvalidVideoError
from sam3_widget.live import LOCK, LivePicture, cells_of, checked_classes, loaded, pending_of
from sam3_widget.video.frames import Frames
from sam3_widget.video.propagation import Carrier, Propagation
from sam3_widget.video.stream import Stream, is_stream

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sam3_widget.core.commands import Command
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import Carried
    from sam3_widget.engine import Cell
    from sam3_widget.live import Listener
    from sam3_widget.models.base import Model

log = logging.getLogger(__name__)

HELD = 8
"""Frames whose pictures and rendered masks are kept; others are made again when they are looked at."""


class LiveFrame(LivePicture):
    """One frame of a clip, as if it were an image of its own.

    Parameters
    ----------
    clip : LiveClip
    frame_idx : int
    """

    def __init__(self, clip: LiveClip, frame_idx: int) -> None:
        super().__init__(FrameDocument(clip.document, frame_idx), clip.model)
        self.frame_idx = frame_idx
        self._clip = clip
        self._image: Image | None = None

    @property
    def image(self) -> Image:
        """The frame; it is read when it is first asked for."""
        if self._image is None:
            name = f"{self._clip.frames.name or 'frame'} {self.frame_idx}"
            self._image = Image(self._clip.frames[self.frame_idx], name)
        return self._image

    def run(self, name: str, args: Mapping[str, Any], *, gesture: str | None = None, wait: bool = True) -> State:
        """Run a command on this frame; ``undo`` and ``redo`` are of the whole clip."""
        if name in {"undo", "redo"} and not args:
            self._clip.travel(name, wait=wait)
            return self.state
        return super().run(name, args, gesture=gesture, wait=wait)

    def _notify(self) -> None:
        super()._notify()
        self._clip.changed(self)

    def refresh(self) -> None:
        """Ask the model what is still open, and tell all who watch, after a change that was made elsewhere."""
        with self.lock:
            self._schedule()
            super()._notify()

    def shown(self) -> None:
        """Tell those who watch that what the frame shows has changed elsewhere."""
        super()._notify()


@dataclass(frozen=True)
class Known:
    """An object on a frame where it is known.

    Attributes
    ----------
    mask : RunLengths
    score : float
        NaN where no model made the mask.
    carried : Carried or None
        None where a person said something of it.
    """

    mask: RunLengths
    score: float
    carried: Carried | None


class LiveClip:
    """A clip, the engine that answers it, and those who watch.

    Every method may be called from any thread.

    Parameters
    ----------
    source : object
        Whatever :meth:`sam3_widget.video.frames.Frames.read` takes.
    model : str, path or Model
    classes : iterable of str
        Class names on offer.
    """

    def __init__(
        self, source: object, model: str | os.PathLike[str] | Model = "auto", classes: Iterable[str] = ()
    ) -> None:
        names = checked_classes(classes)
        self.model = loaded(model)
        self.frames = Stream(source) if is_stream(source) else Frames.read(source)
        local = self.model.tracker(self.frames.__getitem__).local if self.model.capabilities.video else True
        common = State(self.frames.height, self.frames.width, classes=names)
        self.document = ClipDocument(ClipState(common, local=local), len(self.frames))
        self.revision = 0
        self._alive: weakref.WeakValueDictionary[int, LiveFrame] = weakref.WeakValueDictionary()
        self._held: OrderedDict[int, LiveFrame] = OrderedDict()
        self._listeners: list[Listener] = []
        self._job: Propagation | None = None
        self._carrier: Carrier | None = None
        self.lock = threading.Condition(LOCK)
        """Held while the document changes; take it to read several things of one revision."""

    @property
    def state(self) -> ClipState:
        """The current snapshot."""
        return self.document.state

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first."""
        return self.document.history

    @property
    def job(self) -> Propagation | None:
        """The newest propagation."""
        return self._job

    def frame(self, frame_idx: object) -> LiveFrame:
        """Return one frame; the same object while anybody holds it."""
        index = frame_of(self.document.length, frame_idx)
        frame = self._alive.get(index)
        if frame is None:
            frame = self._alive.setdefault(index, LiveFrame(self, index))
        self._held[index] = frame
        self._held.move_to_end(index)
        while len(self._held) > HELD:
            self._held.popitem(last=False)
        return frame

    def known(self, object_id: int, frame_idx: int) -> Known | None:
        """Return an object on a frame, None where neither a person nor propagation has said where it is.

        Waits for an answer that is under way.
        """
        sheet = self.state.sheets.get(frame_idx)
        said = sheet.instances.get(object_id) if sheet else None
        if said is None:
            carried = self.state.carried(object_id, frame_idx)
            return None if carried is None else Known(carried.mask, carried.score, carried)
        frame = self.frame(frame_idx)
        if said.pending and not frame.engine.on_worker:
            frame.settle()
        instance = frame.state.instance(object_id)
        basis = instance.basis
        score = basis[0].scores[basis[1]] if isinstance(basis, tuple) else float("nan")
        return Known(frame.mask(instance), score, None)

    def drawn(self, object_id: int, frame_idx: int) -> Known | None:
        """Return an object on a frame as it is drawn: as known, with its holes and specks cleaned away."""
        known = self.known(object_id, frame_idx)
        if known is None or known.carried is None:
            return known
        frame = self.frame(frame_idx)
        return replace(known, mask=frame.mask(frame.state.instance(object_id)))

    def frames_of(self, object_id: int) -> list[int]:
        """Return the frames on which an object is known, ascending."""
        return sorted({*self.state.prompted(object_id), *self.state.tracks.get(object_id, ())})

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Register a listener; the returned function takes it away."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def travel(self, name: str, *, wait: bool = True) -> bool:
        """Undo or redo; False where there is nothing to undo or redo. The model is asked what it never answered."""
        with self.lock:
            before = self._cells()
            moved = self.document.undo() if name == "undo" else self.document.redo()
            if moved:
                for cell in self._cells() - before:
                    cell.error = None  # what failed or was cancelled is asked again
                self.refresh()
        if wait:
            self.settle()
        return moved

    def settle(self) -> None:
        """Wait until the model has answered what was asked on any frame."""
        for frame_idx in self._open():
            self.frame(frame_idx).settle()

    def refresh(self) -> None:
        """Ask the model what is still open, and tell all who watch, after a change of more than one frame."""
        with self.lock:
            for frame_idx in {*self._alive.keys(), *self._open()}:
                self.frame(frame_idx).refresh()
            self.changed(None)

    def changed(self, source: LiveFrame | None) -> None:
        """Take the news that a frame has changed, and what is common to all frames perhaps with it."""
        for frame in list(self._alive.values()):
            if source is not None and frame is not source:
                frame.shown()
        self.revision += 1
        self.lock.notify_all()
        self._tell("changed")

    def propagate(self, start: int | None, stop: int | None, direction: str, object_ids: object) -> Propagation:
        """Carry objects through the clip, on a thread of its own; one at a time."""
        with self.lock:
            if self._job is not None and self._job.running:
                self._job.cancel()
            asked = {"start": start, "stop": stop, "direction": direction, "object_ids": object_ids}
            self.document.run("propagate", asked)
            self._job = Propagation(self, asked)
            self.changed(None)
        self._job.start()
        return self._job

    def load_masks(self, masks: Mapping[int, Mapping[int, RunLengths]], labels: Mapping[int, str]) -> None:
        """Take masks from elsewhere, by object and frame."""
        with self.lock:
            self.document.run("load_masks", {"masks": masks, "labels": labels})
            self.refresh()

    def step(self, frame: object) -> int:
        """Take the next frame of a stream, carry to it what is known on the one before, and return its index."""
        if not isinstance(self.frames, Stream):
            message = "step takes the frames of a live source, one by one; this clip has all of its own: propagate"
            raise InvalidVideoError(message)
        with self.lock:
            frame_idx = self.frames.append(frame)
            self.document.length = len(self.frames)
            self.changed(None)
        self.settle()
        if self._carrier is None:
            self._carrier = Carrier(self)
        self._carrier.advance(frame_idx - 1, frame_idx)
        return frame_idx

    def carried(self, frame_idx: int, masks: Mapping[int, Carried]) -> None:
        """Take what propagation has made of objects on a frame."""
        with self.lock:
            self.document.amend(lambda state: state.carry(frame_idx, masks))
            frame = self._alive.get(frame_idx)
            if frame is not None:
                frame.shown()
            self.revision += 1
            self.lock.notify_all()
            self._tell("changed")

    def looked(
        self, frame_idx: int, lost: Collection[int], newcomers: Sequence[tuple[int, Carried]], sought: Collection[int]
    ) -> list[int]:
        """Take what propagation has found of concepts on a frame, and whom it gave up; return the new objects' ids."""
        with self.lock:
            state, object_ids = self.state.retract(lost).welcome(frame_idx, newcomers, sought)
            self.document.amend(lambda _: state)
            if lost or object_ids:
                self.changed(None)
            return object_ids

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Pass on how far propagation is."""
        self._tell("progressed", phase, fraction)

    def failed(self, error: Exception) -> None:
        """Pass on an error of propagation."""
        self._tell("failed", error)

    def cancel(self) -> None:
        """Stop what the model does for this clip; prompts and finished frames stay."""
        if self._job is not None:
            self._job.cancel()
        for frame in list(self._alive.values()):
            frame.cancel()

    def _open(self) -> list[int]:
        """Return the frames on which the model has not answered yet."""
        return [frame_idx for frame_idx in self.state.sheets if pending_of(self.state.at(frame_idx))]

    def _cells(self) -> set[Cell]:
        return {cell for frame_idx in self.state.sheets for cell in cells_of(self.state.at(frame_idx)).values()}

    def _tell(self, news: str, *about: object) -> None:
        for listener in list(self._listeners):
            try:
                getattr(listener, news)(*about)
            except Exception:  # one listener's mistake is not the clip's, nor another listener's
                log.exception("a listener failed")
