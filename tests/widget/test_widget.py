import gc
import weakref

import cv2
import numpy as np
import pytest
import traitlets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_widget import Sam3Widget, Session
from sam3_widget.errors import InvalidPromptError, ModelError, NotFoundError, Sam3WidgetError
from tests.toy import ToyModel
from tests.widget.frontend import FrontEnd

IMAGE = np.full((60, 80, 3), 128, np.uint8)
SPOTS = IMAGE.copy()
SPOTS[5:25, 5:25, 0] = SPOTS[5:25, 40:60, 1] = SPOTS[40:50, 40:55, 0] = 250


@pytest.fixture
def widget():
    return Sam3Widget(IMAGE, model=ToyModel())


@pytest.fixture
def view(widget):
    front = FrontEnd(widget)
    front.request("hello", {})
    return front


def test_hello_is_answered_by_a_snapshot(view):
    assert view.rev == 0
    assert view.state["image"]["width"] == 80
    assert view.state["model"]["capabilities"]["boxes"] is True
    assert set(view.state["model"]["advice"]) == {"video"}
    assert view.state["settings"] == {
        "mask_threshold": 0.5,
        "fill_holes": 0,
        "min_area": 0,
        "score_threshold": 0.5,
    }


def test_a_command_changes_python_and_the_view_alike(view, widget):
    answer = view.command("add_point", x=20, y=30, positive=True, object_id=None)
    assert answer["type"] == "patch"
    assert answer["payload"]["instances"][0]["pending"] is True
    assert view.agrees()
    assert widget.masks[0][30, 20]
    assert widget.points[0].x == 20
    assert widget.selected == 1
    assert view.state["history"] == {"undo": "Add point", "redo": None}
    view.command("undo")
    assert view.agrees()
    assert widget.points == ()
    assert view.state["history"] == {"undo": None, "redo": "Add point"}


def test_nothing_to_undo_is_answered_all_the_same(view):
    assert view.command("undo")["type"] == "patch"


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        ("command", {"name": "add_point", "args": {"x": 500, "y": 1}}, "invalid_prompt"),
        ("command", {"name": "zap", "args": {}}, "not_found"),
        ("command", {"name": "remove_object", "args": {"object_id": 4}}, "not_found"),
        ("command", {"name": "undo", "args": {"now": 1}}, "not_found"),
        ("command", {"args": {}}, "protocol"),
        ("command", {"name": "undo", "args": []}, "protocol"),
        ("tile", {"key": "another", "level": 0, "x": 0, "y": 0}, "protocol"),
        ("tile", {"level": "a", "x": 0, "y": 0}, "invalid_prompt"),
        ("tile", {"key": None, "level": 3_000_000_000, "x": 0, "y": 0}, "protocol"),
        ("command", {"name": "set_points", "args": {"points": [[1, {}]]}}, "invalid_prompt"),
        ("command", {"name": "set_min_area", "args": {"area": 3, "gesture": [1]}}, "protocol"),
        ("shout", {}, "protocol"),
    ],
)
def test_a_bad_request_is_answered_by_an_error_and_changes_nothing(view, widget, kind, payload, code):
    content, _ = view.request(kind, payload)
    assert content["type"] == "error"
    assert content["payload"]["code"] == code
    assert content["payload"]["message"]
    assert widget.history == ()
    view.command("add_point", x=20, y=30)
    assert view.agrees()


@pytest.mark.parametrize("content", [None, 3, {}, {"v": 2, "id": "a", "type": "hello", "payload": {}}, {"v": 1}])
def test_what_is_no_message_is_an_error(view, widget, content):
    widget._handle_custom_msg(content, [])
    assert view.sent[-1][0]["type"] == "error"
    assert view.sent[-1][0]["payload"]["code"] == "protocol"


def test_patches_hold_the_changed_instance_only(view):
    for x in (10, 40, 70):
        view.command("add_point", x=x, y=30)
    start = len(view.sent)
    view.command("add_point", x=45, y=30, object_id=2)
    sent = view.sent[start:]
    assert {i["object_id"] for content, _ in sent for i in content["payload"]["instances"]} == {2, 3} or {
        i["object_id"] for content, _ in sent for i in content["payload"]["instances"]
    } == {2}
    assert sum(len(buffers) for _, buffers in sent) == 1


def test_python_and_browser_drive_one_document(view, widget):
    widget.add_point(20, 30)
    assert view.agrees()
    view.command("add_box", box=[40, 10, 70, 50])
    assert view.agrees()
    widget.undo()
    widget.undo()
    assert view.agrees()
    assert view.state["instances"] == []


