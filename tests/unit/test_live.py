import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from sam3_widget.core.answers import Answer
from sam3_widget.engine import Engine, engine_of
from sam3_widget.errors import CancelledError, ModelError, UnsupportedError
from sam3_widget.live import LiveDocument
from sam3_widget.models.base import Candidates, Capabilities
from tests.toy import ToyModel

IMAGE = np.full((120, 160, 3), 128, np.uint8)


class Watcher:
    def __init__(self, live):
        self.live = live
        self.revisions = []
        self.fractions = []
        self.errors = []
        self.idle = threading.Event()
        live.listen(self)

    def changed(self):
        self.revisions.append(self.live.revision)

    def progressed(self, phase, fraction):
        self.fractions.append(fraction)
        if phase == "idle":
            self.idle.set()

    def failed(self, error):
        self.errors.append(error)


@pytest.fixture
def model():
    return ToyModel()


@pytest.fixture
def live(model):
    return LiveDocument(IMAGE, model)


def click(live, x, y, *, positive=True, object_id=None, wait=True):
    return live.run("add_point", {"x": x, "y": y, "positive": positive, "object_id": object_id}, wait=wait)


def settle(live):
    with live.lock:
        assert live.lock.wait_for(lambda: not any(i.pending for i in live.state.instances), 30)


def area(live, object_id=1):
    return live.mask(live.state.instance(object_id)).area


def test_quick_clicks_none_is_lost_and_the_newest_wins(live, model):
    model.gate.clear()
    click(live, 20, 20, wait=False)
    assert model.refining.wait(30)
    for k in range(9):
        click(live, 30 + 10 * k, 20, object_id=1, wait=False)
    model.gate.set()
    settle(live)
    assert len(live.state.instances[0].points) == 10
    assert len(live.history) == 10
    assert 1 < len(model.asked) <= 3
    assert len(model.asked[-1][0].points) == 10
    mask = live.mask(live.state.instances[0]).to_mask()
    assert all(mask[20, 30 + 10 * k] for k in range(9))


def test_undo_makes_the_answer_in_flight_stale(live, model):
    click(live, 20, 20)
    before = live.mask(live.state.instances[0]).to_mask()
    model.gate.clear()
    model.refining.clear()
    click(live, 100, 80, object_id=1, wait=False)
    assert model.refining.wait(30)
    live.run("undo", {})
    model.gate.set()
    click(LiveDocument(IMAGE, model), 20, 20)  # behind the answer in flight on the one worker
    assert (live.mask(live.state.instances[0]).to_mask() == before).all()
    assert not live.state.instances[0].pending
    calls = len(model.asked)
    live.run("redo", {})
    assert live.mask(live.state.instances[0]).to_mask()[80, 100]
    assert len(model.asked) == calls


def test_undo_to_prompts_that_were_skipped_asks_for_them(live, model):
    model.gate.clear()
    click(live, 20, 20, wait=False)
    assert model.refining.wait(30)
    click(live, 60, 20, object_id=1, wait=False)
    click(live, 100, 20, object_id=1, wait=False)
    model.gate.set()
    settle(live)
    live.run("undo", {})
    mask = live.mask(live.state.instances[0]).to_mask()
    assert mask[20, 60]
    assert not mask[20, 100]


def test_undo_redo_threshold_and_hygiene_never_ask_the_model(live, model):
    click(live, 20, 20)
    click(live, 60, 60, object_id=1)
    live.run("add_box", {"box": (80, 80, 110, 110)})
    calls = len(model.asked)
    areas = area(live, 1), area(live, 2)
    for name, args in (
        ("set_mask_threshold", {"value": 0.9}),
        ("set_fill_holes", {"area": 50}),
        ("set_min_area", {"area": 50}),
        ("set_visible", {"object_id": 1, "visible": False}),
        ("set_label", {"object_id": 1, "label": "cup"}),
        *[("undo", {})] * 8,
        *[("redo", {})] * 3,
    ):
        live.run(name, args)
    assert len(model.asked) == calls
    assert (area(live, 1), area(live, 2)) == areas


def test_the_image_is_encoded_once(live, model):
    click(live, 20, 20)
    click(live, 60, 60)
    LiveDocument(IMAGE.copy(), model).run("add_point", {"x": 5, "y": 5})
    assert model.encoded == 1


