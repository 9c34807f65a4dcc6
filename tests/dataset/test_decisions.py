"""What was decided: in the journal at once, in the COCO file soon, and in the numbers that are shown."""

from __future__ import annotations

import json
import resource
import threading

import numpy as np
import pytest
from pycocotools.coco import COCO

from sam3_widget.dataset import store as stores
from sam3_widget.errors import FormatError, InvalidPromptError, LockedError, NotFoundError
from sam3_widget.io import read_coco
from sam3_widget.labelling import output
from tests.dataset.folders import COUNT, SPOTS, as_after_a_kill, click, drawn, held, labels, settled
from tests.toy import ToyModel


class Heard:
    """Notes what a data set tells."""

    def __init__(self):
        self.rows, self.errors, self.ended = [], [], 0
        self.error_came = threading.Event()

    def told(self, indices):
        self.rows.append(list(indices))

    def failed(self, error):
        self.errors.append(error)
        self.error_came.set()

    def closed(self):
        self.ended += 1


# The COCO file


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within pycocotools
def test_the_file_holds_exactly_the_accepted_images(opened, out):
    data = opened(classes=["zebra", "dog"])
    for k, status in enumerate(["accepted", "rejected", "skipped", "open", "accepted"]):
        data.show(k)
        click(data, 15, 15, "dog")
        click(data, 50, 15, "cat")
        data.decide(k, status)
    data.flush()
    found = read_coco(out)
    assert [one.file_name for one in found] == ["images/00.png", "images/04.png"]
    assert [(o.label, o.score) for o in found[0].objects] == [("dog", 0.9), ("cat", 0.9)]
    theirs = COCO(str(out))
    assert [(c["id"], c["name"]) for c in theirs.loadCats(theirs.getCatIds())] == [(1, "zebra"), (2, "dog"), (3, "cat")]
    assert [image["file_name"] for image in theirs.loadImgs(theirs.getImgIds())] == [one.file_name for one in found]
    for one, image_id in zip(found, theirs.getImgIds(), strict=True):
        told = theirs.loadAnns(theirs.getAnnIds(imgIds=[image_id]))
        for ours, annotation in zip(one.objects, told, strict=True):
            np.testing.assert_array_equal(theirs.annToMask(annotation).astype(bool), ours.mask.to_mask())
            assert annotation["area"] == ours.mask.area > 0
    live = data.open(4)
    assert [o.mask.to_bytes() for o in found[1].objects] == [mask for _, mask in drawn(live).values()]


def test_an_object_without_a_label_is_of_the_category_object(opened, out):
    data = opened()
    click(data, 15, 15, "")
    data.decide(0, "accepted")
    data.flush()
    assert labels(out) == {"images/00.png": ["object"]}
    assert data.counts == {"cat": 0, "dog": 0, "": 1}


def test_an_accepted_image_without_objects_is_in_the_file(opened, out):
    data = opened()
    data.decide(3, "accepted")  # nobody has even opened it
    data.flush()
    assert labels(out) == {"images/03.png": []}
    assert [(one.height, one.width) for one in read_coco(out)] == [(60, 80)]


def test_a_correction_of_an_accepted_image_is_in_the_file_after_a_flush(opened, out):
    data = opened()
    click(data, 15, 15)
    data.decide(0, "accepted")
    data.flush()
    click(data, 50, 15, "dog")
    data.flush()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    data.live.run("undo", {})
    data.live.run("set_label", {"object_id": 1, "label": "dog"})
    data.flush()
    assert labels(out) == {"images/00.png": ["dog"]}
    assert data.entries[0].status == "accepted"


def test_a_correction_is_in_the_file_without_a_flush_once_the_image_was_left(opened, out):
    data = opened()
    data.decide(0, "accepted")
    click(data, 15, 15)
    data.show(1)
    data.store.flush()
    assert labels(out) == {"images/00.png": ["cat"]}


def test_a_correction_by_the_model_after_the_image_was_left_is_in_the_file(opened, out):
    model = ToyModel()
    data = opened(model=model)
    live = data.live
    model.gate.clear()
    live.run("add_point", {"x": 15, "y": 15, "label": "cat"}, wait=False)
    data.decide(0, "accepted")
    data.show(1)
    data.store.flush()
    assert labels(out) == {"images/00.png": []}
    model.gate.set()
    live.settle()
    data.store.flush()
    assert labels(out) == {"images/00.png": ["cat"]}
    assert data.counts["cat"] == data.entries[0].count == 1


