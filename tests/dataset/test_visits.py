"""From image to image: what cannot be read, what lies ahead, what is left early, and what stays open."""

from __future__ import annotations

import gc
import queue
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from sam3_widget.dataset import dataset, entries
from sam3_widget.errors import InvalidImageError, LockedError, ModelError
from sam3_widget.live import LOCK
from tests.dataset.folders import (
    CLASSES,
    COUNT,
    SPOTS,
    annotation,
    click,
    drawn,
    held,
    labels,
    picture,
    pictures,
    settled,
)
from tests.toy import ToyModel


@pytest.fixture
def many(work):
    """Return a folder of many pictures."""
    return pictures(work / "many", 24)


def opened_now(data):
    return sorted(data._sheets)


class Opened:
    """Waits for images that are opened ahead."""

    def __init__(self):
        self._names = queue.Queue()

    def __call__(self, live):
        self._names.put(live.image.name)

    def names(self, count):
        return [self._names.get(timeout=30) for _ in range(count)]


# Broken files


def test_a_picture_that_cannot_be_read_is_stepped_over(opened, work):
    images = work / "images"
    images.joinpath("00.png").write_bytes(b"")
    whole = images.joinpath("03.png").read_bytes()
    images.joinpath("03.png").write_bytes(whole[:60])
    images.joinpath("04.png").unlink()
    images.joinpath("04.png").mkdir()
    data = opened()
    assert data.current == 1
    assert [bool(entry.error) for entry in data.entries] == [True, False, False, False, False, False]
    assert (data.entries.following(1), data.entries.following(1, -1)) == ((2, 3), ())
    for index in (3, 4):
        with pytest.raises(InvalidImageError, match=f"0{index}.png"):
            data.show(index)
        assert f"0{index}.png" in data.entries[index].error
    assert data.current == 1
    assert data.entries.following(2) == (5,)
    assert data.entries.following(5, -1) == (2, 1)
    assert data.entries.following(5) == ()
    images.joinpath("03.png").write_bytes(whole)
    data.show(3)
    assert data.entries[3].error is None
    assert data.entries.following(2) == (3, 5)


def test_a_picture_that_is_repaired_is_told(opened, work):
    broken, told = work / "images" / "03.png", []
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    data = opened()

    class Ear:
        def told(self, indices):
            told.append([(k, data.entries[k].error is None) for k in indices])

        def failed(self, error):
            raise error

        def closed(self):
            pass

    data.watch(Ear())
    with pytest.raises(InvalidImageError):
        data.open(3)
    assert told == [[(3, False)]]
    broken.write_bytes(whole)
    data.open(3)
    assert told == [[(3, False)], [(3, True)]]


def test_none_that_can_be_read_is_an_error_and_nobody_holds_the_file(opened, work, out):
    whole = {file: file.read_bytes() for file in (work / "images").iterdir()}
    for file in whole:
        file.write_bytes(b"no picture")
    with pytest.raises(InvalidImageError, match=r"00\.png is not an image file"):
        opened()
    for file, data in whole.items():
        file.write_bytes(data)
    assert opened().current == 0


def test_what_cannot_be_read_can_be_left_out_and_is_an_image_again_when_it_is_repaired(opened, work, out):
    broken = work / "images" / "02.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    data = opened()
    data.decide(2, "rejected")
    assert (data.entries[2].status, data.annotations("rejected")) == ("rejected", [])
    data.close()
    again = opened()
    assert again.entries[2].status == "rejected"
    with pytest.raises(InvalidImageError, match=r"02\.png"):
        again.decide(2, "accepted")
    broken.write_bytes(whole)
    again.show(2)
    click(again, 15, 15)
    again.decide(2, "accepted")
    again.close()
    assert labels(out) == {"images/02.png": ["cat"]}


def test_what_cannot_be_read_can_be_accepted_only_if_something_is_known_of_it(opened, work, out):
    data = opened()
    data.show(1)
    click(data, 15, 15)
    data.decide(1, "accepted")
    data.show(0)
    data.close()
    for name in ("01.png", "02.png"):
        (work / "images" / name).write_bytes(b"no picture")
    again = opened()
    with pytest.raises(InvalidImageError, match=r"02\.png"):
        again.decide(2, "accepted")
    assert again.entries[2].status == "open"
    again.decide(1, "rejected")
    again.decide(1, "accepted")
    again.close()
    assert labels(out) == {"images/01.png": ["cat"]}


# Ahead


def test_the_next_images_are_opened_and_encoded_ahead(opened):
    model, ready = ToyModel(), Opened()
    data = opened(model=model)
    data.look_ahead(ready)
    assert ready.names(2) == ["01.png", "02.png"]
    live = data.show(1)
    data.look_ahead(ready)
    assert ready.names(2) == ["02.png", "03.png"]
    settled()
    assert model.encoded == 3  # each once
    for index in (1, 2, 3):
        data.show(index)
        click(data, 15, 15)
    assert model.encoded == 3
    assert live is data.show(1)


