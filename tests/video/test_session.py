"""Prompt on any frame, propagate, correct, propagate again: without a view, on a model that only moves masks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_widget.errors import CancelledError, InvalidPromptError, ModelError, NotFoundError, UnsupportedError
from sam3_widget.models.base import Capabilities
from sam3_widget.video.session import VideoSession
from tests.toy import STEP, ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LENGTH = 10
HEIGHT, WIDTH = 60, 80
BOX = (8, 10, 20, 22)
EVERYTHING = Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True, video=True)
TIMEOUT = 10.0


def clip() -> np.ndarray:
    """Return a clip of dark frames; on frame 3 there are two bright spots."""
    frames = np.zeros((LENGTH, HEIGHT, WIDTH, 3), np.uint8)
    frames[3, 5:15, 40:50] = (250, 0, 0)
    frames[3, 35:45, 10:18] = (0, 250, 0)
    return frames


@pytest.fixture
def model() -> ToyModel:
    return ToyModel(EVERYTHING)


@pytest.fixture
def video(model: ToyModel) -> VideoSession:
    return VideoSession(clip(), model)


def boxed(frame_idx: int, start: int = 0, box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    """Return where a box drawn on one frame is on another."""
    x1, y1, x2, y2 = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    shift = STEP * (frame_idx - start)
    mask[y1:y2, max(0, x1 + shift) : max(0, x2 + shift)] = True
    return mask


def known(video: VideoSession, object_id: int) -> list[int]:
    return [frame_idx for frame_idx in video.masks if object_id in video.masks[frame_idx]]


def computed(model: ToyModel) -> list[tuple[int, int]]:
    """Return what trackers made since the last call."""
    steps = list(model.stepped)
    model.stepped.clear()
    return steps


def test_propagate_carries_a_box_through_the_clip(video, model):
    chair = video.add_box(BOX, frame_idx=0)
    seen = []
    video.propagate(progress=seen.append)
    assert known(video, chair.object_id) == list(range(LENGTH))
    for frame_idx in range(LENGTH):
        np.testing.assert_array_equal(video.masks[frame_idx][chair.object_id], boxed(frame_idx))
    assert computed(model) == [(1, frame_idx) for frame_idx in range(1, LENGTH)]
    assert model.followed == [(1, [(0, True)])]
    assert video.scores[5][1] == pytest.approx(0.8)
    np.testing.assert_array_equal(video.boxes[5][1], (28, 10, 40, 22))
    assert seen[-1] == 1
    video.propagate()
    assert computed(model) == [], "frames that are known are not computed again"


def test_correction_is_there_at_once_and_only_what_follows_is_computed_again(video, model):
    video.add_box(BOX, frame_idx=0)
    video.propagate()
    computed(model)
    asked = len(model.asked)
    corrected = video.add_point(30, 12, positive=False, object_id=1, frame_idx=5)
    assert not corrected.mask[12, 30]
    assert corrected.mask[20, 38], "what was carried here is what the click started from"
    (prompts, previous) = model.asked[asked]
    assert previous is not None
    assert len(prompts.points) == 1
    assert known(video, 1) == [0, 1, 2, 3, 4, 5]
    video.propagate()
    assert computed(model) == [(1, frame_idx) for frame_idx in range(6, LENGTH)]
    assert model.followed[-1] == (1, [(0, True), (3, False), (4, False), (5, True)])
    np.testing.assert_array_equal(video.masks[6][1], np.roll(corrected.mask, STEP, 1))
    np.testing.assert_array_equal(video.masks[4][1], boxed(4))


def test_undo_brings_back_what_was_carried_and_asks_no_model(video, model):
    video.add_box(BOX, frame_idx=0)
    video.propagate()
    video.add_point(30, 12, positive=False, object_id=1, frame_idx=5)
    video.propagate()
    after = {k: video.masks[k][1] for k in video.masks}
    asked = computed(model), len(model.asked)
    assert video.undo()
    assert known(video, 1) == [0, 1, 2, 3, 4, 5]
    assert video.undo()
    for frame_idx in range(LENGTH):
        np.testing.assert_array_equal(video.masks[frame_idx][1], boxed(frame_idx))
    assert video.redo()
    assert video.redo()
    for frame_idx in range(LENGTH):
        np.testing.assert_array_equal(video.masks[frame_idx][1], after[frame_idx])
    assert (computed(model), len(model.asked)) == ([], asked[1])


def test_removed_prompt_takes_its_effect_with_it(video, model):
    video.add_box(BOX, frame_idx=0)
    point = video.add_point(30, 12, positive=True, object_id=1, frame_idx=6).points[0]
    video.propagate()
    carried = [f for _, f in computed(model)]
    assert carried == [1, 2, 3, 4, 5, 7, 8, 9]
    video.remove_point(point)
    assert known(video, 1) == [0, 1, 2, 3, 4, 5]
    video.propagate()
    np.testing.assert_array_equal(video.masks[9][1], boxed(9))


def test_change_between_two_prompted_frames_leaves_what_follows_the_second(video, model):
    video.add_box(BOX, frame_idx=0)
    video.add_box((40, 10, 52, 22), object_id=1, frame_idx=6)
    video.propagate()
    computed(model)
    video.add_box((8, 30, 20, 42), object_id=1, frame_idx=0)
    assert known(video, 1) == [0, 6, 7, 8, 9]
    video.propagate()
    assert computed(model) == [(1, frame_idx) for frame_idx in range(1, 6)]


def test_objects_start_on_different_frames_and_go_both_ways(video, model):
    first = video.add_box(BOX, frame_idx=0).object_id
    second = video.add_box((40, 30, 52, 42), frame_idx=4).object_id
    video.propagate()
    assert known(video, second) == list(range(4, LENGTH))
    video.propagate(direction="backward")
    assert known(video, second) == list(range(LENGTH))
    assert known(video, first) == list(range(LENGTH))
    np.testing.assert_array_equal(video.masks[1][second], boxed(1, 4, (40, 30, 52, 42)))
    assert computed(model)[-4:] == [(second, 3), (second, 2), (second, 1), (second, 0)]


def test_propagate_both_ways_from_the_middle(video, model):
    video.add_box(BOX, frame_idx=4)
    video.propagate(direction="both")
    assert [f for _, f in computed(model)] == [5, 6, 7, 8, 9, 3, 2, 1, 0]
    video.add_point(9, 12, positive=False, object_id=1, frame_idx=2)
    assert known(video, 1) == list(range(2, LENGTH)), "what came from the other side stays"


@pytest.mark.parametrize(
    ("start", "stop", "direction", "expected"),
    [
        (0, 4, "forward", [1, 2, 3]),
        (None, 3, "forward", [1, 2]),
        (3, 5, "forward", []),
        (1, 2, "forward", [1]),
        (0, 1, "forward", []),
        (0, LENGTH, "both", list(range(1, LENGTH))),
    ],
)
def test_propagate_range_is_half_open_and_goes_on_from_the_frame_before(video, model, start, stop, direction, expected):
    video.add_box(BOX, frame_idx=0)
    video.propagate(start, stop, direction)
    assert [f for _, f in computed(model)] == expected


def test_only_the_objects_asked_for_that_are_not_locked_are_carried(video, model):
    for _ in range(3):
        video.add_box(BOX, frame_idx=0)
    video.set_locked(2, locked=True)
    video.propagate(object_ids=[1, 2])
    assert {object_id for object_id, _ in computed(model)} == {1}
    video.propagate()
    assert {object_id for object_id, _ in computed(model)} == {3}


def test_object_out_of_view_is_empty_with_score_zero(video):
    video.add_box((60, 10, 70, 20), frame_idx=0)
    video.propagate()
    assert not video.masks[9][1].any()
    assert video.scores[9][1] == 0
    np.testing.assert_array_equal(video.boxes[9][1], (0, 0, 0, 0))
    assert video.worst_frame() == next(f for f in range(LENGTH) if not video.masks[f][1].any())


def stop_at(video: VideoSession, frame_idx: int) -> Callable[[float], None]:
    def progress(_: float) -> None:
        if frame_idx in video.masks:
            raise KeyboardInterrupt

    return progress


def test_interrupt_keeps_finished_frames_and_the_next_call_goes_on(video, model):
    video.add_box(BOX, frame_idx=0)
    job = video.propagate(wait=False)
    job.wait(TIMEOUT)
    video.undo()
    model.track_gate.clear()
    model.tracking.clear()
    job = video.propagate(wait=False)
    assert model.tracking.wait(TIMEOUT)
    video.cancel()
    model.track_gate.set()
    with pytest.raises(CancelledError, match="finished frames stay"):
        job.wait(TIMEOUT)
    assert known(video, 1) == [0, 1]
    computed(model)
    video.propagate()
    assert computed(model) == [(1, frame_idx) for frame_idx in range(2, LENGTH)]


def test_progress_that_raises_stops_the_work(video, model):
    video.add_box(BOX, frame_idx=0)
    model.track_gate.clear()

    def progress(_: float) -> None:
        model.track_gate.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.propagate(progress=progress)
    with pytest.raises(CancelledError):
        video._live.job.wait(TIMEOUT)
    assert len(known(video, 1)) < LENGTH


def test_prompt_while_objects_are_carried_stops_only_what_it_changes(video, model):
    video.add_box(BOX, frame_idx=0)
    video.add_box((8, 30, 20, 42), frame_idx=0)
    model.track_gate.clear()
    job = video.propagate(wait=False)
    assert model.tracking.wait(TIMEOUT)
    moved = {"box": (30, 10, 42, 22), "object_id": 1}
    video._live.frame(0).run("add_box", moved, wait=False)  # frame 1 is being made of the old one
    model.track_gate.set()
    assert job.wait(TIMEOUT)
    assert known(video, 2) == list(range(LENGTH))
    for frame_idx in known(video, 1):
        np.testing.assert_array_equal(video.masks[frame_idx][1], boxed(frame_idx, 0, (30, 10, 42, 22)))
    video.propagate()
    assert known(video, 1) == list(range(LENGTH))


def test_failure_says_what_happened_and_keeps_finished_frames(video, model):
    video.add_box(BOX, frame_idx=0)
    model.fails_at = 4
    with pytest.raises(ModelError, match="toy failed with RuntimeError: out of memory"):
        video.propagate()
    assert known(video, 1) == [0, 1, 2, 3]
    model.fails_at = None
    video.propagate()
    assert known(video, 1) == list(range(LENGTH))


def test_text_on_a_frame_then_clicks_on_what_it_found(video, model):
    concept = video.set_text("red", frame_idx=3)
    (found,) = concept.object_ids
    assert known(video, found) == [3]
    video.propagate(direction="both")
    assert known(video, found) == list(range(LENGTH))
    assert model.followed[0] == (found, [(3, True)])
    corrected = video.add_point(60, 50, object_id=found, frame_idx=6)
    assert corrected.mask[50, 60]
    assert corrected.mask[10, 55], "what was found and carried stays where the click says nothing"
    assert video.objects[0].label == "red"
    assert [o.object_id for o in video.objects] == [found]


def test_text_on_a_frame_recognises_what_was_carried_there(video):
    video.add_box((28, 5, 38, 15), frame_idx=0)
    video.propagate()
    concept = video.set_text("red", frame_idx=3)
    assert concept.object_ids == (1,)


def test_every_order_of_text_and_clicks_works(model):
    for order in ("text, click", "click, text"):
        video = VideoSession(clip(), model)
        for step in order.split(", "):
            if step == "text":
                video.add_concept("green", frame_idx=3)
            else:
                video.add_point(70, 50, frame_idx=2)
        video.propagate(direction="both")
        assert [len(video.masks[f]) for f in range(LENGTH)] == [2] * LENGTH
        np.testing.assert_array_equal(np.array([o.label for o in video.objects if o.label]), ["green"])


def test_labels_locks_and_selection_are_of_the_whole_clip(video):
    video.add_box(BOX, frame_idx=0)
    video.propagate()
    video.set_label(1, "chair")
    assert video.frame(7).labels == ["chair"]
    video.frame(7).set_label(1, "stool")
    assert video.objects[0].label == "stool"
    video.set_locked(1, locked=True)
    assert video.frame(3).instances[0].locked
    assert video.frame(9).classes == ("chair", "stool")
    assert len(known(video, 1)) == LENGTH


def test_removed_object_goes_from_all_frames_and_comes_back(video):
    video.add_box(BOX, frame_idx=0)
    video.add_box(BOX, object_id=1, frame_idx=5)
    video.propagate()
    video.frame(7).remove_object(1)
    assert not len(video.masks)
    assert video.objects == ()
    video.undo()
    assert len(video.masks) == LENGTH
    video.reset()
    assert not len(video.masks)
    video.undo()
    assert len(video.masks) == LENGTH


def test_last_prompt_of_a_frame_leaves_the_object_where_others_speak_for_it(video):
    video.add_box(BOX, frame_idx=0)
    video.add_box(BOX, object_id=1, frame_idx=5)
    video.remove_box(1, frame_idx=5)
    assert known(video, 1) == [0]
    video.remove_box(1, frame_idx=0)
    assert video.objects == ()


def test_carried_masks_are_made_with_the_threshold_of_the_moment(video):
    video.set_mask(boxed(0), frame_idx=0)
    video.mask_threshold = 0.9999
    video.propagate(stop=2)
    assert not video.masks[1][1].any()
    video.mask_threshold = 0.5
    assert not video.masks[1][1].any()  # it was carried like that
    video.undo()
    video.undo()
    video.mask_threshold = 0.5
    video.propagate(stop=2)
    np.testing.assert_array_equal(video.masks[1][1], boxed(1))


def test_tracks_are_rows_by_object_and_frame(video):
    video.add_box(BOX, frame_idx=4)
    video.set_label(1, "chair")
    video.propagate(direction="both")
    rows = video.tracks()
    assert [row["frame_idx"] for row in rows] == list(range(LENGTH))
    assert [row["source"] for row in rows] == ["backward"] * 4 + ["prompt"] + ["forward"] * 5
    assert rows[5] == {
        "object_id": 1,
        "label": "chair",
        "frame_idx": 5,
        "time": None,
        "score": pytest.approx(0.8),
        "area": 144,
        "x1": 12,
        "y1": 10,
        "x2": 24,
        "y2": 22,
        "source": "forward",
        "flag": "",
    }


def test_data_frame_has_the_rows_of_the_tracks(video, monkeypatch):
    video.add_box(BOX, frame_idx=0)
    video.propagate(stop=3)
    assert video.to_dataframe().to_dict("records") == video.tracks()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        video.to_dataframe()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: v.add_point(1, 1, frame_idx=LENGTH), InvalidPromptError, "frame_idx must be from 0 to 9, got 10"),
        (lambda v: v.add_point(1, 1, frame_idx=-1), InvalidPromptError, "frame_idx must be from 0 to 9, got -1"),
        (lambda v: v.add_point(1, 1, frame_idx="a"), InvalidPromptError, "frame_idx"),
        (lambda v: v.add_point(80, 1, frame_idx=1), InvalidPromptError, "80"),
        (lambda v: v.add_point(1, 1, object_id=9, frame_idx=1), NotFoundError, "object_id 9"),
        (lambda v: v.masks[LENGTH], InvalidPromptError, "frame_idx must be from 0 to 9"),
        (lambda v: v.propagate(5, 5), InvalidPromptError, "0 <= start < stop <= 10, got 5 and 5"),
        (lambda v: v.propagate(0, 11), InvalidPromptError, "got 0 and 11"),
        (lambda v: v.propagate(direction="up"), InvalidPromptError, "forward, backward, both, got 'up'"),
        (lambda v: v.propagate(object_ids=[7]), NotFoundError, "object_id 7"),
        (lambda v: v.propagate(object_ids="1"), InvalidPromptError, "object_ids must be a list"),
        (lambda v: v.remove_point(77), NotFoundError, "no point with point_id 77 on any frame"),
        (lambda v: v.remove_concept(3), NotFoundError, "no concept with concept_id 3 on any frame"),
    ],
)
def test_bad_input_changes_nothing(video, call, error, message):
    video.add_box(BOX, frame_idx=0)
    before = video._live.state
    with pytest.raises(error, match=message.replace("(", r"\(")):
        call(video)
    assert video._live.state is before
    assert len(video.history) == 1


def test_model_without_video_refines_frames_and_says_what_carries():
    video = VideoSession(clip(), ToyModel(Capabilities(points=True, boxes=True)))
    assert video.add_box(BOX, frame_idx=2).area == 144
    with pytest.raises(UnsupportedError, match="'toy' does not take video"):
        video.propagate()


def test_on_change_is_called_for_each_frame(video):
    seen: list[int] = []
    stop = video.on_change(lambda: seen.append(len(video.masks)))
    video.add_box(BOX, frame_idx=0)
    video.propagate()
    stop()
    video.undo()
    assert set(range(1, LENGTH + 1)) <= set(seen)
    assert seen[-1] == LENGTH


ACTIONS = ("box", "click", "negative", "text", "propagate", "backward", "label", "remove", "point off")


def act(video: VideoSession, action: str, frame_idx: int) -> None:
    ids = [o.object_id for o in video.objects]
    if action == "box":
        video.add_box(BOX, frame_idx=frame_idx)
    elif action in {"click", "negative"} and ids:
        video.add_point(12 + frame_idx, 14, action == "click", ids[-1], frame_idx=frame_idx)
    elif action == "text":
        video.add_concept("red", frame_idx=frame_idx)
    elif action in {"propagate", "backward"}:
        video.propagate(direction="forward" if action == "propagate" else "backward")
    elif action == "label" and ids:
        video.set_label(ids[0], f"class {frame_idx}")
    elif action == "remove" and ids:
        video.remove_object(ids[0])
    elif action == "point off":
        points = [p for f in video._live.state.sheets for p in video.frame(f).points]
        if points:
            video.remove_point(points[0])


def told(video: VideoSession) -> list[object]:
    masks = [(f, k, m.tobytes()) for f in video.masks for k, m in video.masks[f].items()]
    return [masks, [(o.object_id, o.label) for o in video.objects]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, LENGTH - 1)), max_size=8))
def test_undo_and_redo_restore_everything(actions: Iterable[tuple[str, int]]):
    video = VideoSession(clip(), ToyModel(EVERYTHING))
    states = [told(video)]
    for action, frame_idx in actions:
        steps = len(video.history)
        act(video, action, frame_idx)
        if len(video.history) > steps:
            states.append(told(video))
        else:
            assert told(video) == states[-1]
    for state in states[-2::-1]:
        assert video.undo()
        assert told(video) == state
    assert not video.undo()
    for state in states[1:]:
        assert video.redo()
        assert told(video) == state
