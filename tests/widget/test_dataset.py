import gc
import random
import shutil
import threading
import weakref

import cv2
import numpy as np
import pytest
import traitlets
from PIL import Image as PILImage

from sam3_widget import Sam3DatasetWidget, Sam3VideoWidget, Sam3Widget
from sam3_widget.core.runs import RunLengths
from sam3_widget.dataset import dataset as module
from sam3_widget.dataset import entries
from sam3_widget.errors import (
    FormatError,
    InvalidImageError,
    InvalidPromptError,
    LockedError,
    ModelError,
    NotFoundError,
    Sam3WidgetError,
)
from sam3_widget.io import AnnotatedImage, AnnotatedObject, read_coco
from sam3_widget.live import LOCK
from sam3_widget.saving import autosave
from tests.toy import ToyModel
from tests.widget.frontend import TIMEOUT, UNTOUCHED, FrontEnd

HEIGHT, WIDTH = 60, 80
COUNT = 4
SPOT = (5, 5, 25, 25)
MANY = 12
"""More images than stay open."""


def picture(number):
    """A dark picture of its own, with a red spot, and a green one where the number is even."""
    pixels = np.full((HEIGHT, WIDTH, 3), 20 + number, np.uint8)
    pixels[5:25, 5:25, 0] = 250
    if number % 2 == 0:
        pixels[5:25, 40:60, 1] = 250
    return pixels


def folder_of(path, count):
    path.mkdir()
    for number in range(count):
        PILImage.fromarray(picture(number)).save(path / f"{number}.png")
    return path


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "images", COUNT)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labels.json"


@pytest.fixture
def label(out):
    """Open widgets that are closed after the test."""
    opened = []

    def open_on(images, model=None, **options):
        opened.append(Sam3DatasetWidget(images, out, model=model or ToyModel(), **options))
        return opened[-1]

    yield open_on
    for widget in opened:
        widget.close()


@pytest.fixture
def widget(label, folder):
    return label(folder, classes=["cup", "spoon"])


@pytest.fixture
def view(widget):
    return seen(widget)


@pytest.fixture
def many(label, tmp_path):
    """A view of more images than stay open."""
    return seen(label(folder_of(tmp_path / "many", MANY)))


def seen(widget):
    front = FrontEnd(widget)
    front.request("hello", {})
    return front


def go(view, image_idx, **more):
    answer = view.command("go", image_idx=image_idx, **more)
    assert answer["type"] == "patch", answer["payload"]
    return answer


def click(view, image_idx, x=20, y=30, **more):
    return view.command("add_point", image_idx=image_idx, x=x, y=y, positive=True, object_id=None, **more)


def settled(widget, image_idx):
    """Return the session of an image once the model has answered all of it."""
    live = widget._data.open(image_idx)
    live.settle()
    return live


def square(score=float("nan"), name="cup", object_id=1, size=(HEIGHT, WIDTH)):
    mask = np.zeros(size, bool)
    mask[10:20, 10:20] = True
    return AnnotatedObject(object_id, name, RunLengths.from_mask(mask), score)


def annotated(folder, number, *objects):
    return AnnotatedImage(str(folder / f"{number}.png"), HEIGHT, WIDTH, objects)


