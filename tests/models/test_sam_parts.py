"""The parts that all models of the SAM family share, each on its own."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PILImage
from skimage import data
from torch import nn

from sam3_widget.core.image import Image
from sam3_widget.errors import CancelledError, ModelError
from sam3_widget.models.sam.family import MEAN, STD
from sam3_widget.models.sam.preprocess import HALF, Preprocess, read_channels
from sam3_widget.models.sam.runtime import choose_runtime, follow, place
from sam3_widget.models.sam.store import EmbeddingStore, fingerprint
from sam3_widget.models.sam3.roi_align import roi_align
from tests.models.make_goldens import BINS, GOLDENS, PICTURES, SIDE, regions
from tests.models.reference import naive_roi_align

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = [(40, 60), (300, 200), (1, 1), (3, 500), (28, 28)]


def noise(height, width):
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_choose_runtime_auto_takes_what_is_here():
    runtime = choose_runtime()
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert runtime.device.type == expected
    assert runtime.batch == (1 if expected == "cpu" else 16)


def test_choose_runtime_cpu_is_float32_unless_told():
    assert choose_runtime("cpu").dtype == torch.float32
    assert choose_runtime("cpu", "bfloat16").dtype == torch.bfloat16
    assert choose_runtime(torch.device("cpu"), torch.float16).dtype == torch.float16


@pytest.mark.parametrize("device", ["gpu", "cuda:97", "", "meta"])
def test_choose_runtime_absent_device_raises(device):
    with pytest.raises(ModelError, match=rf"there is no device '{device}' here; expected one of: auto, .*cpu"):
        choose_runtime(device)


@pytest.mark.parametrize("dtype", ["int8", "fp16", torch.float64])
def test_choose_runtime_unknown_dtype_raises(dtype):
    with pytest.raises(ModelError, match="expected one of: auto, float32, bfloat16, float16"):
        choose_runtime("cpu", dtype)


def test_running_enters_inference_mode_only_inside():
    with choose_runtime("cpu").running():
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


def test_running_out_of_memory_says_what_to_do():
    with (
        pytest.raises(ModelError, match=r"cpu is out of memory; .* smaller resolution="),
        choose_runtime("cpu").running(),
    ):
        raise torch.cuda.OutOfMemoryError


def test_place_keeps_buffers_and_exact_parts():
    model = nn.ModuleDict({"exact": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    model.register_buffer("positions", torch.ones(3))
    place(model, choose_runtime("cpu", "bfloat16"), exact=[model["exact"]])
    assert model["exact"].weight.dtype == model.positions.dtype == torch.float32
    assert model["rest"].weight.dtype == torch.bfloat16
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_follow_reports_each_layer_and_leaves_no_hook():
    layers = [nn.Identity() for _ in range(4)]
    fractions = []
    with follow(layers, fractions.append):
        nn.Sequential(*layers)(torch.zeros(1))
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    nn.Sequential(*layers)(torch.zeros(1))
    assert len(fractions) == 4


def test_follow_cancelled_leaves_no_hook():
    layers = [nn.Identity() for _ in range(4)]
    reached = []

    def cancel(fraction):
        reached.append(fraction)
        raise CancelledError

    with pytest.raises(CancelledError), follow(layers, cancel):
        nn.Sequential(*layers)(torch.zeros(1))
    nn.Sequential(*layers)(torch.zeros(1))
    assert reached == [0.25]


@pytest.mark.parametrize("size", SIZES)
def test_preprocess_is_within_a_grey_level_of_pillow(size):
    image = noise(*size)
    ours = (Preprocess(28)([image])[0] * 127.5 + 127.5).permute(1, 2, 0).numpy()
    theirs = np.asarray(PILImage.fromarray(image).resize((28, 28), PILImage.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(ours, theirs, atol=1.001)
    assert np.abs(ours - theirs).mean() < 0.1


@pytest.mark.parametrize("size", SIZES)
def test_preprocess_rounds_to_grey_levels_before_it_normalises(size):
    levels = Preprocess(28)([noise(*size)]) * 127.5 + 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert levels.unique().numel() > 2


@pytest.mark.parametrize("size", [*SIZES[:-2], (30, 500)])
@pytest.mark.parametrize(
    ("name", "ours"), [("Sam3", Preprocess(56)), ("Sam", Preprocess(56, *IMAGENET, stretch=False))]
)
def test_preprocess_equals_the_processor_of_transformers(name, ours, size):
    pytest.importorskip("torchvision", reason="transformers' image processors need torchvision")
    import transformers  # noqa: PLC0415 - of no use without torchvision

    side = {"height": 56, "width": 56} if ours.stretch else {"longest_edge": 56}
    settings = {} if ours.stretch else {"pad_size": {"height": 56, "width": 56}}
    processor = getattr(transformers, f"{name}ImageProcessor")(size=side, **settings)
    image = noise(*size)
    expected = processor(image, return_tensors="pt", input_data_format="channels_last").pixel_values
    torch.testing.assert_close(ours([image]), expected, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def goldens():
    with np.load(GOLDENS) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("title", PICTURES)
@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Sam3", Preprocess(SIDE)),
        ("Sam2", Preprocess(SIDE, MEAN, STD)),
        ("Sam", Preprocess(SIDE, MEAN, STD, stretch=False)),
    ],
)
def test_preprocess_equals_what_the_processor_of_transformers_made(name, ours, title, goldens):
    torch.testing.assert_close(ours([PICTURES[title]])[0], goldens[f"{name} {title}"], atol=1e-6, rtol=0)


def test_preprocess_grey_levels_of_imagenet():
    image = np.full((9, 9, 3), (10, 20, 30), np.uint8)
    pixels = Preprocess(4, *IMAGENET)([image])[0, :, 2, 2]
    np.testing.assert_allclose(pixels, (np.array([10, 20, 30]) / 255 - IMAGENET[0]) / IMAGENET[1], rtol=1e-5)


def test_preprocess_keeping_proportions_pads_right_and_bottom():
    process = Preprocess(64, stretch=False)
    image = np.full((30, 60, 3), 255, np.uint8)
    assert process.size(30, 60) == (32, 64)
    np.testing.assert_allclose(process.scale(30, 60), [64 / 60, 32 / 30])
    pixels = process([image])[0]
    assert (pixels[:, :32] == 1).all()
    assert (pixels[:, 32:] == 0).all()
    assert process.size(1, 1000) == (1, 64)


def test_preprocess_takes_images_of_any_size_and_memory_together():
    readonly = noise(20, 30)
    readonly.flags.writeable = False
    mirrored = noise(50, 10)[:, ::-1]
    batch = Preprocess(28)([readonly, mirrored])
    assert batch.shape == (2, 3, 28, 28)
    torch.testing.assert_close(batch[1:], Preprocess(28)([mirrored.copy()]))


@pytest.mark.parametrize("nested", [True, False])
def test_read_channels_takes_what_the_folder_states(tmp_path, nested):
    stated = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (tmp_path / name).write_text(json.dumps({"image_processor": stated} if nested else stated))
    assert read_channels(tmp_path) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_read_channels_of_silent_folder_are_those_given(tmp_path):
    assert read_channels(tmp_path) == (HALF, HALF)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert read_channels(tmp_path, *IMAGENET) == IMAGENET


@pytest.mark.parametrize("content", ["[]", "{", '{"image_mean": [1]}', '{"image_std": 3}'])
def test_read_channels_damaged_file_raises(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"preprocessor_config.json is damaged"):
        read_channels(tmp_path)


BOXES = {
    "whole": (0, 0, 17, 11),
    "inside": (3.2, 1.1, 9.7, 10.9),
    "smaller than a pixel": (2, 2, 2.3, 2.2),
    "last corner": (16.9, 10.9, 17, 11),
    "beyond": (-3, -4, 22, 15),
    "outside": (-9, -9, -7, -7),
    "inverted": (5, 5, 3, 3),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("bins", [1, 7])
def test_roi_align_equals_its_definition(box, bins):
    features = np.random.default_rng(2).normal(size=(2, 3, 11, 17)).astype(np.float32)
    boxes = torch.tensor([[box, (1, 1, 8, 8)], [(0, 0, 4, 10), box]], dtype=torch.float32)
    pooled = roi_align(torch.from_numpy(features), boxes, bins)
    assert pooled.shape == (2, 2, 3, bins, bins)
    for image, index in np.ndindex(2, 2):
        expected = naive_roi_align(features[image].astype(np.float64), boxes[image, index].tolist(), bins)
        np.testing.assert_allclose(pooled[image, index], expected, atol=5e-6)


corners = st.floats(-2, 20, width=32)


@given(st.tuples(corners, corners, corners, corners))
def test_roi_align_any_box_equals_its_definition(box):
    features = np.random.default_rng(3).normal(size=(1, 2, 12, 16)).astype(np.float32)
    pooled = roi_align(torch.from_numpy(features), torch.tensor([[box]]), 3)
    np.testing.assert_allclose(pooled[0, 0], naive_roi_align(features[0].astype(np.float64), box, 3), atol=1e-5)


def test_roi_align_equals_torchvision():
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 23, 31, generator=generator)
    first, second = torch.rand(2, 2, 40, 2, generator=generator) * torch.tensor([30.0, 22.0])
    boxes = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)
    expected = torchvision.ops.roi_align(features, list(boxes), 7).view(2, 40, 5, 7, 7)
    torch.testing.assert_close(roi_align(features, boxes, 7), expected, atol=5e-6, rtol=0)


def test_roi_align_equals_what_torchvision_made(goldens):
    features, boxes = (torch.from_numpy(values) for values in regions())
    torch.testing.assert_close(roi_align(features, boxes, BINS), goldens["roi_align"], atol=1e-6, rtol=0)


def test_roi_align_half_precision_pools_where_single_does():
    features = torch.randn(1, 4, 72, 72, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[[41.37, 3.21, 67.89, 70.01]]])
    half = roi_align(features.bfloat16(), boxes, 7)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), roi_align(features.bfloat16().float(), boxes, 7), atol=4e-3, rtol=4e-3)


def test_roi_align_no_boxes_is_empty():
    assert roi_align(torch.zeros(2, 4, 5, 5), torch.zeros(2, 0, 4), 7).shape == (2, 0, 4, 7, 7)


KEY = Image(data.coffee()).key
ENCODED = torch.linspace(-3, 3, 12).view(4, 3)


def store_in(folder, model="some-model", shape=(4, 3)):
    return EmbeddingStore(folder, model, shape)


def only_file(folder):
    (file,) = folder.iterdir()
    return file


def test_store_returns_what_was_saved(tmp_path):
    kept = store_in(tmp_path / "new" / "folder").save(KEY, ENCODED)
    found = store_in(tmp_path / "new" / "folder").load(KEY)
    assert found is not None
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, kept, atol=0, rtol=0)
    torch.testing.assert_close(found.float(), ENCODED, atol=2e-3, rtol=0)
    assert only_file(tmp_path / "new" / "folder").suffix == ".safetensors"


def test_store_absent_is_none(tmp_path):
    assert store_in(tmp_path).load(KEY) is None


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def put_another_image(file):
    store_in(file.parent / "elsewhere").save("another", ENCODED)
    only_file(file.parent / "elsewhere").replace(file)


DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "header cut": lambda file: file.write_bytes(file.read_bytes()[:5]),
    "empty": lambda file: file.write_bytes(b""),
    "one bit": flip_a_bit,
    "something else": lambda file: file.write_text("hello"),
    "of another image": lambda file: (
        store_in(file.parent / "other").save("other", ENCODED) is not None
        and (file.parent / "other" / "other-some-model.safetensors").replace(file)
    ),
    "of another shape": lambda file: store_in(file.parent, shape=(2, 6)).save(KEY, ENCODED.view(2, 6)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_store_damaged_file_is_ignored_and_written_anew(tmp_path, damage, caplog):
    store = store_in(tmp_path)
    store.save(KEY, ENCODED)
    file = next(tmp_path.glob("*.safetensors"))
    damage(file)
    with caplog.at_level(logging.WARNING):
        assert store.load(KEY) is None
    assert file.name in caplog.text
    store.save(KEY, ENCODED)
    assert store.load(KEY) is not None


def test_store_other_model_finds_nothing(tmp_path):
    store_in(tmp_path).save(KEY, ENCODED)
    assert store_in(tmp_path, model="other").load(KEY) is None


def test_store_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    kept = store_in(tmp_path / "file").save(KEY, ENCODED)
    assert kept.shape == ENCODED.shape
    assert "not stored" in caplog.text
    assert store_in(tmp_path / "file").load(KEY) is None


def test_store_values_too_large_are_not_rounded_away(tmp_path, caplog):
    large = ENCODED * 1e6
    torch.testing.assert_close(store_in(tmp_path).save(KEY, large), large)
    assert "too large" in caplog.text
    assert not list(tmp_path.iterdir())


def test_image_key_tells_content_and_shape():
    image = noise(6, 4)
    changed = image.copy()
    changed[5, 3, 2] ^= 1
    keys = {Image(i).key for i in (image, changed, image.reshape(4, 6, 3), image[:, ::-1])}
    assert len(keys) == 4
    assert Image(image.copy(order="F")).key == Image(image).key


def test_fingerprint_tells_weights_and_settings():
    weights = [torch.ones(3, 3), torch.zeros(500)]
    changed = [torch.ones(3, 3), torch.zeros(500).index_fill(0, torch.tensor(7), 1e-3)]
    names = {fingerprint(weights, 1008), fingerprint(weights, 504), fingerprint(changed, 1008)}
    assert len(names) == 3
    assert fingerprint([weight.clone() for weight in weights], 1008) in names
