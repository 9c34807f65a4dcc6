"""One data set at a time on a file, and none on a file that is something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sam3_widget import label_images
from sam3_widget.errors import FormatError, InvalidImageError, InvalidPromptError, LockedError, ModelError
from sam3_widget.io.coco import write_coco
from tests.dataset.folders import annotation, click, drawn, files, labels
from tests.toy import ToyModel

ROOT = Path(__file__).parents[2]
OPEN = """
import sys
from pathlib import Path
from sam3_widget.dataset.dataset import DataSet
from tests.toy import ToyModel

work = Path(sys.argv[1])
data = DataSet(work / "images", work / "labels.json", ["cat", "dog"], ToyModel())
print("open", flush=True)
sys.stdin.readline()
"""


def running(work):
    command = [sys.executable, "-c", OPEN, str(work)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_second_one_is_refused_in_words_and_disturbs_nothing(opened, work, out):
    data = opened()
    click(data, 15, 15)
    data.decide(0, "accepted")
    data.flush()
    before = files(work)
    for images in (work / "images", [work / "images" / "05.png"]):
        with pytest.raises(LockedError, match=r"labels\.json is being labelled by another widget \(process \d+ on"):
            opened(images)
    assert files(work) == before
    data.decide(1, "accepted")
    data.flush()
    assert list(labels(out)) == ["images/00.png", "images/01.png"]
    data.close()
    assert opened().entries[1].status == "accepted"


def test_another_name_of_the_file_is_the_same_file(opened, work, out):
    opened()
    link = work / "link.json"
    link.symlink_to(out)
    for target in (link, work / "images" / ".." / "labels.json"):
        with pytest.raises(LockedError, match="another widget"):
            opened(target=target)
    assert opened(target=work / "other.json").entries[0].status == "open"


def test_a_second_process_is_refused_until_the_first_has_ended(opened, work):
    with running(work) as first:
        try:
            assert first.stdout.readline() == "open\n"
            before = files(work)
            with pytest.raises(LockedError, match=rf"another widget \(process {first.pid} on .*nothing was written"):
                opened()
            with running(work) as second:
                told, words = second.communicate("\n", timeout=60)
            assert (second.returncode, told) == (1, "")
            assert f"being labelled by another widget (process {first.pid} on" in words
            assert files(work) == before
        finally:
            first.kill()
    assert opened().current == 0


def test_a_later_run_of_the_same_place_takes_over(opened, out):
    first = opened(place=("cell", "1"))
    click(first, 15, 15)
    first.decide(0, "accepted")
    click(first, 50, 15, "dog")
    second = opened(place=("cell", "2"))
    assert not first.is_open
    assert drawn(second.live) == drawn(first.live)
    assert labels(out) == {"images/00.png": ["cat", "dog"]}
    with pytest.raises(LockedError, match="was closed"):
        first.decide(0, "rejected")
    third = opened(place=("cell", "3"))
    assert (second.is_open, third.is_open) == (False, True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("cell", "1"), ("cell", "1")),
        (("cell", "1"), ("other", "2")),
        (("", "1"), ("", "2")),
        (("", ""), ("cell", "1")),
        (("cell", "1"), ("", "")),
    ],
)
def test_nobody_else_takes_over(opened, first, second):
    data = opened(place=first)
    with pytest.raises(LockedError, match=r"close that one, w\.close\(\), or give another name as out"):
        opened(place=second)
    assert data.is_open
    data.decide(0, "accepted")


def test_a_file_that_was_not_written_here_is_refused(opened, work, out):
    write_coco(out, [annotation("00.png", ("cat", 15, 15, 0.5))])
    before = files(work)
    with pytest.raises(FormatError, match=r"was not written here: .* give it as annotations= and another name as out"):
        opened()
    assert files(work) == before


def test_the_output_of_label_images_is_refused(opened, work, out):
    label_images(work / "images", out, text="red", model=ToyModel())
    before = files(work)
    with pytest.raises(FormatError, match="to review what label_images made, give it as annotations="):
        opened()
    assert files(work) == before
    label_images(work / "images", out, text="red", model=ToyModel())  # and nobody holds it


def test_label_images_refuses_the_output_of_a_data_set(opened, work, out):
    data = opened()
    data.decide(0, "accepted")
    data.close()
    before = files(work)
    with pytest.raises(FormatError, match="of another run"):
        label_images(work / "images", out, text="red", model=ToyModel())
    assert files(work) == before


@pytest.mark.parametrize("content", [b"my diary\n", b"{}\n", b'{"version": 1}\n', b"\xff\x00\n", b"[1]\n"])
def test_a_journal_that_is_something_else_is_refused(opened, work, content):
    (work / "labels.json.journal").write_bytes(content)
    before = files(work)
    with pytest.raises(FormatError, match="is not the output of a data set widget"):
        opened()
    assert files(work) == before


def test_a_journal_of_a_later_version_is_refused(opened, work):
    opened().close()
    journal = work / "labels.json.journal"
    head = json.loads(journal.read_text())
    journal.write_text(json.dumps({**head, "version": head["version"] + 1}) + "\n")
    before = files(work)
    with pytest.raises(FormatError, match="is not the output of a data set widget"):
        opened()
    assert files(work) == before


@pytest.mark.parametrize("name", ["labels.csv", "labels", "images", "labels.json.bak", "folder.json"])
def test_out_is_the_name_of_a_json_file(opened, work, name):
    (work / "folder.json").mkdir()
    before = files(work)
    with pytest.raises(FormatError, match=r'out must be the path of a COCO file, like "labels\.json", got'):
        opened(target=work / name)
    assert files(work) == before


def test_a_missing_folder_is_not_made(opened, work):
    with pytest.raises(FormatError, match=r"the folder '.*/no' does not exist: make it first"):
        opened(target=work / "no" / "labels.json")
    assert not (work / "no").exists()


def test_a_suffix_in_capitals_is_one(opened, work):
    data = opened(target=work / "LABELS.JSON")
    data.decide(0, "accepted")
    data.close()
    assert labels(work / "LABELS.JSON") == {"images/00.png": []}


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"classes": "cat"}, InvalidPromptError, "classes must be a list of names"),
        ({"classes": ["cat", 3]}, InvalidPromptError, "classes must be a list of names"),
        ({"model": 3}, ModelError, "model must be"),
        ({"order": "random"}, InvalidPromptError, 'order must be "given" or "score", got'),
        ({"order": ""}, InvalidPromptError, 'order must be "given" or "score", got'),
        ({"images": []}, InvalidPromptError, "there are no images to label"),
        ({"target": 5}, FormatError, r'out must be the path of a COCO file, like "labels\.json", got 5'),
        ({"annotations": 5}, FormatError, "annotations must be a COCO file or what a reader returned, got 5"),
        ({"annotations": [5]}, FormatError, "annotations must be a COCO file or what a reader returned, got 5"),
        ({"annotations": "no.json"}, FormatError, "the file of the annotations, 'no.json', does not exist"),
        ({"images": "nowhere"}, InvalidPromptError, "must be a folder or a list of paths"),
        ({"images": ["nowhere.png"]}, InvalidImageError, "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nobody_holds_the_file(opened, out, given, error, match):
    with pytest.raises(error, match=match):
        opened(**given)
    assert opened().current == 0


def test_an_empty_class_is_none(opened):
    data = opened(classes=["", "cat"])
    assert (data.classes, data.live.state.classes, data.counts) == (("cat",), ("cat",), {"cat": 0})


def test_what_makes_no_sense_ends_no_data_set_of_an_earlier_run(opened):
    data = opened(place=("cell", "1"))
    with pytest.raises(InvalidPromptError, match="classes"):
        opened(classes="cat", place=("cell", "2"))
    assert data.is_open


def test_a_line_that_was_cut_off_costs_nothing_else(opened, work, out):
    data = opened()
    for k in range(3):
        data.decide(k, "accepted")
    data.close()
    journal = work / "labels.json.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    again = opened()
    assert [entry.status for entry in again.entries[:3]] == ["accepted", "accepted", "open"]
    again.decide(2, "accepted")
    again.close()
    assert len(labels(out)) == 3
    assert [entry.status for entry in opened().entries[:3]] == ["accepted"] * 3