def test_two_views_of_one_session_agree():
    session = Session(IMAGE, model=ToyModel())
    views = [FrontEnd(Sam3Widget(session)) for _ in range(2)]
    for view in views:
        view.request("hello", {})
    views[0].command("add_point", x=20, y=30)
    views[1].settle()
    assert all(view.agrees() for view in views)
    assert views[1].widget.points == views[0].widget.points == session.points


def test_a_late_view_gets_the_whole_state(view, widget):
    view.command("add_point", x=20, y=30)
    late = FrontEnd(widget)
    late.request("hello", {})
    assert late.agrees()
    late.command("add_point", x=60, y=30)
    assert late.agrees()


def test_concept_of_the_browser_is_python_s_and_the_other_way_round():
    widget = Sam3Widget(SPOTS, model=ToyModel())
    view = FrontEnd(widget)
    view.request("hello", {})
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "text")
    view.command("add_concept", text="red")
    assert (widget.text, seen) == ("red", ["red"])
    assert view.agrees()
    told = view.state["concepts"][0]
    assert (told["count"], told["presence"], told["pending"], told["note"]) == (2, 0.9, False, None)
    assert {i["concept_id"] for i in view.state["instances"]} == {told["concept_id"]}
    widget.text = "green"
    assert widget.labels == ["green"]
    assert view.agrees()
    assert view.state["concepts"][0]["text"] == "green"
    view.command("add_exemplar", box=[38, 3, 62, 27], positive=False)
    assert len(widget.masks) == 0
    assert view.state["concepts"][0]["note"] == "Everything found was excluded or removed"
    assert view.state["concepts"][0]["exemplars"][0]["box"] == (38, 3, 62, 27)
    view.command("select_concept", concept_id=None)
    assert (widget.text, view.state["concept"]) == ("", None)
    content = view.command("set_score_threshold", value=7)
    assert content["type"] == "error"


def test_detection_is_told_as_it_goes():
    model = ToyModel()
    widget = Sam3Widget(SPOTS, model=model)
    view = FrontEnd(widget)
    view.command("add_concept", text="red")
    with widget._live.lock:
        assert widget._live.lock.wait_for(lambda: not widget._live.state.concepts[0].pending, 30)
    told = [c["payload"] for c, _ in view.sent if c["type"] == "progress"]
    assert {"phase": "detecting", "fraction": 0.5, "cancellable": True} in told
    assert {"phase": "idle", "fraction": None, "cancellable": False} in told


coordinates = st.tuples(st.integers(0, 79), st.integers(0, 59))
REQUESTS = st.lists(
    st.one_of(
        st.builds(lambda at, p, i: ("add_point", {"x": at[0], "y": at[1], "positive": p, "object_id": i}),
                  coordinates, st.booleans(), st.none() | st.integers(1, 3)),
        st.builds(lambda i: ("remove_object", {"object_id": i}), st.integers(1, 3)),
        st.builds(lambda at: ("add_stroke", {"path": [at], "radius": 5}), coordinates),
        st.builds(lambda v: ("set_mask_threshold", {"value": v}), st.sampled_from([0.2, 0.5, 0.9])),
        st.builds(lambda i: ("select", {"object_id": i}), st.none() | st.integers(1, 3)),
        st.builds(lambda t: ("add_concept", {"text": t}), st.sampled_from(["red", "spot"])),
        st.builds(lambda v: ("set_score_threshold", {"value": v}), st.sampled_from([0.5, 0.9])),
        st.builds(lambda at, p: ("add_exemplar_point", {"x": at[0], "y": at[1], "positive": p}),
                  coordinates, st.booleans()),
        st.builds(lambda n: (n, {}), st.sampled_from(["undo", "undo", "redo", "reset"])),
    ),
    max_size=10,
)  # fmt: skip


