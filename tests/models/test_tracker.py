"""What the built-in model's tracker promises, on clips of textured things whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from skimage import data

from sam3_widget.core.masks import compose
from sam3_widget.core.runs import RunLengths
from sam3_widget.models.base import InstancePrompts, Sighting, Tracked
from sam3_widget.models.builtin import BuiltinModel
from sam3_widget.models.builtin.appearance import Appearance, alike, around, box_of
from sam3_widget.models.builtin.motion import Motion
from sam3_widget.models.builtin.tracker import FlowTracker, likeliest, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Picture = NDArray[np.uint8]

SIZE = (120, 160)
Place = tuple[float, float, float]
"""Middle ``(x, y)`` and radius."""


def texture(seed: int, colour: tuple[int, int, int], contrast: float, blur: float = 2.0) -> NDArray[np.float32]:
    """Return coloured noise, larger than a frame so that it can move."""
    noise = np.random.default_rng(seed).normal(0, 1, (2 * SIZE[0], 2 * SIZE[1], 1)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)[..., None]
    return np.asarray(colour, np.float32) + contrast * smooth / float(smooth.std())


@dataclass
class Clip:
    """Frames, with the truth of each object on each frame, and how often a frame was read."""

    frames: list[Picture]
    truths: list[dict[int, Mask]]
    reads: list[int] = field(default_factory=list)

    def __call__(self, frame_idx: int) -> Picture:
        self.reads.append(frame_idx)
        return self.frames[frame_idx]

    def sighting(self, frame_idx: int, object_id: int = 1) -> Sighting:
        return Sighting(frame_idx, RunLengths.from_mask(self.truths[frame_idx][object_id]), InstancePrompts())

    def backward(self) -> Clip:
        return Clip(self.frames[::-1], self.truths[::-1])


def disc(place: Place, squash: float = 0.8) -> Mask:
    x, y, radius = place
    rows, columns = np.indices(SIZE) + 0.5
    return np.asarray(((columns - x) / radius) ** 2 + ((rows - y) / (squash * radius)) ** 2 < 1)


def resting(x: float, y: float, radius: float) -> Callable[[int], Place]:
    return lambda _: (x, y, radius)


def film(
    paths: dict[int, Callable[[int], Place]],
    count: int,
    bar: Callable[[int], tuple[int, int]] | None = None,
) -> Clip:
    """Film discs on their paths in front of a ground that pans, behind a bar between two columns."""
    ground = texture(1, (70, 110, 70), 25)
    cover = texture(2, (120, 120, 130), 8, 4)
    skins = {object_id: texture(10 + object_id, (200, 80, 50), 30) for object_id in paths}
    clip = Clip([], [])
    for frame_idx in range(count):
        picture = ground[20 : 20 + SIZE[0], 20 + frame_idx : 20 + frame_idx + SIZE[1]].copy()
        truths: dict[int, Mask] = {}
        for object_id, path in paths.items():
            x, y, radius = path(frame_idx)
            mask = disc((x, y, radius))
            skin = cv2.warpAffine(
                skins[object_id],
                np.array([[radius / 25, 0, x - 2 * radius], [0, radius / 25, y - 2 * radius]], np.float32),
                SIZE[::-1],
                borderMode=cv2.BORDER_REFLECT,
            )
            picture[mask] = skin[mask]
            truths = {other: truth & ~mask for other, truth in truths.items()} | {object_id: mask}
        if bar is not None:
            left, right = bar(frame_idx)
            picture[:, left:right] = cover[: SIZE[0], left:right]
            for truth in truths.values():
                truth[:, left:right] = False
        picture += np.random.default_rng(frame_idx).normal(0, 2, picture.shape)
        clip.frames.append(np.clip(cv2.GaussianBlur(picture, (3, 3), 0.6), 0, 255).astype(np.uint8))
        clip.truths.append(truths)
    return clip


def iou(first: Mask, second: Mask) -> float:
    return float(np.count_nonzero(first & second) / max(1, np.count_nonzero(first | second)))


@cache
def model() -> BuiltinModel:
    return BuiltinModel()


@dataclass
class Walk:
    """Everything that a tracker answered, and the sightings that a session keeps."""

    tracked: dict[int, dict[int, Tracked]]
    sightings: dict[int, list[Sighting]]

    def mask(self, frame_idx: int, object_id: int = 1) -> Mask:
        return compose(self.tracked[frame_idx][object_id].logits, SIZE).to_mask()


def walk(clip: Clip, sightings: dict[int, Sequence[Sighting]], frames: Iterable[int]) -> Walk:
    tracker = model().tracker(clip)
    result = Walk({}, {object_id: list(known) for object_id, known in sightings.items()})
    for object_id, known in sightings.items():
        tracker.follow(object_id, known)
    for frame_idx in frames:
        result.tracked[frame_idx] = tracker.step(frame_idx)
        for object_id, tracked in result.tracked[frame_idx].items():
            result.sightings[object_id].append(Sighting(frame_idx, compose(tracked.logits, SIZE)))
    return result


def assert_follows(clip: Clip, result: Walk, least: float, object_id: int = 1) -> None:
    found = {idx: round(iou(result.mask(idx, object_id), clip.truths[idx][object_id]), 2) for idx in result.tracked}
    assert min(found.values()) >= least, found


def assert_absent(tracked: Tracked) -> None:
    assert tracked.score == 0
    assert not (tracked.logits > 0).any()


@cache
def wandering() -> Clip:
    """Film a disc that moves by three pixels a frame and grows."""
    return film({1: lambda t: (45 + 3 * t, 55 + 1.5 * t, 22 + 0.6 * t)}, 10)


@cache
def passing() -> Clip:
    """Film a disc that moves a little while a bar passes in front of it; for eight frames nothing of it is seen."""

    def bar(t: int) -> tuple[int, int]:
        left = int(np.interp(t, [0, 3, 4, 11, 12, 15], [-80, -80, 40, 40, 160, 160]))
        return max(0, left), max(0, min(160, left + 80))

    return film({1: lambda t: (78 + 0.4 * t, 60 + 0.2 * t, 20)}, 17, bar)


@cache
def passed() -> Walk:
    return walk(passing(), {1: [passing().sighting(0)]}, range(1, 17))


def test_step_moving_and_growing_object_is_followed() -> None:
    clip = wandering()
    result = walk(clip, {1: [clip.sighting(0)]}, range(1, 10))
    assert_follows(clip, result, 0.85)
    assert all(0 < each[1].score <= 1 for each in result.tracked.values())


def test_step_backward_is_as_good_as_forward() -> None:
    clip = wandering()
    assert_follows(clip, walk(clip, {1: [clip.sighting(9)]}, range(8, -1, -1)), 0.85)


def test_step_same_clip_gives_the_same_logits() -> None:
    clip = wandering()
    first, second = (walk(clip, {1: [clip.sighting(0)]}, range(1, 4)) for _ in range(2))
    assert all(np.array_equal(first.tracked[idx][1].logits, second.tracked[idx][1].logits) for idx in (1, 2, 3))


def test_step_reads_each_frame_once() -> None:
    clip = film({1: lambda t: (60 + 2 * t, 60, 20)}, 4)
    walk(clip, {1: [clip.sighting(0)]}, range(1, 4))
    assert clip.reads == [0, 1, 2, 3]


def test_step_object_that_leaves_the_frame_is_answered_with_nothing() -> None:
    clip = film({1: lambda t: (112 + 9 * t, 60, 20)}, 11)
    result = walk(clip, {1: [clip.sighting(0)]}, range(1, 11))
    in_view = [idx for idx in result.tracked if clip.truths[idx][1].sum() > 200]
    assert min(iou(result.mask(idx), clip.truths[idx][1]) for idx in in_view) > 0.7
    gone = [idx for idx in result.tracked if not clip.truths[idx][1].any()]
    assert len(gone) >= 2
    for idx in gone:
        assert_absent(result.tracked[idx][1])


def test_step_covered_object_is_out_of_view_and_comes_back() -> None:
    clip, result = passing(), passed()
    assert [idx for idx in range(17) if not clip.truths[idx][1].any()] == list(range(4, 12))
    for idx in range(4, 12):
        assert_absent(result.tracked[idx][1])
    for idx in (3, 14, 15, 16):
        assert iou(result.mask(idx), clip.truths[idx][1]) > 0.8
        assert result.tracked[idx][1].score > 0.5


@pytest.mark.parametrize(("last", "until"), [(2, 5), (8, 14), (14, 17)])
def test_follow_after_an_interruption_goes_on_as_without_one(last: int, until: int) -> None:
    whole = passed()
    known = whole.sightings[1][: last + 1]
    resumed = walk(passing(), {1: known}, range(last + 1, until))
    for idx in resumed.tracked:
        np.testing.assert_array_equal(resumed.mask(idx), whole.mask(idx))
        assert resumed.tracked[idx][1].score == whole.tracked[idx][1].score


def test_follow_what_comes_after_a_prompted_frame_depends_on_nothing_before() -> None:
    clip = wandering()
    wrong = Sighting(3, RunLengths.from_mask(disc((120, 30, 15))), InstancePrompts())
    between = Sighting(4, RunLengths.from_mask(disc((120, 30, 15))))
    alone = walk(clip, {1: [clip.sighting(5)]}, range(6, 8))
    after = walk(clip, {1: [wrong, between, clip.sighting(5)]}, range(6, 8))
    assert model().tracker(clip).local
    for idx in (6, 7):
        np.testing.assert_array_equal(after.tracked[idx][1].logits, alone.tracked[idx][1].logits)


def test_step_two_alike_passing_each_other_keep_apart() -> None:
    clip = film({1: lambda t: (45 + 8 * t, 38, 19), 2: lambda t: (115 - 8 * t, 78, 19)}, 9)
    result = walk(clip, {object_id: [clip.sighting(0, object_id)] for object_id in (1, 2)}, range(1, 9))
    for object_id in (1, 2):
        assert_follows(clip, result, 0.75, object_id)
    assert not any((result.mask(idx, 1) & result.mask(idx, 2)).any() for idx in result.tracked)


def test_step_masks_that_overlapped_when_prompted_may_overlap() -> None:
    clip = film({1: lambda t: (70 + 2 * t, 60, 26)}, 3)
    part = Sighting(0, RunLengths.from_mask(disc((70, 60, 14))), InstancePrompts())
    result = walk(clip, {1: [clip.sighting(0)], 2: [part]}, range(1, 3))
    assert_follows(clip, result, 0.7)
    assert (result.mask(2, 1) & result.mask(2, 2)).any()


def test_step_after_a_cut_nothing_is_followed_or_found() -> None:
    clip = film({1: resting(70, 60, 20)}, 2)
    other = np.clip(texture(77, (110, 90, 130), 40), 0, 255).astype(np.uint8)
    clip.frames += [other[t : t + SIZE[0], : SIZE[1]].copy() for t in range(2)]
    result = walk(clip, {1: [clip.sighting(0)]}, range(1, 4))
    assert result.mask(1).any()
    assert_absent(result.tracked[2][1])
    assert_absent(result.tracked[3][1])
    resumed = walk(clip, {1: result.sightings[1][:3]}, [3])
    assert_absent(resumed.tracked[3][1])


def test_step_object_that_a_person_says_is_not_there_stays_away() -> None:
    clip = film({1: resting(70, 60, 20)}, 3)
    nothing = Sighting(1, RunLengths.empty(*SIZE), InstancePrompts())
    assert_absent(walk(clip, {1: [clip.sighting(0), nothing]}, [2]).tracked[2][1])


def test_drop_object_is_followed_no_longer() -> None:
    clip = film({1: resting(50, 60, 15), 2: resting(110, 60, 15)}, 2)
    tracker = model().tracker(clip)
    assert tracker.step(0) == {}
    for object_id in (1, 2):
        tracker.follow(object_id, [clip.sighting(0, object_id)])
    tracker.drop(1)
    tracker.drop(3)
    assert set(tracker.step(1)) == {2}


def test_step_large_frames_are_followed_at_the_size_of_the_picture() -> None:
    small = film({1: lambda t: (60 + 3 * t, 60, 22)}, 3)
    factor = 10
    large = Clip([cv2.resize(frame, None, fx=factor, fy=factor) for frame in small.frames], [])
    truth = np.kron(small.truths[0][1], np.ones((factor, factor), np.bool_))
    tracker = model().tracker(large)
    tracker.follow(1, [Sighting(0, RunLengths.from_mask(truth), InstancePrompts())])
    tracked = tracker.step(1)[1]
    mask = compose(tracked.logits, (SIZE[0] * factor, SIZE[1] * factor))
    assert iou(mask.sampled(*SIZE), small.truths[1][1]) > 0.85


def test_tracker_is_made_by_a_model_that_says_it_can() -> None:
    assert model().capabilities.video
    assert isinstance(model().tracker(wandering()), FlowTracker)


def test_motion_shifted_picture_carries_the_mask_along() -> None:
    ground = np.clip(texture(3, (120, 120, 120), 40), 0, 255).astype(np.uint8)
    before, after = ground[20:140, 30:190], ground[16:136, 24:184]  # to the right by 6, down by 4
    motion = Motion(before, after)
    mask = disc((70, 60, 20))
    moved = motion.carry(RunLengths.from_mask(mask)) > 0
    assert iou(moved, np.roll(mask, (4, 6), (0, 1))) > 0.95
    assert float(np.median(motion.trust)) > 0.9
    assert not motion.cut


def test_motion_other_scene_is_a_cut() -> None:
    first, second = (np.asarray(cv2.resize(picture, (320, 240))) for picture in (data.astronaut(), data.coffee()))
    assert Motion(first, second).cut


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((0, 0, 160, 120), (0, 0, 160, 120)),
        ((70, 50, 90, 70), (60, 45, 100, 75)),
        ((0, 0, 8, 8), (0, 0, 40, 30)),
        ((150, 110, 160, 120), (120, 90, 160, 120)),
    ],
)
def test_around_looks_at_the_surroundings_in_the_pictures_proportions(
    box: tuple[int, ...], window: tuple[int, ...]
) -> None:
    assert around(np.array(box, np.float64), SIZE) == window


def test_alike_tells_object_from_ground_by_the_nearest_place() -> None:
    known = Appearance(np.eye(4, dtype=np.float32)[:2], np.eye(4, dtype=np.float32)[2:3])
    np.testing.assert_allclose(alike(np.eye(4, dtype=np.float32), [known]), [1, 1, -1, 0])
    assert known.share_in([known]) == 1


def test_likeliest_is_the_part_with_most_in_it() -> None:
    plane = np.full((5, 6), -1, np.float32)
    plane[0, 0:3] = 0.1
    plane[3, 4] = 0.5
    place = likeliest(plane)
    assert place is not None
    assert np.argwhere(place).tolist() == [[3, 4]]
    assert likeliest(np.zeros((2, 2), np.float32)) is None


def test_overlap_ignores_shared_borders() -> None:
    first, second, third = (disc(place) for place in ((50, 60, 20), (89, 60, 20), (60, 60, 20)))
    assert not overlap(first, second)
    assert overlap(first, third)
    assert not overlap(first, np.zeros(SIZE, np.bool_))
    assert box_of(first).tolist() == [30, 44, 70, 76]
