from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam3_widget import Sam3VideoWidget, VideoSession
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Capabilities
from tests.toy import STEP, ToyModel
from tests.widget.frontend import FrontEnd

LENGTH, HEIGHT, WIDTH = 10, 60, 80
BOX = (8, 10, 20, 22)
CLIP = np.zeros((LENGTH, HEIGHT, WIDTH, 3), np.uint8)
CLIP[:, :, :, 0] = np.arange(LENGTH)[:, None, None] * 20
EVERYTHING = Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True, video=True)
TIMEOUT = 10


@pytest.fixture
def widget():
    return Sam3VideoWidget(CLIP, ToyModel(EVERYTHING))


@pytest.fixture
def view(widget):
    front = FrontEnd(widget)
    front.request("hello", {})
    return front


def box(view, frame_idx, object_id=None):
    return view.command("add_box", box=BOX, object_id=object_id, frame_idx=frame_idx)


def propagate(view, **args):
    answer = view.command("propagate", **args)
    view.widget._live.job.wait(TIMEOUT)
    return answer


def agrees(view):
    """Tell whether the frame on the canvas shows what Python holds of it."""
    known = view.widget.masks[view.state["frame_idx"]]
    shown = {k: RunLengths.from_bytes(m).to_mask() for k, m in view.masks.items()}
    empty = np.zeros((HEIGHT, WIDTH), bool)
    return all(np.array_equal(shown[k], known.get(k, empty)) for k in shown) and known.keys() <= shown.keys()


def test_hello_is_answered_by_the_frame_and_then_the_timeline(view):
    kinds = [content["type"] for content, _ in view.sent]
    # The first frame is being encoded meanwhile, and how far that is comes whenever it comes.
    assert [kind for kind in kinds if kind != "progress"] == ["snapshot", "timeline"]
    assert view.state["frame_idx"] == 0
    assert view.state["image"]["name"] == "clip, frame 0"
    assert view.widget._clip == {"length": LENGTH, "fps": None, "times": None, "video": True}


def test_prompt_goes_to_the_frame_that_it_names(view, widget):
    answer = box(view, 4)
    assert answer["type"] == "patch"
    assert answer["payload"]["instances"][0]["object_id"] == 1
    assert widget.frame_idx == view.state["frame_idx"] == 4
    assert list(widget.masks) == [4]
    assert widget.box_prompts[0].xyxy == BOX
    assert agrees(view)
    assert view.marks == {(1, 4): [0, 0.9, 144, 0]}


def test_seek_shows_another_frame_in_every_view(view, widget):
    box(view, 4)
    answer = view.command("seek", frame_idx=7)
    assert answer["type"] == "patch"
    assert view.state["frame_idx"] == widget.frame_idx == 7
    assert widget.box_prompts == ()
    widget.frame_idx = 4
    assert view.state["frame_idx"] == 4
    assert agrees(view)


@pytest.mark.parametrize("frame_idx", [-1, LENGTH, 1.5, "3"])
def test_frame_that_is_not_there_is_refused(view, widget, frame_idx):
    answer = view.command("seek", frame_idx=frame_idx)
    assert answer["type"] == "error"
    assert answer["payload"]["code"] == "invalid_prompt"
    with pytest.raises(Exception, match="frame_idx"):
        widget.frame_idx = frame_idx
    assert widget.frame_idx == view.state["frame_idx"] == 0


def test_propagation_arrives_frame_by_frame(view, widget):
    box(view, 0)
    propagate(view, direction="forward", start=None, stop=None)
    assert {frame for _, frame in view.marks} == set(range(LENGTH))
    assert view.marks[1, 5] == [1, 0.8, 144, 0]
    kinds = [(c["type"], c["id"] is None) for c, _ in view.sent]
    answer = len(kinds) - 1 - kinds[::-1].index(("patch", False))
    assert ("progress", True) in kinds[:answer]  # a view that waits for the answer knows by then that work is under way
    progress = [
        c["payload"] for c, _ in view.sent if c["type"] == "progress" and c["payload"]["phase"] == "propagating"
    ]
    assert [p["fraction"] for p in progress][-1] == 1
    assert all(p["seconds_left"] >= 0 for p in progress[1:])
    for frame_idx in (0, 3, 9):
        view.command("seek", frame_idx=frame_idx)
        assert agrees(view)
        assert view.state["instances"][0]["score"] == (0.9 if frame_idx == 0 else 0.8)


