"""Concepts: what is found becomes ordinary instances, and nothing a person did is lost."""

import math
import threading

import numpy as np
import pytest

from sam3_widget.errors import (
    CancelledError,
    InvalidPromptError,
    ModelError,
    NotFoundError,
    PromptWarning,
    UnsupportedError,
)
from sam3_widget.models.base import Capabilities
from sam3_widget.session import Session
from tests.toy import ToyModel

# (x1, y1, x2, y2) of bright spots on a dark image of 160 x 120, largest first.
RED, GREEN, SMALL_RED, BLUE = (10, 10, 50, 50), (70, 10, 100, 50), (110, 60, 135, 90), (20, 80, 40, 100)


def picture(*spots):
    image = np.full((120, 160, 3), 30, np.uint8)
    for (x1, y1, x2, y2), channel in spots:
        image[y1:y2, x1:x2, channel] = 230
    return image


KITCHEN = picture((RED, 0), (GREEN, 1), (SMALL_RED, 0), (BLUE, 2))


@pytest.fixture
def model():
    return ToyModel()


@pytest.fixture
def session(model):
    return Session(KITCHEN, model)


def ids(session):
    return session.object_ids.tolist()


def shown(session, spot):
    """Which instances cover the middle of a spot."""
    x, y = (spot[0] + spot[2]) // 2, (spot[1] + spot[3]) // 2
    return [i.object_id for i in session.instances if i.mask[y, x]]


def settled(session):
    live = session._live
    with live.lock:
        assert live.lock.wait_for(lambda: not any(c.pending for c in live.state.concepts), 30)


def test_set_text_finds_every_instance_with_label_score_and_mask(session):
    concept = session.set_text("red")
    assert len(concept) == 2
    assert session.labels == ["red", "red"]
    assert session.classes == ("red",)
    assert session.scores.tolist() == pytest.approx([0.95, 0.85])
    assert session.boxes[0].tolist() == pytest.approx(RED, abs=3)
    assert concept.presence == pytest.approx(0.9)
    assert concept.note is None
    assert session.text == "red"
    assert session.selected is None


def test_semantic_mask_stands_beside_the_instances(session):
    assert not session.semantic_mask.any()
    session.set_text("red")
    session.add_concept("blue")
    for spot in (RED, SMALL_RED, BLUE):
        assert session.semantic_mask[spot[1] + 5, spot[0] + 5]
    assert not session.semantic_mask[GREEN[1] + 5, GREEN[0] + 5]
    only_red = session.concepts[0].semantic_mask
    assert not only_red[BLUE[1] + 5, BLUE[0] + 5]
    session.remove_object(shown(session, RED)[0])
    assert session.semantic_mask[RED[1] + 5, RED[0] + 5]


def test_two_concepts_live_side_by_side_and_each_goes_alone(session, model):
    red = session.add_concept("red")
    blue = session.add_concept("blue")
    assert session.labels == ["red", "red", "blue"]
    assert model.encoded == 1
    session.remove_concept(red)
    assert session.labels == ["blue"]
    assert session.text == "blue"
    assert session.add_concept("blue").concept_id == blue.concept_id
    assert len(session.concepts) == 1


def test_thresholds_filter_what_is_cached_and_bring_the_same_ids_back(session, model):
    session.set_text("thing")
    everything = ids(session)
    assert everything == [1, 2, 3, 4]
    session.score_threshold = 0.8
    assert ids(session) == [1, 2]
    session.set_score_threshold(0.7, session.concepts[0])
    assert ids(session) == [1, 2, 3]
    session.mask_threshold = 0.9
    session.score_threshold = 0.1
    assert ids(session) == everything
    assert len(model.detected) == 1


@pytest.mark.parametrize("value", [0, 1, 0.04, math.nan, "high"])
def test_score_threshold_out_of_range_is_refused(session, value):
    session.set_text("red")
    with pytest.raises(InvalidPromptError, match="score_threshold"):
        session.score_threshold = value
    assert ids(session) == [1, 2]


def test_filtering_a_negative_box_leaves_out_what_lies_in_it_though_the_model_shrugs(session, model):
    session.set_text("red")
    kept = shown(session, SMALL_RED)
    concept = session.add_exemplar(RED, positive=False)
    assert model.detected[-1].labels.tolist() == [False]
    assert shown(session, RED) == []
    assert shown(session, SMALL_RED) == kept == list(concept.object_ids)
    session.remove_exemplar(concept.exemplars[0])
    assert shown(session, RED) != []


