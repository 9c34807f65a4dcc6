"""What SAM 3 costs, what it keeps on disk, and how it is loaded."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer, Sam3Model

from sam3_widget.errors import CancelledError, ModelError, WeightsError
from sam3_widget.models.base import Embedding
from sam3_widget.models.sam.preprocess import Preprocess
from sam3_widget.models.sam.runtime import Runtime
from sam3_widget.models.sam3.model import Sam3
from tests.models.reference import reference_tracker
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
from tests.models.tiny import SIDE, save_sam3, tiny_config, tiny_sam3, tiny_tokenizer


@pytest.fixture
def passes():
    """Return a function that counts the passes of a model's encoder from then on."""
    hooks = []

    def count(model):
        runs = []
        hooks.append(model._encoder.register_forward_hook(lambda *_: runs.append(1)))
        return runs

    yield count
    for hook in hooks:
        hook.remove()


def test_one_encoder_pass_serves_text_clicks_and_more_text(passes):
    model = new()
    encoder_runs, text_runs = passes(model), []
    model._detector._model.text_encoder.register_forward_hook(lambda *_: text_runs.append(1))
    embedding = model.encode(COFFEE)
    found = model.detect(embedding, concept("cup"))
    logits = found.logits[0]
    for x in (100, 200, 300):
        logits = model.refine(embedding, prompts((x, 200, True)), logits).logits[0]
    model.detect(embedding, concept("plate"))
    again = model.detect(embedding, concept(" cup "))
    assert len(encoder_runs) == 1
    assert len(text_runs) == 2
    np.testing.assert_array_equal(again.scores, found.scores)


def test_phrases_used_long_ago_are_forgotten():
    phrases = new()._detector._phrases
    phrases._most = 2
    for text in ("cup", "plate", "cup", "spoon"):
        phrases([text])
    assert list(phrases._known) == ["cup", "spoon"]


def test_memory_holds_one_encoder():
    def count(*models):
        unique = {parameter.data_ptr(): parameter.numel() for model in models for parameter in model.parameters()}
        return sum(unique.values())

    ours = tiny_sam3()
    whole = count(ours)
    model = Sam3(ours, tiny_tokenizer(), device="cpu")
    apart = count(Sam3Model(tiny_config().detector_config), clicking())
    encoder = count(model._encoder)
    assert count(ours) == whole
    assert whole - count(ours.tracker_model) + encoder < apart
    assert not [name for name, _ in ours.tracker_model.named_parameters() if "vision_encoder" in name]


def test_encode_cancelled_between_layers_leaves_the_model_usable():
    model = new()
    reached = []

    def cancel(fraction):
        reached.append(fraction)
        if fraction >= 0.5:
            raise CancelledError

    with pytest.raises(CancelledError):
        model.encode(COFFEE, cancel)
    assert reached == [0.25, 0.5]
    torch.testing.assert_close(model.encode(COFFEE).encoded, coffee().encoded, atol=0, rtol=0)
    assert reached == [0.25, 0.5]


def test_other_models_embedding_raises():
    with pytest.raises(TypeError, match="expected an embedding made by 'sam3', got Embedding"):
        shared().refine(Embedding(4, 4, 0), prompts((1, 1, True)))
    with pytest.raises(TypeError, match="expected an embedding made by 'sam3', got Embedding"):
        shared().detect(Embedding(4, 4, 0), concept("cup"))


# The cache on disk


def test_cache_a_second_model_needs_no_pass(tmp_path, passes):
    first, second = new(cache_dir=tmp_path / "cache"), new(cache_dir=tmp_path / "cache")
    embedding, runs = first.encode(COFFEE), passes(second)
    fractions = []
    restored, fresh = second.encode_many([COFFEE, CHELSEA], fractions.append)
    assert len(runs) == 1
    assert fractions[-1] == 1
    torch.testing.assert_close(restored.encoded, embedding.encoded, atol=0, rtol=0)
    torch.testing.assert_close(restored.encoded, coffee().encoded, atol=1e-2, rtol=1e-3)
    assert restored.encoded.dtype == torch.float32
    torch.testing.assert_close(fresh.encoded, shared().encode(CHELSEA).encoded, atol=1e-2, rtol=1e-3)
    fractions.clear()
    second.encode(COFFEE, fractions.append)
    assert fractions == [1]
    assert len(runs) == 1
    one, other = (model.refine(e, prompts((9, 9, True))) for model, e in ((first, embedding), (second, restored)))
    np.testing.assert_array_equal(one.logits, other.logits)


