"""Documents as plain JSON and back: nothing is lost, and nothing damaged is taken."""

from __future__ import annotations

import base64
import copy
import json
import math
import zlib
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sam3_widget.core.answers import Answer, Finding
from sam3_widget.core.document import Document
from sam3_widget.core.restored import from_plain
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.saved import pack, to_plain, unpack
from sam3_widget.core.state import Carried, InstanceState, State
from sam3_widget.errors import CancelledError, FormatError, ModelError
from tests.unit.test_document import HEIGHT, MOVES, WIDTH, document, play


def plain(doc):
    return json.loads(json.dumps(to_plain(doc.record, nullcontext(), WeakKeyDictionary()), allow_nan=False))


def reopened(whole):
    doc = Document(State(HEIGHT, WIDTH))
    doc.restore(from_plain(whole, HEIGHT, WIDTH))
    return doc


def same(a, b):
    """Whether two values are equal, arrays and answers by what they hold."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (Answer, Finding)):
        return same(vars(a), vars(b))
    if isinstance(a, Exception):
        return str(a) == str(b)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def cells(doc):
    """The answers of a history, as places: equal lists mean that the same snapshots share them."""
    order = {}
    states = [s.state for s in doc.record.past] + [doc.state] + [s.state for s in doc.record.future]
    found = [(i.answer, i.found, i.matched) for state in states for i in state.instances]
    return [[cell and order.setdefault(id(cell), len(order)) for cell in row] for row in found]


@given(MOVES)
@settings(max_examples=80)
def test_what_comes_back_is_what_was_saved_with_its_whole_history(moves):
    doc = document()
    play(doc, moves)
    whole = plain(doc)
    again = reopened(whole)
    assert plain(again) == whole
    assert same(again.history, doc.history)
    assert cells(again) == cells(doc)
    assert same(again.state, doc.state)
    while doc.undo():
        assert again.undo()
        assert same(again.state, doc.state)
    assert not again.undo()
    while doc.redo():
        assert again.redo()
        assert same(again.state, doc.state)
    assert not again.redo()


@given(MOVES, st.lists(st.sampled_from(["undo", "redo"]), max_size=3), MOVES)
@settings(max_examples=50)
def test_a_session_goes_on_from_what_came_back_as_if_it_had_never_stopped(moves, travels, more):
    doc = document()
    play(doc, moves)
    for name in travels:
        getattr(doc, name)()
    again = reopened(plain(doc))
    play(doc, more)
    play(again, more)
    assert same(again.state, doc.state)
    assert same([(c.name, c.args) for c in again.history], [(c.name, c.args) for c in doc.history])


PLAYED = [
    ("add_point", {"x": 5, "y": 5}),
    ("add_box", {"box": (1, 1, 9, 9)}),
    ("add_concept", {"text": "cup", "at": None}),
    ("add_exemplar", {"box": (2, 2, 9, 9)}),
    ("remove_object", {"object_id": 4}),
    ("add_stroke", {"path": [(1, 1), (9, 9)], "radius": 2}),
    ("set_mask", {"mask": np.eye(HEIGHT, WIDTH, dtype=bool)}),
    ("set_label", {"object_id": 1, "label": "mug"}),
    ("set_score_threshold", {"value": 0.7}),
    ("add_concept", {"text": "dog", "at": (5, 5), "label": "animal"}),
    ("undo", None),
]


def played():
    doc = document()
    play(doc, PLAYED)
    return plain(doc)


def paths(value, path=()):
    """The place of everything in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from paths(each, (*path, key))


WHOLE = played()
PATHS = list(paths(WHOLE))[1:]
JUNK = st.sampled_from(
    [None, True, -1, 0, 1, 10**30, 0.5, 1e308, "", "x", "AAAA", [], [0], [[1]], {}, {"a": 1}, {"mask": 9}]
)


def test_nothing_that_a_concept_remembers_is_lost():
    told = {name for row in WHOLE["concepts"] for name in row}
    assert told >= {"exemplars", "dismissed", "away", "finding", "settled"}
    assert plain(reopened(WHOLE)) == WHOLE


