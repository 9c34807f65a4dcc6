"""SAM 2 and EdgeTAM carry objects as transformers' own session does, frame by frame, at random weights."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
import transformers
from skimage import data
from torch.nn import functional

from sam3_widget.core.masks import compose
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidVideoError, ModelError, NotFoundError, UnsupportedError
from sam3_widget.models import listing
from sam3_widget.models.base import InstancePrompts, Sighting, Tracked
from sam3_widget.models.known import CAPABILITIES
from sam3_widget.models.sam.family import MEAN, STD, SamFamily
from sam3_widget.models.sam.preprocess import Preprocess
from sam3_widget.models.sam.video import SESSIONS
from sam3_widget.models.weights.checkpoint import Checkpoint
from sam3_widget.video.session import VideoSession
from tests.models.elsewhere import Elsewhere, remembered, to_elsewhere
from tests.models.tiny_family import GRID, SIDE, tiny_family

CLIPS = ["sam2.1_clip", "sam2_clip", "edgetam_clip"]
MEMORIES = ["sam2.1_clip", "edgetam_clip"]
"""Those whose memories differ most."""
needs_timm = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None,
    reason="EdgeTAM is loaded only where what its own encoder needs is installed: pip install timm torchvision",
)
SIZE = (200, 300)
LENGTH = 20
"""Frames of a clip; from sixteen on transformers' numbers do not depend on it."""
COFFEE = data.coffee()
FRAMES = [COFFEE[20 + 3 * k : 220 + 3 * k, 80 + 5 * k : 380 + 5 * k] for k in range(LENGTH)]
S = 4 * GRID
RECENT = 6
"""Frames, beside those that a person prompted, that a step attends to."""
VISIBLE = 2.0
"""What is added to the logit that an object is in view: random weights lose sight of everything."""


def click(*points, box=None):
    return InstancePrompts(
        np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        np.array([point[2] for point in points], np.bool_),
        None if box is None else np.array(box, np.float32),
    )


PROMPTS = {
    "point": click((120, 80, True)),
    "negative": click((120, 80, False)),
    "points": click((120, 80, True), (20.5, 133, False), (200, 110, True)),
    "box": click(box=(30, 40, 250, 130)),
    "box and points": click((120, 80, True), (60, 150, False), box=(30, 40, 250, 130)),
}
OTHER = click((220, 150, True), (40, 30, False))


def ellipse(x, y, size=SIZE):
    return cv2.ellipse(np.zeros(size, np.uint8), (x, y), (50, 30), 20, 0, 360, 1, -1) > 0


def weights(kind, sight=VISIBLE):
    """Return a model whose objects are in view, or with a negative ``sight`` are not."""
    model = tiny_family(kind, seed=0)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias += sight
    return model


@cache
def original(kind):
    """Return the model that the adapter is made of, untouched."""
    return weights(kind)


@cache
def shared(kind):
    return SamFamily(weights(kind), name=kind, device="cpu")


# What transformers does


class Reference:
    """A session of transformers over a whole clip."""

    def __init__(self, kind, frames=FRAMES):
        self.model = original(kind)
        session = getattr(transformers, SESSIONS[self.model.config.model_type])
        self.session = session(video=Preprocess(SIDE, MEAN, STD)(frames), dtype=torch.float32)
        self.ious = []

    def ask(self, object_id, frame_idx, prompts):
        """Give prompts as transformers' processor does, and return the logits that they make: (h, w)."""
        scale = torch.tensor([SIDE / SIZE[1], SIDE / SIZE[0]])
        points = torch.from_numpy(prompts.points)
        labels = torch.from_numpy(prompts.labels).int()
        if prompts.box is not None:
            points = torch.cat([torch.from_numpy(prompts.box).view(2, 2), points])
            labels = torch.cat([torch.tensor([2, 3], dtype=torch.int32), labels])
        inputs = {"point_coords": (points * scale - 0.5)[None, None], "point_labels": labels[None, None]}
        index = self.session.obj_id_to_idx(object_id)
        self.session.add_point_inputs(index, frame_idx, inputs)
        self.session.remove_mask_inputs(index, frame_idx)
        return self._answer(object_id, frame_idx)

    def show(self, object_id, frame_idx, mask):
        """Give a mask as transformers' processor does, and return the logits that it makes: (h, w)."""
        shown = functional.interpolate(
            torch.from_numpy(mask).float()[None, None], (SIDE, SIDE), mode="bilinear", antialias=True
        )
        self.session.add_mask_inputs(self.session.obj_id_to_idx(object_id), frame_idx, (shown >= 0.5).float())
        return self._answer(object_id, frame_idx)

    def _answer(self, object_id, frame_idx):
        self.session.obj_with_new_inputs = [object_id]
        output = self.model(self.session, frame_idx=frame_idx)
        return output.pred_masks[output.object_ids.index(object_id), 0].numpy()

    def propagate(self, start, stop=None, *, reverse=False):
        """Return logits and scores of each frame from ``start`` on, by object."""
        found = {}
        hook = self.model.mask_decoder.register_forward_hook(lambda _m, _a, made: self.ious.append(made[1].max()))
        stop = (0 if reverse else len(FRAMES) - 1) if stop is None else stop
        for output in self.model.propagate_in_video_iterator(
            self.session, start_frame_idx=start, max_frame_num_to_track=abs(stop - start), reverse=reverse
        ):
            ious, self.ious = self.ious, []
            scores = torch.sigmoid(output.object_score_logits.flatten()) * torch.stack(ious).clamp(0, 1)
            found[output.frame_idx] = {
                object_id: (output.pred_masks[row, 0].numpy(), float(scores[row]))
                for row, object_id in enumerate(output.object_ids)
            }
        hook.remove()
        return found


