"""Images that come with masks: which ones, in which order, and what becomes of their scores."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam3_widget import label_images
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError, InvalidImageError
from sam3_widget.io import AnnotatedImage, read_coco
from sam3_widget.io.annotations import AnnotatedObject
from tests.dataset.folders import COUNT, annotation, click, disc, drawn, files, labels, picture
from tests.toy import ToyModel

GIVEN = (
    annotation("images/00.png", ("cat", 15, 15, 0.8), ("dog", 50, 15, 0.6)),
    annotation("02.png", ("cat", 15, 15, 0.3)),
    annotation("images/03.png", ("bird", 60, 40, float("nan"))),
    annotation("images/04.png", ("cat", 20, 40, 0.7)),
)


def named(work, given=GIVEN):
    """Return annotations whose names are paths, where they are not names alone."""
    return [
        AnnotatedImage(
            str(work / one.file_name) if "/" in one.file_name else one.file_name, one.height, one.width, one.objects
        )
        for one in given
    ]


def test_images_start_with_their_masks_and_the_lowest_score_goes_first(opened, work):
    data = opened(annotations=named(work))
    assert data.entries.order == "score"
    assert data.entries.sequence == [2, 0, 4, 1, 3, 5]
    assert data.current == 2
    assert [entry.score for entry in data.entries] == [0.6, None, 0.3, None, 0.7, None]
    assert data.counts == {"cat": 3, "dog": 1, "bird": 1}
    assert not data.entries.resumed
    masks = drawn(data.show(0))
    assert masks == {1: ("cat", disc(15, 15).to_bytes()), 2: ("dog", disc(50, 15).to_bytes())}
    assert "bird" in data.live.state.classes
    assert data.entries.following(0) == (4, 1)
    assert data.entries.following(0, -1) == (2,)


@pytest.mark.parametrize(("order", "sequence"), [("given", [0, 1, 2, 3, 4, 5]), ("score", [2, 0, 4, 1, 3, 5])])
def test_the_order_can_be_chosen(opened, work, order, sequence):
    data = opened(annotations=named(work), order=order)
    assert (data.entries.order, data.entries.sequence, data.current) == (order, sequence, sequence[0])


def test_annotations_without_scores_leave_the_images_as_they_are_given(opened, work):
    data = opened(annotations=named(work, GIVEN[2:3]))
    assert (data.entries.order, data.current) == ("given", 0)


def test_the_order_of_a_review_is_that_of_the_scores_by_now(opened, work):
    data = opened(annotations=named(work))
    data.live.run("remove_object", {"object_id": 1})
    data.show(0)
    data.close()
    again = opened(annotations=named(work))
    assert (again.entries.sequence, again.current) == ([0, 4, 1, 2, 3, 5], 0)


def test_the_output_of_label_images_is_reviewed(opened, work, out):
    raw = work / "raw.json"
    label_images(work / "images", raw, text=["red", "blue"], model=ToyModel())
    before = files(work)
    data = opened(annotations=raw)
    assert data.entries.order == "score"
    assert data.counts == {"cat": 0, "dog": 0, "red": COUNT, "blue": COUNT}
    for k in range(COUNT):
        data.decide(k, "accepted")
    data.close()
    reviewed = read_coco(out)
    for ours, theirs in zip(reviewed, read_coco(raw), strict=True):
        assert ours.file_name == theirs.file_name
        same = zip(ours.objects, theirs.objects, strict=True)
        assert all((a.label, a.score) == (b.label, b.score) for a, b in same)
        assert [o.mask.to_bytes() for o in ours.objects] == [o.mask.to_bytes() for o in theirs.objects]
    assert before.items() <= files(work).items()


def test_a_score_stays_until_the_mask_is_another(opened, work, out):
    data = opened(annotations=named(work))
    data.show(0)
    assert data.entries[0].score == 0.6
    data.live.run("add_point", {"x": 20, "y": 15, "object_id": 1})
    data.live.run("set_label", {"object_id": 2, "label": "bird"})
    data.decide(0, "accepted")
    data.flush()
    [one] = read_coco(out)
    assert [(o.label, o.score) for o in one.objects] == [("cat", 0.9), ("bird", 0.6)]
    assert one.objects[0].mask.area > disc(15, 15).area
    assert one.objects[0].mask.window(8, 15, 9, 16).all() == disc(15, 15).window(8, 15, 9, 16).all()
    data.live.run("undo", {})
    data.live.run("undo", {})
    data.live.run("add_stroke", {"path": [(60, 30)], "radius": 3, "object_id": 1})
    data.flush()
    [one] = read_coco(out)
    assert [(o.label, str(o.score)) for o in one.objects] == [("cat", "nan"), ("dog", "0.6")]
    data.close()
    again = opened(annotations=named(work))
    assert again.entries[0].score == 0.6
    again.show(0)
    assert (again.entries[0].score, again.entries[0].count) == (0.6, 2)


def test_a_mask_is_refined_from_where_it_was(opened, work):
    model = ToyModel()
    data = opened(annotations=named(work), model=model)
    live = data.show(4)
    live.run("add_point", {"x": 40, "y": 40, "object_id": 1})
    _, previous = model.asked[-1]
    assert previous is not None
    mask = live.mask(live.state.instance(1)).to_mask()
    assert mask[40, 20]
    assert mask[40, 40]
    assert not mask[10, 10]


def test_what_is_accepted_untouched_is_in_the_file(opened, work, out):
    data = opened(annotations=named(work))
    data.decide(4, "accepted")  # never opened
    data.decide(2, "accepted")  # on the canvas
    data.show(0)
    data.decide(0, "accepted")
    data.decide(1, "accepted")  # it had none
    data.close()
    assert labels(out) == {
        "images/04.png": ["cat"],
        "images/02.png": ["cat"],
        "images/00.png": ["cat", "dog"],
        "images/01.png": [],
    }
    assert {o.score for one in read_coco(out) for o in one.objects} == {0.8, 0.6, 0.3, 0.7}
    again = opened(annotations=named(work))
    assert again.counts == {"cat": 3, "dog": 1, "bird": 1}
    assert drawn(again.show(4)) == {1: ("cat", disc(20, 40).to_bytes())}


def test_what_was_done_here_goes_before_the_annotations(opened, work, out):
    data = opened(annotations=named(work))
    live = data.show(0)
    live.run("remove_object", {"object_id": 1})
    data.show(4).run("remove_object", {"object_id": 1})
    data.decide(4, "accepted")
    data.close()
    again = opened(annotations=named(work))
    assert [entry.count for entry in again.entries] == [1, 0, 1, 1, 0, 0]
    assert list(drawn(again.show(0))) == [2]
    assert drawn(again.show(4)) == {}
    again.close()
    without = opened()
    assert [entry.count for entry in without.entries] == [1, 0, 0, 0, 0, 0]
    assert without.entries.order == "given"


def test_a_decision_without_annotations_keeps_what_the_annotations_said(opened, work, out):
    data = opened(annotations=named(work))
    data.decide(4, "skipped")
    data.close()
    again = opened()
    assert (again.entries[4].status, again.entries[4].count, again.entries[4].score) == ("skipped", 1, 0.7)
    again.decide(4, "accepted")
    again.close()
    assert labels(out) == {"images/04.png": ["cat"]}


def test_undoing_an_import_takes_the_object_away(opened, work):
    data = opened(annotations=named(work))
    data.live.run("undo", {})
    assert data.entries[2].count == 0
    data.close()
    assert opened(annotations=named(work)).entries[2].count == 0


def test_objects_without_a_pixel_are_left_out(opened, work):
    empty = AnnotatedObject(1, "cat", RunLengths.from_mask(np.zeros((60, 80), bool)), 0.1)
    full = AnnotatedObject(7, "dog", disc(15, 15), 0.5)
    data = opened(annotations=[AnnotatedImage(str(work / "images" / "01.png"), 60, 80, (empty, full))])
    assert (data.current, data.entries[1].score, data.counts) == (1, 0.5, {"cat": 0, "dog": 1})
    data.decide(1, "accepted")
    data.close()
    assert labels(work / "labels.json") == {"images/01.png": ["dog"]}


@pytest.mark.parametrize("name", ["other.png", "images/9.png", "", "/somewhere/else.png"])
def test_annotations_of_other_images_are_refused(opened, work, name):
    before = files(work)
    with pytest.raises(FormatError, match=rf"annotations are of other images: '{name}' is not among the {COUNT} given"):
        opened(annotations=[annotation(name, ("cat", 15, 15, 0.5))])
    assert files(work) == before


def test_annotations_of_some_images_are_taken(opened, work):
    given = [annotation("other.png", ("cat", 15, 15, 0.5)), annotation("01.png", ("dog", 15, 15, 0.5))]
    assert opened(annotations=given).counts == {"cat": 0, "dog": 1}


def test_no_annotations_are_none(opened):
    data = opened(annotations=[])
    assert (data.entries.order, data.counts) == ("given", {"cat": 0, "dog": 0})


def test_a_name_that_two_images_have_is_of_neither_but_a_path_is(opened, work):
    other = work / "others"
    other.mkdir()
    Image.fromarray(picture(90)).save(other / "00.png")
    both = [work / "images" / "00.png", other / "00.png"]
    given = annotation("00.png", ("cat", 15, 15, 0.5))
    with pytest.raises(FormatError, match="other images"):
        opened(both, annotations=[given])
    data = opened(both, annotations=named(work, [annotation("others/00.png", ("cat", 15, 15, 0.5))]))
    assert [entry.count for entry in data.entries] == [0, 1]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"images": [], "annotations": []}'])
def test_a_file_that_is_no_coco_is_refused(opened, work, content):
    (work / "raw.json").write_text(content)
    before = files(work)
    with pytest.raises(FormatError, match=r"raw\.json"):
        opened(annotations=work / "raw.json")
    assert files(work) == before


def test_masks_of_another_size_are_an_error_of_their_image(opened, work, out):
    Image.fromarray(picture(90)[:40, :30]).save(work / "images" / "02.png")
    data = opened(annotations=named(work))
    assert "02.png are for 60 x 80 pixels, the session's picture is 40 x 30" in data.entries[2].error
    assert data.current == 0
    assert data.entries.following(4) == (1, 3)
    with pytest.raises(InvalidImageError, match="60 x 80 pixels"):
        data.show(2)
    click(data, 60, 50)
    data.decide(0, "accepted")
    data.close()
    assert list(labels(out)) == ["images/00.png"]
