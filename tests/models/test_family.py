"""SAM, SAM-HQ, SAM 2 and EdgeTAM answer as transformers' models do, tensor by tensor, at random weights."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from torch.nn import functional
from transformers import Sam2Model, SamImageProcessorPil

from sam3_widget.errors import CancelledError, InvalidPromptError, ModelError, WeightsError
from sam3_widget.models.base import Embedding, InstancePrompts
from sam3_widget.models.known import KNOWN
from sam3_widget.models.sam.family import MEAN, STD, SamFamily
from sam3_widget.models.sam.padding import covered, crop, pad
from sam3_widget.models.sam.preprocess import Preprocess
from sam3_widget.models.weights.checkpoint import find_cached
from tests.models.hub import configured, with_weights
from tests.models.scenes import iou, mask_of, picture
from tests.models.tiny_family import GRID, SEED, SIDE, save_family, tiny_family

needs_timm = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None,
    reason="EdgeTAM's backbone comes through timm, which imports torchvision: pip install timm torchvision",
)
KINDS = ["sam", "sam_hq", "sam2", pytest.param("edgetam", marks=needs_timm)]
COFFEE = data.coffee()
IMAGES = {"wide": COFFEE[:300, 50:450], "tall": COFFEE[:, 100:400]}
"""3 to 4 and 4 to 3: an image that ends between two pixels of the masks, so that they can be cut to it."""
S = 4 * GRID
"""Pixels per side of the decoders' masks."""
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
"""float32 on different paths through an encoder. A decoder with random weights blows that up."""


def assert_close(answer, expected):
    """Check logits or scores, with a tolerance in terms of how much they vary; half a pixel makes five times that."""
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() < 0.01 * max(expected.std(), 0.1)


def click(*points, box=None):
    return InstancePrompts(
        np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        np.array([point[2] for point in points], np.bool_),
        None if box is None else np.array(box, np.float32),
    )


PROMPTS = {
    "point": click((120, 80, True)),
    "points": click((120, 80, True), (20.5, 233, False), (200, 210, True)),
    "negative": click((120, 80, False)),
    "box": click(box=(30, 40, 250, 230)),
    "box and points": click((120, 80, True), (60, 250, False), box=(30, 40, 250, 230)),
    "nothing": click(),
}


@cache
def original(kind):
    """Return the model that the adapter is made of, untouched."""
    return tiny_family(kind)


@cache
def shared(kind):
    return SamFamily(tiny_family(kind), name=kind, device="cpu")


@cache
def encoded(kind, which):
    return shared(kind).encode(IMAGES[which])


def padded(kind):
    return kind in {"sam", "sam_hq"}