def locks(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.lock"))


# Greeting.


def test_hello_is_answered_by_the_image_and_then_all_of_the_data_set(view, widget):
    kinds = [content["type"] for content, _ in view.sent if content["type"] != "progress"]
    assert kinds == ["snapshot", "dataset"]
    assert view.state["image_idx"] == widget.image_idx == 0
    assert view.state["image"]["name"] == "0.png"
    assert widget._dataset == {"length": COUNT, "out": "labels.json", "order": "given"}
    assert view.told("dataset")[0]["whole"] is True
    assert view.names == ["0.png", "1.png", "2.png", "3.png"]
    assert view.rows == {}
    assert view.classes == {"cup": 0, "spoon": 0}
    assert view.applied is None
    assert view.agrees()


def test_names_are_paths_from_the_folder_that_the_images_share(label, tmp_path):
    paths = [folder_of(tmp_path / name, 1) / "0.png" for name in ("one", "two")]
    assert seen(label(paths)).names == ["one/0.png", "two/0.png"]


def test_hello_tells_rows_of_those_images_only_that_something_is_known_of(view, widget):
    click(view, 0)
    widget.reject(2)
    late = seen(widget)
    assert late.rows == {0: ["open", 1, 0.9, None], 2: ["rejected", 0, None, None]}
    assert late.classes == {"cup": 0, "spoon": 0, "": 1}
    assert late.agrees()


def test_two_views_are_both_told(label, folder):
    widget = label(folder)
    first, second = FrontEnd(widget), FrontEnd(widget)
    widget.send = lambda *message: [view.receive(*message) for view in (first, second)]
    first.request("hello", {})
    second.request("hello", {})
    go(first, 2)
    click(second, 2)
    assert first.command("decide", image_idx=2, status="accepted")["type"] == "patch"
    for view in (first, second):
        assert view.state["image_idx"] == 2
        assert view.row(2) == ["accepted", 1, 0.9, None]
        assert view.names == ["0.png", "1.png", "2.png", "3.png"]
        assert view.agrees()


def test_first_view_hears_once_that_the_work_goes_on(label, folder):
    widget = label(folder)
    widget.accept(0)
    widget.skip(1)
    widget.image_idx = 2
    widget.close()
    again = label(folder)
    assert again.image_idx == 2
    view = FrontEnd(again)
    for _ in range(2):
        view.request("hello", {})
    assert view.told("notice") == [{"message": "Went on from labels.json: 2 of 4 images decided."}]
    assert (view.row(0)[0], view.row(1)[0]) == ("accepted", "skipped")
    kinds = [content["type"] for content, _ in view.sent if content["type"] != "progress"]
    assert kinds == ["snapshot", "dataset", "notice", "snapshot", "dataset"]


def test_new_work_has_nothing_to_say(view):
    assert view.told("notice") == []


# Going.


def test_go_is_answered_by_what_changed(view, widget):
    click(view, 0)
    answer = go(view, 2)
    told = answer["payload"]
    assert (told["set"]["image_idx"], told["set"]["image"]["name"]) == (2, "2.png")
    assert told["removed"] == [1]
    assert widget.image_idx == view.state["image_idx"] == 2
    assert (widget.image[..., :] == picture(2)).all()
    go(view, 0)
    assert view.agrees()
    assert widget.masks[0][30, 20]


def test_picture_and_its_description_change_in_one_message(view, widget, monkeypatch):
    sent = []
    monkeypatch.setattr(widget, "_send", lambda message, *_, **__: sent.append(message))
    expected = widget._data.open(1).image.key
    for move in (lambda: go(view, 1), lambda: setattr(widget, "image_idx", 2), widget.previous):
        sent.clear()
        move()
        states = [message["state"] for message in sent if message["method"] == "update"]
        pictures = [state for state in states if state.keys() & {"_image", "_preview"}]
        assert len(pictures) == 1
        # What is binary travels beside the state, under its path.
        paths = [message["buffer_paths"] for message in sent if "_image" in message["state"]]
        assert paths == [[["_preview"]]]
        assert pictures[0]["_image"]["name"] == f"{widget.image_idx}.png"
        shown = cv2.imdecode(np.frombuffer(widget._preview, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert (shown == picture(widget.image_idx)).all()
    assert expected == view.state["image"]["key"]


def test_equal_pictures_keep_their_names(label, tmp_path):
    folder = folder_of(tmp_path / "twins", 1)
    shutil.copy(folder / "0.png", folder / "1.png")
    view = seen(label(folder))
    go(view, 1)
    assert view.state["image"]["name"] == view.widget._image["name"] == "1.png"


@pytest.mark.parametrize("image_idx", [-1, COUNT, 1.5, "9.png", None, [1], True])
def test_image_that_is_not_there_is_refused(view, widget, image_idx):
    answer = view.command("go", image_idx=image_idx)
    assert answer["type"] == "error"
    assert answer["payload"]["code"] in {"not_found", "invalid_prompt"}
    assert widget.image_idx == view.state["image_idx"] == 0
    assert widget._image["name"] == "0.png"


@pytest.mark.parametrize("damage", ["missing", "broken", "empty"])
def test_file_that_cannot_be_read_is_refused_and_nothing_changes(view, widget, folder, damage):
    click(view, 0)
    file = folder / "3.png"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:60] if damage == "broken" else b"")
    before = (widget._image, widget._preview, widget.masks, view.rev)
    answer = view.command("go", image_idx=3)
    assert answer["type"] == "error"
    assert answer["payload"]["code"] == "invalid_image"
    assert widget.image_idx == view.state["image_idx"] == 0
    assert (widget._image, widget._preview) == before[:2]
    assert (widget.masks == before[2]).all()
    assert view.rev == before[3]
    assert "3.png" in view.row(3)[3]
    assert view.row(3)[:3] == UNTOUCHED[:3]
    assert view.agrees()
    assert click(view, 0, x=60)["type"] == "patch"
    assert view.agrees()


def test_file_that_can_be_read_again_loses_its_error(view, folder):
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").unlink()
    assert view.command("go", image_idx=3)["type"] == "error"
    (folder / "3.png").write_bytes(data)
    go(view, 3)
    assert view.row(3) == UNTOUCHED


@pytest.mark.parametrize("ahead", [[COUNT], [0, "x"], 5, [None]])
def test_go_with_a_wrong_list_of_what_is_ahead_changes_nothing(view, widget, ahead):
    click(view, 0)
    answer = view.command("go", image_idx=2, ahead=ahead)
    assert answer["type"] == "error"
    assert widget.image_idx == view.state["image_idx"] == 0
    assert widget._data.current == 0
    assert view.agrees()


def test_go_that_cannot_be_saved_changes_nothing(view, widget, out):
    click(view, 0)
    widget.flush()
    sessions = out.with_name("labels.json.sessions")
    sessions.rename(sessions.with_name("elsewhere"))
    assert view.command("go", image_idx=2)["type"] == "error"
    with pytest.raises(FormatError, match="sessions"):
        widget.image_idx = 3
    with pytest.raises(FormatError, match="sessions"):
        widget.next()
    assert widget.image_idx == view.state["image_idx"] == widget._data.current == 0
    assert view.agrees()
    sessions.with_name("elsewhere").rename(sessions)
    widget.image_idx = 3
    assert view.state["image_idx"] == 3
    assert view.agrees()


def test_observer_that_raises_leaves_the_view_in_step(view, widget):
    def boom(_):
        raise ValueError("a mistake of the observer")

    widget.observe(boom, "image_idx")
    view.request("command", {"name": "go", "args": {"image_idx": 2}})
    assert view.state["image_idx"] == widget.image_idx == 2
    widget.unobserve(boom, "image_idx")
    click(view, 2)
    assert view.agrees()


def test_images_ahead_are_opened_and_encoded_before_anybody_is_there(view, widget):
    at_rest(widget)
    before = widget.model.encoded
    go(view, 0, ahead=[3])
    at_rest(widget)
    assert widget.model.encoded == before + 1
    go(view, 3, ahead=[])
    click(view, 3)
    assert widget.model.encoded == before + 1
    assert view.agrees()


def test_images_after_the_first_are_opened_ahead_from_the_beginning(label, folder):
    widget = label(folder)
    at_rest(widget)
    assert widget.model.encoded == 3


def at_rest(widget):
    """Return when what is ahead has been opened and encoded."""
    widget._data._worker.submit(int).result(TIMEOUT)
    worker = widget._data.live.engine._thread
    if worker is not None:
        worker.join(TIMEOUT)
    assert widget._data.live.engine._thread is None


# Python.


def test_image_idx_moves_every_view_and_is_observed(view, widget):
    changes = []
    widget.observe(lambda change: changes.append((change["old"], change["new"], widget.image[0, 79, 0])), "image_idx")
    widget.image_idx = 3
    assert view.state["image_idx"] == 3
    go(view, 1)
    assert changes == [(0, 3, 23), (3, 1, 21)]
    assert view.agrees()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, NotFoundError),
        (COUNT, NotFoundError),
        (1.5, traitlets.TraitError),
        ("1", traitlets.TraitError),
        (None, traitlets.TraitError),
        (3, InvalidImageError),
    ],
)
def test_refused_assignment_leaves_the_trait_as_it_was(view, widget, folder, value, error):
    (folder / "3.png").write_bytes(b"no image")
    widget.image_idx = 1
    with pytest.raises(error):
        widget.image_idx = value
    assert widget.image_idx == view.state["image_idx"] == widget._data.current == 1
    assert widget._image["name"] == "1.png"