def test_a_correction_of_an_accepted_image_is_soon_in_the_file_though_nobody_left_it(opened, out):
    model = ToyModel()
    data = opened(model=model)
    data.decide(0, "accepted")
    click(data, 15, 15)
    settled()
    assert labels(out) == {"images/00.png": ["cat"]}
    model.gate.clear()
    live = data.live
    live.run("add_point", {"x": 50, "y": 15, "label": "dog"}, wait=False)
    data.store.outdated()
    settled("sam3w-dataset")
    assert labels(out) == {"images/00.png": ["cat"]}  # the model has not answered
    model.gate.set()
    live.settle()
    settled()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    written = out.stat().st_mtime_ns
    live.run("select", {"object_id": 1})
    settled()
    assert out.stat().st_mtime_ns == written


def test_a_correction_that_cannot_be_written_in_the_background_is_told(opened, out, monkeypatch, caplog):
    data = opened()
    heard = Heard()
    data.watch(heard)
    data.decide(0, "accepted")
    settled()
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(28, "No space left on device")

        patch.setattr(data.store, "add", full)
        click(data, 15, 15)
        settled()
    assert [str(error) for error in heard.errors] == ["[Errno 28] No space left on device"]
    assert "could not be written" in caplog.text
    assert labels(out) == {"images/00.png": []}
    data.flush()
    assert labels(out) == {"images/00.png": ["cat"]}


@pytest.mark.parametrize("status", ["rejected", "skipped", "open"])
def test_a_decision_that_is_taken_back_takes_the_image_out(opened, out, status):
    data = opened()
    for k in range(2):
        data.decide(k, "accepted")
    data.flush()
    data.decide(0, status)
    data.flush()
    assert list(labels(out)) == ["images/01.png"]
    data.decide(0, "accepted")
    data.flush()
    assert sorted(labels(out)) == ["images/00.png", "images/01.png"]


def test_the_file_follows_a_decision_in_the_background(opened, out):
    data = opened()
    data.decide(0, "accepted")
    settled()
    assert list(labels(out)) == ["images/00.png"]


def test_a_file_that_cannot_be_written_is_told_and_tried_again(opened, out, monkeypatch, caplog):
    monkeypatch.setattr(stores, "_DELAY", 0.01)
    data = opened()
    heard = Heard()
    data.watch(heard)
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(stores, "write_output", full)
        data.decide(0, "accepted")
        assert heard.error_came.wait(30)
        with pytest.raises(OSError, match="No space left"):
            data.flush()
    assert "No space left" in str(heard.errors[0])
    assert not out.exists()
    data.decide(1, "accepted")
    data.flush()
    assert list(labels(out)) == ["images/00.png", "images/01.png"]


def test_a_decision_while_the_file_is_written_mixes_no_images(opened, out, monkeypatch):
    data = opened()

    def outdated():
        data.store._changes += 1  # and nothing is written in the background

    monkeypatch.setattr(data.store, "outdated", outdated)
    for k, label in enumerate(["cat", "dog"]):
        data.show(k)
        click(data, 15, 15, label)
        data.decide(k, "accepted")
    put, decided = output._put, []

    def slowly(*args, **rest):
        put(*args, **rest)
        if not decided:
            decided.append(0)
            data.decide(0, "rejected")

    monkeypatch.setattr(output, "_put", slowly)
    data.store.flush()
    assert labels(out) in ({"images/00.png": ["cat"], "images/01.png": ["dog"]}, {"images/01.png": ["dog"]})
    data.store.flush()
    assert labels(out) == {"images/01.png": ["dog"]}


# What a kill leaves


def test_a_decision_is_on_the_disk_when_it_returns(opened, work):
    data = opened()
    click(data, 15, 15)
    click(data, 50, 15, "dog")
    data.decide(0, "accepted")
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert [entry.status for entry in again.entries] == ["accepted"] + ["open"] * (COUNT - 1)
    assert drawn(again.live) == drawn(data.live)
    again.flush()
    assert labels(copy / "labels.json") == {"images/00.png": ["cat", "dog"]}


def test_a_decision_counts_though_the_saved_session_is_older(opened, work):
    data = opened()
    click(data, 15, 15)
    data.flush()  # the session is there, with one object
    click(data, 50, 15, "dog")
    data.decide(0, "accepted")
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert again.counts == {"cat": 1, "dog": 1}
    assert drawn(again.live) == drawn(data.live)
    again.show(1)
    again.flush()
    assert labels(copy / "labels.json") == {"images/00.png": ["cat", "dog"]}
    assert [o.label for o in again.annotations()[0].objects] == ["cat", "dog"]


def test_what_was_left_counts_though_the_saved_session_is_older(opened, work):
    data = opened()
    click(data, 15, 15)
    data.flush()
    click(data, 50, 15, "dog")
    data.show(1)
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert again.current == 1
    assert drawn(again.show(0)) == drawn(data.open(0))


