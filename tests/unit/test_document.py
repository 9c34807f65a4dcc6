import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_widget.core import document as document_module
from sam3_widget.core.document import LIMIT, Document
from sam3_widget.core.matching import settle
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.state import State
from sam3_widget.errors import InvalidPromptError, LockedError, NotFoundError, Sam3WidgetError

WIDTH, HEIGHT = 64, 48
xs, ys = st.floats(-5, WIDTH + 5), st.floats(-5, HEIGHT + 5)
ids = st.none() | st.integers(0, 5)
flags = st.booleans()
box = st.tuples(xs, ys, xs, ys)
MASK = np.eye(HEIGHT, WIDTH, dtype=bool)

COMMANDS = st.one_of(
    st.tuples(
        st.just("add_point"),
        st.fixed_dictionaries(
            {"x": xs, "y": ys, "positive": flags, "object_id": ids}, optional={"label": st.sampled_from(["a", "c"])}
        ),
    ),
    st.tuples(st.just("move_point"), st.fixed_dictionaries({"point_id": ids, "x": xs, "y": ys})),
    st.tuples(st.just("flip_point"), st.fixed_dictionaries({"point_id": ids})),
    st.tuples(st.just("remove_point"), st.fixed_dictionaries({"point_id": ids})),
    st.tuples(st.just("add_box"), st.fixed_dictionaries({"box": box, "object_id": ids})),
    st.tuples(st.just("remove_box"), st.fixed_dictionaries({"object_id": ids})),
    st.tuples(
        st.just("add_stroke"),
        st.fixed_dictionaries(
            {"path": st.lists(st.tuples(xs, ys), max_size=3), "radius": st.floats(0, 9), "positive": flags}
        ),
    ),
    st.tuples(st.just("remove_stroke"), st.fixed_dictionaries({"stroke_id": ids})),
    st.tuples(st.just("set_mask"), st.fixed_dictionaries({"mask": st.just(MASK), "object_id": ids})),
    st.tuples(
        st.just("set_label"), st.fixed_dictionaries({"object_id": ids, "label": st.sampled_from(["a", "b", ""])})
    ),
    st.tuples(st.just("set_visible"), st.fixed_dictionaries({"object_id": ids, "visible": flags})),
    st.tuples(st.just("set_locked"), st.fixed_dictionaries({"object_id": ids, "locked": flags})),
    st.tuples(st.just("remove_object"), st.fixed_dictionaries({"object_id": ids})),
    st.tuples(st.just("set_mask_threshold"), st.fixed_dictionaries({"value": st.floats(0, 1)})),
    st.tuples(st.just("set_fill_holes"), st.fixed_dictionaries({"area": st.integers(-1, 9)})),
    st.tuples(st.just("set_min_area"), st.fixed_dictionaries({"area": st.integers(-1, 9)})),
    st.tuples(
        st.just("set_points"),
        st.fixed_dictionaries({"points": st.lists(st.tuples(xs, ys, flags, ids.filter(lambda i: i != 0)), max_size=4)}),
    ),
    st.tuples(
        st.just("set_boxes"),
        st.fixed_dictionaries(
            {"boxes": st.lists(st.sampled_from([(1, 1, 9, 9), (5, 5, 20, 20), (1, 1, 9, 9, 1)]), max_size=3)}
        ),
    ),
    st.tuples(st.just("choose_candidate"), st.fixed_dictionaries({"object_id": ids, "index": st.integers(0, 2)})),
    st.tuples(
        st.sampled_from(["add_concept", "set_text"]),
        st.fixed_dictionaries({"text": st.sampled_from(["cup", "dog", ""]), "at": st.none() | st.tuples(xs, ys)}),
    ),
    st.tuples(st.just("remove_concept"), st.fixed_dictionaries({"concept_id": ids})),
    st.tuples(st.just("add_exemplar"), st.fixed_dictionaries({"box": box, "positive": flags, "concept_id": ids})),
    st.tuples(st.just("add_exemplar_point"), st.fixed_dictionaries({"x": xs, "y": ys, "positive": flags})),
    st.tuples(st.sampled_from(["flip_exemplar", "remove_exemplar"]), st.fixed_dictionaries({"exemplar_id": ids})),
    st.tuples(st.just("set_score_threshold"), st.fixed_dictionaries({"value": st.floats(0, 1), "concept_id": ids})),
    st.tuples(st.just("reset"), st.just({})),
)
MOVES = st.lists(COMMANDS | st.tuples(st.sampled_from(["undo", "redo", "select"]), ids), max_size=25)


