"""SAM 3 carries clicks, boxes and masks as its own tracker in transformers does, frame by frame, at random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam3_widget.core.masks import compose
from sam3_widget.errors import CancelledError
from sam3_widget.models.base import Tracked
from sam3_widget.models.known import CAPABILITIES
from sam3_widget.models.sam3.model import Sam3
from sam3_widget.video.session import VideoSession
from tests.models.elsewhere import Elsewhere, remembered, to_elsewhere
from tests.models.sam3_clip import (
    FRAMES,
    LENGTH,
    OTHER,
    PROMPTS,
    RECENT,
    SIZE,
    Clicked,
    S,
    Scene,
    assert_equal,
    click,
    corr,
    ellipse,
    gap,
    new,
    reading,
    seen,
    shared,
    walk,
    weights,
)
from tests.models.test_sam3_video_text import CUP, LOYAL, PLATE, SCENE, Walk, sought
from tests.models.tiny import PATCH, save_sam3

HELD = {"maskmem_features", "maskmem_pos_enc", "object_pointer", "pred_masks", "object_score_logits"}
"""What is remembered of a frame."""
CLICKED = 100
"""An object that nobody looked for."""


def tracker_of(model=None):
    return (model or shared()).tracker(FRAMES.__getitem__)


def started(what="points"):
    """Return a reference and a tracker that were told of one object on the first frame."""
    reference, tracker = Clicked(), tracker_of()
    tracker.follow(1, [seen(0, reference.ask(1, 0, PROMPTS[what]), PROMPTS[what])])
    return reference, tracker


# As transformers, frame by frame


@pytest.mark.parametrize("what", PROMPTS)
def test_prompts_are_carried_as_transformers_does(what):
    reference, tracker = started(what)
    assert_equal(walk(tracker, *range(1, 5)), reference.propagate(1, 4))


def test_a_whole_clip_is_carried_as_transformers_does():
    reference, tracker = started()
    assert_equal(walk(tracker, *range(1, LENGTH)), reference.propagate(1, LENGTH - 1))


def test_a_clip_is_walked_backwards_as_transformers_does():
    reference, tracker, last = Clicked(), tracker_of(), LENGTH - 1
    tracker.follow(1, [seen(last, reference.ask(1, last, PROMPTS["points"]), PROMPTS["points"])])
    assert_equal(walk(tracker, *range(last - 1, 9, -1)), reference.propagate(last - 1, 10, reverse=True))


def test_a_mask_is_carried_as_transformers_does():
    reference, tracker = Clicked(), tracker_of()
    reference.show(1, 0, ellipse(130, 90))
    tracker.follow(1, [seen(0, ellipse(130, 90), click())])
    assert_equal(walk(tracker, *range(1, 9)), reference.propagate(1, 8))


def test_two_objects_are_carried_as_transformers_does():
    reference, tracker = started()
    tracker.follow(2, [seen(0, reference.ask(2, 0, OTHER), OTHER)])
    found, expected = walk(tracker, *range(1, 6)), reference.propagate(1, 5)
    assert_equal(found, expected, 1)
    assert_equal(found, expected, 2)
    assert all(gap(both[1], both[2].logits) > 0.1 for both in found.values())


def test_a_correction_on_the_way_is_carried_as_transformers_does():
    reference, tracker = started()
    sightings = [seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])]
    sightings += [seen(k, step[1].logits) for k, step in walk(tracker, *range(1, 9)).items()]
    reference.propagate(1, 8)
    corrected = seen(8, reference.ask(1, 8, OTHER), OTHER)
    tracker.follow(1, [sightings[0], *sightings[2:8], corrected])
    assert_equal(walk(tracker, *range(9, 9 + RECENT)), reference.propagate(9, 8 + RECENT))


def test_more_clicks_than_the_model_looks_at_are_its_first_and_last():
    many = click(*((10 * k, 5 * k, k % 3 > 0) for k in range(1, 21)))
    kept = click(*((10 * k, 5 * k, k % 3 > 0) for k in [*range(1, 9), *range(13, 21)]))
    reference, tracker = Clicked(), tracker_of()
    tracker.follow(1, [seen(0, reference.ask(1, 0, kept), many)])
    assert_equal(walk(tracker, 1, 2), reference.propagate(1, 2))


def test_a_refined_mask_is_carried_by_its_prompts(monkeypatch):
    model, tracker = shared(), tracker_of()
    embedding = model.encode(FRAMES[0])
    for object_id, prompts in enumerate(PROMPTS.values()):
        tracker.follow(object_id, [seen(0, model.refine(embedding, prompts).logits[0], prompts)])
    shown = []
    monkeypatch.setattr("sam3_widget.models.sam.memory.ObjectMemory._show", lambda *_, **__: shown.append(1))
    tracker.step(1)
    assert shown == []


# The encoder


def test_a_frame_is_encoded_once_for_all_objects_and_with_clicks_on_it():
    model, read, passes = new(), [], []

    def frames(frame_idx):
        read.append(frame_idx)
        return FRAMES[frame_idx]

    hook = model._encoder.register_forward_hook(lambda *_: passes.append(1))
    embedding = model.encode(FRAMES[0])
    tracker = model.tracker(frames)
    for object_id, prompts in ((1, OTHER), (2, PROMPTS["box"])):
        logits = model.refine(embedding, prompts).logits[0]
        tracker.follow(object_id, [seen(0, logits, prompts)])
    walk(tracker, 1, 2)
    assert read == [0, 1, 2]
    assert len(passes) == 3
    del embedding
    again = model.tracker(frames)
    again.follow(1, [seen(0, logits, OTHER)])
    again.step(1)
    hook.remove()
    assert len(passes) == 5, "what nobody holds is encoded again"


def test_session_encodes_no_frame_twice():
    model, passes = new(), []
    hook = model._encoder.register_forward_hook(lambda *_: passes.append(1))
    video = VideoSession(np.stack(FRAMES[:6]), model)
    box = video.add_box((30, 40, 250, 130), frame_idx=0)
    video.propagate()
    hook.remove()
    assert len(passes) == 6
    assert set(video.masks) == set(range(6))
    assert video.masks[3][box.object_id].any()


def test_cancel_stops_between_the_encoders_layers_and_the_next_one_goes_on():
    model = new()
    video = VideoSession(np.stack(FRAMES[:6]), model)
    box = video.add_box((30, 40, 250, 130), frame_idx=0)
    video.propagate(stop=3)
    layers = []

    def count(*_):
        layers.append(1)
        if len(layers) == 6:
            video.cancel()

    hooks = [layer.register_forward_hook(count) for layer in model._encoder.layers]
    with pytest.raises(CancelledError, match="the finished frames stay"):
        video.propagate()
    for hook in hooks:
        hook.remove()
    assert len(layers) == 6, "in the second frame of those that the object is taken up on"
    assert set(video.masks) == {0, 1, 2}
    video.propagate()
    assert [k for k in video.masks if box.object_id in video.masks[k]] == list(range(6))


def test_cancel_stops_between_the_frames_of_an_object_that_is_taken_up():
    read = []

    def frames(frame_idx):
        read.append(frame_idx)
        return FRAMES[frame_idx]

    def stop(fraction):
        if len(read) == 2:
            raise CancelledError

    tracker = new().tracker(frames)
    tracker.progress = stop
    tracker.follow(1, [seen(k, ellipse(130, 90), OTHER) for k in range(5)])
    with pytest.raises(CancelledError):
        tracker.step(5)
    assert read == [0, 1]


# Memory in main memory


def offloaded(tracker):
    """Return what a tracker remembers, by name, where all of it lies elsewhere."""
    parts = dict(remembered(tracker))
    assert [path for path, part in parts.items() if not isinstance(part, Elsewhere)] == []
    return {path.rpartition(".")[2] for path in parts}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for object_id, tracked in found.items():
        np.testing.assert_array_equal(tracked.logits, expected[object_id].logits)
        assert tracked.score == expected[object_id].score


def test_offloaded_memory_lies_elsewhere_between_steps_and_carries_alike(monkeypatch):
    monkeypatch.setattr("sam3_widget.models.sam.video.to_main_memory", to_elsewhere)
    trackers = [tracker_of(), tracker_of(new(offload_memory=True))]
    for tracker in trackers:
        tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"]), seen(2, ellipse(135, 93), OTHER)])
        tracker.follow(2, [seen(2, ellipse(60, 60))])
    for frame_idx in range(3, 12):
        near, far = (tracker.step(frame_idx) for tracker in trackers)
        assert offloaded(trackers[1]) >= HELD
        assert_same(far, near)
        if frame_idx == 8:
            for tracker in trackers:
                tracker.follow(2, [seen(7, ellipse(60, 60)), seen(8, ellipse(62, 60), PROMPTS["box"])])


def test_offloaded_memory_of_a_crowd_lies_elsewhere_between_steps_and_carries_alike(monkeypatch):
    monkeypatch.setattr("sam3_widget.models.sam.video.to_main_memory", to_elsewhere)
    sure = {"recondition_every_nth_frame": 3, "high_iou_thresh": 0.02, "high_conf_thresh": 0.3}
    walks = []
    for offload in (False, True):
        scene = Scene(*SCENE)
        model = new(scene.watched(reading(**sure, **LOYAL)), offload_memory=offload)
        walks.append(Walk(model, sought(CUP, PLATE), scene.frames))
    near, far = walks
    occluded, confirmed = set(), 0
    for frame_idx in range(LENGTH):
        expected, found = near.step(frame_idx), far.step(frame_idx)
        names = offloaded(far.tracker)
        assert names >= HELD - {"pred_masks"}
        assert_same(found, expected)
        assert far.lost == near.lost
        occluded |= far.tracker._crowd._session.obj_id_to_last_occluded.keys()
        confirmed = max(confirmed, *(len(memory._conditioning) for memory in far.tracker._memories.values()))
        if frame_idx == 5:  # one that was clicked, beside the crowd, and then of it
            for walk_ in walks:
                walk_.tracker.follow(CLICKED, [seen(5, ellipse(200, 150), PROMPTS["box"])])
        if frame_idx == 9:
            for walk_ in walks:
                walk_.owners[CLICKED], walk_.first[CLICKED] = 0, 5
    assert len(occluded) > 2
    assert confirmed > 1
    assert any(far.lost.values())


# The contract


def test_model_says_that_it_carries_objects():
    assert shared().capabilities == CAPABILITIES["sam3"]
    assert shared().capabilities.video
    tracker = tracker_of()
    assert (tracker.memory, tracker.local) == (RECENT, False)


def test_step_answers_in_the_form_of_the_contract():
    tracker = tracker_of()
    tracker.follow(7, [seen(0, ellipse(130, 90), PROMPTS["box"])])
    for found in walk(tracker, 1, 2).values():
        assert isinstance(found[7], Tracked)
        assert (found[7].logits.shape, found[7].logits.dtype) == ((S, S), np.float32)
        assert np.isfinite(found[7].logits).all()
        assert 0 < found[7].score <= 1
        assert compose(found[7].logits, SIZE).area > 0


def test_object_out_of_view_has_neither_mask_nor_score():
    tracker = tracker_of(new(weights(sight=-20.0)))
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
    for found in walk(tracker, 1, 2).values():
        assert found[1].score == 0
        assert (found[1].logits < 0).all()


def test_session_propagates_as_transformers_does():
    reference = Clicked()
    first = compose(reference.ask(1, 0, PROMPTS["box"]), SIZE)
    video = VideoSession(np.stack(FRAMES), new())
    found = video.add_box((30, 40, 250, 130), frame_idx=0)
    assert np.count_nonzero(found.mask != first.to_mask()) < 5  # of 60,000: a rounding decides between two sides
    video.propagate(stop=5)
    for frame_idx, expected in reference.propagate(1, 4).items():
        logits, score = expected[1]
        carried = video.masks[frame_idx][found.object_id]
        assert np.count_nonzero(carried != compose(logits, SIZE).to_mask()) < 5
        assert abs(video.scores[frame_idx][found.object_id] - score) < 1e-4


# Sizes and precisions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_sam3(tmp_path_factory.mktemp("sam3"), weights())


def test_from_folder_carries_alike(folder):
    found = []
    for tracker in (tracker_of(Sam3.from_folder(folder, device="cpu")), tracker_of()):
        tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
        found.append(walk(tracker, 1, 2))
    for one, other in zip(*(each.values() for each in found), strict=True):
        assert gap(one[1], other[1].logits) < 1e-2  # memories are rounded to eight bits, up or down


@pytest.mark.parametrize("side", [112, 224])
def test_resolution_carries_at_its_own_size(folder, side):
    model = Sam3.from_folder(folder, device="cpu", resolution=side)
    tracker = tracker_of(model)
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"]), seen(1, ellipse(135, 93))])
    for found in walk(tracker, 2, 3).values():
        assert found[1].logits.shape == (4 * side // PATCH, 4 * side // PATCH)
        assert (found[1].logits > 0).any()


def test_half_precision_is_about_the_same(folder):
    model = Sam3.from_folder(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model._tracker._model.parameters()} == {torch.float32}
    found = []
    for tracker in (tracker_of(model), tracker_of()):
        tracker.follow(1, [seen(0, ellipse(130, 90), click())])
        found.append(walk(tracker, 1, 2, 3))
    for half, exact in zip(*(each.values() for each in found), strict=True):
        assert corr(half[1].logits, exact[1].logits) > 0.9
