"""Propagation: carry objects from the frames where they are known to those where they are not."""

from __future__ import annotations

import logging
import threading
from itertools import pairwise
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core import masks
from sam3_widget.core.clip import span
from sam3_widget.core.state import Carried
from sam3_widget.engine import checked, engine_of
from sam3_widget.errors import CancelledError, ModelError, Sam3WidgetError
from sam3_widget.live import prompts_of
from sam3_widget.models.base import Candidates, Seeker, Sighting, no_progress
from sam3_widget.video import concepts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.models.base import Progress, Sought, Tracked
    from sam3_widget.video.live import LiveClip

log = logging.getLogger(__name__)


class Propagation:
    """Objects on their way through a clip, on a thread of its own.

    Only frames on which an object is not known yet are computed, each from the frame beside it. What becomes of a frame
    is in the clip at once. A frame that changes meanwhile, by a prompt or an undo, ends what is being carried from it.

    Parameters
    ----------
    clip : LiveClip
    asked : mapping
        Checked arguments of :func:`sam3_widget.core.clip.propagate`.
    """

    def __init__(self, clip: LiveClip, asked: Mapping[str, Any]) -> None:
        self._clip = clip
        self._only = None if asked["object_ids"] is None else set(asked["object_ids"])
        length = clip.document.length
        self._walks = walks(span(length, asked["start"], asked["stop"]), length, asked["direction"])
        self._cancelled = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sam3w-propagation", daemon=True)
        self._began = monotonic()
        self.fraction = 0.0
        self.error: Exception | None = None

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return not self._over.is_set()

    @property
    def seconds_left(self) -> float | None:
        """How long it will take from here, by what it has taken so far; None before the first frame."""
        return (monotonic() - self._began) * (1 - self.fraction) / self.fraction if self.fraction > 0 else None

    def start(self) -> None:
        """Begin, without waiting; who watches hears of it before this returns."""
        self._began = monotonic()
        self._tell(0.0)
        self._thread.start()

    def cancel(self) -> None:
        """Stop as soon as the model lets go, before the next frame at the latest; finished frames stay."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is over, or for so long; return whether it is over.

        Raises
        ------
        CancelledError, ModelError
            It ended before its time.
        """
        over = self._over.wait(seconds)
        if over and self.error is not None:
            raise self.error
        return over

    def _run(self) -> None:
        try:
            for number, walk in enumerate(self._walks):
                self._walk(walk, number)
        except Exception as error:  # whatever a model raises is told to who waits
            told: Exception = error
            if not isinstance(error, Sam3WidgetError):
                log.exception("%s failed", self._clip.model.name)
                told = ModelError(f"{self._clip.model.name} failed with {type(error).__name__}: {error}")
                told.__cause__ = error
            self.error = told
            self._clip.failed(told)
        finally:
            self._over.set()
            self._clip.progressed("idle", None)

    def _tell(self, fraction: float) -> None:
        self.fraction = fraction
        self._clip.progressed("propagating", fraction)

    def _check(self, fraction: float) -> None:
        """Stop the work where it was cancelled."""
        del fraction
        if self._cancelled.is_set():
            message = "propagation was cancelled; the finished frames stay, and the next one goes on from there"
            raise CancelledError(message)

    def _walk(self, walk: Sequence[int], number: int) -> None:
        """Carry objects along one direction; ``walk`` is the frames in their order."""
        carrier = Carrier(self._clip, self._only, self._check)
        for place, (before, frame_idx) in enumerate(pairwise(walk), 1):
            self._check(0.0)
            carrier.advance(before, frame_idx)
            self._tell((number + place / (len(walk) - 1)) / len(self._walks))