def document():
    return Document(State(HEIGHT, WIDTH))


def play(doc, moves):
    """Make moves; refused ones must change nothing. Return the states that commands made from the start."""
    for name, args in moves:
        before, history = doc.state, doc.history
        try:
            if name == "select":
                doc.select(args)
            elif name in {"undo", "redo"}:
                getattr(doc, name)()
            else:
                doc.run(name, args)
        except Sam3WidgetError:
            assert doc.state is before
            assert doc.history == history
        for instance in doc.state.instances:
            if instance.pending:
                instance.answer.write(np.zeros((3, 4, 4), np.float32), (0.9, 0.8, 0.7))
        for concept in doc.state.concepts:
            if concept.pending:
                masks = np.kron(np.eye(4), np.ones((1, 2, 2))).reshape(4, 2, 8).repeat(3, 1) * 16 - 8
                places = {e.exemplar_id: (1.0, 1.0, 9.0, 9.0) for e in concept.exemplars}
                scores = np.array([0.9, 0.8, 0.6, 0.2], np.float32)
                concept.finding.write(masks.astype(np.float32), scores, 0.9, masks[0], places)
        before = doc.state
        doc.amend(lambda state: settle(state, lambda _, size: np.zeros(size, bool)))
        touched = {i.object_id for i in before.instances if i.touched}
        assert touched <= {i.object_id for i in doc.state.instances}
        settled = doc.state
        doc.amend(lambda state: settle(state, lambda _, size: np.zeros(size, bool)))
        assert doc.state == settled


@given(MOVES, COMMANDS)
def test_undo_after_a_command_is_identity(moves, command):
    doc = document()
    play(doc, moves)
    before, history = doc.state, doc.history
    try:
        doc.run(*command)
    except Sam3WidgetError:
        return
    after = doc.state
    if after is before:
        assert doc.history == history
        return
    assert doc.undo()
    assert doc.state == before
    assert doc.history == history
    assert doc.redo()
    assert doc.state == after


@given(MOVES)
@settings(max_examples=200)
def test_undo_all_then_redo_all_is_identity(moves):
    doc = document()
    play(doc, moves)
    last, steps = doc.state, len(doc.history)
    for _ in range(steps):
        assert doc.undo()
    assert not doc.undo()
    assert doc.state == State(HEIGHT, WIDTH, selected=doc.state.selected)
    for _ in range(steps):
        assert doc.redo()
    assert doc.state == last


@given(MOVES)
def test_ids_are_unique_and_the_selection_exists(moves):
    doc = document()
    play(doc, moves)
    found = [i.object_id for i in doc.state.instances]
    assert len(set(found)) == len(found)
    assert doc.state.selected in {None, *found}
    concepts = [c.concept_id for c in doc.state.concepts]
    assert len(set(concepts)) == len(concepts)
    assert doc.state.concept in {None, *concepts}
    assert {i.concept_id for i in doc.state.instances} <= {None, *concepts}
    prompts = [p.point_id for i in doc.state.instances for p in i.points]
    prompts += [s.stroke_id for i in doc.state.instances for s in i.strokes]
    prompts += [e.exemplar_id for c in doc.state.concepts for e in c.exemplars]
    assert len(set(prompts)) == len(prompts)
    assert all(p.object_id == i.object_id for i in doc.state.instances for p in i.points)
    assert not any(i.empty for i in doc.state.instances)


