"""What is asked of every image that nobody has touched."""

from __future__ import annotations

from sam3_widget.models.base import Capabilities
from tests.dataset.folders import annotation, click, drawn, labels
from tests.toy import ToyModel


def words(live):
    """Return the words that are asked of an image, with the score that they must reach."""
    return [(concept.text, concept.score_threshold) for concept in live.state.concepts]


def asked(data):
    """Ask of the shown image for red and green things, and surely."""
    live = data.live
    live.run("set_mask_threshold", {"value": 0.7})
    live.run("set_min_area", {"area": 4})
    live.run("set_fill_holes", {"area": 3})
    live.run("set_score_threshold", {"value": 0.4})
    live.run("add_concept", {"text": "red"})
    live.run("add_concept", {"text": "green"})
    live.run("set_score_threshold", {"value": 0.6, "concept_id": 2})
    live.settle()


def settings(live):
    said = live.state.settings
    return said.mask_threshold, said.min_area, said.fill_holes, said.score_threshold


def test_nothing_is_asked_at_first(opened):
    data = opened()
    click(data, 15, 15)
    assert data.apply_to_rest() is None
    assert data.applied is None
    assert data.show(1).history == ()


def test_words_and_thresholds_reach_untouched_images(opened):
    data = opened()
    asked(data)
    click(data, 70, 50)
    told = data.apply_to_rest()
    assert told == data.applied
    assert told == (
        "mask threshold 0.7, fill holes 3, drop islands 4, “red”, “green”, score threshold 0.4, score threshold 0.6"
    )
    live = data.show(3)
    live.settle()
    assert words(live) == words(data.open(0)) == [("red", 0.4), ("green", 0.6)]
    assert settings(live) == settings(data.open(0)) == (0.7, 4, 3, 0.4)
    assert len(drawn(live)) == 2  # and no click of the other image
    assert data.entries[3].count == 2


def test_the_class_of_what_was_found_goes_with_the_words(opened, out):
    data = opened()
    data.live.run("add_concept", {"text": "red"})
    data.live.settle()
    for one in data.live.state.instances:
        data.live.run("set_label", {"object_id": one.object_id, "label": "berry"})
    data.apply_to_rest()
    data.close()
    again = opened()
    again.show(1).settle()
    again.decide(1, "accepted")
    again.close()
    assert labels(out) == {"images/01.png": ["berry"]}


def test_it_reaches_images_that_were_opened_ahead(opened):
    data = opened()
    ahead = data.open(1)
    assert words(ahead) == []
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    live = data.show(1)
    live.settle()
    assert words(live) == [("red", 0.5)]
    assert data.entries[1].count == 1


def test_it_leaves_alone_what_a_person_worked_on(opened):
    data = opened()
    data.show(1)
    click(data, 50, 15, "dog")
    before = drawn(data.live)
    data.show(2)  # looked at, no more
    data.show(3)
    click(data, 50, 15)
    data.live.run("undo", {})
    click(data, 60, 50)
    data.decide(4, "accepted")
    data.show(0)
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    assert words(data.live) == [("red", 0.5)]
    worked = data.show(1)
    worked.settle()
    assert (words(worked), drawn(worked)) == ([], before)
    assert words(data.show(3)) == words(data.show(4)) == []
    untouched = data.show(2)
    untouched.settle()
    assert words(untouched) == [("red", 0.5)]


def test_what_a_person_worked_on_and_left_long_ago_is_left_alone(opened, out):
    data = opened()
    data.show(1)
    click(data, 50, 15, "dog")
    data.decide(1, "accepted")
    data.close()
    again = opened()
    again.show(0)
    again.live.run("set_text", {"text": "red"})
    again.apply_to_rest()
    again.open(1)
    again.apply_to_rest()  # while it lies ahead
    assert words(again.show(1)) == []
    again.close()
    assert labels(out) == {"images/01.png": ["dog"]}