def test_disambiguation_positive_box_alone_starts_a_concept_without_words(session, model):
    concept = session.add_exemplar(BLUE)
    assert (concept.text, model.detected[-1].text) == ("", "")
    assert session.scores.max() == pytest.approx(0.99)
    assert session.labels == [""] * 4
    session.set_text("blue")
    assert session.concepts[0].exemplars
    assert session.labels == ["blue"]
    session.set_text("red")
    assert session.concepts[0].exemplars == ()


def test_exemplars_start_a_concept_of_a_class_and_leave_one_that_is_there_its_own(session, tmp_path):
    first = session.add_exemplar(BLUE, label=" spot ")
    session.add_exemplar_point(30, 40, label="dot")
    assert [c.concept_id for c in session.concepts] == [first.concept_id]
    assert session.labels == ["spot"] * len(session.instances)
    session.select_concept(None)
    session.add_exemplar_point(30, 40, label="dot")
    assert set(session.labels) == {"spot", "dot"}
    session.save(tmp_path / "s.sam3.json")
    again = Session.load(tmp_path / "s.sam3.json", KITCHEN, session.model)
    again.score_threshold = 0.99
    again.score_threshold = session.concepts[0].score_threshold
    assert again.labels == session.labels
    assert "label=' spot ')" in session.script()
    session.set_text("blue")
    assert session.labels[-1] == "dot"  # words make it clearer, and take no class away
    with pytest.raises(InvalidPromptError, match="label must be one line of text"):
        session.add_exemplar(BLUE, label=3)


def test_negative_exemplar_without_a_concept_is_refused(session):
    with pytest.raises(InvalidPromptError, match="positive exemplar first"):
        session.add_exemplar(RED, positive=False)
    assert session.concepts == ()


def test_precision_text_with_a_click_means_that_one_only(session, model):
    concept = session.set_text("thing", at=(120, 70))
    assert shown(session, SMALL_RED) == list(concept.object_ids)
    assert len(session.instances) == 1
    session.set_text("thing", at=(30, 90))
    assert shown(session, BLUE) == ids(session)
    session.set_text("thing")
    assert len(session.instances) == 4
    assert len(model.detected) == 1


def test_text_at_nothing_says_so(session):
    concept = session.set_text("red", at=(5, 110))
    assert len(concept) == 0
    assert "at (5, 110)" in concept.note


def test_a_class_of_its_own_is_that_of_all_that_is_found(session, tmp_path):
    session.add_concept("red", label=" berry ")
    assert (session.labels, session.text, session.classes) == (["berry", "berry"], "red", ("berry",))
    assert session.add_concept("red", label="cherry").concept_id == 1  # it is there, and keeps its own
    session.score_threshold = 0.99
    assert session.labels == []
    session.score_threshold = 0.5
    assert session.labels == ["berry", "berry"]
    session.save(tmp_path / "s.sam3.json")
    again = Session.load(tmp_path / "s.sam3.json", KITCHEN, session.model)
    again.score_threshold = 0.99
    again.score_threshold = 0.4
    assert again.labels == ["berry", "berry"]
    assert "s.add_concept('red', label=' berry ')" in session.script()
    session.set_text("blue")
    assert session.labels == ["blue"]
    with pytest.raises(InvalidPromptError, match="label must be one line of text"):
        session.add_concept("green", label="a\nb")


def test_a_score_at_the_threshold_counts(session):
    session.set_text("red")
    session.score_threshold = 0.95
    assert session.scores.tolist() == pytest.approx([0.95])


def test_naming_a_concept_drops_the_selection_and_nothing_else(session):
    session.add_box(GREEN)
    session.set_text("red")
    assert session.selected is None
    assert len(session.instances) == 3


def test_nothing_at_all_says_so():
    concept = Session(picture((RED, 0)), ToyModel()).set_text("blue")
    assert concept.note == "Nothing like “blue” found"


def test_no_instance_says_why(session):
    session.score_threshold = 0.96
    concept = session.set_text("red")
    assert "best score is 0.95" in concept.note