def test_cache_other_weights_or_resolution_find_nothing(tmp_path, passes):
    new(cache_dir=tmp_path).encode(COFFEE)
    other = Sam3(tiny_sam3(seed=1), tiny_tokenizer(), device="cpu", cache_dir=tmp_path)
    runs = passes(other)
    other.encode(COFFEE)
    assert len(runs) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_cache_damaged_file_is_written_anew(tmp_path, passes):
    new(cache_dir=tmp_path).encode(COFFEE)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    model = new(cache_dir=tmp_path)
    runs = passes(model)
    model.encode(COFFEE)
    assert len(runs) == 1
    second = new(cache_dir=tmp_path)
    runs = passes(second)
    second.encode(COFFEE)
    assert not runs


# Checkpoints, resolutions, precisions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_sam3(tmp_path_factory.mktemp("sam3"))


def test_from_folder_equals_the_model_that_was_saved(folder):
    model = Sam3.from_folder(folder, name="mine", device="cpu")
    assert model.name == "mine"
    embedding = model.encode(COFFEE)
    torch.testing.assert_close(embedding.encoded, coffee().encoded, **CLOSE)
    for asked in (concept("cup"), concept("", (1, 2, 300, 200, True))):
        expected = shared().detect(coffee(), asked).logits
        np.testing.assert_allclose(model.detect(embedding, asked).logits, expected, **CLOSE)