def extent(kind, image, side):
    """Return the rows and columns that an image takes of a square with so many pixels per side."""
    height, width = image.shape[:2]
    longest = max(height, width) if padded(kind) else None
    return (side * height // longest, side * width // longest) if longest else (side, side)


def reference_pixels(kind, image):
    """Return (1, 3, SIDE, SIDE) as the processors of transformers make it."""
    rows, columns = extent(kind, image, SIDE)
    levels = functional.interpolate(
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None], (rows, columns), mode="bilinear", antialias=True
    )
    normal = (levels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    square = torch.zeros(1, 3, SIDE, SIDE)
    square[..., :rows, :columns] = normal
    return square


@torch.no_grad()
def reference(kind, image, prompts, previous=None):
    """Return logits and scores of transformers' whole model, from pixels to masks, over the image."""
    rows, columns = extent(kind, image, SIDE)
    scale = torch.tensor([columns / image.shape[1], rows / image.shape[0]])
    high, wide = extent(kind, image, S)
    masks = None
    if previous is not None:
        masks = torch.full((1, 1, S, S), min(-10.0, float(previous.min())))
        masks[..., :high, :wide] = torch.from_numpy(previous)
    points = len(prompts.points) > 0
    output = original(kind)(
        pixel_values=reference_pixels(kind, image),
        input_points=(torch.from_numpy(prompts.points) * scale - 0.5)[None, None] if points else None,
        input_labels=torch.from_numpy(prompts.labels).long()[None, None] if points else None,
        input_boxes=None
        if prompts.box is None
        else (torch.from_numpy(prompts.box) * scale.repeat(2) - 0.5)[None, None],
        input_masks=masks,
        multimask_output=prompts.ambiguous and previous is None,
    )
    scores, logits = output.iou_scores[0, 0], output.pred_masks[0, 0, :, :high, :wide]
    order = scores.argsort(descending=True)
    return logits[order].numpy(), scores[order].clamp(0, 1).numpy()


# As transformers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", IMAGES)
@pytest.mark.parametrize("what", [what for what in PROMPTS if what != "nothing"])
def test_refine_equals_forward_of_transformers(kind, which, what):
    answer = shared(kind).refine(encoded(kind, which), PROMPTS[what])
    logits, scores = reference(kind, IMAGES[which], PROMPTS[what])
    assert answer.logits.shape == (3 if what == "point" else 1, *extent(kind, IMAGES[which], S))
    assert_close(answer.logits, logits)
    assert_close(answer.scores, scores)
    assert (answer.logits.dtype, answer.scores.dtype) == (np.float32, np.float32)
    assert logits.std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", IMAGES)
@pytest.mark.parametrize("what", PROMPTS)
def test_refine_with_prior_equals_forward_of_transformers(kind, which, what):
    first = shared(kind).refine(encoded(kind, which), PROMPTS["points"]).logits[0]
    first = np.clip(5 * first / first.std(), -32, 32)
    answer = shared(kind).refine(encoded(kind, which), PROMPTS[what], first)
    logits, scores = reference(kind, IMAGES[which], PROMPTS[what], first)
    assert len(answer.scores) == 1
    assert_close(answer.logits, logits)
    assert_close(answer.scores, scores)
    if what != "nothing":
        without = shared(kind).refine(encoded(kind, which), PROMPTS[what]).logits[0]
        assert np.abs(without - answer.logits[0]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_refine_every_prompt_counts(kind):
    embedding = encoded(kind, "wide")
    answers = [
        shared(kind).refine(embedding, prompts).logits[-1] for name, prompts in PROMPTS.items() if name != "nothing"
    ]
    moved = click((124, 80, True), (60, 250, False), box=(30, 40, 250, 230))
    answers.append(shared(kind).refine(embedding, moved).logits[-1])
    for index, one in enumerate(answers):
        for other in answers[:index]:
            assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_refine_many_in_batches_equals_one_by_one(kind):
    model = SamFamily(tiny_family(kind), name=kind, device="cpu")
    embedding = model.encode(IMAGES["wide"])
    prior = model.refine(embedding, PROMPTS["points"]).logits[0]
    questions = [
        *((prompts, None) for name, prompts in PROMPTS.items() if name != "nothing"),
        *((prompts, prior) for prompts in PROMPTS.values()),
        (click((30, 20, True)), None),
        (click((31, 22, True)), prior),
        (click(box=(5, 5, 80, 90)), None),
        (click((50, 60, True), (9, 9, False), box=(5, 5, 80, 90)), None),
        (click(), -prior),
    ]
    single = [model.refine(embedding, *question) for question in questions]
    model.batch = 16
    for one, other in zip(model.refine_many(embedding, questions), single, strict=True):
        assert_close(one.logits, other.logits)
        assert_close(one.scores, other.scores)


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_size_is_that_of_transformers(height, width):
    theirs = SamImageProcessorPil()._get_preprocess_shape((height, width), 1024)
    assert Preprocess(1024, stretch=False).size(height, width) == tuple(max(1, side) for side in theirs)


@pytest.mark.parametrize("which", IMAGES)
def test_preprocess_is_that_of_transformers_within_a_grey_level(which):
    processor = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    theirs = processor(IMAGES[which], return_tensors="pt").pixel_values
    ours = Preprocess(SIDE, MEAN, STD, stretch=False)([IMAGES[which]])
    assert ours.shape == theirs.shape
    grey = 1 / 255 / min(STD)
    torch.testing.assert_close(ours, theirs, atol=1.01 * grey, rtol=0)
    assert (ours - theirs).abs().mean() < 0.1 * grey


# Checkpoints


@pytest.mark.parametrize("kind", KINDS)
def test_from_folder_loads_every_weight(kind, tmp_path):
    model = SamFamily.from_folder(save_family(kind, tmp_path), name="mine", device="cpu")
    assert model.name == "mine"
    assert (model.capabilities.boxes, model.capabilities.mask_prompt, model.capabilities.text) == (True, True, False)
    answer = model.refine(model.encode(IMAGES["tall"]), PROMPTS["points"])
    assert_close(answer.logits, shared(kind).refine(encoded(kind, "tall"), PROMPTS["points"]).logits)


def test_from_folder_video_checkpoint_is_read_as_the_image_model(tmp_path, caplog):
    folder = save_family("sam2_video", tmp_path)
    model = SamFamily.from_folder(folder, name="sam2", device="cpu")
    assert "instantiate a model of type" not in caplog.text
    expected = Sam2Model.from_pretrained(folder).state_dict()
    assert model._network._model.state_dict().keys() == expected.keys()
    for name, weight in model._network._model.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_from_folder_half_precision_checkpoint_keeps_its_decoder_exact(tmp_path):
    tiny_family("sam").to(torch.float16).save_pretrained(tmp_path)
    model = SamFamily.from_folder(tmp_path, name="sam", device="cpu")
    assert {parameter.dtype for parameter in model._network._model.parameters()} == {torch.float32}


def test_from_folder_takes_channels_of_the_folder(tmp_path):
    folder = save_family("sam", tmp_path)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}')
    preprocess = SamFamily.from_folder(folder, name="sam", device="cpu")._preprocess
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (1, 2, 3))