def test_click_on_a_detected_instance_starts_from_the_detector_s_logits(session, model):
    session.set_text("red")
    object_id = shown(session, RED)[0]
    before = session.instance(object_id).mask
    after = session.add_point(40, 30, positive=False, object_id=object_id)
    previous = model.asked[-1][1]
    assert previous.shape == (60, 80)
    assert previous.max() == 8
    assert not after.mask[30, 40]
    assert after.mask[14, 14]
    assert np.count_nonzero(before & ~after.mask) < before.sum() / 2
    session.remove_point(after.points[0])
    assert (session.instance(object_id).mask == before).all()
    assert object_id in ids(session)


def test_new_detection_keeps_ids_labels_and_what_a_person_did(session):
    session.set_text("thing")
    refined, labelled, locked, plain = (shown(session, s)[0] for s in (RED, GREEN, SMALL_RED, BLUE))
    session.add_point(45, 45, positive=False, object_id=refined)
    session.set_label(labelled, "lid")
    session.set_locked(locked, locked=True)
    session.set_visible(plain, visible=False)
    before = {i.object_id: i.mask for i in session.instances}
    session.add_exemplar((100, 100, 110, 110), positive=False)
    assert ids(session) == [1, 2, 3, 4]
    for instance in session.instances:
        assert (instance.mask == before[instance.object_id]).all()
    assert session.instance(labelled).label == "lid"
    assert not session.instance(plain).visible
    session.set_text("blue")
    assert set(ids(session)) == {1, 2, 3, 4}
    assert session.instance(plain).label == "blue"
    session.set_text("nothing at all like it", at=(1, 1))
    assert set(ids(session)) == {refined, labelled, locked}


def test_hand_made_instance_is_not_found_a_second_time(session):
    box = session.add_box(RED)
    concept = session.set_text("red")
    assert len(concept) == 2
    assert shown(session, RED) == [box.object_id]
    assert session.instance(box.object_id).label == "red"
    session.remove_concept(concept)
    assert ids(session) == [box.object_id]


def test_removed_instance_does_not_come_back_with_the_next_detection(session):
    session.set_text("red")
    session.remove_object(shown(session, RED)[0])
    session.score_threshold = 0.2
    assert shown(session, RED) == []
    session.add_exemplar(SMALL_RED)
    assert shown(session, RED) == []
    session.set_text("thing")
    assert shown(session, RED) != []


def test_removed_instance_comes_back_when_a_person_points_at_it(session):
    session.set_text("red")
    session.remove_object(shown(session, RED)[0])
    session.add_exemplar(RED)
    assert shown(session, RED)
    session.remove_object(shown(session, RED)[0])
    session.add_exemplar_point(30, 30)
    assert shown(session, RED)
    session.remove_object(shown(session, RED)[0])
    session.set_text("red", at=(30, 30))
    assert shown(session, RED)


def test_negative_exemplar_taken_back_brings_the_same_instance_back(session):
    session.set_text("red")
    object_id = shown(session, RED)[0]
    session.set_visible(object_id, visible=False)
    concept = session.add_exemplar(RED, positive=False)
    assert shown(session, RED) == []
    session.score_threshold = 0.9
    session.score_threshold = 0.5
    session.remove_exemplar(concept.exemplars[0])
    assert shown(session, RED) == [object_id]
    assert not session.instance(object_id).visible


def test_other_words_that_fail_leave_what_was_there(session, model):
    session.set_text("red", at=(30, 30))
    model.fails = RuntimeError("once")
    with pytest.raises(ModelError):
        session.set_text("blue")
    assert session.labels == ["red"]
    assert session.classes == ("red",)


def test_refined_instance_leaves_the_concept_when_its_words_change(session):
    session.set_text("red")
    object_id = shown(session, RED)[0]
    session.add_point(45, 45, positive=False, object_id=object_id)
    concept = session.set_text("no such thing", at=(1, 1))
    assert len(concept) == 0
    assert concept.note
    assert session.labels == ["red"]
    session.set_text("blue")
    assert session.instance(object_id).label == "red"
    assert session.instance(object_id).concept_id is None


@pytest.mark.parametrize("change", ["stroke", "mask", "threshold"])
def test_instance_is_not_found_a_second_time_however_it_was_changed(session, change):
    session.set_text("red")
    object_id = shown(session, RED)[0]
    if change == "stroke":
        session.add_stroke([(30, 20), (30, 30)], 18, positive=False, object_id=object_id)
    elif change == "mask":
        mask = np.zeros((120, 160), bool)
        mask[12:20, 12:20] = True
        session.set_mask(mask, object_id=object_id)
    else:
        session.set_locked(object_id, locked=True)
        session.mask_threshold = 0.999
    session.add_exemplar((100, 100, 110, 110), positive=False)
    assert len(session.instances) == 2


