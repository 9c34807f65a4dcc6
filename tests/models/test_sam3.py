"""SAM 3 on one shared encoder answers as transformers' separate models do, tensor by tensor, at random weights."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from sam3_widget.errors import CancelledError, InvalidPromptError
from tests.models.reference import fake_torchvision
from tests.models.sam3_setup import (
    CHELSEA,
    CLOSE,
    COFFEE,
    CONCEPTS,
    QUESTIONS,
    clicking,
    coffee,
    new,
    original,
    pixels,
    shared,
)
from tests.models.scenes import concept, prompts
from tests.models.tiny import SIDE, tiny_tokenizer

# What the encoder and both necks make of an image


@torch.no_grad()
def test_encode_equals_the_encoder_of_transformers():
    expected = original().detector_model.get_vision_features(pixels())
    torch.testing.assert_close(coffee().encoded[None], expected.last_hidden_state, **CLOSE)
    assert (coffee().height, coffee().width) == COFFEE.shape[:2]


@torch.no_grad()
def test_detector_maps_equal_those_of_transformers():
    expected = original().detector_model.get_vision_features(pixels())
    maps = coffee().maps("detector", shared()._detector.maps)
    assert len(maps) == 3
    for ours, theirs in zip(maps, expected.fpn_hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    vision = shared()._detector._vision([maps])
    torch.testing.assert_close(vision.fpn_position_encoding[0], expected.fpn_position_encoding[-2], **CLOSE)


@torch.no_grad()
def test_tracker_maps_equal_those_of_transformers():
    model = original()
    levels, _ = model.get_vision_features_for_tracker(model.detector_model.get_vision_features(pixels()))
    levels[-1] = levels[-1] + model.tracker_model.no_memory_embedding
    maps = coffee().maps("tracker", shared()._tracker.maps)
    for ours, theirs in zip(maps, levels, strict=True):
        torch.testing.assert_close(ours.flatten(2).permute(2, 0, 1), theirs, **CLOSE)


def test_encode_many_equals_encode_of_each():
    together = shared().encode_many([COFFEE, CHELSEA])
    for image, embedding in zip((COFFEE, CHELSEA), together, strict=True):
        torch.testing.assert_close(embedding.encoded, shared().encode(image).encoded, **CLOSE)
        assert (embedding.height, embedding.width) == image.shape[:2]
        assert embedding.encoded.untyped_storage().nbytes() == embedding.nbytes


def test_trim_gives_back_what_can_be_made_again():
    model, embedding = shared(), shared().encode(CHELSEA)
    start = embedding.nbytes
    first = model.refine(embedding, prompts((50, 60, True)))
    clicked = embedding.nbytes
    model.detect(embedding, concept("cat"))
    assert embedding.nbytes > clicked > start == embedding.encoded.nbytes
    embedding.trim()
    assert embedding.nbytes == start
    np.testing.assert_array_equal(model.refine(embedding, prompts((50, 60, True))).logits, first.logits)
    assert embedding.nbytes == clicked


# Clicks


@torch.no_grad()
def clicked(asked, previous=None, image=COFFEE):
    """Return what ``Sam3TrackerModel`` answers, in the order of its own scores."""
    scale = np.array([SIDE / image.shape[1], SIDE / image.shape[0]], np.float32)
    given = {}
    if len(asked.points):
        given["input_points"] = torch.from_numpy(asked.points * scale - 0.5)[None, None]
        given["input_labels"] = torch.from_numpy(asked.labels.astype(np.int64))[None, None]
    if asked.box is not None:
        given["input_boxes"] = torch.from_numpy(asked.box * np.tile(scale, 2) - 0.5)[None, None]
    if previous is not None:
        given["input_masks"] = torch.from_numpy(previous.clip(-32, 32))[None, None]
    several = asked.ambiguous and previous is None
    output = clicking()(pixel_values=pixels(image), multimask_output=several, **given)
    order = output.iou_scores[0, 0].argsort(descending=True)
    return output.pred_masks[0, 0, order].numpy(), output.iou_scores[0, 0, order].numpy()


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_refine_equals_the_tracker_of_transformers(question):
    logits, scores = clicked(*question)
    answer = shared().refine(coffee(), *question)
    assert len(scores) == (3 if question[0].ambiguous and question[1] is None else 1)
    assert logits.std() > 0.3
    np.testing.assert_allclose(answer.logits, logits, **CLOSE)
    np.testing.assert_allclose(answer.scores, scores, **CLOSE)
    assert answer.logits.dtype == answer.scores.dtype == np.float32


@pytest.mark.parametrize("count", [16, 17, 40])
def test_refine_many_points_takes_the_first_and_the_last_eight(count):
    rng = np.random.default_rng(count)
    points = [(rng.uniform(0, 600), rng.uniform(0, 400), bool(rng.integers(2))) for _ in range(count)]
    assert shared().max_points == 16
    logits, _ = clicked(prompts(*points[:8], *points[-8:]))
    np.testing.assert_allclose(shared().refine(coffee(), prompts(*points)).logits, logits, **CLOSE)


@pytest.mark.parametrize(("batch", "count"), [(1, 12), (16, 100)])
def test_refine_many_of_all_kinds_equals_refine_of_each(batch, count):
    model = new()
    model.batch = batch
    embedding = model.encode(COFFEE)
    kinds = list(QUESTIONS.values())
    alone = [shared().refine(coffee(), *question) for question in kinds]
    chosen = np.random.default_rng(0).integers(0, len(kinds), count)
    sizes = []
    hook = model._tracker._model.mask_decoder.register_forward_hook(lambda *args: sizes.append(len(args[-1][0])))
    answers = model.refine_many(embedding, [kinds[index] for index in chosen])
    hook.remove()
    assert len(answers) == sum(sizes) == count
    assert max(sizes) <= batch
    assert batch == 1 or len(sizes) < count / 4
    for index, answer in zip(chosen, answers, strict=True):
        np.testing.assert_allclose(answer.logits, alone[index].logits, **CLOSE)
        np.testing.assert_allclose(answer.scores, alone[index].scores, **CLOSE)


def test_refine_many_of_none_is_empty():
    assert shared().refine_many(coffee(), []) == []


# Concepts


@torch.no_grad()
def detected(image, asked):
    """Return what ``Sam3Model`` answers, through its own encoder, tokens and boxes."""
    height, width = image.shape[:2]
    tokens = tiny_tokenizer()(asked.text or "visual", padding="max_length", max_length=32, return_tensors="pt")
    boxes = {}
    if len(asked.boxes):
        x1, y1, x2, y2 = (asked.boxes / np.array([width, height, width, height], np.float32)).T
        centred = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
        boxes = {
            "input_boxes": torch.from_numpy(centred)[None],
            "input_boxes_labels": torch.from_numpy(asked.labels.astype(np.int64))[None],
        }
    return original().detector_model(pixel_values=pixels(image), **tokens, **boxes)


def assert_detected(answer, expected, image):
    height, width = image.shape[:2]
    presence = expected.presence_logits.sigmoid().item()
    scores = (expected.pred_logits[0].sigmoid() * presence).numpy()
    order = np.argsort(-scores, kind="stable")
    assert len(order) == len(answer.scores) == 12
    assert answer.presence == pytest.approx(presence, abs=1e-5)
    np.testing.assert_allclose(answer.scores, scores[order], **CLOSE)
    np.testing.assert_allclose(answer.logits, expected.pred_masks[0, order], atol=3e-4, rtol=1e-4)
    np.testing.assert_allclose(answer.semantic, expected.semantic_seg[0, 0], atol=3e-4, rtol=1e-4)
    boxes = expected.pred_boxes[0, order].clamp(0, 1).numpy() * np.array([width, height, width, height])
    np.testing.assert_allclose(answer.boxes, boxes, atol=0.02)
    assert answer.logits.dtype == answer.scores.dtype == answer.boxes.dtype == answer.semantic.dtype == np.float32


@pytest.fixture
def geometry(monkeypatch):
    """Let transformers' geometry encoder find a torchvision."""
    # By its name: as an attribute of its package it may be a stand-in that asks for torchvision.
    module = import_module("transformers.models.sam3.modeling_sam3")
    monkeypatch.setattr(module, "torchvision", fake_torchvision(), raising=False)