def seen(frame_idx, logits, prompts=None):
    """Return the sighting of an object where its logits, or its mask, are these."""
    mask = RunLengths.from_mask(logits) if logits.dtype == np.bool_ else compose(logits, SIZE)
    return Sighting(frame_idx, mask, prompts)


def tracker_of(kind, frames=FRAMES):
    return shared(kind).tracker(frames.__getitem__)


def walk(tracker, *frames):
    return {frame_idx: tracker.step(frame_idx) for frame_idx in frames}


def gap(tracked, logits):
    """Return how far logits are from transformers', in terms of how much those vary."""
    assert tracked.logits.shape == logits.shape
    return np.abs(tracked.logits - logits).max() / logits.std()


def assert_equal(found, expected, object_id=1, to=None):
    """Check logits and scores on every frame that was walked."""
    assert found
    for frame_idx, tracked in found.items():
        logits, score = expected[frame_idx][to or object_id]
        assert gap(tracked[object_id], logits) < 1e-4, (frame_idx, gap(tracked[object_id], logits))
        assert abs(tracked[object_id].score - score) < 1e-4
        assert logits.std() > 0.05


def corr(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


# As transformers, frame by frame


@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("what", PROMPTS)
def test_prompts_are_carried_as_transformers_does(kind, what):
    reference = Reference(kind)
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, reference.ask(1, 0, PROMPTS[what]), PROMPTS[what])])
    assert_equal(walk(tracker, *range(1, 5)), reference.propagate(1, 4))


@pytest.mark.parametrize("kind", CLIPS)
def test_a_whole_clip_is_carried_as_transformers_does(kind):
    reference = Reference(kind)
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])])
    assert_equal(walk(tracker, *range(1, LENGTH)), reference.propagate(1))


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_is_walked_backwards_as_transformers_does(kind):
    reference = Reference(kind)
    last = LENGTH - 1
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(last, reference.ask(1, last, PROMPTS["points"]), PROMPTS["points"])])
    expected = reference.propagate(last - 1, reverse=True)
    assert_equal(walk(tracker, *range(last - 1, -1, -1)), expected)


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("said", [click(), PROMPTS["point"]], ids=["painted", "another candidate"])
def test_a_mask_that_prompts_do_not_make_is_carried_as_a_mask(kind, said):
    reference = Reference(kind)
    reference.show(1, 0, ellipse(130, 90))
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, ellipse(130, 90), said)])
    assert_equal(walk(tracker, *range(1, 9)), reference.propagate(1, 8))


@pytest.mark.parametrize("kind", MEMORIES)
def test_an_object_that_nobody_prompted_starts_from_its_last_mask(kind):
    reference = Reference(kind)
    reference.show(1, 3, ellipse(130, 90))
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(3, ellipse(130, 90))])
    assert_equal(walk(tracker, *range(4, 9)), reference.propagate(4, 8))
    tracker.follow(2, [seen(7, ellipse(60, 60)), seen(8, ellipse(130, 90))])
    tracker.step(9)
    assert (list(tracker._memories[2]._conditioning), list(tracker._memories[2]._recent)) == ([8], [7, 9])