def test_what_a_person_frees_follows_the_newest_detection(session):
    box = session.add_box(RED)
    session.set_text("red")
    session.remove_box(box.object_id)
    assert shown(session, RED)
    session.set_locked(shown(session, RED)[0], locked=True)
    session.set_text("blue")
    assert session.labels == ["red", "blue"]
    session.set_locked(session.instances[0].object_id, locked=False)
    assert session.labels == ["red", "blue"]


def test_the_same_words_while_they_are_looked_for_wait_for_the_answer(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "red"}, wait=False)
    assert model.detecting.wait(30)
    threading.Timer(0.05, model.detect_gate.set).start()
    assert len(session.set_text("red")) == 2


def test_object_drawn_while_its_concept_is_looked_for_is_not_found_once_more(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "red"}, wait=False)
    assert model.detecting.wait(30)
    session._live.run("add_box", {"box": RED}, wait=False)
    model.detect_gate.set()
    settled(session)
    assert shown(session, RED) == [1]


def test_unrelated_undo_does_not_ask_for_what_failed(session, model):
    model.fails = RuntimeError("once")
    with pytest.raises(ModelError):
        session.set_text("red")
    session.mask_threshold = 0.4
    session.undo()
    assert len(model.detected) == 1


def test_unloading_ends_the_waiting(session, model):
    model.detect_gate.clear()
    errors = []

    def ask():
        try:
            session.set_text("red")
        except ModelError as error:
            errors.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert model.detecting.wait(30)
    session._live.engine.close()
    waiting.join(30)
    assert "unloaded" in errors[0]


def test_quick_exemplar_clicks_are_placed_once_each(session, model):
    session.set_text("thing")
    model.detect_gate.clear()
    for k in range(4):
        session._live.run("add_exemplar_point", {"x": 60, "y": 60 + 10 * k}, wait=False)
    model.detect_gate.set()
    settled(session)
    assert len(model.asked) == 4


@pytest.mark.parametrize("x", [float("nan"), float("inf"), -1, 160, None, "4"])
def test_exemplar_click_at_no_position_is_refused(session, x):
    session.set_text("red")
    with pytest.raises(InvalidPromptError):
        session.add_exemplar_point(x, 5)


def test_numpy_scalars_are_numbers(session):
    session.set_text("red")
    concept = session.add_exemplar_point(np.float32(30), np.int64(30), positive=np.bool_(0))
    assert concept.exemplars[0].box == pytest.approx(RED, abs=3)
    session.set_text("red", at=np.array([120, 70]))
    assert len(session.instances) == 1


def test_concept_mode_click_on_a_missed_object_becomes_a_positive_exemplar(session, model):
    session.set_text("red")
    concept = session.add_exemplar_point(85, 30)
    assert model.detected[-1].boxes[0] == pytest.approx([73, 18, 97, 42], abs=3)
    exemplar = concept.exemplars[0]
    assert exemplar.box == pytest.approx(model.detected[-1].boxes[0])
    assert exemplar.point == (85, 30)


def test_concept_mode_click_on_a_false_positive_takes_its_whole_box(session, model):
    session.set_text("red")
    before = len(model.asked)
    session.add_exemplar_point(30, 30, positive=False)
    assert len(model.asked) == before
    assert model.detected[-1].boxes[0] == pytest.approx(RED, abs=3)
    assert shown(session, RED) == []
    session.flip_exemplar(session.concepts[0].exemplars[0])
    assert shown(session, RED) != []


def test_undo_and_redo_ask_no_model(session, model):
    session.set_text("red")
    session.add_concept("blue")
    session.add_exemplar(RED, positive=False, concept=1)
    session.add_point(25, 90, object_id=shown(session, BLUE)[0])
    states = [ids(session)]
    asked = len(model.asked), len(model.detected)
    while session.undo():
        states.append(ids(session))
    assert states[-1] == []
    for expected in reversed(states[:-1]):
        assert session.redo()
        assert ids(session) == expected
    assert (len(model.asked), len(model.detected)) == asked


