"""Sessions as files: what comes back, what is refused, and what is there after a kill."""

from __future__ import annotations

import gc
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image as PILImage

import sam3_widget.live
from sam3_widget import Sam3Widget, Session, VideoSession
from sam3_widget.core.commands import COMMANDS
from sam3_widget.core.script import _PROPERTIES
from sam3_widget.errors import (
    FormatError,
    InvalidImageError,
    InvalidPromptError,
    LockedError,
    ModelError,
    PromptWarning,
    Sam3WidgetError,
    UnsupportedError,
)
from sam3_widget.models.base import Capabilities
from sam3_widget.saving import autosave, sessions
from tests.saving.writer import IMAGE
from tests.toy import ToyModel
from tests.unit.test_document import MOVES
from tests.widget.frontend import FrontEnd

ROOT = Path(__file__).parents[2]
SPOTS = IMAGE.copy()
SPOTS[5:25, 5:25, 0] = SPOTS[5:25, 40:60, 1] = SPOTS[40:50, 40:55, 0] = 250


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.sam3.json"


@pytest.fixture
def toys(monkeypatch):
    """Let the name "toy" stand for a toy, and return those that were loaded."""
    made = []

    def load(name):
        if name != "toy":
            raise ModelError(f"there is no model {name!r}")
        made.append(ToyModel())
        return made[-1]

    monkeypatch.setattr(sam3_widget.live, "load_model", load)
    return made


def talked(image=SPOTS, **options):
    """A session in which something of everything was said."""
    session = Session(image, ToyModel(), ["mug"], **options)
    session.add_point(20, 30)
    session.choose_candidate(1, 1)
    session.add_box((3, 3, 20, 20))
    session.set_text("red")
    session.add_exemplar((40, 5, 60, 25))
    session.remove_object(int(session.object_ids[-1]))
    session.add_stroke([(3, 4), (9, 9)], 3)
    session.set_mask(np.eye(60, 80, dtype=bool))
    session.set_label(1, "cup")
    session.mask_threshold = 0.6
    session.min_area = 3
    session.undo()
    session.select(2)
    return session


def held(session):
    """All that a session tells of itself."""
    told = (session.object_ids.tolist(), session.labels, session.selected, session.text, session.classes)
    settings_ = (session.mask_threshold, session.score_threshold, session.fill_holes, session.min_area)
    concepts = [(c.concept_id, c.text, c.exemplars, c.presence, c.object_ids, c.note) for c in session.concepts]
    arrays = [session.masks, session.scores, session.boxes, session.logits, session.label_map, session.semantic_mask]
    return [told, settings_, concepts, session.points, session.box_prompts, *(a.tobytes() for a in arrays)]


def test_a_session_comes_back_with_its_history_and_no_model_is_asked(path, toys):
    session = talked()
    session.save(path)
    again = Session.load(path, SPOTS)
    assert held(again) == held(session)
    assert [(c.name, c.time) for c in again.history] == [(c.name, c.time) for c in session.history]
    while session.undo():
        assert again.undo()
        assert held(again)[0][0] == held(session)[0][0]
        assert held(again)[5:] == held(session)[5:]
    assert not again.undo()
    while session.redo():
        assert again.redo()
    assert held(again) == held(session)
    assert again.model.name == "toy"
    assert not again.model.loaded
    assert not toys


def test_the_model_is_loaded_with_the_first_question(path, toys):
    session = talked()
    session.save(path)
    again = Session.load(path, SPOTS)
    assert (again.add_point(60, 50).mask == session.add_point(60, 50).mask).all()
    assert (again.add_point(62, 50, object_id=again.selected).mask[50, 60]).all()
    assert len(again.set_text("green")) == len(session.set_text("green")) == 1
    assert len(toys) == 1
    assert {name.split("-")[0] for name in toys[0].threads} == {"sam3w"}


def test_a_model_that_is_not_there_leaves_the_masks_and_says_so(path):
    session = talked()
    session.save(path)
    again = Session.load(path, SPOTS)
    assert held(again) == held(session)
    with pytest.raises(ModelError, match=r"the model 'toy' that this session was made with cannot be loaded here"):
        again.add_point(60, 50)
    assert again.undo()
    assert held(again) == held(session)
    other = ToyModel()
    other.name = "other"
    with_other = Session.load(path, SPOTS, other)
    assert with_other.add_point(60, 50).mask[50, 60]
    assert with_other.model is other