@pytest.mark.parametrize("kind", CLIPS)
def test_two_objects_are_carried_as_transformers_does(kind):
    reference = Reference(kind)
    tracker = tracker_of(kind)
    reference.ask(1, 0, PROMPTS["points"])
    for object_id, prompts in ((1, PROMPTS["points"]), (2, OTHER)):
        tracker.follow(object_id, [seen(0, reference.ask(object_id, 0, prompts), prompts)])
    found, expected = walk(tracker, *range(1, 9)), reference.propagate(1, 8)
    assert_equal(found, expected, 1)
    assert_equal(found, expected, 2)
    assert all(np.abs(both[1].logits - both[2].logits).max() > 0.01 for both in found.values())


@pytest.mark.parametrize("kind", CLIPS)
def test_an_object_that_starts_later_is_carried_as_transformers_does(kind):
    reference, alone = Reference(kind), Reference(kind)
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])])
    assert_equal(walk(tracker, *range(1, 5)), reference.propagate(1, 4))
    tracker.follow(2, [seen(4, reference.ask(2, 4, OTHER), OTHER)])
    found = walk(tracker, *range(5, 10))
    assert_equal(found, reference.propagate(5, 9), 2)
    alone.ask(1, 0, PROMPTS["points"])  # transformers hardens what it remembers of others where one is prompted
    assert_equal(found, alone.propagate(1, 9), 1)


@pytest.mark.parametrize("kind", CLIPS)
def test_prompts_on_two_frames_are_carried_as_transformers_does(kind):
    reference = Reference(kind)
    first = seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])
    second = seen(4, reference.ask(1, 4, OTHER), OTHER)
    tracker = tracker_of(kind)
    tracker.follow(1, [first, second])
    assert_equal(walk(tracker, *range(5, 10)), reference.propagate(5, 9))


def corrected(kind):
    """Return a reference and a tracker at frame 8 with what a person says there, and the object's sightings."""
    reference = Reference(kind)
    tracker = tracker_of(kind)
    sightings = [seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])]
    tracker.follow(1, sightings)
    sightings += [seen(k, step[1].logits) for k, step in walk(tracker, *range(1, 9)).items()]
    reference.propagate(1, 8)
    return reference, tracker, [sightings[0], *sightings[2:8], seen(8, reference.ask(1, 8, OTHER), OTHER)]


@pytest.mark.parametrize("kind", CLIPS)
def test_a_correction_on_the_way_is_carried_as_transformers_does(kind):
    reference, tracker, sightings = corrected(kind)
    tracker.follow(1, sightings)
    assert_equal(walk(tracker, *range(9, 9 + RECENT)), reference.propagate(9, 8 + RECENT))


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_correction_is_remembered_after_transformers_would_forget_it(kind):
    reference, tracker, sightings = corrected(kind)
    tracker.follow(1, sightings)
    walk(tracker, *range(9, 9 + RECENT))
    assert sorted(tracker._memories[1]._conditioning) == [0, 8]
    expected = reference.propagate(9)
    assert 8 not in reference.session.output_dict_per_obj[0]["cond_frame_outputs"]
    for frame_idx in range(9 + RECENT, LENGTH):
        assert corr(tracker.step(frame_idx)[1].logits, expected[frame_idx][1][0]) > 0.95


@pytest.mark.parametrize("kind", MEMORIES)
def test_what_is_remembered_shows(kind):
    walks = []
    for prompts in (PROMPTS["points"], OTHER):
        tracker = tracker_of(kind)
        tracker.follow(1, [seen(0, Reference(kind).ask(1, 0, prompts), prompts)])
        walks.append(walk(tracker, 1, 2, 3))
    for one, other in zip(*(found.values() for found in walks), strict=True):
        assert gap(one[1], other[1].logits) > 0.01


# Not as transformers, and how close


def carried(kind, *, stop=LENGTH - 1):
    """Return the sightings of an object that was carried to a frame without a break, and what it was carried by."""
    tracker = tracker_of(kind)
    sightings = [seen(0, Reference(kind).ask(1, 0, PROMPTS["points"]), PROMPTS["points"])]
    tracker.follow(1, sightings)
    found = walk(tracker, *range(1, stop + 1))
    return [*sightings, *(seen(k, step[1].logits) for k, step in found.items())], found


@pytest.mark.parametrize("kind", MEMORIES)
def test_an_object_taken_up_in_the_middle_goes_on_nearly_as_without_a_break(kind):
    sightings, unbroken = carried(kind)
    tracker = tracker_of(kind)
    tracker.follow(1, [sightings[0], *sightings[10 - tracker.memory : 10]])
    again = walk(tracker, *range(10, LENGTH))
    assert all(corr(step[1].logits, unbroken[k][1].logits) > 0.97 for k, step in again.items())
    assert max(gap(step[1], unbroken[k][1].logits) for k, step in again.items()) > 1e-3  # masks are not logits


