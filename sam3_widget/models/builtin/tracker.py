"""Objects through a video: optical flow carries a mask on, features tell what is still it, the decoder draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.masks import compose
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidVideoError
from sam3_widget.models.base import Sighting, Tracked, Tracker
from sam3_widget.models.builtin.appearance import Appearance, Scene, box_of, odds
from sam3_widget.models.builtin.geometry import LIMIT
from sam3_widget.models.builtin.guesses import CERTAIN, Guess, ask, likeliest
from sam3_widget.models.builtin.guide import fit
from sam3_widget.models.builtin.motion import Motion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Frames
    from sam3_widget.models.builtin.guesses import Answer
    from sam3_widget.models.builtin.runtime import Runtime

    Plane = NDArray[np.float32]
    Mask = NDArray[np.bool_]

DOUBT = 2.0
"""Most that motion says against a place, less than for it: what was hidden comes out where it was not."""
NEAR = 0.3
"""How far from where it was carried an object may be, as a share of its side."""
SMALLEST = 12
"""Pixels below which an object is out of view."""
STILL, HARDLY, CLEAR = 0.65, 0.5, 0.85
"""Share of a mask that must look like the object for it to be still there; where the decoder is sure; predicted IoU."""
ALIKE, COMPLETE, SURE = 0.6, 0.5, 0.55
"""For being found again: share of the mask that looks like the object, and the other way round; predicted IoU."""
LEAST, MOST = 0.3, 2.5
"""For being found again: area as a share of what it was."""
REACH, SPEED, FARTHEST = 0.75, 0.25, 4.0
"""How far from where it was seen last it can be, in its sides: at once, more with each frame, and at most."""
PROMPTED = 4
"""Most prompted frames whose looks an object is known by: the first, and the newest of the others."""
SHARED = 0.05
"""Share of the smaller of two masks from which they are meant to overlap."""


@dataclass
class Followed:
    """An object on its way.

    Attributes
    ----------
    starts : sequence of Sighting
        Where a person prompted it, and it was in view; none where the newest prompt says that it is not.
    near : sequence of Appearance
        What it looks like there.
    whole : callable
        Returns the same as seen when all of the picture is looked at.
    seen, last : Sighting
        Where it was in view last, and the last frame.
    recent : Appearance or None
        What it looks like on the last frame, if it has been in view for two.
    gone : bool
        Whether there was a cut since it was in view.
    """

    starts: Sequence[Sighting]
    near: Sequence[Appearance]
    whole: Callable[[], Sequence[Appearance]]
    seen: Sighting
    last: Sighting
    recent: Appearance | None
    gone: bool


class FlowTracker(Tracker):
    """Follow objects with the built-in model.

    The optical flow carries the mask to the next frame, less where it cannot be trusted. The nearest neighbours of each
    place's features, among those of object and ground on the prompted frames and on the one before, say what looks like
    the object (as in Hu et al., "VideoMatch", ECCV 2018). Both together are the prior of the decoder, which looks at
    the surroundings of the object and gets a box a little larger than it.

    An object is out of view when too little of its mask looks like it. It is then looked for around where it was seen
    last, by what it looked like on any of the frames where it was prompted, and taken up where the decoder agrees that
    it is there. After a cut, or more than :attr:`memory` frames, it is looked for no more.

    Parameters
    ----------
    runtime : Runtime
    frames : Frames
    """

    memory = 64
    local = False

    def __init__(self, runtime: Runtime, frames: Frames) -> None:
        self._runtime = runtime
        self._frames = frames
        self._followed: dict[int, Followed] = {}
        self._here: Scene | None = None
        self._prompted: dict[int, Scene] = {}

    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        """Take an object up; see :meth:`sam3_widget.models.base.Tracker.follow`.

        It goes on from the newest frame that a person prompted, and what it looks like is taken from the first one and
        the newest others, at most :data:`PROMPTED` in all. Their pictures are kept: a stream may not have them later.
        """
        prompted = [number for number, each in enumerate(sightings) if each.prompts is not None]
        since = sightings[max(prompted, default=0) :]
        start, last = since[0], since[-1]
        self._here = scene = self._scene(last.frame_idx)
        starts = kept([sightings[number] for number in prompted] or [start])
        starts = [each for each in starts if self._remember(each.frame_idx)]
        recent = None
        if len(since) > 1 and since[-2].mask.area and last.mask.area:
            carried = carry(self._motion(since[-2].frame_idx, scene), since[-2], scene)
            recent = Appearance.of(scene.look(box_of(carried > 0)), scene.on(last.mask))
        seen = max((number for number, each in enumerate(since) if each.mask.area), default=0)
        away = since[seen:] if self._expected(since[seen], last.frame_idx) else []
        gone = any(self._motion(one.frame_idx, self._scene(next_.frame_idx)).cut for one, next_ in pairwise(away))
        near, whole = self._appearances(starts, whole=False), cache(partial(self._appearances, starts, whole=True))
        self._followed[object_id] = Followed(starts, near, whole, since[seen], last, recent, gone)
        used = {each.frame_idx for one in self._followed.values() for each in one.starts}
        self._prompted = {frame_idx: scene for frame_idx, scene in self._prompted.items() if frame_idx in used}

    def drop(self, object_id: int) -> None:
        """Follow an object no longer."""
        self._followed.pop(object_id, None)

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        """Carry every object that is followed to the next frame; see :meth:`sam3_widget.models.base.Tracker.step`."""
        if not self._followed:
            return {}
        scene = self._scene(frame_idx)
        motion = self._motion(next(iter(self._followed.values())).last.frame_idx, scene)
        for one in self._followed.values():
            one.gone |= motion.cut
        carried = ask(self._runtime, {} if motion.cut else self._carried(motion, scene))
        answers = {object_id: answer for object_id, answer in carried.items() if still(answer)}
        found = ask(self._runtime, self._looked_for(scene, [answer.logits > 0 for answer in answers.values()]))
        answers |= {key: answer for key, answer in found.items() if again(self._followed[key], answer)}
        self._part(scene, answers)
        tracked = {object_id: advance(one, scene, answers.get(object_id)) for object_id, one in self._followed.items()}
        for passed in (self._here, scene):
            if passed is not None:
                passed.forget()
        self._here = scene
        return tracked

    def _scene(self, frame_idx: int) -> Scene:
        """Return a frame, read unless it is the one where the objects are."""
        if self._here is not None and self._here.frame_idx == frame_idx:
            return self._here
        return Scene(self._runtime, frame_idx, self._frames(frame_idx))

    def _remember(self, frame_idx: int) -> bool:
        """Keep the picture of a prompted frame; return whether it is there."""
        if frame_idx not in self._prompted:
            try:
                self._prompted[frame_idx] = self._scene(frame_idx)
            except InvalidVideoError:  # a stream that has given it up
                return False
        return True

    def _motion(self, frame_idx: int, scene: Scene) -> Motion:
        """Return how things moved from a frame to another."""
        return Motion(self._scene(frame_idx).picture, scene.picture)

    def _expected(self, seen: Sighting, frame_idx: int) -> bool:
        """Return whether what was seen last on a frame may still come back on another."""
        return abs(frame_idx - seen.frame_idx) <= self.memory

    def _appearances(self, starts: Sequence[Sighting], *, whole: bool) -> list[Appearance]:
        """Return what an object looks like on the frames where it was prompted."""
        known = []
        for start in starts:
            scene = self._prompted[start.frame_idx]
            shown = Appearance.of(scene.look(None if whole else scene.box(start.mask)), scene.on(start.mask))
            known += [] if shown is None else [shown]
            if scene is not self._here:
                scene.forget()
        return known

    def _carried(self, motion: Motion, scene: Scene) -> dict[int, Guess]:
        """Return where the objects that are in view have gone."""
        trust = np.asarray(fit(motion.trust, scene.size), np.float32)
        guesses = {}
        in_view = {object_id: one for object_id, one in self._followed.items() if one.last.mask.area}
        for object_id, one in in_view.items():
            moved = carry(motion, one.last, scene)
            if np.count_nonzero(moved > 0) < SMALLEST:
                continue
            box = box_of(moved > 0)
            look = scene.look(box)
            near = look.covered(moved > -NEAR * longer_side(box))
            known = [*one.near, *([] if one.recent is None else [one.recent])]
            shift = np.clip(look.cut(moved), -DOUBT, CERTAIN) * look.cut(trust)
            guess = Guess.of(look, odds(look, known, near), shift)
            if guess is not None:
                guesses[object_id] = guess
        return guesses

    def _looked_for(self, scene: Scene, taken: Sequence[Mask]) -> dict[int, Guess]:
        """Return where the objects that are out of view could be again."""
        free = ~np.logical_or.reduce([np.zeros(scene.size, np.bool_), *taken])
        guesses = {}
        for object_id, one in self._followed.items():
            searched = not one.last.mask.area and not one.gone and self._expected(one.seen, scene.frame_idx)
            whole = one.whole() if searched else ()
            if not one.near or not whole:
                continue
            side = max(longer_side(scene.box(each.mask)) for each in (one.seen, *one.starts))
            reach = side * min(REACH + SPEED * abs(scene.frame_idx - one.seen.frame_idx), FARTHEST)
            look = scene.look()
            likely = odds(look, whole, look.covered(free & grown(scene.box(one.seen.mask), reach, scene.size)))
            place = likeliest(likely)
            if place is None or place.mean() < LEAST / 2 * min(share(each.mask) for each in one.starts):
                continue
            box = box_of(place) * np.tile(np.array(scene.size[::-1]) / look.grid[::-1], 2)
            close = scene.look(box)
            likely = odds(close, one.near, close.covered(free & grown(box, NEAR * longer_side(box), scene.size)))
            place = likeliest(likely)
            guess = None if place is None else Guess.of(close, np.where(place, likely, -1).astype(np.float32))
            if guess is not None:
                guesses[object_id] = guess
        return guesses

    def _part(self, scene: Scene, answers: Mapping[int, Answer]) -> None:
        """Give each place that two objects claim to the surer one, in place, unless they were meant to overlap."""
        for first, second in combinations(answers, 2):
            one, other = self._followed[first], self._followed[second]
            if overlap(scene.on(one.last.mask), scene.on(other.last.mask)):
                continue
            shared = ((a, b) for a in one.starts for b in other.starts if a.frame_idx == b.frame_idx)
            if any(overlap(scene.on(a.mask), scene.on(b.mask)) for a, b in shared):
                continue
            a, b = answers[first].logits, answers[second].logits
            # Where their sum is nowhere positive, no interpolation makes both positive.
            a_wins, b_wins = (a + b > 0) & (a >= b), (a + b > 0) & (a < b)
            b[a_wins], a[b_wins] = -a[a_wins], -b[b_wins]


def kept(prompted: Sequence[Sighting]) -> list[Sighting]:
    """Return the frames that say what an object looks like: the first and the newest of those with a mask.

    None do where the newest prompt says that it is not there: it is looked for no more until a person shows it again.
    """
    if not prompted[-1].mask.area:
        return []
    seen = [each for each in prompted if each.mask.area]
    return seen if len(seen) <= PROMPTED else [seen[0], *seen[1 - PROMPTED :]]


def share(mask: RunLengths) -> float:
    """Return which share of a frame a mask covers."""
    return mask.area / (mask.height * mask.width)


def longer_side(box: NDArray[np.float64]) -> float:
    """Return the greater of width and height."""
    return float(np.max(box[2:] - box[:2]))


def carry(motion: Motion, sighting: Sighting, scene: Scene) -> Plane:
    """Return the ``(H, W)`` signed distance to the boundary of where a mask has gone, in pixels of the picture."""
    pixels = scene.size[1] / motion.trust.shape[1]
    return np.asarray(fit(motion.carry(sighting.mask), scene.size) * pixels, np.float32)


def still(answer: Answer) -> bool:
    """Return whether an answer is the object that was carried there; what turns fast looks like itself only in part."""
    return answer.alike >= STILL or (answer.alike >= HARDLY and answer.iou >= CLEAR)


def again(one: Followed, answer: Answer) -> bool:
    """Return whether an answer is the object that was out of view."""
    mask = answer.logits > 0
    sizes = [share(start.mask) for start in one.starts]
    fits = LEAST * min(sizes) <= float(mask.mean()) <= MOST * max(sizes)
    if answer.iou < SURE or answer.alike < ALIKE or not fits:
        return False
    shown = Appearance.of(answer.look, mask)
    return shown is not None and any(each.share_in([shown]) >= COMPLETE for each in one.near)


def advance(one: Followed, scene: Scene, answer: Answer | None) -> Tracked:
    """Take an object to a frame; no answer is out of view."""
    logits = np.full(scene.size, -LIMIT, np.float32) if answer is None else answer.logits
    mask = compose(logits, scene.frame_size)
    if answer is None or mask.area < SMALLEST:
        one.last, one.recent = Sighting(scene.frame_idx, RunLengths.empty(*scene.frame_size)), None
        return Tracked(np.minimum(logits, -LIMIT), 0.0)
    one.recent = Appearance.of(answer.look, scene.on(mask)) if one.last.mask.area else None
    one.seen = one.last = Sighting(scene.frame_idx, mask)
    one.gone = False
    return Tracked(logits, answer.iou * answer.alike)


def grown(box: NDArray[np.float64], by: float, size: tuple[int, int]) -> Mask:
    """Return an ``(H, W)`` mask of a box with so many pixels around it."""
    x1, y1 = np.maximum(box[:2] - by, 0).astype(int)
    x2, y2 = np.maximum(box[2:] + by, 0).astype(int)
    mask = np.zeros(size, np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def overlap(first: Mask, second: Mask) -> bool:
    """Return whether two masks share more than their borders."""
    smaller = min(np.count_nonzero(first), np.count_nonzero(second))
    return bool(np.count_nonzero(first & second) > SHARED * smaller)