def test_annotations_are_not_asked_anything(opened, work):
    data = opened(annotations=[annotation("02.png", ("cat", 15, 15, 0.5))], order="given")
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    assert (words(data.show(2)), data.entries[2].count) == ([], 1)


def test_the_last_word_counts_and_nothing_takes_it_back(opened):
    data = opened()
    data.live.run("set_text", {"text": "red"})
    assert data.apply_to_rest() == "“red”"
    data.live.run("set_text", {"text": "blue"})
    assert data.apply_to_rest() == "“blue”"
    assert words(data.show(1)) == [("blue", 0.5)]
    data.show(0).run("reset", {})
    assert data.apply_to_rest() is None
    assert words(data.show(2)) == []


def test_exemplars_stay_where_they_are(opened):
    data = opened()
    data.live.run("add_exemplar", {"box": (5, 5, 25, 25)})
    data.live.run("add_concept", {"text": "green"})
    data.live.run("set_score_threshold", {"value": 0.8, "concept_id": 2})
    assert data.apply_to_rest() == "“green”, score threshold 0.8"
    assert words(data.show(1)) == [("green", 0.8)]


def test_it_is_asked_after_a_restart_too(opened):
    data = opened()
    asked(data)
    told = data.apply_to_rest()
    data.close()
    again = opened()
    assert again.applied == told
    live = again.show(5)
    live.settle()
    assert (words(live), settings(live)) == ([("red", 0.4), ("green", 0.6)], (0.7, 4, 3, 0.4))
    again.show(0)
    again.close()
    last = opened()
    assert (last.applied, last.entries[5].count) == (told, 2)


def test_a_model_without_words_is_asked_the_rest(opened):
    data = opened()
    asked(data)
    data.apply_to_rest()
    data.close()
    again = opened(model=ToyModel(Capabilities(points=True, boxes=True)))
    live = again.show(1)
    assert (words(live), live.state.settings.mask_threshold) == ([], 0.7)
    click(again, 15, 15)
    assert again.entries[1].count == 1


def test_what_an_image_ahead_was_found_to_hold_counts_once_a_person_is_there(opened, out):
    data = opened()
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    live = data.open(1)
    live.settle()
    assert (data.entries[1].count, data.counts) == (0, {"cat": 0, "dog": 0, "red": 1})
    data.show(1)
    assert (data.entries[1].count, data.counts) == (1, {"cat": 0, "dog": 0, "red": 2})
    data.decide(1, "accepted")
    data.flush()
    assert labels(out) == {"images/01.png": ["red"]}


def test_what_was_asked_of_an_image_ahead_stays_when_it_was_looked_at(opened):
    data = opened()
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    live = data.open(1)
    live.settle()  # before a person is there
    data.show(1)
    data.show(3)
    before = drawn(live)
    data.close()
    again = opened()
    live = again.show(1)
    assert (words(live), drawn(live), live.titles[0]) == ([("red", 0.5)], before, "Add concept")
    live.run("undo", {})
    assert drawn(live) == {}


def test_what_was_asked_of_an_image_ahead_can_be_taken_back_from_elsewhere(opened):
    data = opened()
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    live = data.open(1)
    live.settle()
    live.run("undo", {})
    for k in range(2, 6):
        data.show(k)
    assert (words(data.open(1)), data.entries[1].count) == ([], 0)
    data.close()
    again = opened()
    assert (words(again.show(1)), again.entries[1].count) == ([], 0)


def test_what_is_shown_of_an_image_that_was_accepted_ahead_is_in_the_file(opened, out):
    data = opened()
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    data.open(1).settle()
    data.decide(1, "accepted")
    data.flush()
    assert labels(out) == {"images/01.png": []}
    live = data.show(1)
    data.flush()
    assert labels(out) == {"images/01.png": [label for label, _ in drawn(live).values()]} == {"images/01.png": ["red"]}