def test_from_folder_resolution_cannot_be_changed(tmp_path):
    with pytest.raises(ModelError, match="the resolution of 'sam' cannot be changed, got 512; expected None"):
        SamFamily.from_folder(save_family("sam", tmp_path), name="sam", resolution=512)


def test_from_folder_of_sam3_raises(tmp_path):
    folder = with_weights(configured(tmp_path / "sam3", "sam3_video"))
    with pytest.raises(
        WeightsError, match="holds a checkpoint of the family 'sam3'; expected one of: sam, sam_hq, sam2"
    ):
        SamFamily.from_folder(folder, name="sam3")


def test_from_folder_edgetam_without_timm_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    folder = with_weights(configured(tmp_path / "edgetam", "edgetam_video"))
    with pytest.raises(
        WeightsError, match="edgetam needs packages that are not installed: pip install timm torchvision"
    ):
        SamFamily.from_folder(folder, name="edgetam")


# Encoding


@pytest.mark.parametrize("kind", KINDS)
def test_encode_reports_progress_and_leaves_no_hook(kind):
    fractions = []
    shared(kind).encode(IMAGES["wide"], fractions.append)
    assert fractions == sorted(set(fractions)) + [1.0] * (len(fractions) - len(set(fractions)))
    assert len(set(fractions)) > 3
    assert fractions[-1] == 1
    seen = len(fractions)
    shared(kind).encode(IMAGES["wide"])
    assert len(fractions) == seen


