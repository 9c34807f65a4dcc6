"""Objects through a video: optical flow carries a mask on, features tell what is still it, the decoder draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.core.masks import compose
from sam3_widget.core.runs import RunLengths
from sam3_widget.models.base import InstancePrompts, Sighting, Tracked, Tracker
from sam3_widget.models.builtin.appearance import Appearance, Look, Scene, box_of, odds
from sam3_widget.models.builtin.geometry import LIMIT
from sam3_widget.models.builtin.guide import fit
from sam3_widget.models.builtin.motion import Motion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Frames, Question
    from sam3_widget.models.builtin.runtime import Runtime

    Plane = NDArray[np.float32]
    Mask = NDArray[np.bool_]

CONTRAST = 25.0
"""Slope of the logit of being the object over the difference of two cosines."""
CERTAIN, DOUBT = 4.0, 2.0
"""Most that features or motion say for a place, and motion against it: what was hidden comes out where it was not."""
NEAR = 0.3
"""How far from where it was carried an object may be, as a share of its side."""
MARGIN = 0.08
"""Width of the strip between an object and the box that the decoder gets, as a share of the box."""
SMALLEST = 12
"""Pixels below which an object is out of view."""
STILL = 0.65
"""Share of a mask that must look like the object for it to be still there."""
ALIKE, COMPLETE, SURE = 0.6, 0.5, 0.55
"""For being found again: share of the mask that looks like the object, and the other way round; predicted IoU."""
LEAST, MOST = 0.3, 2.5
"""For being found again: area as a share of what it was."""
REACH, SPEED, FARTHEST = 0.75, 0.25, 4.0
"""How far from where it was seen last it can be, in its sides: at once, more with each frame, and at most."""
SHARED = 0.05
"""Share of the smaller of two masks from which they are meant to overlap."""


@dataclass(frozen=True)
class Guess:
    """Where an object is thought to be, before the decoder is asked.

    Attributes
    ----------
    look : Look
    odds : (h, w) float32
        By how much each cell looks more like the object than like the ground.
    question : Question
    """

    look: Look
    odds: Plane
    question: Question

    @classmethod
    def of(cls, look: Look, likely: Plane, moved: Plane | float = 0.0) -> Guess | None:
        """Return the question for what features and motion say of each cell; None where both say there is nothing."""
        prior = np.clip(CONTRAST * likely, -CERTAIN, CERTAIN) + moved
        if not (prior > 0).any():
            return None
        x1, y1, x2, y2 = look.window
        end = np.array([x2 - x1, y2 - y1] * 2)
        box = box_of(prior > 0) * end / np.array(look.grid[::-1] * 2)
        air = MARGIN * (box[2:] - box[:2])
        box = np.clip(box + np.concatenate([-air, air]), 0, end).astype(np.float32)
        return cls(look, likely, (InstancePrompts(box=box), prior.astype(np.float32)))


@dataclass(frozen=True)
class Answer:
    """What the decoder made of a guess.

    Attributes
    ----------
    look : Look
    logits : (H, W) float32
        Of the whole picture.
    iou : float
        As the decoder predicts it.
    alike : float
        Share of the mask that looks like the object.
    """

    look: Look
    logits: Plane
    iou: float
    alike: float


@dataclass
class Followed:
    """An object on its way.

    Attributes
    ----------
    start : Sighting
        Where a person prompted it.
    near : Appearance or None
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

    start: Sighting
    near: Appearance | None
    whole: Callable[[], Appearance | None]
    seen: Sighting
    last: Sighting
    recent: Appearance | None
    gone: bool