@pytest.mark.parametrize("kind", MEMORIES)
def test_masks_of_frames_that_nobody_prompted_pass_as_those_of_transformers_do(kind):
    sightings, _ = carried(kind, stop=9)
    tracker = tracker_of(kind)
    tracker.follow(1, [sightings[0], *sightings[4:]])
    reference = Reference(kind)
    reference.ask(1, 0, PROMPTS["points"])
    for sighting in sightings[4:]:
        reference.session.frames_tracked_per_obj[0][sighting.frame_idx] = {"reverse": False}
        reference.show(1, sighting.frame_idx, sighting.mask.to_mask())
    assert_equal(walk(tracker, *range(10, LENGTH)), reference.propagate(10))


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_of_fewer_than_sixteen_frames_is_carried_nearly_as_transformers_does(kind):
    reference = Reference(kind, FRAMES[:8])
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, reference.ask(1, 0, PROMPTS["points"]), PROMPTS["points"])])
    expected = reference.propagate(1, 7)
    found = walk(tracker, *range(1, 8))
    assert all(corr(step[1].logits, expected[k][1][0]) > 0.98 for k, step in found.items())
    if kind == "sam2_clip":  # which does not tell how long ago it was
        assert_equal(found, expected)


def test_half_precision_is_about_the_same():
    model = SamFamily(weights("sam2.1_clip"), name="half", device="cpu", dtype="bfloat16")
    first = seen(0, Reference("sam2.1_clip").ask(1, 0, PROMPTS["points"]), PROMPTS["points"])
    walks = []
    for tracker in (model.tracker(FRAMES.__getitem__), tracker_of("sam2.1_clip")):
        tracker.follow(1, [first])
        walks.append(walk(tracker, 1, 2, 3, 4))
    for half, exact in zip(*(found.values() for found in walks), strict=True):
        assert corr(half[1].logits, exact[1].logits) > 0.9


# What is held


def held(owner, found):
    """Collect the memory of all tensors that an object keeps alive, each once, as bytes by address."""
    if isinstance(owner, torch.Tensor):
        found[owner.untyped_storage().data_ptr()] = owner.untyped_storage().nbytes()
    elif isinstance(owner, dict):
        for part in owner.values():
            held(part, found)
    elif isinstance(owner, list | tuple):
        for part in owner:
            held(part, found)
    elif isinstance(owner, torch.nn.Module | SamFamily) or not hasattr(owner, "__dict__"):
        return found
    else:
        held(vars(owner), found)
    return found


@pytest.mark.parametrize("kind", MEMORIES)
def test_memory_does_not_grow_with_the_steps(kind):
    there_and_back = [*range(LENGTH), *range(LENGTH - 2, 0, -1)]
    tracker = shared(kind).tracker(lambda k: FRAMES[there_and_back[k % len(there_and_back)]])
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"]), seen(3, ellipse(140, 95), OTHER)])
    tracker.follow(2, [seen(3, ellipse(60, 60))])
    sizes = {}
    for frame_idx in range(4, 61):
        tracker.step(frame_idx)
        sizes[frame_idx] = held(tracker, {})
    assert len(sizes[20]) == len(sizes[60]) > 0
    assert sum(sizes[20].values()) == sum(sizes[60].values())
    memory = tracker._memories[1]
    assert sorted(memory._conditioning) == [0, 3]
    assert sorted(memory._recent) == list(range(60 - 15, 61))
    assert sorted(k for k, kept in memory._recent.items() if "maskmem_features" in kept) == list(range(60 - RECENT, 61))
    assert len(memory._session.frames_tracked_per_obj[0]) == len(memory._recent)
    assert not memory._session.processed_frames


def test_positions_of_memories_are_held_once():
    tracker = tracker_of("sam2.1_clip")
    for object_id in (1, 2):
        tracker.follow(object_id, [seen(0, ellipse(130, 90))])
    walk(tracker, 1, 2)
    outputs = [
        kept for m in tracker._memories.values() for part in (m._recent, m._conditioning) for kept in part.values()
    ]
    assert len(outputs) == 6
    assert len({kept["maskmem_pos_enc"].data_ptr() for kept in outputs}) == 1


