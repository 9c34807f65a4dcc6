"""Objects carried through a clip by SAM 2, EdgeTAM, SAM 3, or another model with a memory of theirs."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING

from sam3_widget.errors import InvalidVideoError, NotFoundError
from sam3_widget.models.base import Tracked, Tracker
from sam3_widget.models.sam.memory import Frame, ObjectMemory
from sam3_widget.models.sam.runtime import full_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sam3_widget.models.base import Frames, Progress, Sighting
    from sam3_widget.models.sam.preprocess import Preprocess
    from sam3_widget.models.sam.runtime import Runtime
    from sam3_widget.models.sam.video import VideoNetwork

log = logging.getLogger(__name__)


class SamTracker(Tracker):
    """Carries objects by what a video model remembers of each.

    A frame is read and encoded when the walk comes to it, once for all objects. An object that is taken up is looked at
    on the frames of its sightings with the next step.

    Parameters
    ----------
    network : VideoNetwork
    preprocess : Preprocess
    runtime : Runtime
    frames : callable
        Returns a frame by its index.
    max_points : int, optional
        Of more clicks than this on a frame, the first and the last half count.
    look : callable, optional
        Returns a frame by its index as the encoder sees it, and tells its progress, for a model whose encoder is not
        the network's own.
    """

    local = False

    def __init__(
        self,
        network: VideoNetwork,
        preprocess: Preprocess,
        runtime: Runtime,
        frames: Frames,
        *,
        max_points: int | None = None,
        look: Callable[[int, Progress], Frame] | None = None,
    ) -> None:
        self.memory = network.recent
        self._network = network
        self._preprocess = preprocess
        self._runtime = runtime
        self._frames = frames
        self._max_points = max_points
        self._encoded = look or self._encode
        self._memories: dict[int, ObjectMemory] = {}
        self._taken_up: dict[int, list[Sighting]] = {}
        self._frame: Frame | None = None
        self._last: int | None = None
        self._reverse: bool | None = None

    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        """Take an object up, or anew; see :meth:`sam3_widget.models.base.Tracker.follow`.

        Where a person prompted none of the frames, the mask on the last counts as if a person had drawn it. An object
        that is followed already, and was changed on the last frame alone, keeps all that is remembered of the others. A
        frame that can no longer be read, as the first ones of a long stream, is done without unless it is the last.

        Raises
        ------
        ValueError
            There is no sighting, or they are not in the order of a walk.
        """
        indices = [sighting.frame_idx for sighting in sightings]
        ways = {after > before for before, after in pairwise(indices)}
        if not indices or len(ways) > 1 or len(set(indices)) < len(indices):
            message = f"sightings must be of one or more frames in the order of the walk, got frames {indices}"
            raise ValueError(message)
        self._taken_up[object_id] = list(sightings)

    def drop(self, object_id: int) -> None:
        """Follow an object no longer.

        Raises
        ------
        NotFoundError
            It is not followed.
        """
        followed = self._taken_up.keys() | self._memories.keys()
        if object_id not in followed:
            message = f"object {object_id} is not followed; followed: {sorted(followed) or 'none'}"
            raise NotFoundError(message)
        self._taken_up.pop(object_id, None)
        self._memories.pop(object_id, None)

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        """Carry every object that is followed to the next frame; returned by ``object_id``.

        Raises
        ------
        ValueError
            The frame does not lie beyond those before it, or not in the direction of the walk.
        """
        if not self._taken_up and not self._memories:
            return {}
        return self._walked(frame_idx, self._direction(frame_idx))

    def _walked(self, frame_idx: int, reverse: bool) -> dict[int, Tracked]:  # noqa: FBT001 - of two arguments
        """Carry every object to a frame, after a look at what was taken up."""
        with self._runtime.running():
            self._catch_up(reverse=reverse)
            carried = self._carried(self._look_at(frame_idx), reverse=reverse)
        self._last, self._reverse = frame_idx, reverse
        return carried

    def _carried(self, frame: Frame, *, reverse: bool) -> dict[int, Tracked]:
        """Carry every object to a frame."""
        return {object_id: self._alone(memory, frame, reverse=reverse) for object_id, memory in self._memories.items()}

    @staticmethod
    def _alone(memory: ObjectMemory, frame: Frame, *, reverse: bool) -> Tracked:
        """Carry one object to a frame, whatever the others do."""
        outcome = memory.carry(frame, reverse=reverse)
        return Tracked(outcome.logits.numpy(), outcome.score)

    def _direction(self, frame_idx: int) -> bool:
        """Return whether a step to a frame goes backwards."""
        before = {sightings[-1].frame_idx for sightings in self._taken_up.values()}
        before |= {self._last} if self._last is not None and self._memories else set()
        ways = {frame_idx < k for k in before}
        ways |= {self._reverse} if self._reverse is not None and self._memories else set()
        if frame_idx in before or len(ways) > 1:
            message = f"a step must go on from frame {sorted(before)} in the direction of the walk, got {frame_idx}"
            raise ValueError(message)
        return ways.pop()

    def _catch_up(self, *, reverse: bool) -> None:
        """Look at objects that were taken up, frame by frame, so that each frame is encoded once."""
        due: dict[int, list[tuple[ObjectMemory, Sighting, bool]]] = {}
        for object_id, sightings in self._taken_up.items():
            memory, unseen = self._memory_of(object_id, sightings)
            self._memories[object_id] = memory
            for sighting in unseen:
                last = sighting is sightings[-1]
                due.setdefault(sighting.frame_idx, []).append((memory, sighting, last))
        for frame_idx in sorted(due, reverse=reverse):
            try:
                frame = self._look_at(frame_idx)
            except InvalidVideoError as error:
                if any(last for _, _, last in due[frame_idx]):
                    raise
                log.warning("followed without what is known on a frame: %s", error)
                continue
            with full_precision(self._runtime.device):
                for memory, sighting, last in due[frame_idx]:
                    memory.see(frame, sighting, reverse=reverse, last=last)
        self._taken_up.clear()

    def _memory_of(self, object_id: int, sightings: Sequence[Sighting]) -> tuple[ObjectMemory, Sequence[Sighting]]:
        """Return an object's memory, as far as it is right, and the sightings that are still to be looked at."""
        before = self._memories.get(object_id)
        unseen = before.news(sightings) if before else None
        if before is not None and unseen is not None:
            return before, unseen
        memory = ObjectMemory(self._network, self._preprocess, self._max_points)
        return memory, memory.inherit(before, sightings) if before else sightings

    def _look_at(self, frame_idx: int) -> Frame:
        """Return a frame as the encoder sees it; the one before is let go."""
        if self._frame is None or self._frame.frame_idx != frame_idx:
            self._frame = None
            self._frame = self._encoded(frame_idx, self.progress)
        return self._frame

    def _encode(self, frame_idx: int, progress: Progress) -> Frame:
        progress(0.0)
        image = self._frames(frame_idx)
        features = self._network.encode(self._preprocess([image]).to(self._runtime.device))
        return Frame(frame_idx, image.shape[0], image.shape[1], features)