def test_from_folder_reads_the_processing(tmp_path):
    save_sam3(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    assert Sam3.from_folder(tmp_path, device="cpu")._preprocess == Preprocess(SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("side", [112, 154, 224])
@torch.no_grad()
def test_resolution_equals_transformers_at_that_size(folder, side):
    model = Sam3.from_folder(folder, device="cpu", resolution=side)
    embedding = model.encode(COFFEE)
    config = tiny_config()
    config.image_size = side
    reference = type(original())(config).eval()
    reference.load_state_dict(original().state_dict())
    tokens = tiny_tokenizer()("cup", padding="max_length", max_length=32, return_tensors="pt")
    expected = reference.detector_model(pixel_values=pixels(side=side), **tokens)
    answer = model.detect(embedding, concept("cup"))
    assert answer.semantic.shape == (4 * side // 14, 4 * side // 14)
    np.testing.assert_allclose(answer.semantic, expected.semantic_seg[0, 0], atol=3e-4, rtol=1e-4)
    scale = np.array([side / 600, side / 400], np.float32)
    points = torch.from_numpy(np.array([[[[300, 200]]]], np.float32) * scale - 0.5)
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    masks = reference_tracker(reference)(pixel_values=pixels(side=side), input_points=points, input_labels=labels)
    clicked_masks = model.refine(embedding, prompts((300, 200, True)))
    best = masks.iou_scores[0, 0].argmax()
    np.testing.assert_allclose(clicked_masks.logits[0], masks.pred_masks[0, 0, best], **CLOSE)


@pytest.mark.parametrize("side", [100, 0, -14, 13])
def test_resolution_that_cuts_patches_raises(folder, side):
    with pytest.raises(ModelError, match=rf"must be a multiple of 14 pixels, .* got {side}; .* trained at 168"):
        Sam3.from_folder(folder, resolution=side)


def test_from_folder_without_a_checkpoint_raises(tmp_path):
    with pytest.raises(WeightsError, match="holds no checkpoint"):
        Sam3.from_folder(tmp_path)


def test_from_folder_of_another_model_raises(tmp_path):
    tiny_config().detector_config.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="holds a 'sam3' model, expected 'sam3_video'"):
        Sam3.from_folder(tmp_path)


def test_from_folder_with_weights_missing_raises(tmp_path):
    save_sam3(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    original().detector_model.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"not a whole checkpoint of Sam3VideoModel: \d+ weights are missing"):
        Sam3.from_folder(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [(None, "expected one of 514 tokens, got"), ("{", "could not load")])
def test_from_folder_without_a_tokenizer_raises(tmp_path, content, reason):
    save_sam3(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=reason):
        Sam3.from_folder(tmp_path)


def test_from_folder_with_damaged_weights_raises(tmp_path):
    save_sam3(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"could not load the checkpoint in .* as Sam3VideoModel"):
        Sam3.from_folder(tmp_path)


ACCELERATORS = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device here")),
]


def answers_of(model):
    """Return what a model answers to all kinds of questions.

    Not to those with noise for earlier logits: there a rounding decides between two of the decoder's masks.
    """
    embedding = model.encode(COFFEE)
    questions = [question for question in QUESTIONS.values() if question[1] is None]
    return model.refine_many(embedding, questions), [model.detect(embedding, asked) for asked in CONCEPTS.values()]


def assert_alike(ours, expected):
    for answer, other in zip(ours[0], expected[0], strict=True):
        assert np.corrcoef(answer.logits[0].ravel(), other.logits[0].ravel())[0, 1] > 0.999
        np.testing.assert_allclose(answer.scores, other.scores, atol=0.03)
    for answer, other in zip(ours[1], expected[1], strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, atol=0.1)
        np.testing.assert_allclose(answer.semantic, other.semantic, atol=0.5)
        assert answer.logits.dtype == answer.semantic.dtype == answer.boxes.dtype == np.float32


@pytest.mark.parametrize("device", ["cpu", *ACCELERATORS])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_device_and_precision_answers_alike(folder, device, dtype):
    model = Sam3.from_folder(folder, device=device, dtype=dtype)
    assert model.encode(CHELSEA).encoded.dtype == getattr(torch, dtype)
    assert_alike(answers_of(model), answers_of(shared()))


def test_autocast_answers_alike(folder, monkeypatch):
    @contextmanager
    def running(_):  # as on an accelerator: the CPU has autocast too
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    expected = answers_of(shared())
    monkeypatch.setattr(Runtime, "running", running)
    model = Sam3.from_folder(folder, device="cpu", dtype="bfloat16")
    model.batch = 16
    assert_alike(answers_of(model), expected)


def test_only_its_own_geometry_encoder_is_changed():
    model = new()
    assert "_encode_boxes" in vars(model._detector._model.geometry_encoder)
    assert "_encode_boxes" not in vars(original().detector_model.geometry_encoder)
    assert not original().detector_model.geometry_encoder._forward_hooks


def test_half_precision_keeps_clicks_and_positions_exact(folder):
    model = Sam3.from_folder(folder, device="cpu", dtype="bfloat16")
    exact = original().state_dict() | dict(original().named_buffers())
    prefixes = {"tracker_model": model._tracker._model, "detector_model.vision_encoder.backbone": model._encoder}
    for prefix, module in prefixes.items():
        for name, buffer in module.named_buffers():
            torch.testing.assert_close(buffer, exact[f"{prefix}.{name}"], atol=0, rtol=0)
    for part in ("prompt_encoder", "mask_decoder"):
        for name, weight in model._tracker._model.get_submodule(part).named_parameters():
            torch.testing.assert_close(weight, exact[f"tracker_model.{part}.{name}"], atol=0, rtol=0)
    assert {parameter.dtype for parameter in model._encoder.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model._detector._model.mask_decoder.parameters()} == {torch.bfloat16}


def test_tokenizer_of_the_folder_is_clips(folder):
    model = Sam3.from_folder(folder, device="cpu")
    assert isinstance(model._detector._phrases._tokenizer, CLIPTokenizer)