def test_every_frame_is_read_and_encoded_once_for_all_objects():
    model, read, passes = shared("sam2.1_clip"), [], []

    def frames(frame_idx):
        read.append(frame_idx)
        return FRAMES[frame_idx]

    hook = model._network.encoder.register_forward_hook(lambda *_: passes.append(1))
    tracker = model.tracker(frames)
    tracker.follow(1, [seen(0, ellipse(130, 90), OTHER), *(seen(k, ellipse(130, 90)) for k in (2, 3, 4))])
    tracker.follow(2, [seen(k, ellipse(60, 60)) for k in (3, 4)])
    assert read == []
    walk(tracker, 5, 6)
    tracker.follow(3, [seen(6, ellipse(200, 140))])
    walk(tracker, 7)
    hook.remove()
    assert read == [0, 2, 3, 4, 5, 6, 7]
    assert len(passes) == len(read)


# Memory in main memory


def eventful(tracker):
    """Yield what is carried where objects are taken up, corrected, changed and dropped."""
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"]), seen(3, ellipse(140, 95), OTHER)])
    tracker.follow(2, [seen(2, ellipse(60, 60)), seen(3, ellipse(62, 60))])
    sightings = [seen(0, ellipse(130, 90), PROMPTS["points"])]
    tracker.follow(3, sightings)
    for frame_idx in range(4, LENGTH):
        carried = tracker.step(frame_idx)
        sightings.append(seen(frame_idx, carried[3].logits))
        yield carried
        if frame_idx == 7:  # a correction on the way
            sightings[-1] = seen(7, ellipse(120, 90), OTHER)
            tracker.follow(3, sightings)
        if frame_idx == 10:  # the past changed: only what is said on the first frame is still true
            sightings = [sightings[0], *(seen(k, ellipse(100, 80)) for k in range(5, 11))]
            tracker.follow(3, sightings)
        if frame_idx == 12:
            tracker.drop(2)


@pytest.mark.parametrize("kind", CLIPS)
def test_offloaded_memory_lies_elsewhere_between_steps_and_carries_alike(kind, monkeypatch):
    monkeypatch.setattr("sam3_widget.models.sam.video.to_main_memory", to_elsewhere)
    expected = list(eventful(SamFamily(weights(kind), name=kind, device="cpu").tracker(FRAMES.__getitem__)))
    monkeypatch.setattr(Elsewhere, "fetched", 0)
    tracker = SamFamily(weights(kind), name=kind, device="cpu", offload_memory=True).tracker(FRAMES.__getitem__)
    for found, own in zip(eventful(tracker), expected, strict=True):
        parts = dict(remembered(tracker))
        assert [path for path, part in parts.items() if not isinstance(part, Elsewhere)] == []
        names = {path.rpartition(".")[2] for path in parts}
        assert names >= {"maskmem_features", "maskmem_pos_enc", "object_pointer", "pred_masks", "object_score_logits"}
        fetched, Elsewhere.fetched = Elsewhere.fetched, 0
        assert fetched >= 3 * len(found), "features, positions and pointer of a frame at least, for each object"
        assert found.keys() == own.keys()
        for object_id, tracked in found.items():
            np.testing.assert_array_equal(tracked.logits, own[object_id].logits)
            assert tracked.score == own[object_id].score