def test_the_model_runs_on_one_worker_thread_only(model):
    documents = [LiveDocument(IMAGE + k, model) for k in range(3)]
    assert len({id(d.engine) for d in documents}) == 1
    threads = [threading.Thread(target=click, args=(d, 20, 20)) for d in documents for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert model.threads == {"sam3w-toy"}
    assert [len(d.state.instances) for d in documents] == [3, 3, 3]
    assert all(area(d, k) > 50 for d in documents for k in (1, 2, 3))


def test_a_click_refines_with_all_prompts_and_the_earlier_logits(live, model):
    click(live, 20, 20)
    click(live, 60, 60, positive=False, object_id=1)
    prompts, previous = model.asked[-1]
    assert prompts.points.tolist() == [[20, 20], [60, 60]]
    assert prompts.labels.tolist() == [True, False]
    assert (previous > 0).sum() > 50
    live.run("remove_point", {"point_id": 2})
    assert model.asked[-1][1] is None


def test_the_chosen_candidate_is_what_the_next_click_starts_from(live, model):
    click(live, 60, 60)
    areas = []
    for index in (0, 1, 2):
        live.run("choose_candidate", {"object_id": 1, "index": index})
        areas.append(area(live))
    assert areas[1] > areas[0] > areas[2]
    click(live, 5, 5, object_id=1)
    assert (model.asked[-1][1] > 0).sum() * 4 == pytest.approx(areas[2], rel=0.2)


def test_an_imported_mask_is_exact_and_goes_on_being_refined(live, model):
    mask = np.zeros((120, 160), bool)
    mask[31:77, 13:59] = True
    live.run("set_mask", {"mask": mask})
    assert (live.mask(live.state.instances[0]).to_mask() == mask).all()
    assert not model.asked
    click(live, 35, 55, positive=False, object_id=1)
    refined = live.mask(live.state.instances[0]).to_mask()
    assert not refined[55, 35]
    assert refined[34:40, 16:56].all()
    live.run("remove_point", {"point_id": 1})
    assert (live.mask(live.state.instances[0]).to_mask() == mask).all()


def test_a_stroke_is_exact_asks_no_model_and_outlives_the_next_click(live, model):
    click(live, 40, 60)
    calls = len(model.asked)
    live.run("add_stroke", {"path": [(90, 20), (130, 20)], "radius": 6, "object_id": 1})
    assert len(model.asked) == calls
    assert live.mask(live.state.instances[0]).to_mask()[15:25, 90:130].all()
    click(live, 40, 90, object_id=1)
    assert model.asked[-1][1].max() == 8
    assert live.mask(live.state.instances[0]).to_mask()[15:25, 90:130].all()


def test_a_later_click_of_the_other_kind_releases_a_stroke(live):
    click(live, 40, 60)
    live.run("add_stroke", {"path": [(90, 20), (130, 20)], "radius": 6, "object_id": 1})
    click(live, 110, 20, positive=False, object_id=1)
    assert not live.mask(live.state.instances[0]).to_mask()[20, 110]


def test_the_releasing_click_starts_from_the_painted_mask(live, model):
    live.run("add_stroke", {"path": [(30, 60), (130, 60)], "radius": 20})
    click(live, 80, 60, positive=False, object_id=1)
    mask = live.mask(live.state.instances[0]).to_mask()
    assert not mask[60, 80]
    assert mask[60, 40]
    assert mask[60, 120]
    click(live, 120, 110, object_id=1)
    mask = live.mask(live.state.instances[0]).to_mask()
    assert mask[110, 120]
    assert mask[60, 40]
    assert not mask[60, 80]
    assert len(model.asked) == 2


def test_cancel_while_encoding_keeps_the_prompts_and_the_next_click_goes_on(live, model):
    model.encode_gate.clear()
    watcher = Watcher(live)
    click(live, 20, 20, wait=False)
    assert model.encoding.wait(30)
    live.cancel()
    assert watcher.idle.wait(30)
    assert model.encoded == 0
    assert isinstance(live.state.instances[0].answer.error, CancelledError)
    model.encode_gate.set()
    click(live, 60, 60, object_id=1)
    assert area(live) > 100
    assert 0.25 in watcher.fractions


def test_cancel_reaches_a_call_that_waits(live, model):
    model.encode_gate.clear()
    errors = []

    def call():
        try:
            click(live, 20, 20)
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert model.encoding.wait(30)
    live.cancel()
    thread.join(30)
    assert len(errors) == 1
    model.encode_gate.set()


def test_a_failing_model_is_told_and_the_prompts_stay(live, model):
    watcher = Watcher(live)
    click(live, 20, 20)
    model.fails = RuntimeError("out of memory")
    with pytest.raises(ModelError, match="toy failed with RuntimeError"):
        click(live, 60, 60, object_id=1)
    assert len(live.state.instances[0].points) == 2
    assert live.mask(live.state.instances[0]).to_mask()[20, 20]
    assert len(watcher.errors) == 1
    click(live, 100, 60, object_id=1)
    assert live.mask(live.state.instances[0]).to_mask()[60, 60]


def test_a_call_from_a_listener_on_the_worker_does_not_wait_for_itself(live):
    class Eager(Watcher):
        def changed(self):
            super().changed()
            if len(self.live.state.instances) == 1 and self.live.state.instances[0].answer.done:
                click(self.live, 60, 60)

    Eager(live)
    click(live, 20, 20)
    settle(live)
    assert len(live.state.instances) == 2


def test_a_listener_that_raises_harms_nobody(live, model, caplog):
    def boom():
        raise ValueError("a mistake of the listener")

    class Bad(Watcher):
        changed = progressed = failed = staticmethod(lambda *_: boom())

    Bad(live)
    watcher = Watcher(live)
    click(live, 20, 20)
    assert area(live) > 50
    assert watcher.revisions
    assert watcher.errors == []
    click(LiveDocument(IMAGE, model), 20, 20)
    assert "a listener failed" in caplog.text


@pytest.mark.parametrize(
    "candidates",
    [
        Candidates(np.zeros((4, 4), np.float32), np.ones(1, np.float32)),
        Candidates(np.zeros((0, 4, 4), np.float32), np.zeros(0, np.float32)),
        Candidates(np.zeros((2, 4, 4), np.float32), np.ones(1, np.float32)),
        Candidates(np.full((1, 4, 4), np.nan, np.float32), np.ones(1, np.float32)),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(live, model, monkeypatch, candidates):
    monkeypatch.setattr(model, "refine", lambda *_: candidates)
    with pytest.raises(ModelError, match="candidates must be"):
        click(live, 20, 20)
    monkeypatch.undo()
    click(live, 40, 40)
    assert area(live, 2) > 50


def test_one_instance_failing_is_not_another_failing(live, model):
    model.gate.clear()
    click(live, 20, 20, wait=False)
    assert model.refining.wait(30)
    click(live, 60, 60, wait=False)
    model.fails = RuntimeError("once")
    model.gate.set()
    settle(live)
    assert isinstance(live.state.instance(1).answer.error, ModelError)
    assert area(live, 2) > 50


def test_undo_and_redo_ask_again_for_what_failed(live, model):
    model.fails = RuntimeError("once")
    with pytest.raises(ModelError):
        click(live, 20, 20)
    live.run("redo", {})
    assert isinstance(live.state.instances[0].answer.error, ModelError)
    assert not live.state.instances[0].pending
    live.run("undo", {})
    live.run("redo", {})
    assert area(live) > 50


def test_a_question_taken_back_and_asked_again_is_answered(live, model, monkeypatch):
    asked = live.question_of

    def back_and_forth(object_id, answer):
        monkeypatch.setattr(live, "question_of", asked)
        live.run("undo", {}, wait=False)
        found = asked(object_id, answer)
        live.run("redo", {}, wait=False)
        return found

    monkeypatch.setattr(live, "question_of", back_and_forth)
    click(live, 20, 20)
    assert area(live) > 50


def test_two_documents_that_drive_each_other_from_two_threads_do_not_deadlock(model):
    documents = [LiveDocument(IMAGE + k, model) for k in range(2)]
    for document in documents:
        click(document, 20, 20)
        click(document, 60, 60)

    class Mirror(Watcher):
        def changed(self):
            self.other.run("select", {"object_id": self.live.state.selected})

    for one, other in (documents, documents[::-1]):
        Mirror(one).other = other

    def flip(document):
        for k in range(300):
            document.run("select", {"object_id": 1 + k % 2})

    threads = [threading.Thread(target=flip, args=(d,), daemon=True) for d in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_masks_kept_for_undo_do_not_keep_answers_without_bound(live, monkeypatch):
    monkeypatch.setattr("sam3_widget.live._CACHE_BYTES", 100_000)
    answers = []
    for k in range(30):
        click(live, 20 + k, 20)
        live.mask(live.state.instances[0])
        answers.append(weakref.ref(live.state.instances[0].answer))
        live.run("remove_object", {"object_id": live.state.instances[0].object_id})
        live._document._past.clear()
    gc.collect()
    assert sum(a() is not None for a in answers) < 10


def test_revisions_rise_by_one(live):
    watcher = Watcher(live)
    click(live, 20, 20)
    live.run("undo", {})
    assert not watcher.revisions[0] - 1
    assert watcher.revisions == list(range(1, len(watcher.revisions) + 1))


@pytest.mark.parametrize(
    ("able", "name", "args"),
    [
        (Capabilities(points=False), "add_point", {"x": 1, "y": 1}),
        (Capabilities(), "add_box", {"box": (1, 1, 9, 9)}),
        (Capabilities(), "set_mask", {"mask": np.ones((120, 160), bool)}),
    ],
)
def test_what_the_model_cannot_do_is_refused(able, name, args):
    live = LiveDocument(IMAGE, ToyModel(able))
    with pytest.raises(UnsupportedError, match="the model 'toy' does not take"):
        live.run(name, args)
    assert live.history == ()


def test_embeddings_used_longest_ago_go_first():
    model = ToyModel()
    vars(model)["_engine"] = Engine(model, cache_bytes=2 * IMAGE.nbytes)
    assert engine_of(model)._cache_bytes == 2 * IMAGE.nbytes
    documents = [LiveDocument(IMAGE + k, model) for k in range(3)]
    for k in (0, 1, 0, 2):
        click(documents[k], 20, 20)
    assert model.encoded == 3
    click(documents[0], 30, 30)
    assert model.encoded == 3
    click(documents[1], 30, 30)
    assert model.encoded == 4


def test_older_embeddings_give_back_what_can_be_made_again_before_they_go():
    class Growing(ToyModel):
        def refine(self, embedding, prompts, previous=None):
            embedding.nbytes = 3 * IMAGE.nbytes
            embedding.trim = lambda: setattr(embedding, "nbytes", IMAGE.nbytes)
            return super().refine(embedding, prompts, previous)

    model = Growing()
    engine = vars(model)["_engine"] = Engine(model, cache_bytes=4 * IMAGE.nbytes)
    for k in range(2):
        click(LiveDocument(IMAGE + k, model), 20, 20)
    held = list(engine._embeddings.values())
    engine.close()  # so that nothing is under way
    assert [e.nbytes // IMAGE.nbytes for e in held] == [1, 3]
    assert model.encoded == 2
    assert not engine._embeddings


def test_a_model_that_decodes_batches_is_asked_for_as_many_as_it_takes(model, live, monkeypatch):
    model.batch = 3
    sizes = []

    def refine_many(embedding, questions):
        sizes.append(len(questions))
        return ToyModel.refine_many(model, embedding, questions)

    monkeypatch.setattr(model, "refine_many", refine_many)
    live.run("set_points", {"points": [(20 * k, 20, True, k) for k in range(1, 6)]})
    assert sizes == [3, 2]
    assert all(i.answer.done for i in live.state.instances)


def test_one_instance_failing_in_a_batch_is_not_another_failing(model, live):
    model.batch = 3
    model.fails = RuntimeError("once")
    live.run("set_points", {"points": [(20 * k, 20, True, k) for k in range(1, 4)]})
    assert all(i.answer.done for i in live.state.instances)


def test_a_click_after_the_engine_was_closed_says_so_and_is_kept(live):
    click(live, 20, 20)
    live.engine.close()
    with pytest.raises(ModelError, match="unloaded"):
        click(live, 60, 20)
    assert len(live.state.instances) == 2


def test_the_interpreter_ends_while_an_image_is_being_encoded():
    script = """
import numpy as np
from sam3_widget.live import LiveDocument
from tests.toy import ToyModel
model = ToyModel()
model.encode_gate.clear()
LiveDocument(np.zeros((8, 8, 3), np.uint8), model).prepare()
assert model.encoding.wait(30)
print("ends")
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "ends\n"
    assert done.stderr == ""


def test_answer_is_written_once():
    answer = Answer()
    answer.write(np.ones((1, 2, 2), np.float32), (0.9,))
    answer.write(np.zeros((1, 2, 2), np.float32), (0.1,))
    assert answer.scores == (0.9,)


def test_click_is_answered_while_another_image_is_encoded_ahead(live, model):
    click(live, 30, 30)
    model.encode_gate.clear()
    model.encoding.clear()
    ahead = LiveDocument(255 - IMAGE, model)
    ahead.prepare()
    assert model.encoding.wait(30)
    before = area(live)
    click(live, 90, 30, object_id=1)  # returns with the answer: the gate is still closed
    assert area(live) > before
    assert model.encoded == 1
    model.encode_gate.set()
    ahead.run("add_point", {"x": 5, "y": 5})
    assert model.encoded == 2


def test_who_waits_goes_before_what_is_encoded_ahead(live, model):
    model.gate.clear()
    click(live, 30, 30, wait=False)  # the worker is busy from here on
    assert model.refining.wait(30)
    order = []
    ahead, asking = LiveDocument(255 - IMAGE, model), LiveDocument(IMAGE // 2, model)
    encode = model.encode
    model.encode = lambda image, progress: (order.append(int(image[0, 0, 0])), encode(image, progress))[1]
    ahead.prepare()
    click(asking, 30, 30, wait=False)
    model.gate.set()
    settle(asking)
    ahead.run("add_point", {"x": 5, "y": 5})
    assert order == [64, 127]
