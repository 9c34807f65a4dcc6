"""The built-in model on clips that are made here: prompt, propagate, correct."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam3_widget.models.builtin import BuiltinModel
from sam3_widget.video.session import VideoSession

LENGTH, HEIGHT, WIDTH, RADIUS = 10, 120, 160, 18


def middle(frame_idx: int) -> tuple[int, int]:
    return 35 + 7 * frame_idx, 50 + 2 * frame_idx


def disc(frame_idx: int) -> np.ndarray:
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    return cv2.circle(canvas, middle(frame_idx), RADIUS, 1, -1) > 0


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Return a clip of a red disc that moves over a textured ground."""
    rng = np.random.default_rng(3)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 2)
    frames = np.repeat((ground * 0.5 + (20, 60, 50)).astype(np.uint8)[None], LENGTH, 0)
    for frame_idx, frame in enumerate(frames):
        frame[disc(frame_idx)] = (200, 40, 30)
    return frames


@pytest.fixture(scope="module")
def model() -> BuiltinModel:
    return BuiltinModel()


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def box(frame_idx: int) -> tuple[int, int, int, int]:
    x, y = middle(frame_idx)
    return x - RADIUS, y - RADIUS, x + RADIUS + 1, y + RADIUS + 1


@pytest.mark.parametrize(("start", "direction"), [(0, "forward"), (LENGTH - 1, "backward"), (4, "both")])
def test_moving_disc_is_followed(clip, model, start, direction):
    video = VideoSession(clip, model)
    video.add_box(box(start), frame_idx=start)
    video.propagate(direction=direction)
    assert len(video.masks) == LENGTH
    for frame_idx in range(LENGTH):
        assert iou(video.masks[frame_idx][1], disc(frame_idx)) > 0.85
        assert 0 < video.scores[frame_idx][1] <= 1


def test_interruption_makes_the_same_masks(clip, model):
    whole, parts = VideoSession(clip, model), VideoSession(clip, model)
    for video in (whole, parts):
        video.add_box(box(0), frame_idx=0)
    whole.propagate()
    for stop in (3, 4, LENGTH):
        parts.propagate(stop=stop)
    for frame_idx in range(LENGTH):
        np.testing.assert_array_equal(parts.masks[frame_idx][1], whole.masks[frame_idx][1])


def test_disc_that_is_gone_has_no_mask_and_no_score(clip, model):
    gone = clip.copy()
    gone[5:] = np.where(disc(4)[..., None], clip[9], clip[4])[None]
    video = VideoSession(gone, model)
    video.add_box(box(0), frame_idx=0)
    video.propagate()
    assert iou(video.masks[4][1], disc(4)) > 0.85
    assert not video.masks[9][1].any()
    assert video.scores[9][1] == 0


def test_correction_is_carried_on(clip, model):
    video = VideoSession(clip, model)
    x, y = middle(0)
    wrong = np.zeros((HEIGHT, WIDTH), bool)
    wrong[y - 6 : y + 6, x - 6 : x + 6] = True
    video.set_mask(wrong, frame_idx=0)
    video.propagate()
    video.add_box(box(3), object_id=1, frame_idx=3)
    assert sorted(video.masks) == [0, 1, 2, 3]
    video.propagate()
    assert all(iou(video.masks[k][1], disc(k)) > 0.85 for k in range(3, LENGTH))


def test_click_on_what_was_carried_makes_all_frames_after_it_better(clip, model):
    video = VideoSession(clip, model)
    whole = disc(0)
    whole[:, : middle(0)[0]] = False
    video.set_mask(whole, frame_idx=0)
    video.propagate()
    before = {k: video.masks[k][1] for k in range(LENGTH)}
    x, y = middle(3)
    video.add_point(x - RADIUS // 2, y, object_id=1, frame_idx=3)
    video.propagate()
    for k in range(3):
        np.testing.assert_array_equal(video.masks[k][1], before[k])
    for k in range(3, LENGTH):
        assert iou(video.masks[k][1], disc(k)) > max(0.85, iou(before[k], disc(k)) + 0.1)


def test_correction_makes_what_follows_the_next_prompt_stale_too(clip, model):
    video = VideoSession(clip, model)
    video.add_box(box(0), frame_idx=0)
    video.add_box(box(6), object_id=1, frame_idx=6)
    video.propagate()
    video.add_point(*middle(3), object_id=1, frame_idx=3)
    assert sorted(video.masks) == [0, 1, 2, 3, 6]