@pytest.mark.parametrize("kind", KINDS)
def test_encode_stops_when_cancelled(kind):
    reached = []

    def cancel(fraction):
        reached.append(fraction)
        raise CancelledError

    with pytest.raises(CancelledError):
        shared(kind).encode(IMAGES["wide"], cancel)
    assert len(reached) == 1
    assert reached[0] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_encode_many_sizes_in_one_pass_equals_each(kind):
    passes = []
    model = shared(kind)
    hook = model._network.encoder.register_forward_hook(lambda *_: passes.append(1))
    together = model.encode_many(list(IMAGES.values()))
    hook.remove()
    assert len(passes) == 1
    for embedding, (which, image) in zip(together, IMAGES.items(), strict=True):
        assert (embedding.height, embedding.width) == image.shape[:2]
        alone = encoded(kind, which)
        assert embedding.nbytes == alone.nbytes == sum(part.nbytes for part in embedding.maps)
        for one, other in zip(embedding.maps, alone.maps, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_encode_half_precision_is_about_the_same(kind):
    model = SamFamily(tiny_family(kind), name=kind, device="cpu", dtype="bfloat16")
    embedding = model.encode(IMAGES["wide"])
    assert {part.dtype for part in embedding.maps} == {torch.bfloat16}
    assert embedding.nbytes * 2 == encoded(kind, "wide").nbytes
    for what in ("point", "box and points"):
        exact = shared(kind).refine(encoded(kind, "wide"), PROMPTS[what]).logits[0]
        half = model.refine(embedding, PROMPTS[what]).logits[0]
        assert np.corrcoef(exact.ravel(), half.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_encode_image_in_cache_dir_runs_no_encoder(kind, tmp_path):
    models = [
        SamFamily(tiny_family(kind, seed), name=kind, device="cpu", cache_dir=tmp_path)
        for seed in (SEED, SEED, SEED + 1)
    ]
    passes = [[] for _ in models]
    for model, runs in zip(models, passes, strict=True):
        model._network.encoder.register_forward_hook(lambda *_, runs=runs: runs.append(1))
    fractions = []
    embeddings = [model.encode(IMAGES["tall"], fractions.append) for model in models]
    assert [len(runs) for runs in passes] == [1, 0, 1]
    assert fractions[-1] == 1
    for one, other in zip(embeddings[0].maps, embeddings[1].maps, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    for one, other in zip(embeddings[0].maps, encoded(kind, "tall").maps, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)
    models[1].encode(IMAGES["wide"])
    assert len(passes[1]) == 1


# Errors


@pytest.mark.parametrize("kind", KINDS)
def test_refine_nothing_given_raises(kind):
    with pytest.raises(InvalidPromptError, match="expected at least one point, a box or previous logits"):
        shared(kind).refine(encoded(kind, "wide"), click())


def test_refine_embedding_of_another_model_raises():
    with pytest.raises(TypeError, match="expected an embedding made by 'sam', got Embedding"):
        shared("sam").refine(Embedding(10, 10, 0), PROMPTS["point"])


# Real weights


@pytest.mark.weights
@pytest.mark.usefixtures("this_disk")
def test_checkpoints_on_this_disk_find_what_is_clicked():
    found = {entry.name: find_cached(entry.repo_id) for entry in KNOWN if entry.family in {"sam", "sam_hq", "sam2"}}
    here = {name: checkpoint for name, checkpoint in found.items() if checkpoint is not None}
    if not here:
        pytest.skip("no checkpoint of SAM, SAM-HQ or SAM 2 is in the Hub's cache on this disk")
    image = picture("shapes")
    disc = cv2.circle(np.zeros(image.shape[:2], np.uint8), (80, 80), 45, 1, -1) > 0
    for name, checkpoint in here.items():
        model = SamFamily.from_folder(checkpoint.folder, name=name)
        embedding = model.encode(image)
        for prompts in (click((80, 80, True), (10, 10, False)), click(box=(35, 35, 126, 126))):
            answer = model.refine(embedding, prompts)
            assert iou(mask_of(answer.logits[0], image), disc) > 0.9, name


# Padding


def ramps(height, width):
    """Return masks that hold, at each pixel, how far down and right it is, as a share of the whole: (1, 2, h, w)."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return torch.tensor(np.stack(np.meshgrid(rows, columns, indexing="ij")), dtype=torch.float32)[None]


@pytest.mark.parametrize("share", [(0.5, 1.0), (1.0, 0.75), (85 / 128, 1.0), (1.0, 0.41), (0.03, 1.0)])
def test_crop_keeps_places(share):
    cut = crop(ramps(S, S), share)
    height, width = covered(S, share)
    assert cut.shape == (1, 2, height, width)
    assert S * share[0] <= height < S * share[0] + 1
    # Beyond the middle of the outermost pixels there is nothing to interpolate towards.
    expected = (ramps(height, width) * torch.tensor(share).view(1, 2, 1, 1)).clamp(0.5 / S, 1 - 0.5 / S)
    torch.testing.assert_close(cut, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [(0.5, 1.0), (1.0, 0.75), (85 / 128, 1.0), (1.0, 0.41)])
def test_pad_keeps_places_and_pads_with_background(share):
    height, width = covered(S, share)
    square = pad(ramps(height, width) - 0.25, S, share)
    assert square.shape == (1, 2, S, S)
    rows, columns = (int(S * part) for part in share)
    inside = (ramps(S, S) / torch.tensor(share).view(1, 2, 1, 1) - 0.25)[..., 1 : rows - 1, 1 : columns - 1]
    torch.testing.assert_close(square[..., 1 : rows - 1, 1 : columns - 1], inside, atol=1e-4, rtol=0)
    beyond = torch.ones(S, S, dtype=torch.bool)
    beyond[: rows + 1, : columns + 1] = False
    torch.testing.assert_close(square[..., beyond], torch.full_like(square[..., beyond], -10.0))


def test_pad_is_as_sure_as_the_mask():
    masks = torch.tensor([[[[5.0, -20.0]]], [[[5.0, 3.0]]]])
    square = pad(masks, 8, (0.5, 1.0))
    torch.testing.assert_close(square[:, 0, -1, 0], torch.tensor([-20.0, -10.0]))


def test_image_between_pixels_of_the_masks_is_cut_exactly():
    masks = torch.randn(2, 3, S, S)
    assert torch.equal(crop(masks, (1.0, 1.0)), masks)
    assert torch.equal(pad(masks, S, (1.0, 1.0)), masks)
    assert torch.equal(crop(masks, (0.75, 1.0)), masks[:, :, : S * 3 // 4])
    assert torch.equal(crop(pad(masks[:, :, :, :8], S, (1.0, 8 / S)), (1.0, 8 / S)), masks[:, :, :, :8])


@pytest.mark.parametrize("size", [(400, 600), (600, 401), (37, 400), (1, 50), (50, 1), (3, 3)])
@pytest.mark.parametrize("kind", ["sam", "sam_hq"])
def test_refine_any_proportions_covers_the_image_alone(kind, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    model = shared(kind)
    embedding = model.encode(image)
    first = model.refine(embedding, click((size[1] / 2, size[0] / 2, True)))
    share = np.array(Preprocess(SIDE, stretch=False).size(*size)) / SIDE
    assert first.logits.shape[1:] == tuple(np.maximum(1, np.ceil(S * share - 1e-6)))
    again = model.refine(embedding, click(), first.logits[0])
    assert again.logits.shape[1:] == first.logits.shape[1:]
    assert np.isfinite(again.logits).all()


def test_refine_prior_of_any_size_is_the_same_prior():
    model, embedding = shared("sam"), shared("sam").encode(COFFEE)
    ellipse = cv2.ellipse(np.zeros(COFFEE.shape[:2], np.float32), (320, 190), (140, 90), 20, 0, 360, 1, -1)
    answers = []
    for size in ((600, 400), (300, 200), (128, 86)):
        prior = cv2.resize(ellipse, size, interpolation=cv2.INTER_AREA) * 20 - 10
        answers.append(model.refine(embedding, click(), prior).logits[0])
    for answer in answers[1:]:
        assert np.corrcoef(answers[0].ravel(), answer.ravel())[0, 1] > 0.98