@given(REQUESTS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_requests_leave_view_and_python_in_step(requests):
    view = FrontEnd(Sam3Widget(SPOTS, model=ToyModel()))
    view.request("hello", {})
    for name, args in requests:
        view.command(name, **args)
    assert view.agrees()
    fresh = FrontEnd(view.widget)
    fresh.request("hello", {})
    assert {**fresh.state, "status": None} == {**view.state, "status": None}
    assert fresh.masks == view.masks


def test_points_trait_is_observed_and_assigned(widget):
    seen = []
    widget.observe(lambda change: seen.append([(p.x, p.y, p.positive) for p in change["new"]]), "points")
    widget.add_point(20, 30)
    widget.points = [(20, 30), (40, 30, 0)]
    assert seen == [[(20, 30, True)], [(20, 30, True), (40, 30, False)]]
    assert [p.object_id for p in widget.points] == [1, 1]
    assert widget.masks[0][30, 20]
    assert not widget.masks[0][30, 40]
    widget.points = [*widget.points, {"x": 60, "y": 30, "positive": True, "object_id": 1}]
    assert widget.masks[0][30, 60]
    widget.undo()
    assert len(widget.points) == 2


def test_box_prompts_trait_is_observed_and_assigned(widget):
    seen = []
    widget.observe(lambda change: seen.append(len(change["new"])), "box_prompts")
    widget.box_prompts = [(10, 10, 30, 30), (40, 10, 60, 30)]
    assert widget.masks.shape[0] == 2
    widget.box_prompts = widget.box_prompts[:1]
    assert widget.masks.shape[0] == 1
    assert seen == [2, 1]


def test_selected_trait_follows_and_leads(view, widget):
    view.command("add_point", x=20, y=30)
    view.command("add_point", x=60, y=30)
    assert widget.selected == 2
    widget.selected = 1
    assert view.state["selected"] == 1
    view.command("select", object_id=2)
    assert widget.selected == 2


@pytest.mark.parametrize(
    ("trait", "value", "error"),
    [
        ("points", [(900, 3)], InvalidPromptError),
        ("points", [(1,)], InvalidPromptError),
        ("points", "abc", InvalidPromptError),
        ("points", 5, InvalidPromptError),
        ("points", None, InvalidPromptError),
        ("points", [(1, 2, 0, 9)], InvalidPromptError),
        ("box_prompts", [(1, 2, 3)], InvalidPromptError),
        ("box_prompts", [(9, 9, 1, 1)], InvalidPromptError),
        ("selected", 9, NotFoundError),
        ("selected", "first", InvalidPromptError),
    ],
)
def test_a_refused_assignment_leaves_the_trait_as_it_was(widget, trait, value, error):
    widget.add_point(20, 30)
    widget.add_box((10, 10, 30, 30))
    before = getattr(widget, trait)
    with pytest.raises(error):
        setattr(widget, trait, value)
    assert getattr(widget, trait) == before
    assert len(widget.history) == 2


def test_none_deselects(widget):
    widget.add_point(20, 30)
    widget.selected = None
    assert widget.session.selected is None


def test_an_assignment_inside_an_observer_is_a_command(widget):
    def more(change):
        if len(change["new"]) == 1:
            widget.points = [*change["new"], (40, 40, True, 1)]
            widget.selected = None

    widget.observe(more, "points")
    widget.add_point(20, 30)
    assert [(p.x, p.y) for p in widget.points] == [(20, 30), (40, 40)]
    assert widget.points == widget.session.points
    assert widget.selected is None
    assert [c.name for c in widget.history] == ["add_point", "set_points"]


def test_a_verb_inside_an_observer_invents_no_step(widget):
    def box(change):
        if len(change["new"]) == 1:
            widget.add_box((40, 10, 70, 50))

    widget.observe(box, "points")
    widget.add_point(20, 30)
    assert [c.name for c in widget.history] == ["add_point", "add_box"]
    assert len(widget.box_prompts) == 1


def test_held_notifications_make_one_step(widget):
    with widget.hold_trait_notifications():
        widget.points = [(20, 30)]
    assert len(widget.history) == 1
    assert len(widget.points) == 1


def test_linked_widgets_hold_the_same_prompts():
    one, other = (Sam3Widget(IMAGE + k, model=ToyModel()) for k in range(2))
    traitlets.link((one, "points"), (other, "points"))
    one.add_point(20, 30)
    one.add_point(60, 30)
    other.add_point(25, 40, positive=False, object_id=1)
    assert other.masks.shape[0] == 2
    assert [(p.x, p.object_id) for p in one.points] == [(p.x, p.object_id) for p in other.points]


def test_what_the_browsers_model_sets_is_a_command_or_corrected(view, widget):
    told = []
    widget.send_state = lambda key=None: told.append(key)
    widget.set_state({"points": [[20, 30, 1, None]]})
    assert widget.masks[0][30, 20]
    assert len(widget.history) == 1
    told.clear()
    widget.set_state({"points": [[900, 30, 1, None]]})
    assert len(widget.points) == 1
    assert told[-1] == ["points"]
    assert view.sent[-1][0]["payload"]["code"] == "invalid_prompt"


def test_an_observer_that_raises_does_not_answer_twice(view, widget):
    def boom(_):
        raise ValueError("a mistake of the observer")

    widget.observe(boom, "points")
    assert view.command("add_point", x=20, y=30)["type"] == "patch"
    view.settle()
    assert view.agrees()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"classes": "cup"}, InvalidPromptError, "list of names"),
        ({"classes": [1]}, InvalidPromptError, "list of names"),
        ({"model": 3}, ModelError, "a name, a folder or a loaded model"),
        ({"points": [(1, 1)]}, TypeError, "points"),
        ({"opacity": 3}, traitlets.TraitError, "opacity"),
    ],
)
def test_a_wrong_option_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        Sam3Widget(IMAGE, **{"model": ToyModel(), **options})


