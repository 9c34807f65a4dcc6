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
from sam3_widget.errors import InvalidVideoError
from sam3_widget.models.base import InstancePrompts, Sighting, Tracked
from sam3_widget.models.builtin import BuiltinModel
from sam3_widget.models.builtin.appearance import Appearance, Scene, alike, around, box_of
from sam3_widget.models.builtin.guesses import Answer, likeliest
from sam3_widget.models.builtin.motion import Motion
from sam3_widget.models.builtin.tracker import FlowTracker, kept, overlap, still

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
    colour: tuple[int, int, int] = (200, 80, 50),
) -> Clip:
    """Film discs on their paths in front of a ground that pans, behind a bar between two columns."""
    ground = texture(1, (70, 110, 70), 25)
    cover = texture(2, (120, 120, 130), 8, 4)
    skins = {object_id: texture(10 + object_id, colour, 30) for object_id in paths}
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


def hidden(t: int) -> tuple[int, int]:
    """Return where a bar is that passes and, for eight frames, rests in front of what is in the middle."""
    left = int(np.interp(t, [0, 3, 4, 11, 12, 15], [-80, -80, 40, 40, 160, 160]))
    return max(0, left), max(0, min(160, left + 80))


@cache
def passing() -> Clip:
    """Film a disc that moves a little while a bar passes in front of it; for eight frames nothing of it is seen."""
    return film({1: lambda t: (78 + 0.4 * t, 60 + 0.2 * t, 20)}, 17, hidden)


@cache
def turning() -> Clip:
    """Film a disc that shows another side on two frames before a bar passes, and comes back as it was at first."""
    first, other = (film({1: resting(78, 60, 20)}, 17, hidden, colour) for colour in ((200, 80, 50), (50, 60, 50)))
    return Clip([*first.frames[:2], *other.frames[2:4], *first.frames[4:]], first.truths)


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


def test_step_what_was_prompted_on_any_frame_is_found_again() -> None:
    clip = turning()
    both = [clip.sighting(0), Sighting(1, clip.sighting(1).mask), clip.sighting(2)]
    result = walk(clip, {1: both}, range(3, 15))
    for idx in range(4, 12):
        assert_absent(result.tracked[idx][1])
    assert min(iou(result.mask(idx), clip.truths[idx][1]) for idx in (13, 14)) > 0.8
    other_side_alone = walk(clip, {1: [clip.sighting(2)]}, range(3, 15))
    assert all(not other_side_alone.mask(idx).any() for idx in range(4, 15))
    assert not model().tracker(clip).local


def test_step_goes_on_from_the_newest_prompt() -> None:
    clip = wandering()
    wrong = Sighting(3, RunLengths.from_mask(disc((120, 30, 15))), InstancePrompts())
    between = Sighting(4, RunLengths.from_mask(disc((120, 30, 15))))
    assert_follows(clip, walk(clip, {1: [wrong, between, clip.sighting(5)]}, range(6, 10)), 0.85)


@dataclass
class Camera:
    """The newest frames of a clip, as a live source holds them."""

    clip: Clip
    held: int
    newest: int = 0

    def __call__(self, frame_idx: int) -> Picture:
        self.newest = max(self.newest, frame_idx)
        if frame_idx <= self.newest - self.held:
            raise InvalidVideoError(f"frame {frame_idx} is no longer held")
        return self.clip.frames[frame_idx]


def test_step_frames_that_a_live_source_has_given_up_are_not_read_again() -> None:
    whole, camera = passed(), Camera(passing(), held=2)
    tracker = model().tracker(camera)
    tracker.follow(1, [passing().sighting(0)])
    for idx in range(1, 17):
        np.testing.assert_array_equal(tracker.step(idx)[1].logits, whole.tracked[idx][1].logits)


@pytest.mark.parametrize("corrected", [True, False])
def test_follow_prompt_on_a_frame_that_a_live_source_has_given_up_is_left_out(*, corrected: bool) -> None:
    clip = wandering()
    camera = Camera(clip, held=2, newest=5)
    tracker = model().tracker(camera)
    carried = [Sighting(idx, clip.sighting(idx).mask) for idx in (4, 5)]
    tracker.follow(1, [clip.sighting(0), *([clip.sighting(5)] if corrected else carried)])
    assert iou(compose(tracker.step(6)[1].logits, SIZE).to_mask(), clip.truths[6][1]) > 0.85


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


def test_alike_nothing_known_says_nothing() -> None:
    assert not alike(np.eye(4, dtype=np.float32), []).any()


@pytest.mark.parametrize(
    ("areas", "expected"),
    [([4], [0]), ([4, 4], [0, 1]), ([4, 0, 4], [0, 2]), ([4] * 6, [0, 3, 4, 5]), ([4, 4, 0], []), ([0], [])],
)
def test_kept_are_the_first_prompted_frame_and_the_newest_with_a_mask(areas: list[int], expected: list[int]) -> None:
    rows = [np.arange(16).reshape(4, 4) < area for area in areas]
    prompted = [Sighting(idx, RunLengths.from_mask(mask), InstancePrompts()) for idx, mask in enumerate(rows)]
    assert [each.frame_idx for each in kept(prompted)] == expected


@pytest.mark.parametrize(
    ("share", "quality", "expected"),
    [(0.7, 0.3, True), (0.6, 0.9, True), (0.6, 0.8, False), (0.4, 0.95, False), (0, 1, False)],
)
def test_still_takes_half_of_a_likeness_where_the_decoder_is_sure(
    share: float, quality: float, *, expected: bool
) -> None:
    look = Scene(BuiltinModel()._runtime, 0, wandering().frames[0]).look()
    assert still(Answer(look, np.zeros(SIZE, np.float32), quality, share)) is expected


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