@pytest.mark.parametrize("value", [COUNT, 3])
def test_what_the_browsers_model_sets_is_taken_or_corrected(view, widget, folder, value):
    (folder / "3.png").unlink()
    told = []
    widget.send_state = lambda key=None: told.append(key)
    widget.set_state({"image_idx": 2})
    assert view.state["image_idx"] == widget.image_idx == 2
    widget.set_state({"image_idx": value})
    assert widget.image_idx == view.state["image_idx"] == 2
    assert told[-1] == ["image_idx"]
    assert view.told("error")


def test_go_takes_an_index_a_path_and_a_name(widget, folder):
    for image, expected in ((2, 2), ("1.png", 1), (folder / "3.png", 3), (str(folder / "0.png"), 0)):
        widget.go(image)
        assert widget.image_idx == expected
    with pytest.raises(NotFoundError, match=r"0 images 'elsewhere.png'"):
        widget.go("elsewhere.png")
    assert widget.image_idx == 0
    assert widget.files == tuple(folder / f"{k}.png" for k in range(COUNT))


def test_name_of_several_images_is_refused(label, tmp_path):
    paths = [folder_of(tmp_path / name, 1) / "0.png" for name in ("one", "two")]
    widget = label(paths)
    with pytest.raises(NotFoundError, match="2 images"):
        widget.go("0.png")
    widget.go(paths[1])
    assert widget.image_idx == 1


def test_next_and_previous_pass_by_what_cannot_be_read(label, folder):
    (folder / "1.png").write_bytes(b"no image")
    widget = label(folder)
    view = seen(widget)
    assert widget.next() is True
    assert widget.image_idx == 2
    assert view.row(1)[3] is not None
    assert widget.next() is True
    assert widget.next() is False
    assert widget.image_idx == 3
    assert [widget.previous() for _ in range(3)] == [True, True, False]
    assert widget.image_idx == view.state["image_idx"] == 0


def test_next_passes_by_annotations_of_another_size(label, folder):
    widget = label(folder, annotations=[AnnotatedImage("1.png", 30, 30, (square(size=(30, 30)),))])
    view = seen(widget)
    assert view.command("go", image_idx=1)["type"] == "error"
    assert view.row(1)[3] is not None
    assert widget.next() is True
    assert widget.image_idx == 2


def test_next_passes_by_a_damaged_session(label, folder, out):
    widget = label(folder)
    widget.image_idx = 1
    widget.add_point(20, 30)
    widget.image_idx = 0
    widget.close()
    (session,) = out.with_name("labels.json.sessions").glob("1-*.sam3.json")
    session.write_text("{")
    again = label(folder)
    assert again.next() is True
    assert again.image_idx == 2


def test_decisions_are_of_the_image_on_the_canvas_or_of_a_given_one(view, widget, folder, out):
    widget.image_idx = 1
    widget.accept()
    widget.reject("0.png")
    widget.skip(folder / "2.png")
    widget.accept(3)
    assert widget.statuses == ("rejected", "accepted", "skipped", "accepted")
    widget.reopen(3)
    assert widget.statuses[3] == "open"
    assert [view.row(k)[0] for k in range(COUNT)] == list(widget.statuses)
    with pytest.raises(NotFoundError):
        widget.accept(COUNT)
    widget.flush()
    assert [one.file_name for one in read_coco(out)] == ["images/1.png"]


def test_accept_is_on_the_disk_when_it_returns(widget, out):
    widget.accept()
    journal = out.with_name("labels.json.journal").read_text()
    assert '"file": "images/0.png", "status": "accepted"' in journal


def test_counts_and_annotations_go_with_the_decisions(view, widget):
    widget.add_point(20, 30, label="cup")
    assert widget.counts == view.classes == {"cup": 1, "spoon": 0}
    widget.reject()
    assert widget.counts == view.classes == {"cup": 0, "spoon": 0}
    widget.add_point(60, 30, label="spoon")
    assert widget.counts["spoon"] == 0
    widget.accept()
    assert widget.counts == view.classes == {"cup": 1, "spoon": 1}
    (one,) = widget.annotations()
    assert [(o.label, o.mask.area) for o in one.objects] == [
        ("cup", widget.instances[0].runs.area),
        ("spoon", widget.instances[1].runs.area),
    ]
    assert widget.annotations("rejected") == []
    with pytest.raises(InvalidPromptError, match="decision"):
        widget.annotations("done")


def test_reading_annotations_holds_nobody_up(view, widget, monkeypatch):
    click(view, 0)
    widget.accept()
    free = []

    def look():
        free.append(LOCK.acquire(timeout=TIMEOUT))
        if free[-1]:
            LOCK.release()

    def decode(*args):
        other = threading.Thread(target=look)
        other.start()
        other.join()
        return read(*args)

    read = module.annotated
    monkeypatch.setattr(module, "annotated", decode)
    assert [len(one.objects) for one in widget.annotations()] == [1]
    assert free == [True]


# Requests.