def test_memory_is_not_offloaded_unasked(monkeypatch):
    monkeypatch.setattr("sam3_widget.models.sam.video.to_main_memory", to_elsewhere)
    tracker = SamFamily(weights("sam2.1_clip"), name="near", device="cpu").tracker(FRAMES.__getitem__)
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
    walk(tracker, 1, 2)
    parts = [part for _, part in remembered(tracker)]
    assert parts
    assert not any(isinstance(part, Elsewhere) for part in parts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", MEMORIES)
def test_offloaded_memory_of_an_accelerator_lies_in_main_memory(kind):
    walks = []
    for offload in (False, True):
        model = SamFamily(weights(kind), name=kind, device="cuda", dtype="float32", offload_memory=offload)
        tracker = model.tracker(FRAMES.__getitem__)
        walks.append(list(eventful(tracker)))
        assert {part.device.type for _, part in remembered(tracker)} == {"cpu" if offload else "cuda"}
    for near, far in zip(*walks, strict=True):
        for object_id, tracked in near.items():
            np.testing.assert_array_equal(tracked.logits, far[object_id].logits)


def test_offloading_of_what_carries_nothing_raises():
    with pytest.raises(ModelError, match="'sam' carries nothing through a clip: no memory to offload"):
        SamFamily(tiny_family("sam"), name="sam", device="cpu", offload_memory=True)


# The contract


def test_model_says_that_it_carries_objects():
    model = shared("sam2.1_clip")
    assert model.capabilities == CAPABILITIES["sam2"]
    assert model.capabilities.video
    tracker = tracker_of("sam2.1_clip")
    assert (tracker.memory, tracker.local) == (RECENT, False)


@pytest.mark.parametrize("kind", ["sam", "sam_hq", "sam2"])
def test_image_model_carries_nothing(kind):
    model = SamFamily(tiny_family(kind), name=kind, device="cpu")
    assert not model.capabilities.video
    with pytest.raises(UnsupportedError, match=f"the model '{kind}' does not take video"):
        model.tracker(FRAMES.__getitem__)


@pytest.mark.parametrize(
    ("family", "model_type", "video"),
    [
        ("sam2", "sam2_video", True),
        ("sam2", "sam2", False),
        ("edgetam", "edgetam", False),
        ("sam3", "sam3_video", True),
        ("sam", "sam", False),
    ],
)
def test_list_models_says_what_a_checkpoint_carries(monkeypatch, tmp_path, family, model_type, video):
    monkeypatch.setattr(listing, "all_cached", lambda: {"someone/tuned": Checkpoint(tmp_path, model_type, 1)})
    [tuned] = [model for model in listing.describe() if model.name == "someone/tuned"]
    assert (tuned.family, tuned.capabilities.video, tuned.capabilities.points) == (family, video, True)


@pytest.mark.parametrize("kind", MEMORIES)
def test_step_answers_in_the_form_of_the_contract(kind):
    tracker = tracker_of(kind)
    for object_id, prompts in ((7, PROMPTS["box"]), (3, OTHER)):
        tracker.follow(object_id, [seen(0, ellipse(130, 90), prompts)])
    for found in walk(tracker, 1, 2, 3).values():
        assert found.keys() == {3, 7}
        for tracked in found.values():
            assert isinstance(tracked, Tracked)
            assert (tracked.logits.shape, tracked.logits.dtype) == ((S, S), np.float32)
            assert tracked.logits.flags.c_contiguous
            assert np.isfinite(tracked.logits).all()
            assert isinstance(tracked.score, float)
            assert 0 < tracked.score <= 1
            assert (tracked.logits > 0).any()
            assert compose(tracked.logits, SIZE).area > 0


@pytest.mark.parametrize("kind", MEMORIES)
def test_object_out_of_view_has_neither_mask_nor_score(kind):
    model = SamFamily(weights(kind, sight=-20.0), name=kind, device="cpu")
    tracker = model.tracker(FRAMES.__getitem__)
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
    for found in walk(tracker, 1, 2, 3).values():
        assert found[1].score == 0
        assert (found[1].logits < 0).all()
        assert np.isfinite(found[1].logits).all()


@pytest.mark.parametrize("kind", MEMORIES)
def test_object_may_be_out_of_view_where_it_is_taken_up(kind):
    nowhere = np.zeros(SIZE, np.bool_)
    tracker = tracker_of(kind)
    tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["box"]), seen(1, nowhere), seen(2, nowhere, click())])
    tracker.follow(2, [seen(2, nowhere)])
    for found in walk(tracker, 3, 4).values():
        assert np.isfinite([found[object_id].logits for object_id in (1, 2)]).all()


def test_step_without_objects_reads_nothing():
    def frames(frame_idx):
        raise AssertionError(frame_idx)

    tracker = shared("sam2.1_clip").tracker(frames)
    assert tracker.step(4) == {}
    tracker.follow(1, [seen(4, ellipse(130, 90))])
    tracker.drop(1)
    assert tracker.step(5) == {}


@pytest.mark.parametrize("kind", MEMORIES)
def test_objects_do_not_disturb_each_other(kind):
    alone, both = tracker_of(kind), tracker_of(kind)
    for tracker in (alone, both):
        tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
    both.follow(2, [seen(0, ellipse(60, 60), OTHER)])
    both.follow(3, [seen(0, ellipse(200, 140))])
    for frame_idx in range(1, 7):
        if frame_idx == 3:
            both.drop(2)
        if frame_idx == 5:
            both.follow(4, [seen(4, ellipse(200, 40), OTHER)])
        single, together = alone.step(frame_idx)[1], both.step(frame_idx)
        assert together.keys() == {1, 3} | ({2} if frame_idx < 3 else {4} if frame_idx >= 5 else set())
        np.testing.assert_array_equal(together[1].logits, single.logits)
        assert together[1].score == single.score


@pytest.mark.parametrize("kind", MEMORIES)
def test_the_same_walk_has_the_same_answers(kind):
    walks = []
    for _ in range(2):
        tracker = tracker_of(kind)
        tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["box"]), seen(1, ellipse(131, 90))])
        walks.append(walk(tracker, 2, 3, 4))
    for one, other in zip(*(found.values() for found in walks), strict=True):
        np.testing.assert_array_equal(one[1].logits, other[1].logits)
        one[1].logits[:] = 0  # what was given away is not what is remembered


