"""Words along a clip: what comes into view is found and carried on, what was never there goes."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_widget.errors import CancelledError, LockedError, NotFoundError
from sam3_widget.models.base import Capabilities
from sam3_widget.video.session import VideoSession
from tests.toy import STEP, ToyModel

LENGTH = 10
HEIGHT, WIDTH = 60, 80
EVERYTHING = Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True, video=True)
RED, GREEN = (250, 0, 0), (0, 250, 0)
ALWAYS = range(LENGTH)


def clip(*spots) -> np.ndarray:
    """Return dark frames with spots of ten pixels that move as the toy expects: colour, frames, left on 0, top."""
    frames = np.zeros((LENGTH, HEIGHT, WIDTH, 3), np.uint8)
    for color, there, x, y in spots:
        for frame_idx in there:
            left = x + STEP * frame_idx
            frames[frame_idx, y : y + 10, max(0, left) : left + 10] = color
    return frames


FIRST = (RED, ALWAYS, 4, 5)
SECOND = (RED, range(3, LENGTH), 4, 25)
STRANGER = (GREEN, range(2, LENGTH), 4, 45)
FLASH = (RED, range(4, 5), 30, 45)


def at(spot, frame_idx):
    """Return the mask of a spot on a frame."""
    return clip(spot)[frame_idx].any(-1)


@pytest.fixture
def model() -> ToyModel:
    toy = ToyModel(EVERYTHING)
    toy.seeks = True
    return toy


def asked(model, *spots, text="red", frame_idx=0):
    video = VideoSession(clip(*spots), model)
    return video, video.set_text(text, frame_idx=frame_idx)


def ids(video):
    return [instance.object_id for instance in video.objects]


def frames_of(video, object_id):
    return [frame_idx for frame_idx in video.masks if object_id in video.masks[frame_idx]]


def looked(model):
    """Return the frames on which something was looked for since the last call."""
    frames = [frame_idx for frame_idx, _ in model.sought]
    model.sought.clear()
    return frames


def test_propagate_finds_what_comes_into_view(model):
    video, concept = asked(model, FIRST, SECOND, STRANGER)
    assert ids(video) == [1]
    video.propagate()
    assert ids(video) == [1, 2]
    new = video.objects[1]
    assert (new.label, new.concept_id, new.labelled) == ("red", concept.concept_id, False)
    assert frames_of(video, 1) == list(ALWAYS)
    assert frames_of(video, 2) == list(range(3, LENGTH))
    for frame_idx in range(3, LENGTH):
        np.testing.assert_array_equal(video.masks[frame_idx][2], at(SECOND, frame_idx))
    assert video.scores[3][2] == pytest.approx(0.85)
    assert looked(model) == list(range(1, LENGTH))


def test_propagate_again_looks_for_nothing(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate()
    looked(model)
    model.stepped.clear()
    video.propagate()
    assert (looked(model), model.stepped, ids(video)) == ([], [], [1, 2])


def test_propagate_goes_on_where_it_was_cancelled(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate(stop=5)
    assert looked(model) == [1, 2, 3, 4]
    video.propagate()
    assert looked(model) == [5, 6, 7, 8, 9]
    assert ids(video) == [1, 2]
    assert frames_of(video, 2) == list(range(3, LENGTH))


def test_what_was_found_and_soon_is_nowhere_goes(model):
    video, _ = asked(model, FIRST, FLASH)
    video.propagate(stop=5)
    assert ids(video) == [1, 2]
    video.propagate()
    assert ids(video) == [1]
    assert all(2 not in video.masks[frame_idx] for frame_idx in video.masks)


def test_what_was_found_long_ago_stays_where_propagation_goes_on(model):
    video, _ = asked(model, FIRST, (RED, range(2, 7), 4, 45))
    video.propagate(stop=7)
    video.propagate()
    assert ids(video) == [1, 2]
    assert frames_of(video, 2) == list(range(2, LENGTH))


def test_what_the_words_found_and_soon_is_nowhere_goes_for_good(model):
    video, _ = asked(model, FIRST, FLASH, frame_idx=4)
    assert ids(video) == [1, 2]
    video.propagate()
    assert ids(video) == [1]
    video.set_label(1, "ball")
    video.frame(4).add_point(10, 50)
    assert [i.object_id for i in video.frame(4).instances] == [1, 3]
    video.undo()
    video.undo()
    video.undo()  # the propagation
    assert ids(video) == [1, 2]
    assert [i.object_id for i in video.frame(4).instances] == [1, 2]


@pytest.mark.parametrize("said", ["click", "label"])
def test_what_a_person_touched_is_never_given_up(model, said):
    video, _ = asked(model, FIRST, FLASH, frame_idx=4)
    if said == "click":
        video.add_point(50, 50, object_id=2, frame_idx=4)
    else:
        video.set_label(2, "mine")
    video.propagate()
    assert ids(video) == [1, 2]
    assert frames_of(video, 2) == list(range(4, LENGTH))


def test_words_after_clicks_find_the_clicked_object_once(model):
    video = VideoSession(clip(FIRST, SECOND), model)
    box = video.add_box((4, 5, 14, 15), frame_idx=0)
    video.propagate(stop=3)
    video.set_text("red", frame_idx=0)
    assert ids(video) == [box.object_id]
    assert video.objects[0].label == "red"
    video.propagate()
    assert ids(video) == [1, 2]
    assert frames_of(video, 1) == list(ALWAYS)


def test_what_was_clicked_without_words_is_not_found_once_more(model):
    video, _ = asked(model, FIRST, SECOND)
    video.add_box((16, 25, 26, 35), frame_idx=3)
    video.propagate()
    assert ids(video) == [1, 2]
    assert (video.objects[1].label, video.objects[1].concept_id) == ("", None)


def test_a_click_on_what_was_found_is_carried_on(model):
    video, concept = asked(model, FIRST, SECOND)
    video.propagate()
    video.add_point(60, 50, object_id=2, frame_idx=5)
    assert frames_of(video, 2) == [3, 4, 5]
    assert video.objects[1].concept_id == concept.concept_id
    model.stepped.clear()
    video.propagate()
    assert model.stepped == [(2, frame_idx) for frame_idx in range(6, LENGTH)]
    assert video.masks[6][2][50, 64]
    assert ids(video) == [1, 2]


def test_a_removed_object_is_not_found_again(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate(stop=6)
    video.remove_object(2)
    video.propagate()
    assert ids(video) == [1]
    assert video.undo()
    assert video.undo()
    assert ids(video) == [1, 2]
    video.propagate()
    assert frames_of(video, 2) == list(range(3, LENGTH))


@pytest.mark.parametrize("way", ["clicks", "masks"])
def test_an_id_that_was_removed_can_be_given_again(model, way):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate()
    video.remove_object(2)
    mask = at(SECOND, 0) | at((RED, ALWAYS, 60, 45), 0)
    if way == "clicks":
        video._live.frame(0).run("set_points", {"points": [(70, 50, True, 2)]})
    else:
        video.load_masks({2: {0: mask}})
    assert frames_of(video, 2) == [0]
    assert [i.concept_id for i in video.objects] == [1, None]
    video.propagate(stop=3)
    assert frames_of(video, 2) == [0, 1, 2]


@pytest.mark.parametrize("frame_idx", [0, 4])
def test_an_object_that_the_words_found_is_removed_for_good_from_any_frame(model, frame_idx):
    video, _ = asked(model, FIRST, (RED, ALWAYS, 4, 25))
    video.propagate(stop=5)
    video.frame(frame_idx).remove_object(1)
    video.propagate()
    video.set_text("red", frame_idx=0)
    assert ids(video) == [2]
    assert [i.object_id for i in video.frame(0).instances] == [2]
    assert frames_of(video, 2) == list(ALWAYS)


def test_undo_takes_back_what_was_found_and_redo_asks_for_it_again(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate()
    video.undo()
    assert (ids(video), frames_of(video, 1)) == ([1], [0])
    video.add_box((50, 40, 60, 50), frame_idx=0)
    video.propagate()
    assert ids(video) == [1, 2, 3]
    assert video.objects[2].label == "red"


def test_other_words_find_other_objects(model):
    video, _ = asked(model, FIRST, SECOND, STRANGER)
    video.propagate()
    video.set_text("green", frame_idx=0)
    assert ids(video) == []
    video.propagate()
    assert [(i.object_id, i.label) for i in video.objects] == [(3, "green")]
    assert frames_of(video, 3) == list(range(2, LENGTH))


def test_a_concept_that_is_removed_takes_along_what_was_found(model):
    video, concept = asked(model, FIRST, SECOND, (RED, range(5, LENGTH), 4, 45))
    video.propagate()
    assert ids(video) == [1, 2, 3]
    video.set_label(3, "mine")
    video.remove_concept(concept)
    assert [(i.object_id, i.concept_id) for i in video.objects] == [(3, None)]
    video.undo()
    assert [i.concept_id for i in video.objects] == [1, 1, 1]


def test_two_concepts_are_looked_for_at_once(model):
    video, _ = asked(model, FIRST, SECOND, STRANGER)
    video.add_concept("green", frame_idx=0)
    video.propagate()
    assert {(i.object_id, i.label) for i in video.objects} == {(1, "red"), (2, "green"), (3, "red")}
    assert model.sought[:2] == [(1, "red"), (1, "green")]


def test_the_same_words_on_two_frames_are_looked_for_once(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate(stop=5)
    video.set_text("red", frame_idx=4)
    assert ids(video) == [1, 2]
    video.propagate()
    assert ids(video) == [1, 2]
    assert looked(model) == list(range(1, LENGTH))


def test_a_lower_threshold_looks_again(model):
    video, _ = asked(model, FIRST, SECOND)
    video.frame(0).set_score_threshold(0.9)
    video.propagate()
    assert ids(video) == [1]
    video.frame(0).set_score_threshold(0.5)
    video.propagate()
    assert ids(video) == [1, 2]
    assert frames_of(video, 1) == list(ALWAYS)


@pytest.mark.parametrize("way", ["object_ids", "at", "exemplar", "before", "elsewhere"])
def test_nothing_is_looked_for(model, way):
    video = VideoSession(clip(FIRST, SECOND), model)
    if way == "exemplar":
        video.add_exemplar((4, 5, 14, 15), frame_idx=0)
    else:
        video.set_text("red", frame_idx=9 if way == "before" else 0, at=(8, 8) if way == "at" else None)
    video.propagate(start=5 if way == "elsewhere" else None, object_ids=[1] if way == "object_ids" else None)
    assert looked(model) == []
    assert ids(video) == ([1, 2] if way == "before" else [1])


def test_backward_finds_what_was_in_view_earlier(model):
    video, _ = asked(model, FIRST, (RED, range(6), 4, 25), frame_idx=8)
    video.propagate(direction="backward")
    assert looked(model) == list(range(7, -1, -1))
    assert ids(video) == [1, 2]
    assert frames_of(video, 2) == list(range(6))


def test_both_ways_look_on_every_frame_but_their_own(model):
    video, _ = asked(model, FIRST, SECOND, (RED, range(3), 4, 45), frame_idx=5)
    assert ids(video) == [1, 2]
    video.remove_object(2)
    video.propagate(direction="both")
    assert looked(model) == [6, 7, 8, 9, 4, 3, 2, 1, 0]
    assert ids(video) == [1, 3]
    assert frames_of(video, 3) == [0, 1, 2]


def test_words_that_change_meanwhile_take_nothing_of_it(model):
    video, _ = asked(model, FIRST, SECOND, STRANGER)
    video.propagate(stop=3)
    model.track_gate.clear()
    model.tracking.clear()
    job = video.propagate(stop=5, wait=False)
    assert model.tracking.wait(10)
    video._live.frame(0).run("set_text", {"text": "green"}, wait=False)  # the model is busy
    model.track_gate.set()
    assert job.wait(10)
    video._live.settle()
    assert all(i.label != "red" for i in video.objects)


def test_undo_meanwhile_leaves_no_find_behind(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate(stop=3)
    model.track_gate.clear()
    model.tracking.clear()
    job = video.propagate(stop=4, wait=False)
    assert model.tracking.wait(10)
    for _ in range(3):
        video.undo()
    assert ids(video) == []
    model.track_gate.set()
    job.wait(10)
    assert ids(video) == []


def test_cancel_keeps_what_was_found(model):
    video, _ = asked(model, FIRST, SECOND)

    def stop(fraction):
        if 2 in ids(video):
            raise CancelledError

    with pytest.raises(CancelledError):
        video.propagate(progress=stop)
    assert ids(video) == [1, 2]


def test_reset_forgets_what_was_found(model):
    video, _ = asked(model, FIRST, SECOND)
    video.propagate()
    video.remove_object(2)
    video.reset()
    assert ids(video) == []
    video.set_text("red", frame_idx=3)
    assert len(ids(video)) == 2


def test_a_live_source_finds_what_comes_into_view(model):
    frames = list(clip(FIRST, SECOND, FLASH))
    video = VideoSession(iter(frames), model)
    video.set_text("red", frame_idx=0)
    steps = [video.step(frame) for frame in frames[1:]]
    assert [sorted(step.masks) for step in steps] == [
        [1],
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2],
        [1, 2],
        [1, 2],
        [1, 2],
        [1, 2],
    ]


def test_a_tracker_that_does_not_look_carries_as_ever(model):
    model.seeks = False
    video, _ = asked(model, FIRST, SECOND)
    video.propagate()
    assert ids(video) == [1]
    assert looked(model) == []


def forget(video):
    sheets = list(video._live.state.sheets.values())
    for concept in sheets[0].concepts[:1] if sheets else ():
        video.remove_concept(concept.concept_id)


ACTIONS = {
    "words": lambda video, frame_idx, _: video.set_text("red", frame_idx=frame_idx),
    "other words": lambda video, frame_idx, _: video.set_text("green", frame_idx=frame_idx),
    "more words": lambda video, frame_idx, _: video.add_concept("any", frame_idx=frame_idx),
    "box": lambda video, frame_idx, _: video.add_box((8, 30, 20, 42), frame_idx=frame_idx),
    "propagate": lambda video, *_: video.propagate(),
    "both ways": lambda video, *_: video.propagate(direction="both"),
    "forget": lambda video, *_: forget(video),
    "click": lambda video, frame_idx, one: video.add_point(12 + frame_idx, 14, object_id=one, frame_idx=frame_idx),
    "label": lambda video, frame_idx, one: video.set_label(one, f"class {frame_idx}"),
    "lock": lambda video, _, one: video.set_locked(one, locked=True),
    "remove": lambda video, frame_idx, one: video.frame(frame_idx).remove_object(one),
}
"""What a person does, on a frame, or to one of the objects."""


def act(video, action, frame_idx):
    objects = ids(video) or [1]
    with suppress(LockedError, NotFoundError):
        ACTIONS[action](video, frame_idx, objects[frame_idx % len(objects)])


def told(video):
    masks = [(f, k, m.tobytes()) for f in video.masks for k, m in video.masks[f].items()]
    return masks, [(o.object_id, o.label, o.concept_id) for o in video.objects]


def assert_sound(video):
    state = video._live.state
    objects = ids(video)
    asked = {c.concept_id for sheet in state.sheets.values() for c in sheet.concepts}
    assert objects == sorted(set(objects))
    assert state.common.next_object_id > max([*objects, *state.shadows], default=0)
    assert not state.shadows.keys() & set(objects)
    assert state.tracks.keys() <= set(objects) | state.shadows.keys()
    assert {o.concept_id for o in video.objects} - {None} <= asked
    assert {*state.shadows.values(), *state.looked} <= asked
    assert all(frames_of(video, object_id) for object_id in objects), "every object is known somewhere"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*ACTIONS]), st.integers(0, LENGTH - 1)), max_size=9))
def test_whatever_is_said_the_clip_is_sound_and_undo_and_redo_restore_it(actions):
    toy = ToyModel(EVERYTHING)
    toy.seeks = True
    video = VideoSession(clip(FIRST, SECOND, STRANGER, FLASH), toy)
    states = [told(video)]
    for action, frame_idx in actions:
        steps = len(video.history)
        act(video, action, frame_idx)
        assert_sound(video)
        if len(video.history) > steps:
            states.append(told(video))
        else:
            assert told(video) == states[-1]
    for state in states[-2::-1]:
        assert video.undo()
        assert told(video) == state
    for state in states[1:]:
        assert video.redo()
        assert told(video) == state