def test_what_the_model_said_of_an_image_that_was_left_counts_though_its_session_is_older(opened, work):
    model = ToyModel()
    data = opened(model=model)
    live = data.live
    click(data, 15, 15)
    data.flush()
    model.gate.clear()
    live.run("add_point", {"x": 50, "y": 15, "label": "dog"}, wait=False)
    data.decide(0, "accepted")
    data.show(1)
    model.gate.set()
    live.settle()
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert again.counts == {"cat": 1, "dog": 1}
    assert drawn(again.show(0)) == drawn(live)
    again.flush()
    assert labels(copy / "labels.json") == {"images/00.png": ["cat", "dog"]}


def test_a_removal_is_not_taken_back_by_an_older_session(opened, work):
    data = opened()
    click(data, 15, 15)
    click(data, 50, 15, "dog")
    data.decide(0, "accepted")
    data.flush()
    data.live.run("remove_object", {"object_id": 2})
    data.decide(0, "accepted")
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert list(drawn(again.live)) == [1]
    again.flush()
    assert labels(copy / "labels.json") == {"images/00.png": ["cat"]}


def test_what_was_flushed_is_there_with_its_history(opened, work):
    data = opened()
    click(data, 15, 15)
    data.show(2)
    click(data, 50, 15, "dog")
    data.live.run("add_point", {"x": 52, "y": 18, "object_id": 1})
    data.flush()
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert again.current == 2
    assert held(again) == held(data)
    assert [command.name for command in again.live.history] == ["add_point", "add_point"]
    again.live.run("undo", {})
    data.live.run("undo", {})
    assert drawn(again.live) == drawn(data.live)


def test_work_that_was_saved_but_not_left_is_in_the_file_after_a_flush(opened, work):
    data = opened()
    click(data, 15, 15)
    data.decide(0, "accepted")
    click(data, 50, 15, "dog")
    data.live.keeper.flush()  # what happens by itself a moment later
    data.store.flush()
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    again.flush()
    assert labels(copy / "labels.json") == {"images/00.png": ["cat", "dog"]}
    assert again.counts == {"cat": 1, "dog": 1}


def test_looking_at_annotations_takes_nothing_from_the_journal(opened, work):
    data = opened()
    data.decide(1, "accepted")
    data.show(1)
    click(data, 15, 15)
    data.live.keeper.flush()
    data.store.place = {"current": "images/00.png", "applied": []}
    copy = as_after_a_kill(work)
    target = copy / "labels.json"
    again = opened(copy / "images", target)
    again.open(1)  # ahead of a person
    again.annotations("accepted")
    again.show(1)
    again.show(2)
    again.close()
    assert labels(target) == {"images/01.png": ["cat"]}


def test_a_decision_that_could_not_be_written_is_none(opened, work, monkeypatch):
    data = opened()
    click(data, 15, 15)
    heard = Heard()
    data.watch(heard)
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(28, "No space left on device")

        patch.setattr(data.store, "add", full)
        with pytest.raises(OSError, match="No space left"):
            data.decide(0, "rejected")
    assert data.entries[0].status == "open"
    assert data.counts["cat"] == 1
    assert heard.rows == [[0]]  # whoever has shown it as decided shows the truth again
    data.show(1)  # and what could not be written is written now
    copy = as_after_a_kill(work)
    again = opened(copy / "images", copy / "labels.json")
    assert again.entries[0].count == 1