def test_follow_with_nothing_new_changes_nothing():
    sightings, unbroken = carried("sam2.1_clip", stop=9)
    tracker = tracker_of("sam2.1_clip")
    tracker.follow(1, sightings[:1])
    walk(tracker, *range(1, 8))
    tracker.follow(1, [sightings[0], *sightings[2:8]])
    for frame_idx in (8, 9):
        np.testing.assert_array_equal(tracker.step(frame_idx)[1].logits, unbroken[frame_idx][1].logits)


@pytest.mark.parametrize("changed", ["an earlier mask", "an earlier prompt", "a prompt fewer", "a frame fewer"])
def test_follow_where_the_past_has_changed_starts_anew(changed):
    sightings, _ = carried("sam2.1_clip", stop=7)
    second = seen(0, ellipse(130, 90), OTHER)
    told = [sightings[0], *sightings[2:]]
    if changed == "a prompt fewer":
        told[-1] = seen(7, ellipse(130, 90), OTHER)
    anew = {
        "an earlier mask": [*told[:3], seen(4, ellipse(60, 60)), *told[4:]],
        "an earlier prompt": [second, *told[1:]],
        "a prompt fewer": [sightings[0], *sightings[2:]],
        "a frame fewer": [*told[:3], *told[4:]],
    }[changed]
    walked, fresh = tracker_of("sam2.1_clip"), tracker_of("sam2.1_clip")
    walked.follow(1, sightings[:1])
    walk(walked, *range(1, 8))
    walked.follow(1, told)
    if changed == "a prompt fewer":
        walked._catch_up(reverse=False)
    for tracker in (walked, fresh):
        tracker.follow(1, anew)
    np.testing.assert_array_equal(walked.step(8)[1].logits, fresh.step(8)[1].logits)


def streamed(gone):
    """Return frames of which those before a moving point are gone; the list holds that point."""

    def frames(frame_idx):
        if frame_idx < gone[0]:
            message = f"frame {frame_idx} is no longer held"
            raise InvalidVideoError(message)
        return FRAMES[frame_idx]

    return frames


def test_follow_in_a_stream_needs_no_frame_that_is_gone(caplog):
    gone = [0]
    tracker, unbroken = shared("sam2.1_clip").tracker(streamed(gone)), tracker_of("sam2.1_clip")
    first = seen(0, ellipse(130, 90), PROMPTS["points"])
    for each in (tracker, unbroken):
        each.follow(1, [first])
    found = walk(tracker, *range(1, 10))
    walk(unbroken, *range(1, 10))
    gone[0] = 3
    others = [seen(k, found[k][1].logits) for k in range(3, 10)]
    for said in (OTHER, None):  # a correction on the way, and its undoing
        sightings = [first, *(others[:-1] if said else others[1:-1]), seen(9, others[-1].mask.to_mask(), said)]
        for each in (tracker, unbroken):
            each.follow(1, sightings)
            each._catch_up(reverse=False)
    np.testing.assert_array_equal(tracker.step(10)[1].logits, unbroken.step(10)[1].logits)
    assert sorted(tracker._memories[1]._conditioning) == [0]
    assert caplog.text == ""


def test_follow_from_a_stream_does_without_frames_that_are_gone(caplog):
    tracker, fresh = shared("sam2.1_clip").tracker(streamed([3])), tracker_of("sam2.1_clip")
    late = [seen(3, ellipse(130, 90)), seen(4, ellipse(130, 90))]
    tracker.follow(1, [seen(0, ellipse(60, 60), OTHER), *late])
    fresh.follow(1, late)
    np.testing.assert_array_equal(tracker.step(5)[1].logits, fresh.step(5)[1].logits)
    assert "followed without what is known on a frame: frame 0 is no longer held" in caplog.text
    tracker.follow(2, [seen(2, ellipse(60, 60), OTHER)])
    with pytest.raises(InvalidVideoError, match="frame 2 is no longer held"):
        tracker._catch_up(reverse=False)


@pytest.mark.parametrize("indices", [[], [3, 3], [1, 4, 2]])
def test_follow_without_an_order_raises(indices):
    tracker = tracker_of("sam2.1_clip")
    with pytest.raises(ValueError, match=r"one or more frames in the order of the walk, got frames \["):
        tracker.follow(1, [seen(k, ellipse(130, 90)) for k in indices])