@pytest.mark.parametrize("status", ["accepted", "rejected", "skipped", "open"])
def test_decide_is_answered_and_told(view, widget, status):
    view.command("decide", image_idx=0, status="skipped")
    answer = view.command("decide", image_idx=0, status=status)
    assert answer["type"] == "patch"
    assert view.row(0)[0] == widget.statuses[0] == status
    assert widget.image_idx == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"image_idx": 0, "status": "done"}, "invalid_prompt"),
        ({"image_idx": 0, "status": None}, "invalid_prompt"),
        ({"image_idx": 0}, "invalid_prompt"),
        ({"image_idx": COUNT, "status": "accepted"}, "not_found"),
        ({"image_idx": -1, "status": "accepted"}, "not_found"),
        ({"image_idx": "a", "status": "accepted"}, "not_found"),
    ],
)
def test_bad_decision_is_refused(view, widget, out, args, code):
    before = out.with_name("labels.json.journal").read_text()
    answer = view.command("decide", **args)
    assert (answer["type"], answer["payload"].get("code")) == ("error", code)
    assert widget.statuses == ("open",) * COUNT
    assert view.rows == {}
    assert out.with_name("labels.json.journal").read_text() == before


def test_command_runs_on_the_image_that_it_names(view, widget):
    go(view, 1)
    answer = click(view, 0)
    assert answer["type"] == "patch"
    assert view.state["instances"] == []
    assert widget.masks.shape[0] == 0
    assert len(settled(widget, 0).state.instances) == 1
    assert view.row(0) == ["open", 1, 0.9, None]
    assert click(view, 0, x=500)["type"] == "error"
    go(view, 0)
    assert view.agrees()
    assert widget.masks[0][30, 20]


def test_classes_are_those_of_all_images_and_keep_their_places(view, widget):
    click(view, 0, label="fork")
    assert view.state["classes"] == ["cup", "spoon", "fork"]
    go(view, 1)
    assert view.state["classes"] == ["cup", "spoon", "fork"]
    click(view, 1, label="bowl")
    go(view, 0)
    assert view.state["classes"] == list(widget.classes) == ["cup", "spoon", "fork", "bowl"]
    click(view, 2, label="lid")  # from elsewhere
    settled(widget, 2)
    assert view.state["classes"] == list(widget.classes) == ["cup", "spoon", "fork", "bowl", "lid"]


def test_go_to_an_image_that_brings_a_class_is_answered_by_that_image(label, tmp_path):
    folder = folder_of(tmp_path / "images", 3)
    PILImage.fromarray(np.full((HEIGHT, WIDTH, 3), 7, np.uint8)).save(folder / "0.png")
    widget = label(folder, classes=["cup"])
    view = seen(widget)
    widget.add_concept("red")  # nothing here is
    widget.apply_to_rest()
    settled(widget, 1)
    assert widget.classes == ("cup",)
    answer = go(view, 1)
    assert answer["payload"]["set"]["image_idx"] == 1
    assert answer["payload"]["set"]["classes"] == ["cup", "red"]


def test_command_without_an_image_is_for_the_one_on_the_canvas(view, widget):
    go(view, 2)
    view.command("add_point", x=20, y=30)
    assert view.agrees()
    assert len(widget.masks) == 1


def test_command_after_its_image_was_put_away_is_kept(many, label, tmp_path):
    widget = many.widget
    click(many, 0)
    for image_idx in range(1, MANY):
        go(many, image_idx)
    assert 0 not in widget._data._sheets
    assert click(many, 0, x=60)["type"] == "patch"
    assert many.agrees()
    settled(widget, 0)
    assert many.row(0) == ["open", 2, 0.9, None]
    for image_idx in range(1, MANY):
        go(many, image_idx)
    go(many, 0)
    assert len(widget.masks) == 2
    assert many.agrees()
    widget.close()
    assert len(label(tmp_path / "many").masks) == 2


def test_command_on_an_image_that_nobody_was_at_is_kept(many, label, tmp_path):
    widget = many.widget
    assert click(many, 7)["type"] == "patch"
    settled(widget, 7)
    assert many.row(7) == ["open", 1, 0.9, None]
    go(many, 1)
    go(many, 7)
    assert len(widget.masks) == 1
    assert many.agrees()


def test_undo_is_of_each_image(view, widget):
    click(view, 0)
    go(view, 1)
    click(view, 1)
    click(view, 1, x=60)
    view.command("undo", image_idx=0)
    assert len(widget.masks) == 2
    assert view.state["history"]["redo"] is None
    view.command("undo")
    assert len(widget.masks) == 1
    go(view, 0)
    assert (len(widget.masks), view.state["history"]) == (0, {"undo": None, "redo": "Add point"})
    widget.redo()
    assert len(widget.masks) == 1
    assert view.agrees()


def test_undo_outlives_being_put_away(many):
    click(many, 0)
    click(many, 0, x=60)
    for image_idx in [*range(1, MANY), 0]:
        go(many, image_idx)
    many.command("undo")
    assert len(many.widget.masks) == 1
    assert many.agrees()


def test_what_is_asked_of_this_image_is_asked_of_the_rest(view, widget):
    view.command("add_concept", image_idx=0, text="red")
    view.command("set_mask_threshold", image_idx=0, value=0.6)
    answer = view.command("apply_to_rest")
    assert answer["type"] == "patch"
    assert view.applied == "mask threshold 0.6, “red”"
    assert view.told("notice") == [{"message": "Asked of every untouched image: mask threshold 0.6, “red”."}]
    go(view, 2)
    settled(widget, 2)
    assert view.agrees()
    assert [concept.text for concept in widget.concepts] == ["red"]
    assert widget.masks[0][SPOT[1] : SPOT[3], SPOT[0] : SPOT[2]].all()
    assert widget.mask_threshold == 0.6


def test_applying_nothing_takes_back_what_was_applied(view, widget):
    view.command("add_concept", image_idx=0, text="red")
    assert widget.apply_to_rest() == "“red”"
    assert view.applied == "“red”"
    view.command("reset", image_idx=0)
    view.command("apply_to_rest")
    assert view.applied is None
    assert view.told("notice") == [{"message": "Nothing is asked of other images now."}]
    assert widget.apply_to_rest() is None
    go(view, 3)
    assert widget.concepts == ()