def test_correction_takes_the_frames_after_it_off_the_timeline_and_undo_brings_them_back(view, widget):
    box(view, 0)
    propagate(view)
    before = dict(view.marks)
    view.command("add_point", x=70, y=50, positive=True, object_id=1, frame_idx=6)
    assert {frame for _, frame in view.marks} == set(range(7))
    view.command("undo")
    assert view.marks == before
    assert agrees(view)


def test_undo_goes_to_the_frame_of_what_it_takes_back(view, widget):
    box(view, 2)
    view.command("seek", frame_idx=8)
    view.command("undo", frame_idx=8)
    assert widget.frame_idx == 2
    view.command("seek", frame_idx=0)
    view.command("redo", frame_idx=0)
    assert widget.frame_idx == 2
    assert agrees(view)


def test_object_that_is_removed_leaves_the_timeline(view):
    box(view, 0)
    box(view, 3)
    propagate(view)
    view.command("remove_object", object_id=1)
    assert {object_id for object_id, _ in view.marks} == {2}
    view.command("undo")
    assert {object_id for object_id, _ in view.marks} == {1, 2}


def test_frame_gives_the_picture_and_the_masks_of_any_frame(view, widget):
    box(view, 0)
    propagate(view)
    content, buffers = view.request("frame", {"frame_idx": 6, "picture": True})
    told = content["payload"]
    assert told["frame_idx"] == 6
    assert widget.frame_idx == 0
    mask = RunLengths.from_bytes(buffers[told["instances"][0]["mask"]]).to_mask()
    np.testing.assert_array_equal(mask, widget.masks[6][1])
    assert mask[BOX[1], BOX[0] + 6 * STEP]
    picture = cv2.imdecode(np.frombuffer(buffers[-1], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(picture[..., ::-1], CLIP[6])
    content, buffers = view.request("frame", {"frame_idx": 6, "picture": False})
    assert "picture" not in content["payload"]
    assert len(buffers) == 1


def test_frame_of_an_empty_mask_lists_no_object(view):
    view.command("add_box", box=(70, 10, 79, 20), object_id=None, frame_idx=0)
    propagate(view)
    assert view.marks[1, 9] == [1, 0.0, 0, 0]
    assert view.marks[1, 3] == [1, 0.0, 0, 1]  # where it left
    content, buffers = view.request("frame", {"frame_idx": 9, "picture": False})
    assert content["payload"]["instances"] == []
    assert buffers == []


def test_large_frame_is_sent_small_with_tiles_for_the_rest():
    clip = np.random.default_rng(0).integers(0, 255, (2, 600, 2000, 3), np.uint8)
    view = FrontEnd(Sam3VideoWidget(clip, ToyModel(EVERYTHING)))
    view.request("hello", {})
    content, buffers = view.request("frame", {"frame_idx": 1, "picture": True})
    info = content["payload"]["picture"]
    assert (info["preview_width"], info["preview_height"], info["levels"], info["mime"]) == (1280, 384, 1, "image/jpeg")
    assert buffers[-1][:2] == b"\xff\xd8"
    view.command("seek", frame_idx=1)
    content, buffers = view.request("tile", {"key": "1", "level": 0, "x": 1, "y": 1})
    assert content["payload"]["key"] == "1"
    tile = cv2.imdecode(np.frombuffer(buffers[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(tile, clip[1, 512:600, 512:1024])
    content, _ = view.request("tile", {"key": "0", "level": 0, "x": 1, "y": 1})
    assert content["type"] == "error"


def test_cancel_ends_propagation_and_keeps_what_is_finished(view, widget):
    box(view, 0)
    widget.model.track_gate.clear()
    view.command("propagate")
    assert widget.model.tracking.wait(TIMEOUT)
    view.request("cancel", {})
    widget.model.track_gate.set()
    with pytest.raises(Exception, match="cancelled"):
        widget._live.job.wait(TIMEOUT)
    assert [c["payload"]["phase"] for c, _ in view.sent if c["type"] == "progress"][-1] == "idle"
    assert not any(c["type"] == "error" for c, _ in view.sent)
    assert {frame for _, frame in view.marks} == {0, 1}


def test_looking_at_other_frames_does_not_stop_propagation(view, widget):
    box(view, 0)
    view.command("seek", frame_idx=9)
    widget.model.track_gate.clear()
    view.command("propagate")
    assert widget.model.tracking.wait(TIMEOUT)
    for frame_idx in range(1, LENGTH):  # more than are held: the first is let go, and its mask made again
        view.request("frame", {"frame_idx": frame_idx, "picture": True})
    widget.model.track_gate.set()
    widget._live.job.wait(TIMEOUT)
    assert {frame for _, frame in view.marks} == set(range(LENGTH))


def test_model_without_video_refuses_to_propagate():
    widget = Sam3VideoWidget(CLIP, ToyModel())
    view = FrontEnd(widget)
    view.request("hello", {})
    box(view, 0)
    answer = view.command("propagate")
    assert answer["payload"]["code"] == "unsupported"
    assert widget._clip["video"] is False


def test_session_is_shown_as_it_is_and_goes_on():
    session = VideoSession(CLIP, ToyModel(EVERYTHING))
    session.add_box(BOX, frame_idx=0)
    widget = Sam3VideoWidget(session)
    session.propagate()
    assert list(widget.masks) == list(range(LENGTH))
    assert widget.session.objects == session.objects
    with pytest.raises(InvalidPromptError, match="brings its own model"):
        Sam3VideoWidget(session, classes=["cup"])


def test_stream_grows_and_the_canvas_goes_with_it():
    camera = iter(CLIP)
    widget = Sam3VideoWidget(camera, ToyModel(EVERYTHING))
    view = FrontEnd(widget)
    view.request("hello", {})
    box(view, 0)
    for frame in camera:
        widget.step(frame)
    assert widget._clip["length"] == LENGTH
    assert widget.frame_idx == LENGTH - 1
    assert agrees(view)
    widget.frame_idx = 3
    assert agrees(view)


def test_times_are_told_where_frames_do_not_come_evenly(widget):
    frames = widget._live.frames
    frames.times, frames.fps = np.arange(LENGTH) / 25, 25.0
    assert widget._described()["times"] is None
    frames.times = np.concatenate([np.arange(5) / 25, 1 + np.arange(5) / 25])
    frames.fps = (LENGTH - 1) / frames.times[-1]
    assert widget._described()["times"][5] == 1.0


def test_closed_widget_hears_nothing_more(view, widget):
    session = widget.session
    count = len(view.sent)
    widget.close()
    session.add_box(BOX, frame_idx=0)
    assert len(view.sent) == count


def test_demo_opens_on_a_clip_that_moves():
    widget = Sam3VideoWidget.demo(model=ToyModel(EVERYTHING))
    frames = widget._live.frames
    assert len(frames) == 48
    assert np.abs(frames[0].astype(int) - frames[47]).mean() > 20
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 15


def test_concept_of_another_frame_stays_in_sight_and_within_reach(view, widget):
    view.command("add_concept", text="red", frame_idx=3)
    assert view.state["concepts"][0].keys().isdisjoint({"frame_idx"})
    view.command("seek", frame_idx=6)
    told = view.state["concepts"][0]
    assert (told["text"], told["frame_idx"], told["exemplars"]) == ("red", 3, [])
    assert view.state["concept"] is None
    view.command("set_score_threshold", value=0.9, concept_id=told["concept_id"], frame_idx=6)
    assert (widget.frame_idx, view.state["concepts"][0]["score_threshold"]) == (6, 0.9)
    view.command("select_concept", concept_id=told["concept_id"], frame_idx=6)
    assert (widget.frame_idx, view.state["concept"]) == (3, told["concept_id"])
    view.command("seek", frame_idx=6)
    view.command("remove_concept", concept_id=told["concept_id"], frame_idx=6)
    assert view.state["concepts"] == []
    assert view.command("remove_concept", concept_id=9, frame_idx=6)["payload"]["code"] == "not_found"
