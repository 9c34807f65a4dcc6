from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import ModelError, NotFoundError, WeightsError
from sam3_widget.models import catalog, listing
from sam3_widget.models.base import Sighting
from sam3_widget.models.builtin import BuiltinModel
from sam3_widget.models.catalog import list_models, load_model, unload_model
from sam3_widget.models.known import CAPABILITIES, KNOWN
from sam3_widget.models.sam.family import SamFamily
from sam3_widget.models.sam3.model import Sam3
from sam3_widget.models.weights.checkpoint import FAMILIES
from sam3_widget.session import Session
from tests.models.elsewhere import Elsewhere, remembered, to_elsewhere
from tests.models.hub import configured, copy, put_in_cache, refuse, with_weights
from tests.models.sam3_clip import weights
from tests.models.tiny import save_sam3
from tests.models.tiny_family import save_family

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
SAM2 = "facebook/sam2.1-hiera-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_family("sam2_video", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    return save_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub, no models loaded, and no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(catalog, "_loaded", {})
    refuse(monkeypatch, AssertionError("asked the network"))
    return cache


# Names


def test_load_builtin_is_shared():
    assert load_model("builtin") is load_model("builtin")
    assert load_model("builtin").name == "builtin"


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"dtype": "float32"}, {"resolution": 504}, {"cache_dir": "x"}])
def test_load_builtin_with_options_raises(options):
    with pytest.raises(ModelError, match="the built-in model takes no device, dtype, resolution or cache_dir"):
        load_model("builtin", **options)


def test_load_builtin_with_memory_offloaded_raises():
    with pytest.raises(ModelError, match=r"the built-in model takes no .*, nor offload_memory"):
        load_model("builtin", offload_memory=True)


def test_load_auto_without_checkpoints_is_builtin_and_says_so(caplog):
    with caplog.at_level(logging.INFO):
        assert load_model() is load_model("builtin")
    assert "auto: the built-in model" in caplog.text


def test_load_auto_takes_best_checkpoint_on_disk_and_says_which(hub, checkpoint, caplog):
    put_in_cache(hub, "facebook/sam2-hiera-tiny", checkpoint)
    put_in_cache(hub, SAM2, checkpoint)
    with caplog.at_level(logging.INFO):
        model = load_model("auto")
    assert model.name == "sam2.1-tiny"
    assert "auto: sam2.1-tiny" in caplog.text
    assert model is load_model("sam2.1-tiny")
    assert model is load_model(SAM2)


def test_load_auto_prefers_sam3(hub, checkpoint, sam3):
    put_in_cache(hub, SAM2, checkpoint)
    put_in_cache(hub, "facebook/sam3", sam3)
    model = load_model(device="cpu")
    assert (model.name, model.capabilities.text) == ("sam3", True)


def test_load_auto_passes_over_half_a_download(hub, checkpoint):
    snapshot = put_in_cache(hub, SAM2, checkpoint)
    (snapshot / "model.safetensors").unlink()
    assert load_model().name == "builtin"


def test_load_auto_passes_over_what_needs_a_missing_package(hub, tmp_path, caplog, monkeypatch):
    put_in_cache(hub, "yonigozlan/EdgeTAM-hf", with_weights(configured(tmp_path / "edgetam", "edgetam_video")))
    monkeypatch.setitem(sys.modules, "timm", None)
    with caplog.at_level(logging.INFO):
        assert load_model().name == "builtin"
    assert "yonigozlan/EdgeTAM-hf is on this disk, but needs: pip install timm torchvision" in caplog.text


@pytest.mark.parametrize("name", ["sam9", "sam3.2", "", "best"])
def test_load_unknown_name_lists_all_names(name):
    with pytest.raises(WeightsError, match=r"there is no|has no config.json"):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("sam2.1-tinny", "'sam2.1-tiny'"),
        ("SAM3", "'sam3'"),
        ("sam2-hiera-tiny", "'sam2-tiny'"),
        ("biultin", "'builtin'"),
    ],
)
def test_load_unknown_name_suggests_closest(name, close):
    with pytest.raises(WeightsError, match="did you mean") as caught:
        load_model(name)
    assert close in str(caught.value).split("?")[0]
    assert "expected one of: auto, builtin, sam3, sam2.1-large" in str(caught.value)
    assert "list_models()" in str(caught.value)


