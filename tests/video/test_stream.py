"""Frames that come one by one."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_widget.errors import InvalidVideoError
from sam3_widget.video.session import VideoSession
from sam3_widget.video.stream import Stream
from tests.toy import ToyModel
from tests.video.test_session import BOX, EVERYTHING, HEIGHT, LENGTH, WIDTH, boxed, clip


def test_step_carries_what_was_prompted_on_the_first_frame():
    model, camera = ToyModel(EVERYTHING), iter(clip())
    video = VideoSession(camera, model)
    video.add_box(BOX, frame_idx=0)
    for count, frame in enumerate(camera, 1):
        result = video.step(frame)
        assert result.frame_idx == count
        np.testing.assert_array_equal(result.masks[1], boxed(count))
        assert result.scores[1] == pytest.approx(0.8)
    assert len(video) == LENGTH
    assert [len(model.followed), len(model.stepped)] == [1, LENGTH - 1]


def test_step_takes_up_a_correction_of_the_newest_frame_and_a_new_object():
    camera = iter(clip())
    video = VideoSession(camera, ToyModel(EVERYTHING))
    video.add_box(BOX, frame_idx=0)
    video.step(next(camera))
    video.add_point(14, 12, positive=False, object_id=1, frame_idx=1)
    second = video.add_box((30, 30, 40, 40), frame_idx=1).object_id
    result = video.step(next(camera))
    assert not result.masks[1][12, 18]
    assert result.masks[1][21, 26]
    np.testing.assert_array_equal(result.masks[second], boxed(2, 1, (30, 30, 40, 40)))
    assert video.undo()
    assert second not in video.masks[2]
    assert len(video) == 3, "frames that came stay"


def test_stream_holds_the_last_frames_only():
    frames = clip()
    stream = Stream(iter(frames), cache_bytes=3 * HEIGHT * WIDTH * 3)
    for frame in frames[1:]:
        stream.append(frame)
    assert len(stream) == LENGTH
    np.testing.assert_array_equal(stream[LENGTH - 1], frames[-1])
    assert stream.held_bytes == 3 * HEIGHT * WIDTH * 3
    with pytest.raises(InvalidVideoError, match="frame 2 of the stream is no longer held"):
        stream[2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VideoSession(iter(()), ToyModel(EVERYTHING)), "ended before its first frame"),
        (
            lambda: VideoSession(iter(clip()), ToyModel(EVERYTHING)).step(np.zeros((4, 4, 3), np.uint8)),
            "frame 1 .* 4 x 4 .* 60 x 80",
        ),
        (lambda: VideoSession(clip(), ToyModel(EVERYTHING)).step(clip()[0]), "this clip has all of its own: propagate"),
    ],
)
def test_bad_streams_raise(make, message):
    with pytest.raises(InvalidVideoError, match=message):
        make()