def test_what_was_asked_when_it_was_saved_is_asked_again(path):
    model = ToyModel()
    session = Session(SPOTS, model)
    session.add_point(20, 30)
    model.gate.clear()
    session._live.run("add_point", {"x": 30, "y": 30, "object_id": 1}, wait=False)
    session._live.run("set_text", {"text": "red"}, wait=False)
    session.save(path)
    model.gate.set()
    session._live.settle()
    again = Session.load(path, SPOTS, ToyModel())
    again._live.settle()
    assert held(again) == held(session)


def test_the_image_is_found_where_it_was_or_beside_the_file(tmp_path):
    folder, photo = tmp_path / "a", tmp_path / "a" / "photo.png"
    folder.mkdir()
    PILImage.fromarray(SPOTS).save(photo)
    session = talked(photo)
    session.save(folder / "x.sam3.json")
    assert held(Session.load(folder / "x.sam3.json")) == held(session)
    moved = tmp_path / "b"
    shutil.move(folder, moved)
    assert held(Session.load(moved / "x.sam3.json")) == held(session)
    (moved / "photo.png").unlink()
    with pytest.raises(InvalidImageError, match=r"photo\.png', 80 x 60\) is not found at .*: give it"):
        Session.load(moved / "x.sam3.json")
    assert held(Session.load(moved / "x.sam3.json", SPOTS)) == held(session)


def test_another_image_is_an_error_unless_it_is_forced_and_of_the_size(path):
    session = talked()
    session.save(path)
    with pytest.raises(InvalidImageError, match=r"not from a file: give it"):
        Session.load(path)
    with pytest.raises(InvalidImageError, match=r"another image: one without a name of 80 x 60.*force=True"):
        Session.load(path, IMAGE)
    assert (Session.load(path, IMAGE, force=True).masks == session.masks).all()
    with pytest.raises(InvalidImageError, match=r"got one without a name of 60 x 80$"):
        Session.load(path, IMAGE.transpose(1, 0, 2), force=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a saved session, but it is not JSON"),
        ('{"format": "sam3-widget/session", "vers', "but it is not JSON"),
        ("[]", "a JSON object, got list"),
        ("{}", "with the format 'sam3-widget/session', got None"),
        ('{"format": "sam3-widget/session", "version": 2}', "version 1 was expected, got 2: a newer sam3_widget reads"),
        ('{"format": "sam3-widget/session", "version": 1}', "the file: image must be an object, got None"),
        ('{"format": "sam3-widget/session", "version": 1, "image": {}, "model": {}}', "height must be an integer"),
    ],
)
def test_a_file_that_is_no_session_is_refused_in_words(path, text, words):
    path.write_text(text)
    with pytest.raises(FormatError) as raised:
        Session.load(path, SPOTS)
    assert words in str(raised.value)
    with pytest.raises(FormatError):
        Session(SPOTS, ToyModel(), autosave=path)
    assert path.read_text() == text