def test_a_decision_that_a_full_disk_refused_harms_no_other(opened, out):
    data = opened()
    data.decide(0, "accepted")
    data.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = out.with_name("labels.json.journal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            data.decide(2, "accepted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    data.decide(3, "accepted")
    data.decide(4, "rejected")
    data.close()
    assert list(labels(out)) == ["images/00.png", "images/03.png"]
    again = opened()
    assert [entry.status for entry in again.entries] == ["accepted", "open", "open", "accepted", "rejected", "open"]


# Numbers and annotations


def counted(data):
    return {label: count for label, count in data.counts.items() if count}


def test_counts_are_those_of_all_images_but_the_rejected(opened):
    data = opened()
    click(data, 15, 15)
    click(data, 50, 15, "dog")
    data.show(1)
    click(data, 15, 15)
    click(data, 50, 15, "bird")
    assert data.counts == {"cat": 2, "dog": 1, "bird": 1}
    data.decide(1, "rejected")
    assert counted(data) == {"cat": 1, "dog": 1}
    data.decide(1, "rejected")
    assert counted(data) == {"cat": 1, "dog": 1}
    click(data, 70, 50)  # into a rejected image
    assert counted(data) == {"cat": 1, "dog": 1}
    assert data.entries[1].count == 3
    data.decide(1, "skipped")
    assert counted(data) == {"cat": 3, "dog": 1, "bird": 1}
    data.live.run("reset", {})
    assert counted(data) == {"cat": 1, "dog": 1}
    data.live.run("undo", {})
    data.decide(1, "rejected")
    data.close()
    again = opened()
    assert counted(again) == {"cat": 1, "dog": 1}
    again.decide(1, "accepted")
    assert again.counts == {"cat": 3, "dog": 1, "bird": 1}


def test_scores_and_counts_follow_each_change(opened):
    data = opened()
    assert (data.entries[0].count, data.entries[0].score) == (0, None)
    click(data, 15, 15)
    assert data.entries[0].score == pytest.approx(0.9)
    data.live.run("choose_candidate", {"object_id": 1, "index": 2})
    assert data.entries[0].score == pytest.approx(0.7)
    data.live.run("add_stroke", {"path": [(70, 50)], "radius": 3})
    assert (data.entries[0].count, data.entries[0].score) == (2, pytest.approx(0.7))
    data.live.run("remove_object", {"object_id": 1})
    assert (data.entries[0].count, data.entries[0].score) == (1, None)
    data.live.run("set_text", {"text": "anything"})
    data.live.settle()
    assert data.entries[0].count == 1 + len(SPOTS)
    assert data.entries[0].score == pytest.approx(0.75)


def test_annotations_are_those_of_the_decisions_asked_for(opened):
    data = opened()
    click(data, 15, 15)
    for k, status in enumerate(["accepted", "rejected", "skipped", "accepted"]):
        data.decide(k, status)
    name = lambda one: one.file_name[-6:-4]  # noqa: E731 - a line of a test
    assert [name(one) for one in data.annotations()] == ["00", "03"]
    assert [name(one) for one in data.annotations("skipped", "rejected")] == ["01", "02"]
    assert [name(one) for one in data.annotations("open")] == ["04", "05"]
    [first, last] = data.annotations("accepted")
    assert [(o.object_id, o.label) for o in first.objects] == [(1, "cat")]
    assert first.objects[0].mask.to_bytes() == drawn(data.live)[1][1]
    assert first.objects[0].score == pytest.approx(0.9)
    assert (last.height, last.width, last.objects) == (60, 80, ())


def test_annotations_of_open_images_hold_what_was_just_drawn(opened):
    data = opened()
    click(data, 15, 15)
    [first, *_] = data.annotations("open")
    assert (first.file_name, [o.label for o in first.objects]) == ("images/00.png", ["cat"])


def test_annotations_go_around_a_picture_that_cannot_be_read(opened, work):
    (work / "images" / "04.png").write_bytes(b"no picture")
    data = opened()
    assert [one.file_name for one in data.annotations("open")] == [f"images/{k:02d}.png" for k in (0, 1, 2, 3, 5)]
    assert "04.png" in data.entries[4].error


def test_annotations_hold_what_was_accepted_though_its_picture_is_gone(opened, work, out):
    data = opened()
    data.show(4)
    click(data, 15, 15)
    data.decide(4, "accepted")
    data.show(0)
    data.close()
    (work / "images" / "04.png").write_bytes(b"no picture")
    again = opened()
    with pytest.raises(ValueError, match=r"04\.png"):
        again.show(4)
    again.flush()
    assert labels(out) == {"images/04.png": ["cat"]}
    assert [[o.label for o in one.objects] for one in again.annotations()] == [["cat"]]


@pytest.mark.parametrize("status", ["done", "", None, 3, ["accepted"], "Accepted"])
def test_a_decision_that_there_is_not_is_refused_and_changes_nothing(opened, status):
    data = opened()
    before = list(data.store.records())
    with pytest.raises(InvalidPromptError, match="must be open, accepted, rejected, skipped, got"):
        data.decide(0, status)
    with pytest.raises(InvalidPromptError, match="must be open, accepted, rejected, skipped, got"):
        data.annotations("accepted", status)
    assert (data.entries[0].status, list(data.store.records())) == ("open", before)


def test_an_image_is_known_by_path_name_and_number(opened, work):
    other = work / "others"
    other.mkdir()
    for name in ("00.png", "x.png"):
        (other / name).write_bytes((work / "images" / "01.png").read_bytes())
    data = opened([work / "images" / "00.png", str(other / "00.png"), other / "x.png"])
    for image in (2, np.int64(2), "x.png", other / "x.png"):
        assert data.entries.index(image) == 2
    assert data.entries.index(str(other / "00.png")) == 1
    assert data.entries.index(other / ".." / "images" / "00.png") == 0
    for image, match in [("00.png", "there are 2 images '00.png'"), ("y.png", "there are 0 images 'y.png'")]:
        with pytest.raises(NotFoundError, match=match):
            data.entries.index(image)
    for number in (-1, 3):
        with pytest.raises(NotFoundError, match=f"image_idx must be from 0 to 2, got {number}"):
            data.entries.index(number)
    for nothing in (None, 1.5, [0]):
        with pytest.raises(InvalidPromptError, match="image_idx"):
            data.entries.index(nothing)


def test_watchers_hear_of_decisions_of_objects_and_of_the_end(opened):
    data = opened()
    heard, other = Heard(), Heard()
    data.watch(heard)
    data.watch(other)
    data.decide(3, "accepted")
    click(data, 15, 15)
    data.live.run("select", {"object_id": None})  # nothing that the list of images shows
    assert heard.rows == other.rows == [[3], [0]]
    data.close()
    assert (heard.ended, other.ended) == (1, 1)


# The end


def test_closing_writes_what_is_new_and_lets_the_files_go(opened, out, work):
    data = opened()
    click(data, 15, 15)
    data.decide(0, "accepted")
    click(data, 50, 15, "dog")
    before = drawn(data.live)
    data.close()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    assert not list(work.rglob("*.lock"))
    assert not list(work.rglob("*.part"))
    assert drawn(opened().live) == before


def test_closing_twice_is_closing_once(opened):
    data = opened()
    heard = Heard()
    data.watch(heard)
    data.close()
    again = opened()
    data.close()
    assert heard.ended == 1
    again.decide(0, "accepted")
    assert not data.is_open


def test_what_is_closed_says_so_and_writes_nothing(opened, work):
    data = opened()
    click(data, 15, 15)
    data.show(1)
    data.close()
    again = opened()
    before = {file: file.read_bytes() for file in work.rglob("labels.json*") if file.is_file()}
    for call in (
        lambda: data.decide(0, "accepted"),
        lambda: data.open(0),
        lambda: data.open(1),
        lambda: data.open(4),
        lambda: data.show(0),
        lambda: data.show(4),
        data.apply_to_rest,
        lambda: data.live.run("add_point", {"x": 70, "y": 50}),
        lambda: data.live.run("undo", {}),
        lambda: data.live.run("select", {"object_id": None}),
    ):
        with pytest.raises(LockedError, match=r"labels\.json was closed: open it again"):
            call()
    data.flush()
    assert [one.file_name for one in data.annotations("open")] == [e.name for e in again.entries]
    assert {file: file.read_bytes() for file in before} == before
    assert data.entries[0].status == "open"


@pytest.mark.parametrize("what", ["sam3_widget.dataset.store.write_output", "sam3_widget.labelling.journal.os.fsync"])
def test_closing_on_a_full_disk_says_so_and_lets_the_files_go(opened, work, out, monkeypatch, what):
    data = opened()
    heard = Heard()
    data.watch(heard)
    for k in (0, 1):
        data.show(k)
        click(data, 15, 15)
        data.decide(k, "accepted")
        click(data, 50, 15, "dog")
    data.live.keeper.flush()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(what, full)
        with pytest.raises(OSError, match="No space left"):
            data.close()
    assert (data.is_open, heard.ended) == (False, 1)
    assert not list(work.rglob("*.lock"))
    again = opened()
    assert [entry.status for entry in again.entries[:2]] == ["accepted"] * 2
    assert again.counts == {"cat": 2, "dog": 2}
    again.flush()
    assert labels(out) == {"images/00.png": ["cat", "dog"], "images/01.png": ["cat", "dog"]}


def test_closing_while_the_model_works_keeps_the_question(opened):
    model = ToyModel()
    data = opened(model=model)
    model.gate.clear()
    data.live.run("add_point", {"x": 15, "y": 15, "label": "cat"}, wait=False)
    data.close()
    model.gate.set()
    again = opened()
    again.live.settle()
    assert [label for label, _ in drawn(again.live).values()] == ["cat"]
    again.live.run("undo", {})
    again.live.run("redo", {})
    again.live.settle()
    assert again.entries[0].count == 1


def test_a_journal_of_the_same_place_can_be_read_by_nobody_else(opened, out):
    data = opened()
    data.decide(0, "accepted")
    data.close()
    lines = out.with_name("labels.json.journal").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    out.with_name("labels.json.journal").write_text("\n".join(["{}", *lines]) + "\n")
    with pytest.raises(FormatError, match="not the output of a data set widget"):
        opened()