@given(st.sampled_from(PATHS), JUNK | st.just("drop"))
@settings(max_examples=200)
def test_a_damaged_file_is_refused_or_still_a_history(path, junk):
    whole = copy.deepcopy(WHOLE)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    if junk == "drop":
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk
    try:
        doc = reopened(whole)
    except FormatError:
        return
    plain(doc)
    while doc.undo():
        pass


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("state",), 99, "the file: state must be the place of a row that came before"),
        (("state",), None, "the file: state must be the place"),
        (("masks", 0), "PEAA", "masks[0]: the runs of a mask"),
        (("masks", 0), "Z!", "masks[0] must be base64"),
        (("answers", 0, "shape"), [1, 4, 4], "answers[0]: logits of shape [1, 4, 4] must have 32 bytes"),
        (("answers", 0, "shape"), [3, 1 << 20, 1 << 20], "answers[0]: shape must be the 3 sides of logits"),
        (("answers", 0, "logits"), "AAAA", "answers[0]: logits are damaged"),
        (("answers", 0, "scores"), [0.5, 0.4], "answers[0]: scores must be a score for each of 1 masks"),
        (("points", 0), [500, 5, 1, 1, 1], "the file: point must lie inside the image"),
        (("points", 0), [5, 5], "the file: points must be a list of lists of 5"),
        (("instances", 0, "points"), [77], "instances[0]: points must be the place of a row"),
        (("instances", 0, "candidate"), 7, "instances[0]: candidate must be below the number of its candidates"),
        (("instances", 0, "answer"), "a", "instances[0]: answer must be the place"),
        (("states", -1, "selected"), 44, "selected must be the id of one of its instances"),
        (("states", -1, "settings", "mask_threshold"), 2, "mask_threshold must be a probability"),
        (("past", 0, "name"), "zap", "past[0]: there is no command 'zap'"),
        (("past", 0, "args"), {"x": 1}, "past[0]: add_point takes x, y"),
        (("past", 0, "time"), "noon", "past[0]: time must be a finite number, got 'noon'"),
    ],
)
def test_the_error_says_where_and_what_was_expected(path, value, words):
    whole = copy.deepcopy(WHOLE)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(FormatError) as raised:
        reopened(whole)
    assert words in str(raised.value)


def test_open_questions_come_back_open_with_what_they_correct():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    first = doc.state.instances[0].answer
    first.write(np.ones((1, 4, 4), np.float32), (0.9,))
    for k in range(1200):  # as many clicks as no model has answered
        doc.run("add_point", {"x": k % 60, "y": 9, "object_id": 1})
    instance = reopened(plain(doc)).state.instances[0]
    assert instance.pending
    assert instance.basis[0].scores == (0.9,)
    assert instance.answer.newest == 1201


@pytest.mark.parametrize("error", [CancelledError("cancelled: later"), ModelError("out of memory"), ValueError("odd")])
def test_a_question_that_failed_comes_back_failed(error):
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.run("add_concept", {"text": "cup"})
    doc.state.instances[0].answer.error = doc.state.concepts[0].finding.error = error
    state = reopened(plain(doc)).state
    assert not state.instances[0].pending
    assert str(state.instances[0].answer.error) == str(state.concepts[0].finding.error) == str(error)
    assert isinstance(state.instances[0].answer.error, type(error) if error.args[0] != "odd" else ModelError)


@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_logits_come_back_bit_by_bit(bits):
    logits = bits.view(np.float16)
    data = zlib.decompress(base64.b64decode(pack(logits)))
    assert unpack(data, logits.shape).tobytes() == logits.tobytes()


def test_logits_are_packed_once():
    doc = document()
    doc.run("add_point", {"x": 5, "y": 5})
    doc.state.instances[0].answer.write(np.zeros((3, 64, 64), np.float32), (0.9, 0.8, 0.7))
    packed = WeakKeyDictionary()
    first = to_plain(doc.record, nullcontext(), packed)
    second = to_plain(doc.record, nullcontext(), packed)
    assert second["answers"][0]["logits"] is first["answers"][0]["logits"]
    assert len(packed) == 1


def test_history_holds_plain_values_whatever_was_given():
    doc = document()
    at = [np.float32(5), 6]
    doc.run("add_point", {"x": np.float32(5), "y": np.int64(5), "positive": np.True_})
    doc.run("add_concept", {"text": np.str_("cup"), "at": at})
    doc.run("move_point", {"point_id": doc.state.instances[0].points[0], "x": 7, "y": 7})
    at[0] = 9
    args = [value for command in doc.history for value in command.args.values()]
    assert args == [5.0, 5, True, "cup", (5.0, 6), 1, 7, 7]
    assert {type(value) for value in args} <= {float, int, bool, str, tuple}


def test_a_frame_of_a_clip_is_refused():
    doc = document()
    carried = Carried(RunLengths.empty(HEIGHT, WIDTH), 0.9, forward=True)
    doc.amend(lambda _: State(HEIGHT, WIDTH, (InstanceState(1, carried=carried),), next_object_id=2))
    with pytest.raises(FormatError, match="a frame of a clip"):
        plain(doc)