def test_every_cut_of_a_file_is_refused(path):
    talked().save(path)
    data = path.read_bytes()
    for end in range(0, len(data) - 2, max(1, len(data) // 60)):
        path.write_bytes(data[:end])
        with pytest.raises(FormatError):
            Session.load(path, SPOTS)


def test_the_file_is_plain_json_without_a_nan(path):
    talked().save(path)
    whole = json.loads(path.read_text(encoding="ascii"), parse_constant=pytest.fail)
    assert whole["format"] == "sam3-widget/session"
    assert whole["image"] == {"key": whole["image"]["key"], "name": "", "height": 60, "width": 80, "path": ""}
    assert [row["name"] for row in whole["past"]][:2] == ["add_point", "choose_candidate"]


def test_a_frame_of_a_clip_cannot_be_saved(path):
    clip = VideoSession(np.stack([IMAGE, IMAGE]), ToyModel(Capabilities(boxes=True, video=True)))
    with pytest.raises(UnsupportedError, match="a frame of a clip"):
        clip.frame(0).save(path)
    assert not path.exists()


# Autosave


def test_the_same_cell_goes_on_where_it_stopped(path):
    session = talked(autosave=path)
    session.close()
    assert not path.with_name(path.name + ".lock").exists()
    again = Session(SPOTS, ToyModel(), ["mug", "plate"], autosave=path)
    assert again.classes == (*session.classes, "plate")
    assert (again.masks == session.masks).all()
    again.add_point(60, 50)
    again.flush()
    assert (Session.load(path, SPOTS).masks == again.masks).all()
    session.add_point(60, 20)  # closed: it goes on, unsaved
    assert len(Session.load(path, SPOTS).history) == len(again.history)
    again.close()


def test_a_change_is_written_in_the_background_and_the_verb_does_not_wait(path, monkeypatch):
    session = Session(SPOTS, ToyModel(), autosave=path)
    gate, written = threading.Event(), []

    def slowly(target, data):
        assert gate.wait(30)
        written.append((target, threading.current_thread().name))

    monkeypatch.setattr(autosave, "write_atomically", slowly)
    for k in range(5):
        session.add_point(10 + 9 * k, 20)
    gate.set()
    session.flush()
    assert len(written) < 5
    assert {target for target, _ in written} == {path}
    session.close()


def test_a_change_is_in_the_file_a_moment_later_without_a_flush(path):
    session = Session(SPOTS, ToyModel(), autosave=path)
    session.add_point(20, 30)
    for thread in threading.enumerate():
        if thread.name == "sam3w-autosave":
            thread.join(30)
    assert (Session.load(path, SPOTS).masks == session.masks).all()
    session.close()


def test_nothing_is_written_before_anything_is_said(path):
    session = Session(SPOTS, ToyModel(), autosave=path)
    session.flush()
    session.close()
    assert not path.exists()


def test_another_image_overwrites_nothing(path):
    talked(autosave=path).close()
    before = path.read_bytes()
    with pytest.raises(InvalidImageError, match=r"nothing was written to it.*was saved on another image"):
        Session(IMAGE, ToyModel(), autosave=path)
    assert path.read_bytes() == before
    Session(SPOTS, ToyModel(), autosave=path).close()  # and nobody holds it


def test_a_cell_that_runs_again_takes_over_and_the_former_session_is_told(path):
    first = talked(autosave=path)
    errors = []
    first._live.listen(type("Ear", (), {"changed": int, "failed": lambda _, e: errors.append(str(e))})())
    second = Session(SPOTS, ToyModel(), autosave=path)
    assert held(second) == held(first)
    assert errors == [f"this session is saved no longer: another one of this kernel has gone on from {path}"]
    first.add_point(60, 50)
    second.set_label(2, "second")
    second.flush()
    assert Session.load(path, SPOTS).labels == second.labels
    second.close()


def test_a_second_process_is_refused_in_words(path):
    session = talked(autosave=path)
    session.flush()
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "tests.saving.writer", str(path), "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is being saved to by another session (process" in done.stderr
    assert path.read_bytes() == before
    with pytest.raises(LockedError, match="give another file; nothing was written"):
        Session(SPOTS, ToyModel()).save(path)
    session.save(path)  # its own
    session.close()
    Session(SPOTS, ToyModel()).save(path)


def test_a_lock_file_that_was_left_over_locks_nothing(path):
    path.with_name(path.name + ".lock").write_text('{"pid": 1}')
    path.with_name(f".{path.name}.0123abcd.part").write_text("half")
    Session(SPOTS, ToyModel(), autosave=path).close()
    assert list(path.parent.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told_and_tried_again(path, monkeypatch):
    session = Session(SPOTS, ToyModel(), autosave=path)
    told = threading.Event()
    errors = []

    def hear(_, error):
        errors.append(str(error))
        told.set()

    session._live.listen(type("Ear", (), {"changed": int, "failed": hear})())
    with monkeypatch.context() as patch:

        def full(target, data):
            raise OSError(28, "No space left on device")

        patch.setattr(autosave, "write_atomically", full)
        session.add_point(20, 30)
        assert told.wait(30)
        with pytest.raises(OSError, match="No space left"):
            session.flush()
    assert "could not be saved to" in errors[0]
    session.add_point(60, 30)
    session.flush()
    assert (Session.load(path, SPOTS).masks == session.masks).all()
    session.close()


def test_flush_within_a_callback_does_not_wait_for_itself(path):
    session = Session(SPOTS, ToyModel(), autosave=path)
    session.on_change(session.flush)
    for k in range(8):
        session.add_point(10 + 8 * k, 20)
    assert len(Session.load(path, SPOTS).history) == 8
    session.close()


def test_a_forgotten_session_is_collected_and_its_file_is_free(path):
    session = talked(autosave=path)
    session.flush()
    while any(thread.name == "sam3w-autosave" for thread in threading.enumerate()):
        time.sleep(0.01)
    live = weakref.ref(session._live)
    del session
    gc.collect()
    assert live() is None
    Session(SPOTS, ToyModel(), autosave=path).close()


def test_a_missing_folder_is_told_before_anything_is_said(tmp_path):
    with pytest.raises(FormatError, match="does not exist: make it first"):
        Session(SPOTS, ToyModel(), autosave=tmp_path / "no" / "x.sam3.json")


def test_the_end_of_the_interpreter_saves(path):
    code = (
        "import sys\nfrom sam3_widget import Session\nfrom tests.saving.writer import IMAGE, ToyModel\n"
        "s = Session(IMAGE, ToyModel(), autosave=sys.argv[1]); s.add_point(20, 30); s.set_label(1, 'last')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Session.load(path, IMAGE).labels == ["last"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("seed", range(5))
def test_what_was_said_to_be_saved_is_there_after_a_kill(path, seed):
    chance = random.Random(seed)  # noqa: S311 - any moment will do
    acknowledged = opened = 0
    for _ in range(2):  # the second one goes on from what the first has left
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.saving.writer", str(path), "60"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with writer:
            last = chance.randrange(1, 22)
            for count, line in enumerate(writer.stdout):
                word, number = line.split()
                if word == "open":
                    opened = int(number)
                    assert opened >= acknowledged
                acknowledged = int(number)
                if path.exists():
                    sessions.read(path)  # at any moment it is whole
                if count == last or word == "done":
                    break
            time.sleep(chance.random() * 0.02)
            writer.kill()
        saved = Session.load(path, IMAGE, ToyModel())
        assert len(saved.history) >= acknowledged > opened
        saved._live.settle()
        assert saved.masks.any((1, 2)).all()
    assert {file.name for file in path.parent.iterdir()} <= {path.name, path.name + ".lock"} | {
        file.name for file in path.parent.glob(".*.part")
    }


# The widget


def test_the_widget_says_that_it_has_gone_on(path):
    first = Sam3Widget(SPOTS, ToyModel(), autosave=path)
    view = FrontEnd(first)
    view.request("hello", {})
    view.command("add_point", x=20, y=30)
    view.command("add_point", x=60, y=30)
    assert not [content for content, _ in view.sent if content["type"] == "notice"]
    first.close()
    second = Sam3Widget(SPOTS, ToyModel(), autosave=path)
    again = FrontEnd(second)
    again.request("hello", {})
    assert (second.masks == first.masks).all()
    assert again.agrees()
    notices = [content for content, _ in again.sent if content["type"] == "notice"]
    assert [n["id"] for n in notices] == [None]
    assert notices[0]["payload"]["message"].startswith("Went on from x.sam3.json, saved ")
    assert notices[0]["payload"]["message"].endswith(": 2 steps, 2 objects.")
    again.request("hello", {})
    assert len([content for content, _ in again.sent if content["type"] == "notice"]) == 1
    second.session.close()
    with pytest.raises(InvalidPromptError, match="autosave: give it alone"):
        Sam3Widget(second.session, autosave=path)


# As Python


def run_script(session):
    space = {"image": session.image}
    exec(session.script(), space)  # noqa: S102 - what the test is about
    return space["s"]


def test_the_script_makes_the_same_masks(toys):
    session = talked()
    session.set_points([(5, 5), (7, 7, True, 9)])
    session.set_boxes([(1, 1, 9, 9), (30, 30, 50, 50, 12)])
    session.select_concept(None)
    session.set_text("green", at=(50, 15))
    assert len(session.concepts) == 2
    again = run_script(session)
    assert (again.masks == session.masks).all()
    assert again.object_ids.tolist() == session.object_ids.tolist()
    assert again.labels == session.labels
    assert "s.add_point(20, 30)\ns.choose_candidate(1, 1)\n" in session.script()


def test_the_script_names_the_file_of_the_image(tmp_path):
    photo = tmp_path / "photo.png"
    PILImage.fromarray(SPOTS).save(photo)
    session = Session(photo, ToyModel(), ["mug"])
    session.set_text("it's")
    assert session.script() == (
        "from sam3_widget import Session\n\n"
        f"s = Session({str(photo)!r}, model='toy', classes=['mug'])\n"
        's.set_text("it\'s")\n'
    )


@given(moves=MOVES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_of_any_commands_makes_the_same_masks(moves, toys):
    session = Session(SPOTS[:48, :64], ToyModel())
    for name, args in moves:
        try:
            session._live.run(name, {"object_id": args} if name == "select" else {} if args is None else args)
        except Sam3WidgetError:
            continue
    again = run_script(session)
    assert again.object_ids.tolist() == session.object_ids.tolist()
    assert (again.masks == session.masks).all()
    assert again.labels == session.labels
    replayed = session.replay(ToyModel())
    assert replayed.refused == ()
    assert replayed.session.object_ids.tolist() == session.object_ids.tolist()
    assert (replayed.session.masks == session.masks).all()


def test_every_command_has_a_verb_for_the_script():
    names = {_PROPERTIES.get(name, name) for name in COMMANDS}
    assert {name for name in names if not hasattr(Session, name)} == set()


def test_a_history_that_forgot_its_start_has_no_script(monkeypatch):
    session = Session(SPOTS, ToyModel())
    monkeypatch.setattr("sam3_widget.core.document.LIMIT", 2)
    for k in range(4):
        session.add_point(10 + 9 * k, 20)
    with pytest.raises(FormatError, match="the oldest commands"):
        session.script()


# Another model


class Shifted(ToyModel):
    """Finds what a toy finds and one more, before it, and takes no boxes."""

    name = "shifted"

    def __init__(self):
        super().__init__(Capabilities(points=True, text=True, exemplars=True, mask_prompt=True))

    @staticmethod
    def _find(embedding, concept):
        found = ToyModel._find(embedding, concept)
        extra = np.full((1, *found.logits.shape[1:]), -8, np.float32)
        extra[0, 30:36, 2:8] = 8
        logits = np.concatenate([extra, found.logits])
        scores = np.concatenate([[np.float32(0.995)], found.scores]).astype(np.float32)
        return type(found)(logits, scores, np.zeros((len(scores), 4), np.float32), found.presence, found.semantic)


def test_another_model_takes_the_commands_and_what_it_does_not_is_told(path):
    session = Session(SPOTS, ToyModel())
    session.set_text("red")  # 1 and 2; in the other model 2 and 3, after one that only it finds
    cup = session.add_point(62, 40)
    session.add_point(64, 42, object_id=cup.object_id)
    session.add_point(6, 6, positive=False, object_id=1)
    boxed = session.add_box((60, 3, 75, 12))
    session.add_point(70, 8, object_id=boxed.object_id)
    session.set_label(2, "small")
    session.undo()
    session.redo()
    session.save(path)
    done = Session.load(path, SPOTS).replay(Shifted())
    assert [r.command.name for r in done.refused] == ["add_box", "add_point"]
    assert "boxes" in done.refused[0].reason
    assert f"object {boxed.object_id} is not there" in done.refused[1].reason
    again = done.session
    assert again.model.name == "shifted"
    assert len(again.object_ids) == 4
    assert [len(i.points) for i in again.instances] == [0, 1, 0, 2]
    assert again.labels[2] == "small"
    assert (again.masks[1] == session.masks[0]).all()
    assert (again.masks[3] == session.masks[2]).all()
    with pytest.warns(PromptWarning, match=r"shifted did not take 2 of the commands: Add box \(.*\); Add point"):
        loaded = Session.load(path, SPOTS, Shifted(), replay=True)
    assert (loaded.masks == again.masks).all()
    assert (session.replay(Shifted()).session.masks == again.masks).all()


@pytest.mark.parametrize(("which", "concept"), [(0, "red"), (1, "cup")])
def test_a_command_goes_to_the_instance_of_its_own_concept(which, concept):
    session = Session(SPOTS, ToyModel())
    session.add_concept("red")
    session.add_concept("cup")  # finds the same things again
    twins = [i.object_id for i in session.instances if i.runs.bbox == session.instance(1).runs.bbox]
    assert len(twins) == 2
    session.add_point(6, 6, positive=False, object_id=twins[which])
    again = session.replay(Shifted()).session
    assert [again.concept(i.concept_id).text for i in again.instances if i.points] == [concept]


def test_the_same_model_makes_the_same_masks_anew(path, toys):
    session = talked()
    session.set_points([(5, 5), (7, 7, True, 9), (70, 50, True, 14)])
    session.set_boxes([(1, 1, 9, 9), (30, 30, 50, 50, 15)])
    session.save(path)
    model = ToyModel()
    done = Session.load(path, SPOTS).replay(model)
    assert done.refused == ()
    assert model.asked
    assert (done.session.masks == session.masks).all()
    assert done.session.object_ids.tolist() == session.object_ids.tolist()
    assert str(done) == "toy took every command"