@pytest.mark.parametrize(
    ("name", "args", "error", "words"),
    [
        ("zap", {}, NotFoundError, "there is no command 'zap'"),
        ("add_point", {"x": 1}, InvalidPromptError, "add_point takes x, y, positive, object_id"),
        ("add_point", {"x": 1, "y": 1, "z": 1}, InvalidPromptError, "unexpected keyword argument 'z'"),
        ("add_point", {"x": 64, "y": 1}, InvalidPromptError, "0 <= x < 64"),
        ("add_point", {"x": 1, "y": 1, "positive": False}, InvalidPromptError, "needs an object to take away from"),
        ("add_point", {"x": 1, "y": 1, "object_id": 9}, NotFoundError, "object_id 9; there are: 1, 2"),
        ("add_point", {"x": 1, "y": 1, "object_id": 2}, LockedError, "locked: unlock it"),
        ("add_point", {"x": 1, "y": 1, "object_id": "1"}, InvalidPromptError, "object_id must be an integer"),
        ("remove_point", {"point_id": 99}, NotFoundError, "point_id 99"),
        ("remove_point", {"point_id": 2}, LockedError, "locked"),
        ("remove_box", {"object_id": 1}, NotFoundError, "no box"),
        ("remove_stroke", {"stroke_id": 1}, NotFoundError, "stroke_id 1"),
        ("remove_object", {"object_id": 2}, LockedError, "locked"),
        ("add_stroke", {"path": [(1, 1)], "radius": 0}, InvalidPromptError, "more than 0"),
        ("add_stroke", {"path": [(1, 1)], "radius": 2, "positive": False}, InvalidPromptError, "eraser stroke needs"),
        ("set_mask", {"mask": np.zeros((2, 2), bool)}, InvalidPromptError, "the image's shape (48, 64), got (2, 2)"),
        ("set_mask", {"mask": np.full((48, 64), 0.5)}, InvalidPromptError, "bool, or hold only 0 and 1"),
        ("set_mask", {"mask": np.zeros((48, 64))}, InvalidPromptError, "at least one pixel"),
        ("choose_candidate", {"object_id": 1, "index": 0}, InvalidPromptError, "below the number of candidates, 0"),
        ("set_label", {"object_id": 1, "label": 7}, InvalidPromptError, "label must be one line of text"),
        ("add_point", {"x": 1, "y": 1, "label": "a\nb"}, InvalidPromptError, "label must be one line of text"),
        ("set_mask_threshold", {"value": 1}, InvalidPromptError, "0 < value < 1"),
        ("set_fill_holes", {"area": 10**20}, InvalidPromptError, "from 0 to"),
        ("set_min_area", {"area": -1}, InvalidPromptError, "from 0 to the image's 3072 pixels"),
        (
            "set_points",
            {"points": [(9, 9), (5, 5, True, 1), (9, 9, 1, 2), (1, 1, 0, 7)]},
            InvalidPromptError,
            "needs an obj",
        ),
        ("set_points", {"points": [(5, 5, True, 1)]}, LockedError, "locked"),
        ("set_points", {"points": [(5, 5, True, 0)]}, InvalidPromptError, "object_id must be 1 or more"),
        ("set_points", {"points": {"x": 1, "y": 2}}, InvalidPromptError, "points must be a list of (x, y)"),
        ("set_boxes", {"boxes": [(1, 1, 9, 9, 1), (2, 2, 9, 9, 1)]}, InvalidPromptError, "one box at most"),
        ("set_label", {"object_id": 1, "label": "\ud800"}, InvalidPromptError, "one line of text"),
        ("set_mask", {"mask": [[1, 2], [3]]}, InvalidPromptError, "the image's shape"),
        ("set_mask", {"mask": RunLengths.from_mask(np.ones((5, 5), bool))}, InvalidPromptError, "the image's shape"),
        ("add_stroke", {"path": [(1, 1)], "radius": 65}, InvalidPromptError, "at most 64 pixels"),
        ("add_stroke", {"path": [(1, 1e9)], "radius": 2}, InvalidPromptError, "near the image"),
        ("set_mask_threshold", {"value": 10**400}, InvalidPromptError, "finite"),
    ],
)
def test_refused_command_says_what_was_expected_and_changes_nothing(name, args, error, words):
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.run("add_point", {"x": 9, "y": 9})
    doc.run("set_locked", {"object_id": 2, "locked": True})
    doc.select(None)
    before = doc.state
    with pytest.raises(error) as raised:
        doc.run(name, args)
    assert words in str(raised.value)
    assert doc.state is before
    assert len(doc.history) == 3


def test_commands_of_one_gesture_are_one_step():
    doc = document()
    for value in (0.4, 0.3, 0.2):
        doc.run("set_mask_threshold", {"value": value}, gesture="drag-1")
    doc.run("set_mask_threshold", {"value": 0.9}, gesture="drag-2")
    assert [c.args["value"] for c in doc.history] == [0.2, 0.9]
    doc.undo()
    assert doc.state.settings.mask_threshold == 0.2
    doc.undo()
    assert doc.state.settings.mask_threshold == 0.5


def test_a_command_after_undo_forgets_the_redo():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.undo()
    doc.run("add_point", {"x": 7, "y": 7})
    assert not doc.redo()
    assert doc.state.instances[0].points[0].x == 7


def test_removing_the_last_prompt_removes_the_instance_and_selects_a_neighbour():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.run("add_point", {"x": 9, "y": 9})
    doc.run("remove_point", {"point_id": 2})
    assert [i.object_id for i in doc.state.instances] == [1]
    assert doc.state.selected == 1