def test_the_next_images_in_the_order_of_scores_are_ahead(opened, work):
    ready = Opened()
    data = opened(images=[work / "images" / f"{k:02d}.png" for k in (5, 1, 3)])
    data.show(0)
    data.look_ahead(ready)
    assert ready.names(2) == ["01.png", "03.png"]
    data.show(2)
    data.look_ahead(ready)
    data.show(1, ahead=[0])
    data.look_ahead(ready)
    assert ready.names(1) == ["05.png"]


def test_a_broken_picture_ahead_is_noted_and_the_next_one_is_ahead_then(opened, work):
    (work / "images" / "01.png").write_bytes(b"no picture")
    ready = Opened()
    data = opened()
    data.show(0)
    data.look_ahead(ready)
    assert ready.names(1) == ["02.png"]
    assert "01.png" in data.entries[1].error
    assert data.entries.following(0) == (2, 3)


def test_whoever_draws_ahead_may_fail(opened, caplog):
    ready = Opened()
    data = opened()
    data.show(0)

    def fail(live):
        ready(live)
        raise ValueError("no paint")

    data.look_ahead(fail)
    assert ready.names(2) == ["01.png", "02.png"]
    data.show(1)
    data.look_ahead(ready)
    assert ready.names(2) == ["02.png", "03.png"]
    assert "could not be opened ahead" in caplog.text


def test_an_image_ahead_counts_for_nothing_and_leaves_no_session(opened, work):
    ready = Opened()
    data = opened()
    data.show(0)
    data.live.run("set_text", {"text": "red"})
    data.apply_to_rest()
    data.look_ahead(ready)
    ready.names(2)
    data.open(1).settle()
    data.close()
    assert not list((work / "labels.json.sessions").glob("01-*"))
    assert opened().entries[1].count == 0


def test_nothing_is_opened_ahead_after_the_end(opened):
    data = opened()
    data.show(0)
    data.close()
    data.look_ahead(pytest.fail)


# Leaving


def test_leaving_before_the_model_has_answered_keeps_the_answer(opened, work, out):
    model = ToyModel()
    data = opened(model=model)
    left = data.live
    model.gate.clear()
    for x, label in ((15, "cat"), (50, "dog")):
        left.run("add_point", {"x": x, "y": 15, "label": label}, wait=False)
    for k in range(1, COUNT):
        data.show(k)
    data.show(1)
    assert data.entries[0].count == 0
    model.gate.set()
    left.settle()
    assert data.entries[0].count == 2
    assert data.counts == {"cat": 1, "dog": 1}
    assert len(drawn(data.open(0))) == 2
    data.close()
    again = opened()
    assert [entry.count for entry in again.entries] == [2, 0, 0, 0, 0, 0]


def test_leaving_many_images_before_the_model_has_answered_keeps_every_answer(opened, many):
    model = ToyModel()
    data = opened(many, model=model)
    model.gate.clear()
    for k in range(12):
        data.show(k).run("add_point", {"x": 10 + k, "y": 15, "label": "cat"}, wait=False)
    waiting = [data.open(k) for k in range(12)]
    model.gate.set()
    for live in waiting:
        live.settle()
    assert data.counts["cat"] == 12
    for k in range(12, 24):
        data.show(k)
    assert len(opened_now(data)) <= dataset._KEPT + entries.AHEAD
    for k, live in enumerate(waiting):
        assert drawn(data.show(k)) == drawn(live) != {}


def test_words_that_are_asked_find_their_way_into_an_image_that_was_left(opened):
    model = ToyModel()
    data = opened(model=model)
    model.detect_gate.clear()
    left = data.live
    left.run("set_text", {"text": "anything"}, wait=False)
    data.show(3)
    model.detect_gate.set()
    left.settle()
    assert data.entries[0].count == len(SPOTS)
    data.close()
    assert opened().entries[0].count == len(SPOTS)


def test_a_model_that_fails_after_the_image_was_left_breaks_nothing(opened, caplog):
    model = ToyModel()
    data = opened(model=model)
    left = data.live
    click(data, 15, 15)
    model.gate.clear()
    model.refining.clear()
    left.run("add_point", {"x": 50, "y": 15}, wait=False)
    assert model.refining.wait(30)
    model.fails = RuntimeError("out of memory")
    data.show(1)
    model.gate.set()
    left.settle()
    assert data.entries[0].count == 1
    with pytest.raises(ModelError, match="out of memory"):
        raise next(i.answer.error for i in left.state.instances if i.answer.error)
    left.run("undo", {})
    left.run("redo", {})
    left.settle()
    assert data.entries[0].count == 2


