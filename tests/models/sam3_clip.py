"""SAM 3 with random weights on a clip, and transformers' own session to compare it with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from unittest.mock import patch

import cv2
import numpy as np
import torch
from skimage import data
from skimage.measure import label
from torch.nn import functional
from transformers import Sam3TrackerVideoInferenceSession, Sam3VideoInferenceSession
from transformers.models.sam3_video import modeling_sam3_video as modeling

from sam3_widget.core.masks import compose
from sam3_widget.core.runs import RunLengths
from sam3_widget.models.base import InstancePrompts, Sighting
from sam3_widget.models.sam.preprocess import Preprocess
from sam3_widget.models.sam3.model import Sam3
from tests.models import tiny
from tests.models.tiny import PATCH, SIDE, tiny_tokenizer

WIDE = 128
"""Features of everything but the encoder: transformers fixes those of a memory at 64, half of them."""
SIZE = (200, 300)
LENGTH = 20
"""Frames of a clip; from sixteen on transformers' numbers do not depend on it."""
COFFEE = data.coffee()
FRAMES = [COFFEE[20 + 3 * k : 220 + 3 * k, 80 + 5 * k : 380 + 5 * k] for k in range(LENGTH)]
S = 4 * SIDE // PATCH
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


def weights(sight=VISIBLE):
    """Return a model whose objects are in view, or with a negative ``sight`` are not."""
    with patch.object(tiny, "WIDTH", WIDE):
        model = tiny.tiny_sam3()
    tracker = model.tracker_model
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias += sight
        for name, parameter in tracker.memory_attention.named_parameters():
            if "q_proj" in name or "k_proj" in name:  # attention that is soft enough not to blow up rounding
                parameter.mul_(0.4)
    return model


@cache
def original():
    """Return the model that the adapter is made of, untouched."""
    return weights()


def new(model=None, **settings):
    return Sam3(weights() if model is None else model, tiny_tokenizer(), device="cpu", **settings)


@cache
def shared():
    return new()


@cache
@torch.no_grad()
def features(frame_idx):
    """Return what transformers makes of a frame for the tracker."""
    model = original()
    levels, positions = model.get_vision_features_for_tracker(
        model.detector_model.get_vision_features(Preprocess(SIDE)([FRAMES[frame_idx]]))
    )
    return {"vision_feats": levels, "vision_pos_embeds": positions}


def points_of(prompts, scale):
    """Return prompts as transformers' processor gives them to a session."""
    points, labels = torch.from_numpy(prompts.points), torch.from_numpy(prompts.labels).int()
    if prompts.box is not None:
        points = torch.cat([torch.from_numpy(prompts.box).view(2, 2), points])
        labels = torch.cat([torch.tensor([2, 3], dtype=torch.int32), labels])
    return {"point_coords": (points * torch.tensor(scale) - 0.5)[None, None], "point_labels": labels[None, None]}


SCALE = (SIDE / SIZE[1], SIDE / SIZE[0])


class Clicked:
    """A session of transformers' tracker over a whole clip."""

    def __init__(self):
        self.model = original().tracker_model
        self.session = Sam3TrackerVideoInferenceSession(video=Preprocess(SIDE)(FRAMES), dtype=torch.float32)
        self.ious = []

    def ask(self, object_id, frame_idx, prompts):
        """Give prompts, and return the logits that they make: (h, w)."""
        index = self.session.obj_id_to_idx(object_id)
        self.session.add_point_inputs(index, frame_idx, points_of(prompts, SCALE))
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
        self.session.cache.cache_vision_features(frame_idx, features(frame_idx))
        output = self.model(self.session, frame_idx=frame_idx)
        return output.pred_masks[output.object_ids.index(object_id), 0].numpy()

    def propagate(self, start, stop, *, reverse=False):
        """Return logits and scores of the frames from ``start`` to ``stop``, by object."""
        found = {}
        hook = self.model.mask_decoder.register_forward_hook(lambda _m, _a, made: self.ious.append(made[1].max()))
        for frame_idx in range(start, stop - 1, -1) if reverse else range(start, stop + 1):
            self.session.cache.cache_vision_features(frame_idx, features(frame_idx))
            output = self.model(self.session, frame_idx=frame_idx, reverse=reverse)
            ious, self.ious = self.ious, []
            scores = torch.sigmoid(output.object_score_logits.flatten()) * torch.stack(ious).clamp(0, 1)
            found[frame_idx] = {
                object_id: (output.pred_masks[row, 0].numpy(), float(scores[row]))
                for row, object_id in enumerate(output.object_ids)
            }
        hook.remove()
        return found


