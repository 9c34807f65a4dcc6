"""Opening again goes on, whatever has become of the folder meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sam3_widget.dataset import store as stores
from sam3_widget.errors import FormatError, InvalidImageError
from tests.dataset.folders import COUNT, click, drawn, files, held, labels, picture, pictures

ROOT = Path(__file__).parents[2]


def talked(data):
    """Say something of each kind in a data set."""
    click(data, 15, 15)
    data.live.run("add_point", {"x": 18, "y": 15, "object_id": 1})
    click(data, 50, 15, "dog")
    data.decide(0, "accepted")
    data.show(1)
    click(data, 45, 45)
    data.live.run("undo", {})
    data.decide(1, "skipped")
    data.show(3)
    data.live.run("add_box", {"box": (3, 3, 20, 20), "label": "bird"})
    data.decide(2, "rejected")


def test_a_new_one_starts_with_the_first_image_and_nothing_said(opened, out, work):
    data = opened()
    assert not data.entries.resumed
    assert (data.current, data.entries.order, data.entries.sequence) == (0, "given", list(range(COUNT)))
    assert (data.counts, data.applied) == ({"cat": 0, "dog": 0}, None)
    assert {(entry.status, entry.count, entry.score, entry.error) for entry in data.entries} == {
        ("open", 0, None, None)
    }
    data.close()
    assert not out.exists()
    assert not opened().entries.resumed


def test_it_goes_on_where_it_stopped(opened):
    data = opened()
    talked(data)
    before = held(data)
    counts, scores = data.counts, [entry.score for entry in data.entries]
    data.close()
    again = opened()
    assert again.entries.resumed
    assert again.current == 3
    assert (again.counts, [entry.count for entry in again.entries]) == (counts, [2, 0, 0, 1, 0, 0])
    assert [entry.score for entry in again.entries] == [s and pytest.approx(s, abs=1e-4) for s in scores]
    assert held(again) == before
    assert [entry.status for entry in again.entries] == ["accepted", "skipped", "rejected", "open", "open", "open"]


def test_classes_keep_their_places(opened, out):
    data = opened(classes=["cat"])
    click(data, 15, 15, "zebra")
    data.decide(0, "accepted")
    click(data, 50, 15, "yak")
    data.show(1)
    click(data, 15, 15, "ant")
    assert data.open(2).state.classes == ("cat", "zebra", "yak", "ant")
    data.show(0)
    data.live.run("reset", {})
    assert data.classes == ("cat", "zebra", "yak", "ant")  # on every image, whoever is of them now
    assert data.counts == {"cat": 0, "zebra": 0, "yak": 0, "ant": 1}
    data.show(2)
    click(data, 15, 15, "zebra")
    data.decide(2, "accepted")
    data.decide(1, "accepted")
    data.close()
    again = opened(classes=["dog"])
    assert again.classes == ("dog", "zebra", "ant")  # what nothing is of is forgotten
    again.flush()
    assert [c["name"] for c in json.loads(out.read_text())["categories"]] == ["dog", "zebra", "ant"]


def test_classes_of_images_that_were_rejected_come_last(opened):
    data = opened(classes=[])
    click(data, 15, 15, "cat")
    data.decide(0, "rejected")
    data.show(1)
    click(data, 15, 15, "dog")
    data.close()
    again = opened(classes=[])
    assert again.classes == ("dog",)
    again.decide(0, "open")
    assert (again.classes, list(again.counts)) == (("dog", "cat"), ["dog", "cat"])


def test_undo_and_redo_go_on_as_well(opened):
    data = opened()
    talked(data)
    data.close()
    again = opened()
    first, second = again.show(0), again.show(1)
    assert [command.name for command in first.history] == ["add_point"] * 3
    assert (second.titles[0], drawn(second)) == (None, {})
    second.run("redo", {})
    assert list(drawn(second)) == [1]
    first.run("undo", {})
    assert [label for label, _ in drawn(first).values()] == ["cat"]


def test_what_was_decided_without_a_session_comes_back_from_the_journal(opened, out):
    data = opened()
    talked(data)
    before = held(data)
    data.close()
    for file in (out.parent / "labels.json.sessions").iterdir():
        file.unlink()
    again = opened()
    assert again.current == 0
    assert [(s, [*d.values()]) for s, d in held(again)] == [(s, [*d.values()]) for s, d in before]
    assert again.entries[0].score == pytest.approx(0.7, abs=0.3)
    again.show(0).run("add_point", {"x": 70, "y": 50, "object_id": 1})
    again.flush()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}


def test_the_file_is_made_again_of_the_journal(opened, out):
    data = opened()
    talked(data)
    data.close()
    before = out.read_bytes()
    out.unlink()
    again = opened()
    again.flush()
    assert out.read_bytes() == before


def test_new_images_are_open_and_move_nothing(opened, work):
    data = opened()
    talked(data)
    before = held(data)
    data.close()
    pictures(work / "images", 2, first=6)
    Image.fromarray(picture(90)).save(work / "images" / "0.png")
    again = opened()
    assert [entry.path.name for entry in again.entries] == ["0.png", *(f"{k:02d}.png" for k in range(8))]
    assert again.current == 4
    assert held(again)[1:7] == before
    assert {entry.status for entry in (again.entries[0], *again.entries[7:])} == {"open"}


def test_images_that_are_gone_for_a_while_lose_nothing(opened, work, out):
    data = opened()
    talked(data)
    before = held(data)
    data.close()
    part = [work / "images" / f"{k:02d}.png" for k in (4, 1)]
    again = opened(part)
    assert again.entries.resumed
    assert (again.current, [entry.status for entry in again.entries]) == (0, ["open", "skipped"])
    assert again.counts == {"cat": 0, "dog": 0}
    again.decide(0, "accepted")
    again.close()
    assert labels(out) == {"images/00.png": ["cat", "dog"], "images/04.png": []}
    whole = opened()
    assert held(whole)[:4] == before[:4]
    assert whole.entries[4].status == "accepted"


def test_images_in_another_order_are_the_same_images(opened, work):
    data = opened()
    talked(data)
    before = held(data)
    data.close()
    again = opened(sorted((work / "images").iterdir(), reverse=True))
    assert again.current == COUNT - 1 - 3
    assert held(again) == before[::-1]


def test_a_moved_folder_is_the_same_data_set(opened, work, out):
    data = opened()
    talked(data)
    before = held(data)
    data.close()
    moved = work.rename(work.with_name("moved"))
    again = opened(moved / "images", moved / "labels.json")
    assert held(again) == before
    again.close()
    assert labels(moved / "labels.json") == {"images/00.png": ["cat", "dog"]}


def test_a_folder_is_the_same_by_its_path_and_by_a_link_to_it(opened, work, out):
    link = work.with_name("link")
    link.symlink_to(work, target_is_directory=True)
    data = opened(link / "images", link / "labels.json")
    talked(data)
    before = held(data)
    data.close()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    for images, target in ((work, work), (link, work), (work, link)):
        again = opened(images / "images", target / "labels.json")
        assert [entry.name for entry in again.entries] == [f"images/{k:02d}.png" for k in range(COUNT)]
        assert held(again) == before
        again.close()
    both = opened([link / "images" / "00.png", work / "images" / "00.png", work / "images" / "01.png"])
    assert [entry.path for entry in both.entries] == [link / "images" / "00.png", work / "images" / "01.png"]


def test_linked_images_keep_their_names(opened, work, tmp_path):
    far = pictures(tmp_path / "far", 2)
    linked = work / "linked"
    linked.symlink_to(far, target_is_directory=True)
    one = work / "one.png"
    one.symlink_to(far / "01.png")
    data = opened([linked / "00.png", one, far / "00.png"])
    assert [entry.name for entry in data.entries] == ["linked/00.png", "one.png", (far / "00.png").as_posix()]
    data.decide(0, "accepted")
    data.decide(2, "accepted")
    data.close()
    assert list(labels(work / "labels.json")) == ["linked/00.png", (far / "00.png").as_posix()]


def test_images_of_one_name_in_two_folders_are_two(opened, work):
    pictures(work / "others", 1)
    both = [work / "images" / "00.png", work / "others" / "00.png"]
    data = opened(both)
    click(data, 15, 15)
    data.decide(0, "accepted")
    data.close()
    again = opened(both)
    assert [(status, len(objects)) for status, objects in held(again)] == [("accepted", 1), ("open", 0)]


def test_an_image_that_is_given_twice_is_one(opened, work):
    path = work / "images" / "00.png"
    data = opened([path, str(path), work / "images" / ".." / "images" / "00.png", work / "images" / "01.png"])
    assert [entry.path.name for entry in data.entries] == ["00.png", "01.png"]


@pytest.mark.parametrize("size", [(60, 80), (40, 30)])
def test_an_image_that_has_changed_is_an_error_and_nothing_is_lost(opened, work, out, size):
    data = opened()
    talked(data)
    data.show(4)
    data.close()
    changed, whole = work / "images" / "00.png", (work / "images" / "00.png").read_bytes()
    Image.fromarray(255 - picture(50)[: size[0], : size[1]]).save(changed)
    before = files(work / "labels.json.sessions")
    again = opened()
    with pytest.raises(InvalidImageError, match=r"00-.*was saved on another image: '00\.png' of 80 x 60"):
        again.show(0)
    assert "another image" in again.entries[0].error
    assert (again.current, again.entries.following(1, -1)) == (4, ())
    again.show(1)
    again.decide(1, "accepted")
    assert (again.entries[0].status, again.entries[0].count) == ("accepted", 2)
    again.close()
    assert labels(out) == {"images/00.png": ["cat", "dog"], "images/01.png": []}
    name = next(name for name in before if name.startswith("00-"))
    assert files(work / "labels.json.sessions")[name] == before[name]
    changed.write_bytes(whole)
    last = opened()
    assert [label for label, _ in drawn(last.show(0)).values()] == ["cat", "dog"]
    assert last.entries[0].error is None


def test_an_image_of_another_size_than_its_record_is_an_error_that_is_stepped_over(opened, work, out):
    data = opened()
    talked(data)
    data.show(4)
    data.close()
    for file in (work / "labels.json.sessions").glob("00-*"):
        file.unlink()
    Image.fromarray(picture(50)[:40, :30]).save(work / "images" / "00.png")
    again = opened()
    with pytest.raises(InvalidImageError, match=r"60 x 80 pixels.*is 40 x 30"):
        again.show(0)
    assert again.entries.following(1, -1) == ()
    again.close()
    assert labels(out) == {"images/00.png": ["cat", "dog"]}


def test_the_image_where_it_stopped_is_gone_or_changed_and_another_is_shown(opened, work):
    data = opened()
    click(data, 15, 15)
    data.show(3)
    click(data, 15, 15)
    data.close()
    Image.fromarray(picture(120)).save(work / "images" / "03.png")
    again = opened()
    assert (again.current, bool(again.entries[3].error)) == (4, True)
    again.close()
    (work / "images" / "03.png").unlink()
    last = opened()
    assert last.current == 0
    assert [command.name for command in last.live.history] == ["add_point"]


def test_a_session_that_is_damaged_is_an_error_of_its_image(opened, work):
    data = opened()
    talked(data)
    data.close()
    [session] = (work / "labels.json.sessions").glob("00-*")
    session.write_bytes(session.read_bytes()[:100])
    again = opened()
    with pytest.raises(InvalidImageError, match="must be a saved session"):
        again.show(0)
    assert "must be a saved session" in again.entries[0].error
    assert again.entries.following(1, -1) == ()
    assert again.entries[0].count == 2
    again.show(1)


def test_what_says_where_it_stopped_is_checked(opened, work):
    data = opened()
    data.show(1)
    data.close()
    state = work / "labels.json.sessions" / "state.json"
    whole = state.read_text()
    for text, match in [("[]", "a JSON object"), ("{}", "must have the format"), (whole[:9], "not JSON")]:
        state.write_text(text)
        with pytest.raises(FormatError, match=match):
            opened()
    for name, wrong in [("classes", None), ("classes", [["a"]]), ("applied", None), ("applied", [["add_concept"]])]:
        state.write_text(json.dumps({**json.loads(whole), name: wrong}))
        with pytest.raises(FormatError, match=rf"state\.json is damaged: {name} is"):
            opened()
    state.write_text(whole)
    assert opened().current == 1  # and nobody holds the files


def test_the_end_of_the_interpreter_writes_everything(opened, work, out):
    code = """
import sys
from pathlib import Path
from sam3_widget.dataset.dataset import DataSet
from tests.dataset.folders import click
from tests.toy import ToyModel

work = Path(sys.argv[1])
data = DataSet(work / "images", work / "labels.json", ["cat", "dog"], ToyModel())
click(data, 15, 15)
data.decide(0, "accepted")
click(data, 50, 15, "dog")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(work)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    assert not list(work.rglob("*.lock"))
    assert len(opened().live.history) == 2


def test_sessions_of_images_have_names_of_their_own(work):
    store = stores.Store(work / "labels.json", [], pytest.fail)
    names = ["a/x.png", "b/x.png", "a/x.jpg", "a/x_.png", "a/x?.png", "ü" * 300 + ".png", os.fsdecode(b"\xff.png")]
    paths = [store.session_path(name) for name in names]
    assert len(set(paths)) == len(names)
    assert {path.parent for path in paths} == {work / "labels.json.sessions"}
    for path in paths:
        path.write_text("")  # a name that the file system takes
    store.close()
    store.close()