@pytest.mark.usefixtures("geometry")
@pytest.mark.parametrize("asked", CONCEPTS.values(), ids=CONCEPTS)
def test_detect_equals_the_detector_of_transformers(asked):
    answer = shared().detect(coffee(), asked)
    assert answer.logits.std() > 1
    assert answer.scores.std() > 1e-3
    assert_detected(answer, detected(COFFEE, asked), COFFEE)


@pytest.mark.usefixtures("geometry")
def test_detect_many_of_all_kinds_equals_each_alone():
    model, asked = shared(), list(CONCEPTS.values())
    images = [COFFEE, CHELSEA] * 3
    runs = []
    hook = model._detector._model.register_forward_hook(lambda *_: runs.append(1))
    answers = model.detect_many([model.encode(image) for image in images], asked)
    hook.remove()
    assert len(runs) == 1
    for image, one, answer in zip(images, asked, answers, strict=True):
        assert_detected(answer, detected(image, one), image)


def test_detect_finds_something():
    answer = shared().detect(coffee(), concept("a white plate"))
    assert np.count_nonzero(answer.scores > 0.5) > 1
    assert ((answer.logits > 0).mean((1, 2)) > 0.1).all()


def test_detect_reports_progress_up_to_one():
    fractions = []
    shared().detect(coffee(), concept("cup"), fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) == 5
    assert fractions[-1] == 1


def test_detect_cancelled_leaves_the_model_as_it_was():
    expected = shared().detect(coffee(), concept("cup"))

    def cancel(fraction):
        if fraction > 0.5:
            raise CancelledError

    with pytest.raises(CancelledError):
        shared().detect(coffee(), concept("plate"), cancel)
    np.testing.assert_array_equal(shared().detect(coffee(), concept("cup")).logits, expected.logits)


@pytest.mark.parametrize("asked", [concept(), concept("  "), concept("", (1, 2, 30, 40, False))])
def test_detect_nothing_meant_raises(asked):
    with pytest.raises(InvalidPromptError, match="expected a text, or at least one positive exemplar"):
        shared().detect(coffee(), asked)


def test_detect_text_too_long_raises_before_any_work():
    embedding = shared().encode(CHELSEA)
    with pytest.raises(InvalidPromptError, match=r"'x{31}' makes 33 tokens, .* expected at most 32"):
        shared().detect(embedding, concept("x" * 31))
    assert embedding.nbytes == embedding.encoded.nbytes
    assert shared().detect(coffee(), concept("x" * 30)).scores.shape == (12,)


def test_detect_of_no_images_is_empty():
    assert shared().detect_many([], []) == []