# Options and sharing


def test_load_same_checkpoint_and_options_is_the_same_model(hub, checkpoint):
    snapshot = put_in_cache(hub, SAM2, checkpoint)
    model = load_model("sam2.1-tiny", device="cpu")
    assert model is load_model(SAM2, device=torch.device("cpu"), dtype=torch.float32)
    assert model is load_model(snapshot, device="cpu", dtype="float32")
    assert model is load_model(str(snapshot), device="cpu")
    assert model is not load_model("sam2.1-tiny", device="cpu", dtype="bfloat16")


def test_load_auto_device_is_the_device_it_stands_for(hub, checkpoint):
    put_in_cache(hub, SAM2, checkpoint)
    resolved = load_model(SAM2)._runtime
    assert load_model(SAM2) is load_model(SAM2, device=resolved.device, dtype=resolved.dtype)


def test_load_from_many_threads_loads_once(hub, checkpoint, monkeypatch):
    put_in_cache(hub, SAM2, checkpoint)
    loads, models, start = [], [], threading.Barrier(6)
    original = SamFamily.from_folder

    def counted(*args, **kwargs):
        loads.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(SamFamily, "from_folder", counted)

    def load():
        start.wait()
        models.append(load_model(SAM2, device="cpu"))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(models) == 6
    assert len(set(map(id, models))) == 1


def test_load_local_folder_has_its_path_as_name(checkpoint):
    assert load_model(checkpoint, device="cpu").name == str(checkpoint)


def test_load_folder_named_like_a_repository_wins_over_the_hub(checkpoint, tmp_path, monkeypatch):
    copy(checkpoint, tmp_path / "facebook" / "sam2.1-hiera-tiny")
    monkeypatch.chdir(tmp_path)
    assert load_model(SAM2, device="cpu").name == SAM2


def test_load_short_name_wins_over_a_folder(hub, sam3, tmp_path, monkeypatch):
    put_in_cache(hub, "facebook/sam3", sam3)
    (tmp_path / "sam3").mkdir()  # as a clone of the authors' repository is called
    monkeypatch.chdir(tmp_path)
    assert load_model("sam3", device="cpu").name == "sam3"


