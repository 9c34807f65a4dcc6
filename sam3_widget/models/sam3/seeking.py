"""Objects carried through a clip by SAM 3, which looks for the instances of concepts on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam3_widget.core.masks import compose
from sam3_widget.models.base import Newcomer, Seeker, Sighting, Sought, Tracked
from sam3_widget.models.sam.memory import ObjectMemory
from sam3_widget.models.sam.tracking import SamTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sam3_widget.models.base import Frames, Progress
    from sam3_widget.models.sam.memory import Frame
    from sam3_widget.models.sam.preprocess import Preprocess
    from sam3_widget.models.sam.runtime import Runtime
    from sam3_widget.models.sam.video import VideoNetwork
    from sam3_widget.models.sam3.crowd import Crowd, Met, Offer


class Sam3Tracker(SamTracker, Seeker):
    """Carries objects by what the tracker remembers of each; those of a concept that is looked for, together.

    Parameters
    ----------
    network, preprocess, runtime, frames, max_points, look
        As for :class:`~sam3_widget.models.sam.tracking.SamTracker`.
    crowd : Crowd
        New; it belongs to this tracker.
    detect : callable
        Returns what the detector offers for concepts on a frame that was looked at.
    """

    def __init__(
        self,
        network: VideoNetwork,
        preprocess: Preprocess,
        runtime: Runtime,
        frames: Frames,
        *,
        max_points: int | None,
        look: Callable[[int, Progress], Frame],
        crowd: Crowd,
        detect: Callable[[Frame, Sequence[Sought]], list[Offer]],
    ) -> None:
        SamTracker.__init__(self, network, preprocess, runtime, frames, max_points=max_points, look=look)
        Seeker.__init__(self)
        self._crowd = crowd
        self._detect = detect
        self._sought: list[Sought] = []
        self._numbers: dict[int, tuple[int, int]] = {}
        self._strangers: dict[int, ObjectMemory] = {}

    def look_for(self, concepts: Sequence[Sought]) -> None:
        """Look for these concepts with the next step; see :meth:`sam3_widget.models.base.Seeker.look_for`."""
        self._sought = list(concepts)

    def drop(self, object_id: int) -> None:
        """Follow an object no longer; see :meth:`SamTracker.drop`."""
        super().drop(object_id)
        if object_id in self._numbers:
            self._crowd.leave(self._numbers.pop(object_id)[0])

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        """Carry every object to the next frame, and look for concepts there; see :meth:`SamTracker.step`."""
        self.adopt([None] * len(self.newcomers))
        self.lost = set()
        if self._taken_up or self._memories:
            return super().step(frame_idx)
        if not self._sought:
            return {}
        before = self._last
        carried = self._walked(frame_idx, before is not None and frame_idx < before)
        if before is None:
            self._reverse = None  # a walk has no direction before its second frame
        return carried

    def adopt(self, object_ids: Sequence[int | None]) -> None:
        """Follow newcomers under these ids; see :meth:`sam3_widget.models.base.Seeker.adopt`."""
        for (number, memory), newcomer, object_id in zip(
            self._strangers.items(), self.newcomers, object_ids, strict=True
        ):
            if object_id is None:
                self._crowd.leave(number)
            else:
                self._memories[object_id] = memory
                self._numbers[object_id] = number, newcomer.concept_id
        self.newcomers, self._strangers = [], {}

    def _carried(self, frame: Frame, *, reverse: bool) -> dict[int, Tracked]:
        """Carry every object to a frame: members of a concept together, the others each alone."""
        self._assemble(reverse=reverse)
        carried = {
            object_id: self._alone(memory, frame, reverse=reverse)
            for object_id, memory in self._memories.items()
            if object_id not in self._numbers
        }
        if self._sought:
            carried |= self._together(frame, reverse=reverse)
        return carried

    def _assemble(self, *, reverse: bool) -> None:
        """Count in the members of the concepts that are looked for, and out all others."""
        concepts = {
            object_id: sought for sought in self._sought for object_id in sought.members if object_id in self._memories
        }
        for object_id, (number, concept_id) in list(self._numbers.items()):
            if object_id not in concepts or concepts[object_id].concept_id != concept_id:
                self._crowd.leave(number)
                del self._numbers[object_id]
        for object_id, sought in concepts.items():
            if object_id not in self._numbers:
                number = self._crowd.enter(sought.concept_id, sought.members[object_id])
                self._numbers[object_id] = number, sought.concept_id
            number, _ = self._numbers[object_id]
            if object_id in sought.kept:
                self._crowd.keep(number, reverse=reverse)
            self._crowd.remember(number, self._memories[object_id])

    def _together(self, frame: Frame, *, reverse: bool) -> dict[int, Tracked]:
        """Carry the members of concepts to a frame, and note who is new there and who was never there."""
        meeting = self._crowd.meet(frame, self._detect(frame, self._sought), reverse=reverse)
        objects = {number: object_id for object_id, (number, _) in self._numbers.items()}
        for number in meeting.lost:
            object_id = objects[number]
            self.lost.add(object_id)
            del self._memories[object_id], self._numbers[object_id]
        carried = {}
        for number, met in meeting.carried.items():
            carried[objects[number]] = _tracked(met)
            self._memories[objects[number]].carried(frame.frame_idx, met.logits)
        for number, met in meeting.new.items():
            memory = ObjectMemory(self._network, self._preprocess, self._max_points)
            self._crowd.remember(number, memory, new=True)
            mask = compose(met.logits.cpu().numpy(), (frame.height, frame.width))
            memory.carried(frame.frame_idx, met.logits, Sighting(frame.frame_idx, mask))
            self._strangers[number] = memory
            self.newcomers.append(Newcomer(met.concept_id, _tracked(met)))
        return carried


def _tracked(met: Met) -> Tracked:
    return Tracked(met.logits.cpu().numpy().copy(), met.score)  # what is remembered is not given away