def test_image_that_was_worked_on_is_asked_nothing(view, widget):
    go(view, 1)
    click(view, 1)
    go(view, 0)
    view.command("add_concept", image_idx=0, text="red")
    view.command("apply_to_rest")
    go(view, 1)
    assert widget.concepts == ()
    assert len(widget.masks) == 1


def test_words_of_an_image_that_was_only_looked_at_outlive_being_put_away(many):
    many.command("add_concept", image_idx=0, text="red")
    many.command("apply_to_rest")
    widget = many.widget
    settled(widget, 1)  # ahead, and answered before anybody is there
    go(many, 1)
    for image_idx in [*range(2, MANY), 1]:
        go(many, image_idx)
        settled(widget, image_idx)
    assert [concept.text for concept in widget.concepts] == ["red"]
    assert many.agrees()


def test_undo_from_elsewhere_of_what_was_asked_ahead_is_kept(view, widget, label, folder):
    view.command("add_concept", image_idx=0, text="red")
    view.command("apply_to_rest")
    settled(widget, 1)
    view.command("undo", image_idx=1)
    widget.close()
    again = label(folder)
    again.image_idx = 1
    settled(again, 1)
    assert again.concepts == ()


def test_tile_and_script_are_of_the_image_on_the_canvas(label, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(2):
        small = rng.integers(0, 255, (20, 30, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (2600, 600), interpolation=cv2.INTER_NEAREST))
    view = seen(label(folder))
    keys = [view.state["image"]["key"]]
    go(view, 1)
    keys.append(view.state["image"]["key"])
    content, buffers = view.request("tile", {"key": keys[1], "level": 0, "x": 5, "y": 1})
    assert content["type"] == "tile"
    part = cv2.imdecode(np.frombuffer(buffers[0], np.uint8), cv2.IMREAD_COLOR)
    assert (part == cv2.imread(str(folder / "1.png"))[512:, 2560:]).all()
    assert view.request("tile", {"key": keys[0], "level": 0, "x": 0, "y": 0})[0]["type"] == "error"
    click(view, 1)
    content, _ = view.request("script", {})
    assert content["payload"]["script"] == view.widget.script()
    assert "1.png" in content["payload"]["script"]


def test_frame_is_no_request_for_images(view):
    content, _ = view.request("frame", {"frame_idx": 0})
    assert content["payload"]["code"] == "protocol"


# Thumbnails.


def test_thumb_is_answered_later_under_its_id(view, folder):
    halves = np.zeros((900, 1200, 3), np.uint8)
    halves[:, :600, 0] = 220
    PILImage.fromarray(halves).save(folder / "3.png")
    content, buffers = view.awaited(view.ask("thumb", {"image_idx": 3}))
    assert content["type"] == "thumb"
    assert content["payload"] == {"image_idx": 3, "mime": "image/jpeg", "width": 160, "height": 120}
    shown = cv2.imdecode(np.frombuffer(buffers[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert shown.shape == (120, 160, 3)
    assert shown[:, :70, 0].mean() > 200
    assert shown[:, 90:, 0].mean() < 20
    assert view.state["image_idx"] == view.widget.image_idx == 0


def test_every_thumb_has_its_own_answer(view):
    ids = {view.ask("thumb", {"image_idx": k}): k for k in (3, 0, 2, 1)}
    assert {request: view.awaited(request)[0]["payload"]["image_idx"] for request in ids} == ids


def test_thumb_of_a_broken_file_is_an_error_under_its_id(view, folder):
    (folder / "3.png").write_bytes(b"no image")
    content, _ = view.awaited(view.ask("thumb", {"image_idx": 3}))
    assert (content["type"], content["payload"]["code"]) == ("error", "invalid_image")
    content, _ = view.awaited(view.ask("thumb", {"image_idx": 2}))
    assert content["type"] == "thumb"


@pytest.mark.parametrize("payload", [{"image_idx": COUNT}, {"image_idx": -1}, {"image_idx": None}, {}])
def test_thumb_of_no_image_is_refused(view, payload):
    content, _ = view.request("thumb", payload)
    assert content["type"] == "error"
    assert content["payload"]["code"] in {"not_found", "invalid_prompt"}


@pytest.mark.parametrize(("kind", "source"), [(Sam3Widget, picture(0)), (Sam3VideoWidget, picture(0)[None])])
def test_thumb_is_no_request_for_one_picture_and_cancels_nothing(kind, source):
    model = ToyModel()
    model.gate.clear()
    view = seen(kind(source, model=model))
    view.request("command", {"name": "add_point", "args": {"x": 20, "y": 30}})
    assert model.refining.wait(TIMEOUT)
    content, _ = view.request("thumb", {"image_idx": 0})
    assert content["type"] == "error"
    assert view.state["instances"][0]["pending"] is True
    model.gate.set()
    view.settle()
    assert view.state["instances"][0]["error"] is None
    assert view.state["instances"][0]["area"] > 0


# The model at work.


def test_image_that_is_left_while_it_is_encoded_leaves_no_progress_behind(label, folder):
    model = ToyModel()
    model.encode_gate.clear()
    view = seen(label(folder, model))
    assert model.encoding.wait(TIMEOUT)
    view.until(lambda: {"phase": "encoding", "fraction": 0.5, "cancellable": True} in view.told("progress"))
    start = len(view.sent)
    go(view, 3)
    after = [content for content, _ in view.sent[start:]]
    idle = {"phase": "idle", "fraction": None, "cancellable": False}
    assert idle in [content["payload"] for content in after if content["type"] == "progress"]
    model.encode_gate.set()
    click(view, 3)
    assert view.agrees()
    late = seen(view.widget)
    assert late.state["status"]["phase"] == "idle"


def test_images_that_were_passed_by_are_not_encoded_before_the_one_on_the_canvas(many):
    model = many.widget.model
    at_rest(many.widget)
    before = model.encoded
    model.encode_gate.clear()
    for image_idx in range(3, 9):
        go(many, image_idx, ahead=[])
    model.encode_gate.set()
    at_rest(many.widget)
    assert model.encoded <= before + 2  # the one that was under way, and the last one


def test_progress_on_its_way_when_its_image_is_left_does_not_stay(view, widget):
    at_rest(widget)
    held, late = threading.Event(), threading.Event()

    class Slow:
        """Is told of progress before the view, and takes its time."""

        def changed(self):
            pass

        def progressed(self, *_):
            held.set()
            assert late.wait(TIMEOUT)

    widget.model.encode_gate.clear()
    live = widget._data.open(3)
    live._listeners.insert(0, Slow())
    go(view, 3)
    assert held.wait(TIMEOUT)
    go(view, 1, ahead=[])  # encoded already: nothing will be told of it
    late.set()
    widget.model.encode_gate.set()
    at_rest(widget)
    assert view.told("progress")[-1]["phase"] == "idle"
    assert seen(widget).state["status"]["phase"] == "idle"


def test_answer_to_an_image_that_was_left_is_kept(label, folder, out):
    model = ToyModel()
    widget = label(folder, model)
    view = seen(widget)
    model.gate.clear()
    view.request("command", {"name": "add_point", "args": {"image_idx": 0, "x": 20, "y": 30}})
    assert model.refining.wait(TIMEOUT)
    view.request("command", {"name": "decide", "args": {"image_idx": 0, "status": "accepted"}})
    view.request("command", {"name": "go", "args": {"image_idx": 1}})
    model.gate.set()
    settled(widget, 0)
    assert view.row(0) == ["accepted", 1, 0.9, None]
    assert view.agrees()
    widget.flush()
    assert [len(one.objects) for one in read_coco(out)] == [1]


def test_cancel_stops_what_is_asked_of_the_image_on_the_canvas(label, folder):
    model = ToyModel()
    model.encode_gate.clear()
    view = seen(label(folder, model))
    assert model.encoding.wait(TIMEOUT)
    view.request("command", {"name": "add_point", "args": {"image_idx": 0, "x": 20, "y": 30}})
    assert view.request("cancel", {})[0]["type"] == "patch"
    view.settle()
    assert "cancelled" in view.state["instances"][0]["error"]
    model.encode_gate.set()


def test_failing_model_is_an_error_of_the_image_on_the_canvas(view, widget):
    widget.model.fails = RuntimeError("boom")
    click(view, 0)
    assert "boom" in view.state["instances"][0]["error"]
    assert len(view.told("error")) == 1
    widget.model.fails = RuntimeError("bang")
    go(view, 1)
    with pytest.raises(ModelError, match="bang"):
        widget.add_point(20, 30)
    assert view.agrees()


def test_saving_that_failed_is_made_up_for(view, widget, out, monkeypatch):
    widget.accept()
    click(view, 0)
    with monkeypatch.context() as patch:
        patch.setattr(widget._data.store._journal, "_append", full_disk)
        with pytest.raises(OSError, match="No space"):
            widget.flush()
    widget.flush()
    assert [len(one.objects) for one in read_coco(out)] == [1]


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_image_that_cannot_be_saved_is_not_put_away(many, monkeypatch):
    write, session = autosave.write_atomically, many.widget._data.store.session_path("many/0.png")

    def full_for_the_first(path, data):
        if path == session:
            full_disk()
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(autosave, "write_atomically", full_for_the_first)
        click(many, 0)
        click(many, 0, x=60)
        for image_idx in range(1, MANY):
            many.command("go", image_idx=image_idx)
        assert any("No space" in told["message"] for told in many.told("error"))
    for image_idx in [1, 2, 3, 0]:
        go(many, image_idx)
    assert many.agrees()
    assert [command.name for command in many.widget.history] == ["add_point", "add_point"]


def test_decision_that_cannot_be_written_is_not_taken(view, widget, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(widget._data.store._journal, "_append", full_disk)
        answer = view.command("decide", image_idx=0, status="rejected")
        assert answer["type"] == "error"
    assert widget.statuses[0] == "open"
    assert view.row(0)[0] == "open"
    view.command("decide", image_idx=0, status="rejected")
    assert view.row(0)[0] == "rejected"


def test_decision_while_the_file_is_written_mixes_no_images(label, folder, out, monkeypatch):
    widget = label(folder, annotations=[annotated(folder, k, square(name=f"class {k}")) for k in range(COUNT)])
    widget.accept(1)
    widget.accept(2)
    store = widget._data.store
    records, calls = store._journal.records, []

    def slow(*args):
        calls.append(args)
        if len(calls) == 2:  # the file is half written
            store._journal.add([{**store.record("images/1.png"), "status": "rejected"}])
        return records(*args)

    monkeypatch.setattr(store._journal, "records", slow)
    store.flush()
    found = {one.file_name: [o.label for o in one.objects] for one in read_coco(out)}
    assert found == {"images/1.png": ["class 1"], "images/2.png": ["class 2"]}


# Going on, order, closing.


def test_order_by_score_goes_through_the_least_sure_first(label, folder):
    scores = [0.9, 0.3, 0.6]
    widget = label(folder, annotations=[annotated(folder, k, square(score)) for k, score in enumerate(scores)])
    assert widget._dataset["order"] == "score"
    visited = [widget.image_idx]
    while widget.next():
        visited.append(widget.image_idx)
    assert visited == [1, 2, 0, 3]
    view = seen(widget)
    assert [view.row(k) for k in range(COUNT)] == [
        ["open", 1, 0.9, None],
        ["open", 1, 0.3, None],
        ["open", 1, 0.6, None],
        UNTOUCHED,
    ]
    assert view.classes == {"cup": 3}


@pytest.mark.parametrize(
    ("order", "expected"), [("given", [0, 1, 2, 3]), ("score", [1, 0, 2, 3]), (None, [1, 0, 2, 3])]
)
def test_order_can_be_chosen(label, folder, order, expected):
    given = [annotated(folder, 0, square(0.9)), annotated(folder, 1, square(0.3), square(0.95, object_id=2))]
    widget = label(folder, annotations=given, order=order)
    assert widget._dataset["order"] == (order or "score")
    visited = [widget.image_idx]
    while widget.next():
        visited.append(widget.image_idx)
    assert visited == expected


def test_work_goes_on_where_it_stopped(label, folder, out):
    widget = label(folder, classes=["cup"])
    widget.add_point(20, 30, label="cup")
    widget.accept()
    widget.next()
    widget.add_point(60, 40)
    widget.set_text("red")
    masks = [widget.masks]
    widget.close()
    again = label(folder, classes=["cup"])
    assert again.image_idx == 1
    assert (again.masks == masks[0]).all()
    assert again.text == "red"
    assert again.statuses == ("accepted", "open", "open", "open")
    assert again.counts == {"cup": 1, "red": 1, "": 1}
    again.undo()
    assert [concept.text for concept in again.concepts] == []
    assert [len(one.objects) for one in read_coco(out)] == [1]


def test_closing_twice_is_closing_once(view, widget, out, tmp_path):
    click(view, 0)
    widget.accept()
    count = len(view.sent)
    widget.close()
    widget.close()
    assert widget.comm is None
    assert locks(tmp_path) == []
    assert [len(one.objects) for one in read_coco(out)] == [1]
    assert all(content["type"] not in {"patch", "error"} for content, _ in view.sent[count:])
    with pytest.raises(LockedError, match="closed"):
        widget.accept()
    with pytest.raises(LockedError, match="closed"):
        widget.image_idx = 3
    assert widget.image_idx == 0


@pytest.mark.parametrize(
    "what", ["sam3_widget.dataset.store.write_output", "sam3_widget.labelling.journal.Journal._append"]
)
def test_closing_goes_on_where_something_cannot_be_written(label, folder, monkeypatch, tmp_path, what):
    widget = label(folder)
    widget.image_idx = 1
    widget.image_idx = 0
    widget.accept()
    widget.add_point(20, 30)
    with monkeypatch.context() as patch:
        patch.setattr(what, full_disk)
        with pytest.raises(OSError, match="No space"):
            widget.close()
    assert locks(tmp_path) == []
    assert widget.comm is None
    assert label(folder).statuses[0] == "accepted"


def test_closed_widget_takes_no_more_work(widget, out):
    widget.add_point(20, 30)
    session = widget.session
    widget.close()
    for act in (lambda: widget.add_point(10, 10), widget.undo, lambda: session.add_point(10, 10), widget.accept):
        with pytest.raises(LockedError, match=r"labels\.json was closed: open it again"):
            act()
    assert len(widget.masks) == 1


def test_second_widget_on_a_file_is_refused(label, folder, widget):
    with pytest.raises(LockedError, match=r"w\.close\(\)"):
        label(folder)
    widget.add_point(20, 30)
    widget.close()
    assert len(label(folder).masks) == 1


def test_same_cell_run_again_takes_over(label, folder, monkeypatch):
    monkeypatch.setattr("sam3_widget.widget.dataset._place", lambda: ("cell", "first run"))
    widget = label(folder)
    view = seen(widget)
    click(view, 0)
    with pytest.raises(LockedError):
        label(folder)
    monkeypatch.setattr("sam3_widget.widget.dataset._place", lambda: ("cell", "second run"))
    again = label(folder)
    assert widget.comm is None
    assert len(again.masks) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"classes": "cup"}, InvalidPromptError),
        ({"model": 3}, ModelError),
        ({"order": "random"}, InvalidPromptError),
        ({"opacity": 3}, traitlets.TraitError),
        ({"height": "tall"}, traitlets.TraitError),
        ({"annotations": [AnnotatedImage("elsewhere.png", HEIGHT, WIDTH, ())]}, FormatError),
    ],
)
def test_wrong_option_is_refused_and_leaves_no_lock(label, folder, tmp_path, options, error):
    with pytest.raises(error):
        label(folder, **options)
    assert locks(tmp_path) == []
    label(folder).accept()


def test_images_that_are_none_are_refused_and_leave_no_lock(label, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    with pytest.raises(InvalidPromptError, match="no images"):
        label(bad)
    (bad / "a.png").write_bytes(b"no image")
    with pytest.raises(InvalidImageError, match=r"a\.png"):
        label(bad)
    with pytest.raises(InvalidImageError, match="does not exist"):
        label([bad / "b.png"])
    with pytest.raises(InvalidPromptError, match="folder or a list"):
        label(tmp_path / "nowhere")
    assert locks(tmp_path) == []


def test_first_image_that_can_be_read_is_shown(label, folder):
    (folder / "0.png").write_bytes(b"no image")
    view = seen(label(folder))
    assert view.state["image_idx"] == view.widget.image_idx == 1
    assert view.row(0)[3] is not None


@pytest.mark.parametrize("content", ["[]", '{"images": []}'])
def test_file_of_somebody_else_is_left_alone(label, folder, out, content, tmp_path):
    out.write_text(content)
    with pytest.raises(FormatError, match="not written here"):
        label(folder)
    assert out.read_text() == content
    assert locks(tmp_path) == []


def test_closed_widget_is_freed(folder, out):
    widget = Sam3DatasetWidget(folder, out, model=ToyModel())
    view = seen(widget)
    view.awaited(view.ask("thumb", {"image_idx": 0}))
    go(view, 1)
    widget.flush()
    gone, data = weakref.ref(widget), weakref.ref(widget._data)
    widget.close()
    widget._data._worker.shutdown(wait=True)
    del widget, view
    gc.collect()
    assert gone() is None
    assert data() is None


def test_no_more_images_stay_open_than_are_needed(many):
    for image_idx in range(MANY):
        go(many, image_idx)
        click(many, image_idx)
    assert len(many.widget._data._sheets) <= module._KEPT + entries.AHEAD
    assert [many.row(k)[1] for k in range(MANY)] == [1] * MANY


# What nobody thought of.


def walk(view, rng):
    """Do one thing that a person may do, in the browser or in Python."""
    widget = view.widget
    elsewhere = rng.randrange(len(widget.files))
    x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
    at = rng.choice([{}, {"image_idx": widget.image_idx}, {"image_idx": elsewhere}])
    steps = {
        "click": lambda: view.command("add_point", x=x, y=y, positive=rng.random() < 0.8, **at),
        "refine": lambda: view.command("add_point", x=x, y=y, positive=True, object_id=rng.randint(1, 3), **at),
        "label": lambda: view.command("set_label", object_id=1, label=rng.choice(["cup", "spoon"]), **at),
        "remove": lambda: view.command("remove_object", object_id=rng.randint(1, 3), **at),
        "words": lambda: view.command("add_concept", text=rng.choice(["red", "green"]), **at),
        "threshold": lambda: view.command("set_mask_threshold", value=rng.choice([0.3, 0.5]), **at),
        "undo": lambda: view.command("undo", **at),
        "redo": lambda: view.command("redo", **at),
        "decide": lambda: view.command("decide", status=rng.choice(entries.STATUSES), **at),
        "apply": lambda: view.command("apply_to_rest"),
        "go": lambda: view.command("go", image_idx=elsewhere, ahead=rng.sample(range(len(widget.files)), 2)),
        "assign": lambda: setattr(widget, "image_idx", elsewhere),
        "next": widget.next,
        "accept": widget.accept,
        "box": lambda: widget.add_box((x / 2, y / 2, x / 2 + 20, y / 2 + 20)),
    }
    names = list(steps)
    steps[rng.choices(names, [4, 2, 2, 1, 2, 1, 2, 1, 3, 1, 5, 2, 2, 1, 2])[0]]()
    for sheet in list(widget._data._sheets.values()):
        sheet.live.settle()


@pytest.mark.parametrize("seed", range(8))
def test_any_work_leaves_view_python_and_disk_in_step(label, tmp_path, out, seed):
    rng = random.Random(seed)  # noqa: S311 - no secret
    folder = folder_of(tmp_path / "any", 9)
    widget = label(folder, classes=["cup", "spoon"])
    view = seen(widget)
    for _ in range(60):
        walk(view, rng)
        assert view.agrees()
        assert view.state["image_idx"] == widget.image_idx == widget._data.current
        assert widget._image["name"] == view.state["image"]["name"] == f"{widget.image_idx}.png"
        assert [view.row(k)[0] for k in range(9)] == list(widget.statuses)
        assert view.classes == widget.counts
    held = {}
    for image_idx in range(9):
        go(view, image_idx, ahead=[])
        settled(widget, image_idx)
        held[image_idx] = (widget.object_ids.tolist(), widget.labels, widget.masks)
        drawn = [mask for mask in widget.masks if mask.any()]
        assert view.row(image_idx)[1] == len(drawn)
    assert sum(widget.counts.values()) == sum(view.row(k)[1] for k in range(9) if widget.statuses[k] != "rejected")
    fresh = seen(widget)
    assert (fresh.rows, fresh.classes, fresh.applied) == (
        {k: row for k, row in view.rows.items() if row != UNTOUCHED},
        view.classes,
        view.applied,
    )
    statuses, told = widget.statuses, [len(one.objects) for one in widget.annotations()]
    widget.close()
    kept = {one.file_name: one.objects for one in read_coco(out)}
    assert [len(objects) for _, objects in sorted(kept.items())] == told
    again = label(folder, classes=["cup", "spoon"])
    assert again.statuses == statuses
    for image_idx, (ids, labels, masks) in held.items():
        again.image_idx = image_idx
        settled(again, image_idx)
        assert again.labels == labels
        assert (again.masks == masks).all()
        drawn = [(name or "object", mask) for name, mask in zip(labels, masks, strict=True) if mask.any()]
        if statuses[image_idx] == "accepted":
            written = kept[f"any/{image_idx}.png"]
            assert [o.label or "object" for o in written] == [name for name, _ in drawn]
            assert all((o.mask.to_mask() == mask).all() for o, (_, mask) in zip(written, drawn, strict=True))
        assert len(ids) == len(masks)


@pytest.mark.parametrize("seed", range(2))
def test_browser_and_python_at_once_end_in_step(label, tmp_path, seed):
    """Requests come on a thread of their own while a cell runs."""
    folder = folder_of(tmp_path / "any", 9)
    widget = label(folder)
    view = seen(widget)
    errors = []

    def browse():
        rng = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(25):
            image_idx = rng.randrange(9)
            for name, args in (
                ("go", {"ahead": [rng.randrange(9)]}),
                ("add_point", {"x": rng.randrange(WIDTH), "y": 9, "positive": True, "object_id": None}),
                ("decide", {"status": rng.choice(entries.STATUSES)}),
            ):
                content, _ = view.request("command", {"name": name, "args": {"image_idx": image_idx, **args}})
                if content["type"] != "patch":
                    errors.append(content["payload"])

    browser = threading.Thread(target=browse)
    browser.start()
    rng = random.Random(-seed)  # noqa: S311 - no secret
    for _ in range(25):
        widget.image_idx = rng.randrange(9)
        try:
            widget.add_box((5, 5, 30, 30))
        except Sam3WidgetError as error:  # what was asked of an image may be dropped with it, never refused
            errors.append(error)
        widget.annotations()
    browser.join(TIMEOUT)
    assert not browser.is_alive()
    assert errors == []
    view.settle()
    widget.flush()
    assert widget.image_idx == view.state["image_idx"] == widget._data.current
    assert widget._image["name"] == view.state["image"]["name"] == f"{widget.image_idx}.png"
    assert [view.row(k)[0] for k in range(9)] == list(widget.statuses)
    assert view.agrees()