def test_step_in_another_direction_raises():
    tracker = tracker_of("sam2.1_clip")
    tracker.follow(1, [seen(4, ellipse(130, 90))])
    with pytest.raises(ValueError, match=r"a step must go on from frame \[4\] in the direction of the walk, got 4"):
        tracker.step(4)
    tracker.step(5)
    with pytest.raises(ValueError, match=r"a step must go on from frame \[5\] in the direction of the walk, got 4"):
        tracker.step(4)
    tracker.drop(1)
    tracker.follow(1, [seen(4, ellipse(130, 90))])
    assert tracker.step(3).keys() == {1}


def test_drop_of_what_is_not_followed_raises():
    tracker = tracker_of("sam2.1_clip")
    tracker.follow(2, [seen(4, ellipse(130, 90))])
    with pytest.raises(NotFoundError, match=r"object 5 is not followed; followed: \[2\]"):
        tracker.drop(5)
    tracker.drop(2)
    with pytest.raises(NotFoundError, match="object 2 is not followed; followed: none"):
        tracker.drop(2)


def test_mask_of_another_size_raises():
    tracker = tracker_of("sam2.1_clip")
    tracker.follow(1, [seen(0, ellipse(30, 30, (100, 120)))])
    with pytest.raises(ValueError, match="the mask on frame 0 must be of the frame's size, 200 x 300, got 100 x 120"):
        tracker.step(1)


# In a session


@pytest.mark.parametrize("kind", MEMORIES)
def test_session_propagates_as_transformers_does(kind):
    reference = Reference(kind)
    first = compose(reference.ask(1, 0, PROMPTS["box"]), SIZE)
    video = VideoSession(np.stack(FRAMES), SamFamily(weights(kind), name=kind, device="cpu"))
    found = video.add_box((30, 40, 250, 130), frame_idx=0)
    np.testing.assert_array_equal(found.mask, first.to_mask())
    video.propagate(stop=7)
    expected = reference.propagate(1, 6)
    for frame_idx in range(1, 7):
        logits, score = expected[frame_idx][1]
        np.testing.assert_array_equal(video.masks[frame_idx][found.object_id], compose(logits, SIZE).to_mask())
        assert abs(video.scores[frame_idx][found.object_id] - score) < 1e-4
    video.add_point(220, 150, object_id=found.object_id, frame_idx=4)
    video.propagate(stop=9)
    assert set(video.masks) == set(range(9))


# One set of weights


@pytest.mark.parametrize("kind", MEMORIES)
def test_weights_serve_images_and_clips_at_once(kind):
    model = weights(kind)
    size = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
    family = SamFamily(model, name=kind, device="cpu")
    found = {}
    for network in (family._network._model, family._video._model):
        found |= {parameter.data_ptr(): parameter.nbytes for parameter in network.parameters()}
    assert found == size
    assert not any(part.is_meta for part in (*family._network._model.parameters(), *family._network._model.buffers()))


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_image_is_refined_as_by_the_image_model(prompts):
    model = original("sam2.1_clip")
    stated = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
    image_model = transformers.Sam2Model(transformers.Sam2Config.from_dict(stated))
    image_model.load_state_dict({key: model.state_dict()[key] for key in image_model.state_dict()})
    families = [SamFamily(image_model, name="image", device="cpu"), shared("sam2.1_clip")]
    one, other = (family.refine(family.encode(FRAMES[0]), prompts) for family in families)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_refined_mask_is_carried_by_its_prompts(monkeypatch):
    model = shared("sam2.1_clip")
    embedding = model.encode(FRAMES[0])
    tracker = tracker_of("sam2.1_clip")
    for object_id, prompts in enumerate(PROMPTS.values()):
        tracker.follow(object_id, [seen(0, model.refine(embedding, prompts).logits[0], prompts)])
    shown = []
    monkeypatch.setattr("sam3_widget.models.sam.memory.ObjectMemory._show", lambda *_, **__: shown.append(1))
    tracker.step(1)
    assert shown == []


@pytest.mark.parametrize("kind", ["sam2.1_clip", pytest.param("edgetam_clip", marks=needs_timm)])
def test_from_folder_loads_what_carries(kind, tmp_path, caplog):
    weights(kind).save_pretrained(tmp_path)
    model = SamFamily.from_folder(tmp_path, name="mine", device="cpu")
    assert "instantiate a model of type" not in caplog.text
    assert model.capabilities.video
    walks = []
    for tracker in (model.tracker(FRAMES.__getitem__), tracker_of(kind)):
        tracker.follow(1, [seen(0, ellipse(130, 90), PROMPTS["points"])])
        walks.append(walk(tracker, 1, 2))
    for one, other in zip(*(found.values() for found in walks), strict=True):
        np.testing.assert_allclose(one[1].logits, other[1].logits, atol=1e-3)