class Carrier:
    """A tracker and the objects that it follows.

    Parameters
    ----------
    clip : LiveClip
    only : collection of int, optional
        The objects to carry; None are all. Locked ones are never carried.
    progress : callable
        Called by a tracker whose step takes long; what it raises ends the step.
    """

    def __init__(self, clip: LiveClip, only: Collection[int] | None = None, progress: Progress = no_progress) -> None:
        self._clip = clip
        self._engine = engine_of(clip.model)
        self._only = only
        self._followed: dict[int, RunLengths] = {}
        with self._engine.running():
            self._tracker = clip.model.tracker(clip.frames.__getitem__)
        self._tracker.progress = progress

    def advance(self, before: int, frame_idx: int) -> None:
        """Carry what is known on one frame, and not on the next, to the next, and look for concepts there."""
        sought = self._sought(before, frame_idx)
        starts = self._starts(before, frame_idx, shadows=bool(sought))
        taken_up = {
            object_id: self._sightings(object_id, before, forward=frame_idx > before)
            for object_id, mask in starts.items()
            if not mask.equals(self._followed.get(object_id))
        }
        with self._engine.running():
            for object_id in self._followed.keys() - starts.keys():
                self._tracker.drop(object_id)
            if isinstance(self._tracker, Seeker):
                self._tracker.look_for(sought)
            for object_id, seen in taken_up.items():
                self._tracker.follow(object_id, seen)
            found = self._tracker.step(frame_idx) if starts or sought else {}
        self._followed = self._keep(before, frame_idx, starts, found)
        if sought:
            self._followed |= self._look(before, frame_idx, starts, sought)
        for object_id in found.keys() - self._followed.keys():
            self._tracker.drop(object_id)

    def _keep(
        self, before: int, frame_idx: int, starts: Mapping[int, RunLengths], found: Mapping[int, Tracked]
    ) -> dict[int, RunLengths]:
        """Put what was carried to a frame into the clip, unless what it came from has changed; return the masks."""
        clip = self._clip
        carried = {k: self._carried(tracked, forward=frame_idx > before) for k, tracked in found.items()}
        with clip.lock:
            now = self._starts(before, frame_idx, shadows=True)
            kept = {object_id: c for object_id, c in carried.items() if starts[object_id].equals(now.get(object_id))}
            if kept:
                clip.carried(frame_idx, kept)
        return {object_id: c.mask for object_id, c in kept.items()}

    def _look(
        self, before: int, frame_idx: int, starts: Mapping[int, RunLengths], sought: Sequence[Sought]
    ) -> dict[int, RunLengths]:
        """Put what was found on a frame into the clip, unless it is there, and take out what was given up.

        What was asked for may have changed meanwhile: then nothing is taken of it.
        """
        clip, tracker = self._clip, self._tracker
        assert isinstance(tracker, Seeker)  # noqa: S101 - nothing is sought of another
        newcomers = [(n.concept_id, self._carried(n.tracked, forward=frame_idx > before)) for n in tracker.newcomers]
        with clip.lock:
            state, now = clip.state, self._starts(before, frame_idx, shadows=True)
            asked = {(c.concept_id, c.text, c.threshold) for c in self._sought(before, frame_idx)}
            still = {c.concept_id for c in sought if (c.concept_id, c.text, c.threshold) in asked}
            lost = {
                k for k in tracker.lost if _same(now.get(k), starts.get(k)) and not state.touched(k)
            } - state.shadows.keys()
            there = self._there(frame_idx)
            taken = [
                concept_id in still and not concepts.covered(state, concept_id, carried.mask, there)
                for concept_id, carried in newcomers
            ]
            fresh = [newcomer for newcomer, new in zip(newcomers, taken, strict=True) if new]
            object_ids = clip.looked(frame_idx, lost, fresh, still)
        ids = iter(object_ids)
        tracker.adopt([next(ids) if new else None for new in taken])
        return {object_id: carried.mask for object_id, (_, carried) in zip(object_ids, fresh, strict=True)}

    def _carried(self, tracked: Tracked, *, forward: bool) -> Carried:
        """Return what a tracker made of an object as the clip keeps it."""
        checked(Candidates(tracked.logits[None], np.array([tracked.score], np.float32)))
        common = self._clip.state.common
        level = masks.logit(common.settings.mask_threshold)
        mask = masks.compose(tracked.logits, (common.height, common.width), level)
        return Carried(mask, float(tracked.score), forward=forward)

    def _sought(self, before: int, frame_idx: int) -> list[Sought]:
        """Return the concepts to look for on a frame; none where only some objects are carried."""
        if self._only is not None or not isinstance(self._tracker, Seeker):
            return []
        return concepts.sought(self._clip.state, before, frame_idx)

    def _there(self, frame_idx: int) -> list[tuple[int, RunLengths]]:
        """Return the objects known on a frame, those that a person has removed among them."""
        clip = self._clip
        object_ids = [*(i.object_id for i in clip.state.common.instances), *clip.state.shadows]
        known = ((object_id, clip.known(object_id, frame_idx)) for object_id in object_ids)
        return [(object_id, there.mask) for object_id, there in known if there is not None]

    def _starts(self, before: int, frame_idx: int, *, shadows: bool) -> dict[int, RunLengths]:
        """Return the masks on one frame of the objects that are to be carried to the next."""
        clip, starts = self._clip, {}
        object_ids = [
            shared.object_id
            for shared in clip.state.common.instances
            if not shared.locked and (self._only is None or shared.object_id in self._only)
        ]
        for object_id in [*object_ids, *(clip.state.shadows if shadows else ())]:
            if clip.known(object_id, frame_idx) is None:
                here = clip.known(object_id, before)
                if here is not None:
                    starts[object_id] = here.mask
        return starts

    def _sightings(self, object_id: int, last: int, *, forward: bool) -> list[Sighting]:
        """Return where an object was seen on the way to a frame, as the tracker takes it up."""
        clip, sightings, others = self._clip, [], 0
        known = clip.frames_of(object_id)
        for frame_idx in [k for k in known[::-1] if k <= last] if forward else [k for k in known if k >= last]:
            sheet = clip.state.sheets.get(frame_idx)
            said = sheet.instances.get(object_id) if sheet else None
            others += said is None
            there = clip.known(object_id, frame_idx) if said or others <= self._tracker.memory else None
            if there is not None:
                sightings.append(Sighting(frame_idx, there.mask, prompts_of(said) if said else None))
        return sightings[::-1]


def walks(frames: range, length: int, direction: str) -> list[Sequence[int]]:
    """Return the frames of each walk in its order; it begins on the frame before those that are asked for."""
    forward = range(max(0, frames.start - 1), frames.stop)
    backward = range(min(length - 1, frames.stop), frames.start - 1, -1)
    ways: dict[str, list[Sequence[int]]] = {
        "forward": [forward],
        "backward": [backward],
        "both": [forward, backward],
    }
    return ways[direction]


def _same(one: RunLengths | None, other: RunLengths | None) -> bool:
    return one is other or (one is not None and one.equals(other))