def seen(frame_idx, logits, prompts=None):
    """Return the sighting of an object where its logits, or its mask, are these."""
    mask = RunLengths.from_mask(logits) if logits.dtype == np.bool_ else compose(logits, SIZE)
    return Sighting(frame_idx, mask, prompts)


def walk(tracker, *frames):
    return {frame_idx: tracker.step(frame_idx) for frame_idx in frames}


def gap(tracked, logits):
    """Return how far logits are from transformers', in terms of how much those vary."""
    assert tracked.logits.shape == logits.shape
    return np.abs(tracked.logits - logits).max() / logits.std()


def assert_equal(found, expected, object_id=1):
    """Check logits and scores on every frame that was walked."""
    assert found
    for frame_idx, tracked in found.items():
        logits, score = expected[frame_idx][object_id]
        assert logits.std() > 0.05
        assert gap(tracked[object_id], logits) < 1e-4, (frame_idx, gap(tracked[object_id], logits))
        assert abs(tracked[object_id].score - score) < 1e-4


def corr(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


# Text


@cache
@torch.no_grad()
def _scatter():
    """Return what brings the scores of a phrase on these frames to scatter around 0.5: a factor, and a shift."""
    model = weights()
    scoring = model.detector_model.dot_product_scoring
    scoring.clamp_logits = False
    tokens = tiny_tokenizer()("cup", padding="max_length", max_length=32, return_tensors="pt")
    texts = []
    hook = scoring.text_proj.register_forward_hook(lambda _m, _i, made: texts.append(made[0]))
    pixels = Preprocess(SIDE)(FRAMES[::6])
    tokens = {name: part.expand(len(pixels), -1) for name, part in tokens.items()}
    logits = model.detector_model(pixel_values=pixels, **tokens).pred_logits
    hook.remove()
    factor = 2 / logits.std()
    text = texts[0]
    return factor, text * (logits.mean() * factor - 0.5) / (text.square().sum() * scoring.scale)


def reading(**settings):
    """Return a model that finds something of what is asked for, with these settings of the rules."""
    model = weights()
    factor, shift = _scatter()
    projection = model.detector_model.dot_product_scoring.query_proj
    with torch.no_grad():
        projection.weight *= factor
        projection.bias *= factor
        projection.bias -= shift
    for name, value in settings.items():
        assert hasattr(model, name)
        setattr(model, name, value)
    return model


class Scene:
    """What a detector is made to see: discs, on the frames on which they are there, whoever asks for them.

    Parameters
    ----------
    discs : sequence of (phrase, frames, (x, y), (dx, dy), radius, score)
        In pixels of the masks that the model makes; they move.
    """

    def __init__(self, *discs):
        self.discs = discs
        self.frame_idx = 0

    def watched(self, model):
        """Let a model's detector see nothing else."""
        phrases = {}
        for phrase in {disc[0] for disc in self.discs}:
            tokens = tiny_tokenizer()(phrase, padding="max_length", max_length=32, return_tensors="pt")
            phrases[phrase] = int(tokens["attention_mask"].sum())

        def see(_module, _args, given, output):
            length = int(given["attention_mask"].sum())
            output.pred_masks = torch.full_like(output.pred_masks, -6.0)
            output.pred_logits = torch.full_like(output.pred_logits, -20.0)
            output.presence_logits = torch.full_like(output.presence_logits, 20.0)
            rows, columns = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
            place = 0
            for phrase, frames, middle, speed, radius, score in self.discs:
                if phrases[phrase] != length or self.frame_idx not in frames:
                    continue
                x, y = (start + step * self.frame_idx for start, step in zip(middle, speed, strict=True))
                distance = ((rows - y) ** 2 + (columns - x) ** 2) ** 0.5
                output.pred_masks[0, place] = (radius - distance).clamp(-6, 6)
                output.pred_logits[0, place] = torch.logit(torch.tensor(score))
                place += 1
            return output

        model.detector_model.register_forward_hook(see, with_kwargs=True)
        return model

    def frames(self, frame_idx):
        self.frame_idx = frame_idx
        return FRAMES[frame_idx]


def _labelled(mask):
    labels = label(mask.numpy()[0], connectivity=2)
    return torch.from_numpy(labels)[None], torch.from_numpy(np.bincount(labels.ravel())[labels] * (labels > 0))[None]


def _nms(ious, scores, most, **_):
    kept = []
    for k in torch.argsort(scores, descending=True).tolist():
        if all(ious[k, other] <= most for other in kept):
            kept.append(k)
    return torch.tensor(kept, dtype=torch.int64)


def _parts(masks, **_):
    labels, counts = zip(*map(_labelled, masks), strict=True)
    return torch.stack(labels), torch.stack(counts).int()


KERNEL = SimpleNamespace(generic_nms=_nms, cc_2d=_parts)
"""What stands for the compiled kernel of transformers."""


class Asked:
    """A session of transformers' ``Sam3VideoModel`` over a whole clip."""

    def __init__(self, model, *phrases, scene=None):
        self.model, self.scene = model, scene
        self.session = Sam3VideoInferenceSession(video=Preprocess(SIDE)(FRAMES), dtype=torch.float32)
        self.session.obj_with_new_inputs = []
        for phrase in phrases:  # as transformers' processor does
            number = self.session.add_prompt(phrase)
            tokens = tiny_tokenizer()(phrase, return_tensors="pt", padding="max_length", max_length=32)
            self.session.prompt_input_ids[number] = tokens["input_ids"]
            self.session.prompt_attention_masks[number] = tokens["attention_mask"]

    def walk(self, frames):
        """Return what there is on each frame, walked in this order."""
        return {frame_idx: self._step(frame_idx, reverse=frames[0] > frames[-1]) for frame_idx in frames}

    def _step(self, frame_idx, *, reverse):
        if self.scene:
            self.scene.frame_idx = frame_idx
        before, made = list(self.session.obj_ids), []
        propagate = self.model.run_tracker_propagation

        def noted(*args, **given):
            made.append(propagate(*args, **given))
            return made[0]

        with (
            patch.object(modeling, "cv_utils_kernel", KERNEL),
            patch.object(self.model, "run_tracker_propagation", noted),
        ):
            output = self.model(self.session, frame_idx=frame_idx, reverse=reverse)
        masks = {object_id: mask[0] for object_id, mask in output.obj_id_to_mask.items()}
        gone = set(before) - set(output.object_ids)
        if gone:  # where one goes, transformers shows the others under each other's names
            masks |= dict(zip(before, made[0][0], strict=True))
        masks |= {k: masks[k].clamp(max=-10) for k in output.suppressed_obj_ids if k in masks}
        ids = sorted(masks.keys() - gone)
        surely = output.obj_id_to_tracker_score
        if gone:
            told = dict(zip(before, made[0][1].sigmoid().tolist(), strict=True))
            surely = {**output.obj_id_to_score, **told}
        scores = torch.tensor([surely[object_id] for object_id in ids])
        return Seen(ids, [masks[k] for k in ids], scores, [self.session.obj_id_to_prompt_id[k] for k in ids], gone)


@dataclass
class Seen:
    """What transformers makes of a frame.

    Attributes
    ----------
    ids : list of int
    masks : list of (h, w) tensors
        Logits, before overlaps are resolved.
    scores : (N,) tensor
    owners : list of int
        Which phrase each was found by.
    gone : set of int
        Those that were given up.
    """

    ids: list[int]
    masks: list[torch.Tensor]
    scores: torch.Tensor
    owners: list[int]
    gone: set[int]

    @property
    def shown(self):
        """What transformers' processor would show: (h, w) bool by object, each pixel of a phrase the surest one's."""
        shown = {object_id: (mask > 0).numpy() for object_id, mask in zip(self.ids, self.masks, strict=True)}
        for row, column in np.ndindex(S, S):
            for owner in set(self.owners):
                claims = [
                    (float(score), -object_id)
                    for object_id, score, own in zip(self.ids, self.scores, self.owners, strict=True)
                    if own == owner and shown[object_id][row, column]
                ]
                for _, object_id in sorted(claims)[:-1]:
                    shown[-object_id][row, column] = False
        return shown