def test_a_session_brings_its_own_model():
    with pytest.raises(InvalidPromptError, match="brings its own"):
        Sam3Widget(Session(IMAGE, model=ToyModel()), model=ToyModel())


def test_a_closed_widget_is_freed():
    widget = Sam3Widget(IMAGE, model=ToyModel())
    gone = weakref.ref(widget)
    widget.close()
    del widget
    gc.collect()
    assert gone() is None


def test_cancel_is_answered_and_stops_encoding():
    model = ToyModel()
    model.encode_gate.clear()
    view = FrontEnd(Sam3Widget(IMAGE, model=model))
    view.request("hello", {})
    assert model.encoding.wait(30)
    content, _ = view.request("command", {"name": "add_point", "args": {"x": 20, "y": 30}})
    assert content["payload"]["instances"][0]["pending"] is True
    view.request("cancel", {})
    view.settle()
    assert "cancelled" in view.state["instances"][0]["error"]
    model.encode_gate.set()
    view.command("add_point", x=60, y=30, object_id=1)
    assert view.agrees()
    assert view.widget.masks[0][30, 60]
    told = [c["payload"] for c, _ in view.sent if c["type"] == "progress"]
    assert {"phase": "encoding", "fraction": 0.25, "cancellable": True} in told


def test_a_failing_model_is_an_error_in_the_view(view, widget):
    widget.model.fails = RuntimeError("boom")
    view.command("add_point", x=20, y=30)
    errors = [c["payload"] for c, _ in view.sent if c["type"] == "error"]
    assert len(errors) == 1
    assert "boom" in errors[0]["message"]
    assert "boom" in view.state["instances"][0]["error"]


def test_tiles_are_the_pixels_of_the_original():
    rng = np.random.default_rng(1)
    big = cv2.resize(rng.integers(0, 255, (20, 30, 3), np.uint8), (3000, 2500), interpolation=cv2.INTER_LINEAR)
    widget = Sam3Widget(big, model=ToyModel())
    assert widget._image["levels"] == 1
    assert max(widget._image["preview_width"], widget._image["preview_height"]) == 2048
    view = FrontEnd(widget)
    view.request("hello", {})
    key = widget._image["key"]
    content, buffers = view.request("tile", {"key": key, "level": 0, "x": 5, "y": 4})
    part = cv2.imdecode(np.frombuffer(buffers[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert content["payload"]["mime"] == "image/png"
    assert part.shape == (2500 - 4 * 512, 3000 - 5 * 512, 3)
    assert (part == big[4 * 512 :, 5 * 512 :]).all()


def test_close_stops_listening():
    session = Session(IMAGE, model=ToyModel())
    view = FrontEnd(Sam3Widget(session))
    view.widget.close()
    session.add_point(20, 30)
    assert view.sent == []


def test_demo_opens_on_a_picture():
    widget = Sam3Widget.demo(height=300)
    assert widget.image.shape == (400, 600, 3)
    assert widget.height == 300


def test_script_is_asked_for_by_the_view(view, widget):
    view.command("add_point", x=20, y=30, positive=True, object_id=None)
    content, _ = view.request("script", {})
    assert content["type"] == "script"
    assert content["payload"]["script"] == widget.script()


def test_truth_is_compared_with_every_mask():
    truth = np.zeros((2, 60, 80), bool)
    truth[0, 10:30, 10:30] = truth[1, 40:50, 50:70] = True
    widget = Sam3Widget(IMAGE, model=ToyModel(), truth=truth)
    view = FrontEnd(widget)
    view.request("hello", {})
    view.command("add_box", box=(10, 10, 30, 20), object_id=None)
    view.command("add_box", box=(50, 40, 70, 50), object_id=None)
    assert [i["iou"] for i in view.state["instances"]] == [0.5, 1.0]
    assert widget.ious == {1: 0.5, 2: 1.0}
    one = Sam3Widget(IMAGE, model=ToyModel(), truth=truth[1])
    one.add_box((50, 40, 70, 50))
    assert one.ious == {1: 1.0}
    assert Sam3Widget(IMAGE, model=ToyModel()).ious == {}


@pytest.mark.parametrize("truth", [np.zeros((5, 5), bool), np.zeros((0, 60, 80), bool), "mask.png"])
def test_truth_of_another_image_is_refused(truth):
    with pytest.raises(Sam3WidgetError, match="truth"):
        Sam3Widget(IMAGE, model=ToyModel(), truth=truth)