def test_detection_that_arrives_after_other_commands_keeps_both(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "red"}, wait=False)
    assert model.detecting.wait(30)
    session._live.run("add_box", {"box": GREEN}, wait=False)
    session._live.run("set_label", {"object_id": 1, "label": "lid"}, wait=False)
    model.detect_gate.set()
    settled(session)
    assert session.labels == ["lid", "red", "red"]
    session.undo()
    session.undo()
    assert session.labels == ["red", "red"]
    reds = ids(session)
    session.redo()
    session.redo()
    assert ids(session) == [1, *reds]


def test_click_made_while_a_concept_is_looked_for_is_answered_first_when_it_is_over(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "red"}, wait=False)
    assert model.detecting.wait(30)
    session._live.run("add_concept", {"text": "blue"}, wait=False)
    session._live.run("add_point", {"x": 5, "y": 110}, wait=False)
    model.detect_gate.set()
    settled(session)
    assert [c.text for c in model.detected] == ["red", "blue"]
    assert session.instance(1).area > 0


def test_changed_concept_stops_the_detection_under_way(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "green"}, wait=False)
    assert model.detecting.wait(30)
    model.detecting.clear()
    session._live.run("set_text", {"text": "blue"}, wait=False)
    assert model.detecting.wait(30)  # though the first was never let through
    model.detect_gate.set()
    settled(session)
    assert [c.text for c in model.detected] == ["green", "blue"]
    assert session.labels == ["blue"]


def test_cancel_while_detecting_keeps_the_concept_and_undo_and_redo_ask_again(session, model):
    model.detect_gate.clear()
    session._live.run("set_text", {"text": "red"}, wait=False)
    assert model.detecting.wait(30)
    session.cancel()
    concept = session._live.state.concepts[0]
    assert isinstance(concept.finding.error, CancelledError)
    model.detect_gate.set()
    session.undo()
    session.redo()
    assert session.labels == ["red", "red"]


def test_failed_detection_raises_and_keeps_everything(session, model):
    session.set_text("red")
    model.fails = RuntimeError("out of memory")
    with pytest.raises(ModelError, match="out of memory"):
        session.set_text("blue")
    assert session.text == "blue"
    assert session.labels == ["red", "red"]
    session.add_exemplar(BLUE)
    assert session.labels == ["blue"]


@pytest.mark.parametrize("verb", ["set_text", "add_concept"])
def test_the_same_words_again_ask_again_for_what_failed(session, model, verb):
    model.fails = RuntimeError("once")
    with pytest.raises(ModelError, match="once"):
        session.set_text("red")
    assert len(getattr(session, verb)("red")) == 2
    getattr(session, verb)("red")
    assert len(model.detected) == 2


def test_model_without_text_says_what_it_takes():
    session = Session(KITCHEN, ToyModel(Capabilities(points=True)))
    with pytest.raises(UnsupportedError, match="text"):
        session.set_text("red")
    with pytest.raises(UnsupportedError, match="exemplars"):
        session.add_exemplar(RED)
    assert session.concepts == ()


@pytest.mark.parametrize("text", ["", "   ", "a\nb", None, 5, "x" * 300])
def test_bad_text_is_refused(session, text):
    with pytest.raises(InvalidPromptError, match="phrase"):
        session.set_text(text)
    assert session.concepts == ()


def test_negative_box_of_one_object_is_refused_with_the_way(session):
    with pytest.raises(UnsupportedError, match="add_exemplar"):
        session.add_box(RED, positive=False)


def test_unknown_ids_are_named(session):
    session.set_text("red")
    with pytest.raises(NotFoundError, match=r"concept_id 9.*1 \(“red”\)"):
        session.remove_concept(9)
    with pytest.raises(NotFoundError, match="exemplar_id 9"):
        session.remove_exemplar(9)


def test_more_points_than_the_model_looks_at_is_said(session, model):
    model.max_points = 4
    instance = session.add_box(RED)
    for k in range(4):
        instance = session.add_point(15 + k, 15, object_id=instance.object_id)
    assert instance.note is None
    with pytest.warns(PromptWarning, match="first 2 and the last 2 of these 5"):
        session.add_point(30, 30, object_id=instance.object_id)


def test_reset_removes_concepts_and_undo_brings_them_back(session, model):
    session.set_text("red")
    session.reset()
    assert session.concepts == ()
    assert ids(session) == []
    session.undo()
    assert session.labels == ["red", "red"]
    assert len(model.detected) == 1