def test_load_home_folder_is_expanded(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    copy(checkpoint, tmp_path / "mine")
    assert isinstance(load_model("~/mine", device="cpu"), SamFamily)


def test_load_hands_options_on(checkpoint, tmp_path):
    model = load_model(checkpoint, device="cpu", dtype="bfloat16", cache_dir=str(tmp_path / "kept"))
    assert (model._runtime.device.type, model._runtime.dtype) == ("cpu", torch.bfloat16)
    assert model._store is not None
    with pytest.raises(ModelError, match=r"the resolution of .* cannot be changed, got 512"):
        load_model(checkpoint, resolution=512)
    with pytest.raises(ModelError, match="there is no device 'tpu'"):
        load_model(checkpoint, device="tpu")


def test_load_hands_offloading_of_memory_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sam3_widget.models.sam.video.to_main_memory", to_elsewhere)
    for folder in (save_family("sam2.1_clip", tmp_path / "one"), save_sam3(tmp_path / "other", weights())):
        near, far = (load_model(folder, device="cpu", offload_memory=offload) for offload in (False, True))
        assert far is load_model(folder, device="cpu", offload_memory=True)
        assert far is not near
        assert load_model(folder, device="cpu") is near
        for model in (near, far):
            tracker = model.tracker(lambda _: IMAGE)
            tracker.follow(1, [Sighting(0, RunLengths.from_mask(IMAGE[..., 0] > 128))])
            tracker.step(1)
            parts = [part for _, part in remembered(tracker)]
            assert parts
            assert {isinstance(part, Elsewhere) for part in parts} == {model is far}


def test_load_of_an_image_model_with_memory_offloaded_raises(tmp_path):
    with pytest.raises(ModelError, match="carries nothing through a clip: no memory to offload"):
        load_model(save_family("sam2", tmp_path), device="cpu", offload_memory=True)


# Unloading


def test_unload_by_any_name_frees_and_loads_afresh(hub, checkpoint):
    put_in_cache(hub, SAM2, checkpoint)
    for name in ("sam2.1-tiny", SAM2, "auto"):
        model = load_model(name, device="cpu")
        assert load_model("sam2.1-tiny", device="cpu") is model
        unload_model(name)
        assert load_model("sam2.1-tiny", device="cpu") is not model
        unload_model("sam2.1-tiny")


def test_unload_model_itself_frees_it_and_no_other(checkpoint):
    one, other = load_model(checkpoint, device="cpu"), load_model(checkpoint, device="cpu", dtype="bfloat16")
    unload_model(one)
    assert load_model(checkpoint, device="cpu", dtype="bfloat16") is other
    assert load_model(checkpoint, device="cpu") is not one


def test_unload_by_name_frees_all_options(checkpoint):
    models = [load_model(checkpoint, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")]
    unload_model(checkpoint)
    assert not set(models) & {load_model(checkpoint, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")}


@pytest.mark.parametrize("kind", ["sam2", "sam3"])
def test_unload_takes_weights_out_of_memory_even_while_held(kind, checkpoint, sam3):
    model = load_model(checkpoint if kind == "sam2" else sam3, device="cpu")
    networks = [model._network._model] if isinstance(model, SamFamily) else [model._encoder, model._tracker._model]
    assert all(parameter.device.type == "cpu" for network in networks for parameter in network.parameters())
    unload_model(model)
    assert all(parameter.device.type == "meta" for network in networks for parameter in network.parameters())


def test_unload_leaves_the_masks_of_those_who_show_them():
    session = Session(IMAGE, model=load_model("builtin"))
    session.add_point(20, 20)
    masks = session.masks
    engine = session.model._engine
    unload_model("builtin")
    assert engine._thread is None
    np.testing.assert_array_equal(session.masks, masks)
    with pytest.raises(ModelError, match="the model 'builtin' was unloaded: load it again"):
        session.add_point(40, 30)
    assert load_model("builtin") is not session.model


def test_unload_what_is_not_loaded_names_what_is():
    load_model("builtin")
    with pytest.raises(NotFoundError, match="no model 'sam3' is loaded; loaded by these names: builtin"):
        unload_model("sam3")


# Listing


def test_list_models_has_builtin_and_every_known_name():
    models = list_models()
    assert [model.name for model in models] == ["builtin", *(entry.name for entry in KNOWN)]
    assert len(set(models)) == len(models) == len(models[:])
    first = models[0]
    assert (first.on_disk, first.usable, first.note, first.path.is_dir()) == (True, True, "", True)
    assert 1_000_000 < first.size < 12_000_000
    sam3 = models[1]
    assert (sam3.name, sam3.on_disk, sam3.path, sam3.usable) == ("sam3", False, None, True)
    assert sam3.size == pytest.approx(3.44e9, rel=0.01)
    assert sam3.note == "accept its licence first: https://huggingface.co/facebook/sam3"


def test_list_models_shows_what_is_on_disk(hub, checkpoint):
    snapshot = put_in_cache(hub, SAM2, checkpoint)
    put_in_cache(hub, "someone/fine-tuned", checkpoint)
    (put_in_cache(hub, "facebook/sam2.1-hiera-small", checkpoint) / "model.safetensors").unlink()
    put_in_cache(hub, "someone/llama", with_weights(configured(hub / "llama", "llama")))
    models = {model.name: model for model in list_models()}
    size = (checkpoint / "model.safetensors").stat().st_size
    tiny, tuned = models["sam2.1-tiny"], models["someone/fine-tuned"]
    assert (tiny.on_disk, tiny.path, tiny.size, tiny.licence, tiny.note) == (True, snapshot, size, "Apache-2.0", "")
    assert (tuned.repo_id, tuned.family, tuned.on_disk, tuned.licence) == ("someone/fine-tuned", "sam2", True, "")
    assert not models["sam2.1-small"].on_disk
    assert models["sam2.1-small"].note == "download is not complete: loading it goes on"
    assert "someone/llama" not in models


def test_list_models_prints_as_a_table():
    text = repr(list_models())
    lines = text.splitlines()
    assert lines[0].split() == ["name", "Hugging", "Face", "Hub", "takes", "size", "on", "disk", "licence", "note"]
    assert set(lines[1]) == {"-", " "}
    assert len(lines) == 3 + len(KNOWN)
    assert "sam3" in lines[3]
    assert "points, boxes, masks, text, exemplars" in lines[3]
    assert "3.44 GB" in lines[3]
    column = lines[0].index("size")
    assert all(line[column - 1] == " " != line[column] for line in lines)


def test_list_models_is_html_in_a_notebook(monkeypatch):
    html = list_models()._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == 2 + len(KNOWN)
    assert "<a href='https://huggingface.co/facebook/sam3'>facebook/sam3</a>" in html
    models = listing.ModelList([list_models()[0].__class__(**{**vars(list_models()[0]), "note": "<b>"})])
    assert "&lt;b&gt;" in models._repr_html_()


@pytest.mark.parametrize(("size", "text"), [(0, "0 kB"), (9582, "9.58 kB"), (39_000_000, "39 MB"), (2.57e9, "2.57 GB")])
def test_readable(size, text):
    assert listing.readable(size) == text


def test_capabilities_are_those_of_the_models():
    assert CAPABILITIES["builtin"] == BuiltinModel.capabilities
    assert CAPABILITIES["sam3"] == Sam3.capabilities
    assert set(CAPABILITIES) == {"builtin", *FAMILIES.values()}
    assert {entry.family for entry in KNOWN} == set(FAMILIES.values())


# What is not installed


@pytest.mark.parametrize("missing", ["transformers", "huggingface_hub"])
def test_without_an_extra_all_but_builtin_say_what_to_install(missing):
    code = f"""
import sys
sys.modules[{missing!r}] = None
from sam3_widget.models.catalog import list_models, load_model
print([model.note for model in list_models() if model.name == "sam2.1-tiny"], list_models()[0].usable)
print(load_model("auto").name)
try:
    load_model("sam2.1-tiny")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    noted, auto, told = done.stdout.splitlines()
    assert noted == """['pip install "sam3-widget[sam3]"'] True"""
    assert auto == "builtin"
    assert told == """WeightsError sam2 needs packages that are not installed: pip install "sam3-widget[sam3]\""""


def test_import_loads_no_extra():
    done = run("import sam3_widget.models.catalog, sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "huggingface_hub", "cv2"} & set(done.stdout.split())


def run(code):
    env = {**os.environ, "HF_HUB_CACHE": "/nowhere"}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)


def test_edgetam_without_its_backbone_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("edgetam", configured(tmp_path / "local", "edgetam_video")):
        with pytest.raises(WeightsError, match="edgetam needs packages that are not installed: pip install timm torch"):
            load_model(with_weights(name) if name != "edgetam" else name)


def test_packages_that_do_not_fit_are_told(monkeypatch, checkpoint):
    monkeypatch.delitem(sys.modules, "sam3_widget.models.sam.family")
    monkeypatch.setitem(sys.modules, "transformers.models.sam2", None)
    monkeypatch.setitem(sys.modules, "sam3_widget.models.sam.network", None)
    with pytest.raises(WeightsError, match=r"cannot be imported: .* remove it with pip uninstall torchvision"):
        load_model(checkpoint, device="cpu")