class FlowTracker(Tracker):
    """Follow objects with the built-in model.

    The optical flow carries the mask to the next frame, less where it cannot be trusted. The nearest neighbours of each
    place's features, among those of object and ground on the prompted frame and on the one before, say what looks like
    the object (as in Hu et al., "VideoMatch", ECCV 2018). Both together are the prior of the decoder, which looks at
    the surroundings of the object and gets a box a little larger than it.

    An object is out of view when too little of its mask looks like it. It is then looked for around where it was seen
    last, by what it looked like when it was prompted, and taken up where the decoder agrees that it is there. After a
    cut, or more than :attr:`memory` frames, it is looked for no more.

    Parameters
    ----------
    runtime : Runtime
    frames : Frames
    """

    memory = 64
    local = True

    def __init__(self, runtime: Runtime, frames: Frames) -> None:
        self._runtime = runtime
        self._frames = frames
        self._followed: dict[int, Followed] = {}
        self._here: Scene | None = None

    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        """Take an object up; see :meth:`sam3_widget.models.base.Tracker.follow`.

        What it looks like is taken from the newest frame that a person prompted.
        """
        prompted = [number for number, each in enumerate(sightings) if each.prompts is not None]
        since = sightings[max(prompted, default=0) :]
        start, last = since[0], since[-1]
        self._here = scene = self._scene(last.frame_idx)
        recent = None
        if len(since) > 1 and since[-2].mask.area and last.mask.area:
            carried = carry(self._motion(since[-2].frame_idx, scene), since[-2], scene)
            recent = Appearance.of(scene.look(box_of(carried > 0)), scene.on(last.mask))
        seen = max((number for number, each in enumerate(since) if each.mask.area), default=0)
        away = since[seen:] if self._expected(since[seen], last.frame_idx) else []
        gone = any(self._motion(one.frame_idx, self._scene(next_.frame_idx)).cut for one, next_ in pairwise(away))
        near, whole = self._appearance(start, whole=False), cache(partial(self._appearance, start, whole=True))
        self._followed[object_id] = Followed(start, near, whole, since[seen], last, recent, gone)

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
        answers = {object_id: answer for object_id, answer in carried.items() if answer.alike >= STILL}
        found = ask(self._runtime, self._looked_for(scene, [answer.logits > 0 for answer in answers.values()]))
        answers |= {key: answer for key, answer in found.items() if again(self._followed[key], answer)}
        self._part(scene, answers)
        tracked = {object_id: advance(one, scene, answers.get(object_id)) for object_id, one in self._followed.items()}
        scene.forget()
        self._here = scene
        return tracked

    def _scene(self, frame_idx: int) -> Scene:
        """Return a frame, read unless it is the one where the objects are."""
        if self._here is not None and self._here.frame_idx == frame_idx:
            return self._here
        return Scene(self._runtime, frame_idx, self._frames(frame_idx))

    def _motion(self, frame_idx: int, scene: Scene) -> Motion:
        """Return how things moved from a frame to another."""
        return Motion(self._scene(frame_idx).picture, scene.picture)

    def _expected(self, seen: Sighting, frame_idx: int) -> bool:
        """Return whether what was seen last on a frame may still come back on another."""
        return abs(frame_idx - seen.frame_idx) <= self.memory

    def _appearance(self, sighting: Sighting, *, whole: bool) -> Appearance | None:
        """Return what an object looks like on a frame."""
        if not sighting.mask.area:
            return None
        scene = self._scene(sighting.frame_idx)
        return Appearance.of(scene.look(None if whole else scene.box(sighting.mask)), scene.on(sighting.mask))

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
            known = [each for each in (one.near, one.recent) if each is not None]
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
            whole = one.whole() if searched else None
            if one.near is None or whole is None:
                continue
            side = max(longer_side(scene.box(each.mask)) for each in (one.seen, one.start))
            reach = side * min(REACH + SPEED * abs(scene.frame_idx - one.seen.frame_idx), FARTHEST)
            look = scene.look()
            likely = odds(look, [whole], look.covered(free & grown(scene.box(one.seen.mask), reach, scene.size)))
            place = likeliest(likely)
            if place is None or place.mean() < LEAST / 2 * share(one.start.mask):
                continue
            box = box_of(place) * np.tile(np.array(scene.size[::-1]) / look.grid[::-1], 2)
            close = scene.look(box)
            likely = odds(close, [one.near], close.covered(free & grown(box, NEAR * longer_side(box), scene.size)))
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
            if one.start.frame_idx == other.start.frame_idx and overlap(
                scene.on(one.start.mask), scene.on(other.start.mask)
            ):
                continue
            a, b = answers[first].logits, answers[second].logits
            # Where their sum is nowhere positive, no interpolation makes both positive.
            a_wins, b_wins = (a + b > 0) & (a >= b), (a + b > 0) & (a < b)
            b[a_wins], a[b_wins] = -a[a_wins], -b[b_wins]


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


def ask(runtime: Runtime, guesses: Mapping[int, Guess]) -> dict[int, Answer]:
    """Let the decoder draw the objects, those in one look together."""
    answers = {}
    for window in dict.fromkeys(guess.look.window for guess in guesses.values()):
        here = {object_id: guess for object_id, guess in guesses.items() if guess.look.window == window}
        look = next(iter(here.values())).look
        logits, quality = runtime.decode(look.seen, [guess.question for guess in here.values()])
        for (object_id, guess), drawn, ious in zip(here.items(), logits, quality, strict=True):
            whole = look.draw(drawn[0])
            inside = look.covered(whole > 0)
            alike = float(np.mean(guess.odds[inside] > 0)) if inside.any() else 0.0
            answers[object_id] = Answer(look, whole, float(ious[0]), alike)
    return answers


def again(one: Followed, answer: Answer) -> bool:
    """Return whether an answer is the object that was out of view."""
    mask = answer.logits > 0
    size = float(mask.mean()) / share(one.start.mask)
    if answer.iou < SURE or answer.alike < ALIKE or not LEAST <= size <= MOST:
        return False
    shown = Appearance.of(answer.look, mask)
    return one.near is not None and shown is not None and one.near.share_in([shown]) >= COMPLETE


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


def likeliest(likely: Plane) -> Mask | None:
    """Return the connected part of a plane's positive places that has most in it."""
    count, parts = cv2.connectedComponents((likely > 0).astype(np.uint8))
    if count == 1:
        return None
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel(), likely.ravel())[1:]))


def overlap(first: Mask, second: Mask) -> bool:
    """Return whether two masks share more than their borders."""
    smaller = min(np.count_nonzero(first), np.count_nonzero(second))
    return bool(np.count_nonzero(first & second) > SHARED * smaller)
