"""SAM 3 looks for concepts along a clip as transformers' own loop does, frame by frame, at random weights."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from sam3_widget.models.base import Sought
from sam3_widget.models.sam.runtime import Runtime
from sam3_widget.models.sam3.model import Sam3
from sam3_widget.models.sam3.tidying import apart, best_of_each, cleaned
from sam3_widget.video.session import VideoSession
from tests.models.sam3_clip import (
    FRAMES,
    KERNEL,
    LENGTH,
    OTHER,
    SCALE,
    Asked,
    Scene,
    click,
    corr,
    ellipse,
    features,
    modeling,
    new,
    points_of,
    reading,
    seen,
)
from tests.models.test_family_video import held
from tests.models.tiny import PATCH, save_sam3

CUP, PLATE = "cup", "plate"
ALWAYS = range(LENGTH)
SCENE = (
    (CUP, ALWAYS, (10, 10), (1, 0.5), 6, 0.9),
    (CUP, range(4, LENGTH), (38, 30), (-0.5, 0), 7, 0.8),
    (CUP, range(2, 6), (12, 38), (0, 0), 4, 0.75),
    (CUP, ALWAYS, (11, 11), (1, 0.5), 6, 0.6),
    (PLATE, range(1, LENGTH), (30, 12), (0, 1), 5, 0.95),
)
ONE = SCENE[:1]
LOYAL = {"assoc_iou_thresh": 0.02, "trk_assoc_iou_thresh": 0.02}
"""Settings with which nearly every detection of something followed is held to be it: random weights carry badly."""


def sought(*texts, threshold=0.5):
    return [Sought(concept_id, text, threshold) for concept_id, text in enumerate(texts)]


class Walk:
    """A tracker that looks for concepts, whose finds are called as transformers would call them."""

    def __init__(self, model, concepts, frames=FRAMES.__getitem__, kept=()):
        self.tracker = model.tracker(frames)
        self.concepts = concepts
        self.kept = frozenset(kept)
        self.owners = {}
        self.first = {}
        self.lost = {}

    def __call__(self, frames):
        return {frame_idx: self.step(frame_idx) for frame_idx in frames}

    def step(self, frame_idx):
        members = [
            {object_id: self.first[object_id] for object_id, owner in self.owners.items() if owner == k}
            for k in range(len(self.concepts))
        ]
        self.tracker.look_for(
            [Sought(c.concept_id, c.text, c.threshold, members[c.concept_id], self.kept) for c in self.concepts]
        )
        found = self.tracker.step(frame_idx)
        self.lost[frame_idx] = set(self.tracker.lost)
        ids = range(len(self.owners), len(self.owners) + len(self.tracker.newcomers))
        for object_id, newcomer in zip(ids, self.tracker.newcomers, strict=True):
            found[object_id] = newcomer.tracked
            self.owners[object_id], self.first[object_id] = newcomer.concept_id, frame_idx
        self.tracker.adopt(list(ids))
        return found


def assert_equal(walk, found, expected):
    """Check on every frame who is there and who was given up, the masks, and how they share the pixels."""
    for frame_idx, theirs in expected.items():
        ours = found[frame_idx]
        assert sorted(ours) == theirs.ids, frame_idx
        assert walk.lost[frame_idx] == theirs.gone, frame_idx
        shown = theirs.shown
        for object_id, logits in zip(theirs.ids, theirs.masks, strict=True):
            mask = ours[object_id].logits > 0
            assert np.count_nonzero(mask != shown[object_id]) <= 2, (frame_idx, object_id)
            kept = mask | (logits.numpy() <= 0)
            far = np.abs(ours[object_id].logits - logits.numpy())[kept].max(initial=0)
            assert far < 1e-3 * max(1.0, float(logits.std())), (frame_idx, object_id, far)


def counts(expected):
    return [len(each.ids) for each in expected.values()], sum(len(each.gone) for each in expected.values())


def compared(frames, discs=SCENE, texts=(CUP, PLATE), **settings):
    """Walk both over a scene, and return how many transformers saw on each frame, and how many it gave up."""
    scene = Scene(*discs)
    expected = Asked(scene.watched(reading(**settings)), *texts, scene=scene).walk(frames)
    walk = Walk(new(scene.watched(reading(**settings))), sought(*texts), scene.frames)
    assert_equal(walk, walk(frames), expected)
    return counts(expected)


def seeing(*discs, **settings):
    """Return a model that is made to see discs, and the frames of the clip that it sees them on."""
    scene = Scene(*discs)
    return new(scene.watched(reading(**settings))), scene.frames


# As transformers, frame by frame


def test_text_is_carried_as_transformers_does():
    numbers, gone = compared(ALWAYS, **LOYAL)
    assert numbers[:7] == [1, 2, 3, 4, 5, 5, 5]
    assert numbers[-1] == 2
    assert gone == 3


def test_what_no_detection_confirms_is_given_up_as_transformers_does():
    numbers, gone = compared(range(11), discs=SCENE[1:])
    assert max(numbers) >= 12
    assert gone >= 4


def test_two_that_are_one_are_given_up_as_transformers_does():
    _, gone = compared(range(8), det_nms_thresh=0.0, hotstart_dup_thresh=2, **LOYAL)
    assert gone >= 2


@pytest.mark.parametrize("on_tracks", [True, False])
def test_confirmed_masks_are_remembered_as_transformers_does(on_tracks):
    sure = {"recondition_every_nth_frame": 3, "high_iou_thresh": 0.02, "high_conf_thresh": 0.3}
    numbers, _ = compared(range(9), recondition_on_trk_masks=on_tracks, **sure, **LOYAL)
    assert numbers[5] == 5


def test_overlaps_are_hidden_as_transformers_does():
    strict = {"det_nms_thresh": 0.9, "assoc_iou_thresh": 0.9, "trk_assoc_iou_thresh": 0.02}
    numbers, _ = compared(range(7), suppress_overlapping_based_on_recent_occlusion_threshold=0.05, **strict)
    assert max(numbers) > 10


def test_what_is_long_unconfirmed_is_hidden_as_transformers_does():
    late = {"suppress_unmatched_only_within_hotstart": False, "init_trk_keep_alive": 2, "hotstart_unmatch_thresh": 15}
    numbers, gone = compared(range(6), discs=SCENE[:2], **late)
    assert (max(numbers) > 3, gone) == (True, 0)


def test_a_clip_is_walked_backwards_as_transformers_does():
    numbers, gone = compared(range(LENGTH - 1, 8, -1), **LOYAL)
    assert (numbers[0], gone) == (3, 1)


def test_what_the_detector_itself_finds_is_carried_as_transformers_does():
    settings = {"det_nms_thresh": 0.97, "assoc_iou_thresh": 0.9, "new_det_thresh": 0.6}
    expected = Asked(reading(**settings), CUP).walk(range(5))
    numbers, _ = counts(expected)
    assert min(numbers) >= 2
    walk = Walk(new(reading(**settings)), sought(CUP))
    assert_equal(walk, walk(range(5)), expected)


def test_a_click_on_the_way_is_carried_as_transformers_does():
    scene = Scene(*ONE)
    reference = Asked(scene.watched(reading(**LOYAL)), CUP, scene=scene)
    walk = Walk(new(scene.watched(reading(**LOYAL))), sought(CUP), scene.frames)
    expected, found = reference.walk(range(6)), walk(range(6))
    session = reference.session
    session.point_inputs_per_obj[0][5] = points_of(OTHER, SCALE)
    session.obj_with_new_inputs = [0]
    clicked = reference.model.tracker_model(session, frame_idx=5).pred_masks[0, 0].numpy()
    session.point_inputs_per_obj[0].clear()
    assert corr(clicked, expected[5].masks[0].numpy()) < 0.999
    sightings = [seen(k, found[k][0].logits) for k in range(5)]
    walk.tracker.follow(0, [*sightings, seen(5, clicked, OTHER)])
    expected, found = reference.walk(range(6, 12)), walk(range(6, 12))
    assert_equal(walk, found, expected)
    assert set(counts(expected)[0]) == {1}


def test_an_object_that_is_known_is_carried_as_transformers_does():
    scene = Scene(*SCENE[1:])
    reference = Asked(scene.watched(reading(**LOYAL)), CUP, scene=scene)
    session, mask = reference.session, ellipse(60, 60)
    shown = torch.nn.functional.interpolate(
        torch.from_numpy(mask).float()[None, None], (168, 168), mode="bilinear", antialias=True
    )
    session.add_mask_inputs(session.obj_id_to_idx(0), 0, (shown >= 0.5).float())
    session.obj_with_new_inputs = [0]
    session.cache.cache_vision_features(0, features(0))
    reference.model.tracker_model(session, frame_idx=0)
    session.max_obj_id = session.obj_id_to_prompt_id[0] = session.obj_first_frame_idx[0] = 0
    session.trk_keep_alive[0] = reference.model.init_trk_keep_alive
    walk = Walk(new(scene.watched(reading(**LOYAL))), sought(CUP), scene.frames)
    walk.owners[0] = walk.first[0] = 0
    walk.tracker.follow(0, [seen(0, mask, click())])
    expected = reference.walk(range(1, 9))
    assert_equal(walk, walk(range(1, 9)), expected)
    assert max(counts(expected)[0]) >= 2


# What is ours


def test_nobody_asks_for_a_compiled_kernel(monkeypatch, caplog):
    def load():
        raise AssertionError

    monkeypatch.setattr(modeling, "_load_cv_utils_kernel_once", load)
    model, frames = seeing(*SCENE, **LOYAL)
    found = Walk(model, sought(CUP), frames)(range(3))
    assert len(found[2]) >= 2
    assert caplog.text == ""


def test_what_a_person_keeps_is_never_given_up():
    model, frames = seeing((CUP, range(1), (10, 10), (0, 0), 6, 0.9), (CUP, ALWAYS, (38, 38), (0, 0), 4, 0.9))
    walks = [Walk(model, sought(CUP), frames, kept) for kept in ((), (0, 1))]
    for walk in walks:
        walk(range(10))
    lost = [set().union(*walk.lost.values()) for walk in walks]
    assert 0 in lost[0]
    assert not {0, 1} & lost[1]


def test_a_threshold_of_ones_own_moves_what_counts():
    found = []
    for threshold in (0.2, 0.5, 0.9):
        model, frames = seeing((CUP, ALWAYS, (10, 10), (1, 0), 6, 0.45), (CUP, ALWAYS, (38, 38), (0, 0), 4, 0.85))
        walk = Walk(model, sought(CUP, threshold=threshold), frames)
        found.append([each.score for each in walk.step(0).values()])
    assert found[0] == pytest.approx([0.45, 0.85], abs=1e-3)
    assert found[1] == pytest.approx([0.85], abs=1e-3)
    assert found[2] == []


def test_a_find_that_nobody_adopts_is_forgotten():
    model, frames = seeing(*ONE, **LOYAL)
    tracker = model.tracker(frames)
    for frame_idx in range(3):
        tracker.look_for(sought(CUP))
        assert tracker.step(frame_idx) == {}
        assert len(tracker.newcomers) == 1
        tracker.adopt([None])
        assert tracker.newcomers == []
    assert tracker._memories == {}
    assert tracker._crowd._session.obj_ids == []


def test_objects_of_no_concept_are_carried_as_without_one():
    model, frames = seeing(*SCENE, **LOYAL)
    alone, beside = model.tracker(frames), Walk(model, sought(CUP), frames)
    for tracker in (alone, beside.tracker):
        tracker.follow(70, [seen(0, ellipse(130, 90), OTHER)])
    for frame_idx in range(1, 5):
        found = beside.step(frame_idx)
        assert len(found) > 1
        np.testing.assert_array_equal(found[70].logits, alone.step(frame_idx)[70].logits)


def test_a_frame_is_read_and_encoded_once():
    model, frames = seeing(*SCENE, **LOYAL)
    read, passes = [], []

    def noted(frame_idx):
        read.append(frame_idx)
        return frames(frame_idx)

    hook = model._encoder.register_forward_hook(lambda *_: passes.append(1))
    found = Walk(model, sought(CUP, PLATE), noted)(range(6))
    hook.remove()
    assert len(found[5]) == 5
    assert read == list(range(6))
    assert len(passes) == 6


def test_memory_does_not_grow_with_the_steps():
    there_and_back = [*range(LENGTH), *range(LENGTH - 2, 0, -1)]
    model, frames = seeing(
        (CUP, range(1000), (12, 12), (0, 0), 8, 0.9),
        recondition_every_nth_frame=2,
        **LOYAL,
        high_iou_thresh=0.02,
        high_conf_thresh=0.1,
    )

    def again(frame_idx):
        frames(0)
        return FRAMES[there_and_back[frame_idx % len(there_and_back)]]

    walk, sizes = Walk(model, sought(CUP), again), {}
    for frame_idx in range(72):
        walk.step(frame_idx)
        sizes[frame_idx] = sum(held(walk.tracker, {}).values())
    assert list(walk.owners) == [0]
    assert len(walk.tracker._memories[0]._conditioning) > 10
    assert sizes[50] == sizes[70] > 0
    session = walk.tracker._crowd._session
    assert not session.processed_frames
    for told in (session.obj_id_to_tracker_score_frame_wise, session.suppressed_obj_ids):
        assert len(told) <= 1
    assert all(len(frames) <= 8 for frames in session.unmatched_frame_inds.values())


def test_half_precision_finds_alike(monkeypatch):
    @contextmanager
    def running(_):  # as on an accelerator: the CPU has autocast too
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    sure = {"recondition_every_nth_frame": 3, "high_iou_thresh": 0.02, "high_conf_thresh": 0.3}
    exact, frames = seeing(*SCENE[:4], **sure, **LOYAL)
    expected = Walk(exact, sought(CUP), frames)(range(6))
    monkeypatch.setattr(Runtime, "running", running)
    scene = Scene(*SCENE[:4])
    half = new(scene.watched(reading(**sure, **LOYAL)), dtype="bfloat16")
    found = Walk(half, sought(CUP), scene.frames)(range(6))
    assert [sorted(each) for each in found.values()] == [sorted(each) for each in expected.values()]
    assert len(found[5]) >= 2
    for one, other in zip(found[1].values(), expected[1].values(), strict=True):
        assert one.logits.dtype == np.float32
        assert corr(one.logits, other.logits) > 0.9


@pytest.mark.parametrize("side", [112, 224])
def test_resolution_finds_at_its_own_size(side, tmp_path):
    model = Sam3.from_folder(save_sam3(tmp_path, reading()), device="cpu", resolution=side)
    walk = Walk(model, sought(CUP, threshold=0.06))
    found = walk(range(2))
    assert len(found[1]) > 0
    assert {each.logits.shape for each in found[1].values()} == {(4 * side // PATCH, 4 * side // PATCH)}


def test_what_is_remembered_for_good_is_of_one_object_alone():
    model, frames = seeing(*SCENE, **LOYAL)
    walk = Walk(model, sought(CUP, PLATE), frames)
    found = walk(range(6))
    assert len(found[5]) == 5
    for memory in walk.tracker._memories.values():
        assert memory._conditioning
        for kept in memory._conditioning.values():
            assert kept["maskmem_features"].untyped_storage().nbytes() == kept["maskmem_features"].nbytes
    found[5][0].logits[:] = 0
    assert (walk.tracker._memories[0]._recent[5]["pred_masks"] != 0).any()


def test_session_finds_carries_and_takes_clicks(monkeypatch):
    scene = Scene(*SCENE[:3])
    model = new(scene.watched(reading(**LOYAL)))
    carried = model.tracker
    monkeypatch.setattr(model, "tracker", lambda _: carried(scene.frames))
    video = VideoSession(np.stack(FRAMES), model)
    concept = video.set_text(CUP, frame_idx=0)
    assert [i.object_id for i in video.objects] == [1]
    video.propagate(stop=6)
    assert {(i.label, i.concept_id) for i in video.objects} == {(CUP, concept.concept_id)}
    first = {i.object_id: min(k for k in video.masks if i.object_id in video.masks[k]) for i in video.objects}
    assert first[1] == 0
    assert {0, 2, 4} <= set(first.values()), "one is found on each frame on which one comes into view"
    assert all(0 <= score <= 1 for by_object in video.scores.values() for score in by_object.values())
    stacked = np.stack(list(video.masks[5].values()))
    assert (stacked.sum(0) <= 1).all(), "no two of one concept share a pixel"
    video.add_point(150, 100, object_id=1, frame_idx=3)
    clicked = video.masks[3][1]
    assert clicked[100, 150]
    video.propagate(stop=8)
    assert 1 in video.masks[7], "what a person clicked on is never given up"
    np.testing.assert_array_equal(video.masks[3][1], clicked)


# What a kernel does elsewhere


def random_masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.interpolate(torch.randn(6, 1, 24, 24, generator=generator), (48, 48), mode="bilinear")[
        :, 0
    ]


@pytest.mark.parametrize("most", [0, 1, 5, 16, 200])
def test_cleaned_is_what_transformers_does_with_its_kernel(monkeypatch, most):
    monkeypatch.setattr(modeling, "cv_utils_kernel", KERNEL)
    masks = random_masks()
    tiny = torch.full((1, 48, 48), -3.0)
    tiny[0, 4:6, 4:6] = 3
    masks = torch.cat([masks, tiny, torch.full((1, 48, 48), 2.0), torch.full((1, 48, 48), -2.0)])
    expected = modeling.fill_holes_in_mask_scores(masks[:, None], most)[:, 0]
    torch.testing.assert_close(cleaned(masks, most), expected, atol=0, rtol=0)
    assert most in {0, 1} or (expected != masks).any()


@pytest.mark.parametrize("most", [0.0, 0.1, 0.35, 0.6])
def test_best_of_each_is_what_transformers_does_with_its_kernel(monkeypatch, most):
    monkeypatch.setattr(modeling, "cv_utils_kernel", KERNEL)
    masks = torch.cat([random_masks(), random_masks(1)])
    masks = torch.cat([masks, masks + 0.5])
    scores = torch.rand(len(masks), generator=torch.Generator().manual_seed(2))
    expected = modeling.nms_masks(scores, masks, -1.0, most)
    kept = best_of_each(masks, scores, most)
    assert kept.tolist() == torch.nonzero(expected)[:, 0].tolist()
    assert 0 < len(kept) < len(masks)


def test_apart_gives_each_pixel_to_the_surest_of_its_group():
    masks = random_masks()
    scores = torch.tensor([0.3, 0.9, 0.5, 0.2, 0.8, 0.7])
    groups = torch.tensor([4, 4, 4, 7, 7, 9])
    shared = apart(masks, scores, groups)
    for group in (4, 7, 9):
        rows = (groups == group).nonzero()[:, 0]
        before, after = masks[rows] > 0, shared[rows] > 0
        assert (after.sum(0) == before.any(0)).all()
        for row, column in np.argwhere(before.any(0).numpy()):
            claims = [
                (float(scores[r]), int(r)) for r, there in zip(rows, before[:, row, column], strict=True) if there
            ]
            assert shared[max(claims)[1], row, column] > 0
    assert torch.equal(shared[masks <= 0], masks[masks <= 0])