def test_what_is_said_of_an_image_from_elsewhere_is_kept(opened, many):
    given = [annotation("03.png", ("cat", 15, 15, 0.5))]
    data = opened(many, annotations=given, order="given")
    for index in (3, 20):
        data.open(index).run("add_point", {"x": 50, "y": 15, "label": "dog"})
    assert data.counts == {"cat": 1, "dog": 2}
    before = drawn(data.open(3)), drawn(data.open(20))
    for k in range(4, 16):
        data.show(k)
    assert {3, 20}.isdisjoint(opened_now(data))
    assert (drawn(data.open(3)), drawn(data.open(20))) == before
    data.close()
    again = opened(many, annotations=given, order="given")
    assert (again.entries[3].count, again.entries[20].count) == (2, 1)
    again.show(20).run("undo", {})
    assert again.counts == {"cat": 1, "dog": 1}


# Many


def test_few_images_stay_open(opened, many):
    data = opened(many)
    lives = []
    for k in range(24):
        live = data.show(k)
        lives.append(weakref.ref(live))
        live.run("add_point", {"x": 15 + k, "y": 15, "label": "cat"})
        assert len(opened_now(data)) <= dataset._KEPT + entries.AHEAD
        assert {k} <= set(opened_now(data))
    del live
    data.flush()
    settled()
    gc.collect()
    assert sum(ref() is not None for ref in lives) <= dataset._KEPT + entries.AHEAD
    assert len(list((many.parent / "labels.json.sessions").glob("*.lock"))) <= len(opened_now(data))
    assert data.counts["cat"] == 24


def test_a_document_that_was_put_away_says_so(opened, many):
    data = opened(many)
    first = data.live
    for k in range(1, 12):
        data.show(k)
    before = drawn(first)
    with pytest.raises(LockedError, match=r"00\.png was put away: go there again"):
        first.run("add_point", {"x": 15, "y": 15})
    assert drawn(first) == before
    data.show(0)
    assert click(data, 15, 15) == 1


def test_leaving_and_coming_back_is_as_if_one_had_stayed(opened, many):
    data = opened(many)
    for k in range(10):
        data.show(k)
        click(data, 15, 15)
        data.live.run("add_point", {"x": 20 + k, "y": 20, "positive": k % 2 == 0, "object_id": 1})
        data.live.run("add_stroke", {"path": [(60, 50), (65, 50)], "radius": 3, "label": "dog"})
        data.live.run("set_text", {"text": "green"})
        data.live.run("undo", {})
    before = []
    for k in range(10):
        live = data.open(k)
        before.append((drawn(live), [c.name for c in live.history], live.titles))
    for k in range(10, 24):
        data.show(k)
    assert set(opened_now(data)).isdisjoint(range(10))
    for k in range(10):
        live = data.show(k)
        assert (drawn(live), [c.name for c in live.history], live.titles) == before[k]
        assert [(p.x, p.y, p.positive) for p in live.state.instances[0].points][1:] == [(20 + k, 20, k % 2 == 0)]
    live.run("redo", {})
    live.settle()
    assert len(drawn(live)) == 3
    while live.titles[0]:
        live.run("undo", {})
    assert (drawn(live), data.entries[9].count) == ({}, 0)


def test_coming_back_asks_the_model_nothing(opened, many):
    model = ToyModel()
    data = opened(many, model=model)
    for k in range(12):
        data.show(k)
        click(data, 15, 15)
    asked = len(model.asked)
    for k in range(12):
        data.show(k).settle()
    assert len(model.asked) == asked


def test_images_may_be_shown_and_changed_from_several_threads(opened, many, out):
    data = opened(many)

    def work_on(start):
        for k in range(start, 24, 4):
            data.show(k)
            with LOCK:
                data.show(k).run("set_mask", {"mask": picture(0)[..., start % 3] > 200, "label": f"n{start}"})
                data.decide(k, "accepted")
            data.entries.following(k)
            data.annotations("accepted")
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work_on, range(4)))
    data.flush()
    assert data.counts == {"cat": 0, "dog": 0, "n0": 6, "n1": 6, "n2": 6, "n3": 6}
    assert {name: found for name, found in labels(out).items() if len(found) != 1} == {}
    assert len(labels(out)) == 24


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it was not closed
def test_a_forgotten_data_set_lets_its_file_go(work, out):
    data = dataset.DataSet(work / "images", out, CLASSES, ToyModel())
    data.decide(0, "accepted")
    data.flush()
    settled()
    forgotten = weakref.ref(data)
    del data
    gc.collect()
    assert forgotten() is None
    again = dataset.DataSet(work / "images", out, CLASSES, ToyModel())
    assert held(again)[0] == ("accepted", {})
    again.close()


def test_one_image_is_a_data_set(opened, work, out):
    single = work / "single"
    single.mkdir()
    Image.fromarray(picture(90)).save(single / "a.png")
    data = opened(single)
    assert (data.entries.following(0), data.entries.following(0, -1)) == ((), ())
    data.look_ahead(pytest.fail)
    click(data, 15, 15)
    data.decide(0, "accepted")
    data.close()
    assert labels(out) == {"single/a.png": ["cat"]}