def test_a_removed_prompt_asks_afresh_and_an_added_one_corrects():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    first = doc.state.instances[0].answer
    first.write(np.zeros((1, 4, 4), np.float32), (0.9,))
    doc.run("add_point", {"x": 9, "y": 9, "object_id": 1})
    assert doc.state.instances[0].answer.previous == (first, 0)
    doc.run("remove_point", {"point_id": 1})
    assert doc.state.instances[0].answer.previous is None


def test_set_points_changes_only_the_instances_that_differ():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.run("add_point", {"x": 9, "y": 9})
    kept = doc.state.instances[0].answer
    doc.run("set_points", {"points": [(5, 5, True, 1), (9, 9, True, 2), (12, 12, 0, 2)]})
    assert doc.state.instances[0].answer is kept
    assert [p.positive for p in doc.state.instances[1].points] == [True, False]
    assert [p.point_id for p in doc.state.instances[1].points] == [2, 3]
    assert doc.state.selected == 2
    doc.run("set_points", {"points": [p for i in doc.state.instances for p in i.points]})
    assert len(doc.history) == 3
    doc.select(None)
    doc.run("set_points", {"points": [(5, 5, True, 1), (20, 20, 1, None), (30, 30, 0, None)]})
    assert [[p.x for p in i.points] for i in doc.state.instances] == [[5], [20, 30]]
    doc.run("set_points", {"points": []})
    assert doc.state.instances == ()
    assert len(doc.history) == 5


def test_set_points_starts_the_instances_it_names():
    doc = document()
    doc.run("set_points", {"points": [(5, 5, True, 3), (9, 9, True, None)]})
    assert [(i.object_id, i.points[0].x) for i in doc.state.instances] == [(3, 5), (1, 9)]
    doc.run("add_point", {"x": 20, "y": 20})
    assert doc.state.selected == 4


def test_set_boxes_keeps_the_instance_whose_box_it_is():
    doc = document()
    doc.run("set_boxes", {"boxes": [(1, 1, 9, 9)]})
    doc.run("set_label", {"object_id": 1, "label": "cup"})
    doc.run("set_boxes", {"boxes": [(1, 1, 9, 9)]})
    assert len(doc.history) == 2
    doc.run("set_boxes", {"boxes": [(1, 1, 9, 9), (5, 5, 20, 20)]})
    assert [(i.object_id, i.label) for i in doc.state.instances] == [(1, "cup"), (2, "")]


def test_history_holds_what_no_caller_can_change():
    doc = document()
    path = [[1, 2], [3, 4]]
    doc.run("add_stroke", {"path": (row for row in path), "radius": 3})
    mask = np.ones((HEIGHT, WIDTH), bool)
    doc.run("set_mask", {"mask": mask, "object_id": 1})
    mask[:] = False
    assert doc.history[0].args["path"] == ((1, 2), (3, 4))
    assert doc.history[1].args["mask"].area == HEIGHT * WIDTH


def test_history_forgets_the_oldest_beyond_its_limit():
    doc = document()
    for k in range(LIMIT + 5):
        doc.run("set_min_area", {"area": k})
    assert len(doc.history) == LIMIT
    while doc.undo():
        pass
    assert doc.state.settings.min_area == 4


def test_history_forgets_the_oldest_beyond_its_memory(monkeypatch):
    monkeypatch.setattr(document_module, "BYTES", 10 * 2 * 4 * 4)
    doc = document()
    for k in range(32):
        doc.run("add_point", {"x": 1 + k, "y": 5, "object_id": 1 if k else None})
        doc.state.instances[0].answer.write(np.zeros((1, 4, 4), np.float32), (0.9,))
    assert len(doc.history) == 10
    while doc.undo():
        pass
    assert len(doc.state.instances[0].points) == 22


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("add_point", {"x": 5, "y": 5}),
        ("add_box", {"box": (1, 1, 9, 9)}),
        ("add_stroke", {"path": [(4, 4)], "radius": 2}),
        ("set_mask", {"mask": MASK}),
    ],
)
def test_prompt_with_a_label_names_what_it_starts_in_one_step(name, args):
    doc = Document(State(HEIGHT, WIDTH))
    doc.run(name, {**args, "label": " cup "})
    (instance,) = doc.state.instances
    assert (instance.label, instance.touched, doc.state.classes) == ("cup", True, ("cup",))
    doc.run(name, {**args, "object_id": 1, "label": "pot"})
    assert doc.state.instances[0].label == "cup"
    assert "pot" not in doc.state.classes
    doc.undo()
    doc.undo()
    assert (doc.state.instances, doc.state.classes) == ((), ())
