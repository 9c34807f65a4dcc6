from __future__ import annotations

import errno
import json
import os

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants

from sam3_widget.errors import WeightsError
from sam3_widget.models import catalog
from sam3_widget.models.catalog import load_model
from sam3_widget.models.sam.family import SamFamily
from sam3_widget.models.weights.checkpoint import all_cached, find_cached, open_folder
from sam3_widget.models.weights.download import fetch
from tests.models.hub import (
    broken_off,
    configured,
    copy,
    forbidden,
    gated,
    missing,
    offline,
    put_in_cache,
    refuse,
    serve,
    unavailable,
    unreachable,
    with_weights,
)
from tests.models.tiny_family import save_family, tiny_family

SAM2 = "facebook/sam2.1-hiera-tiny"
PAGE = "https://huggingface.co/facebook/sam3"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_family("sam2_video", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    tiny_family("sam").save_pretrained(folder, max_shard_size="100KB")
    return folder


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub, no models loaded, and no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(catalog, "_loaded", {})
    return cache


# Folders


def test_open_folder_tells_kind_and_size(checkpoint, sharded):
    found = open_folder(checkpoint)
    assert (found.family, found.model_type, found.folder) == ("sam2", "sam2_video", checkpoint)
    assert found.size == (checkpoint / "model.safetensors").stat().st_size
    shards = [file.stat().st_size for file in sharded.glob("*.safetensors")]
    assert len(shards) > 2
    assert open_folder(str(sharded)).size == sum(shards)


def test_open_folder_that_is_none_raises(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no folder .*nowhere; expected one with config.json"):
        open_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "~/nowhere", "/nowhere/at/all"])
def test_load_path_that_is_none_raises(name):
    with pytest.raises(WeightsError, match="there is no folder"):
        load_model(name)


def test_open_file_points_to_its_folder(checkpoint, tmp_path):
    with pytest.raises(WeightsError, match=r"model.safetensors is a file; expected the folder that holds it"):
        open_folder(checkpoint / "model.safetensors")
    (tmp_path / "sam3.pt").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"sam3.pt is a file without a config.json .* for the authors' own code"):
        load_model(tmp_path / "sam3.pt")


def test_open_folder_without_config_raises(tmp_path):
    with pytest.raises(WeightsError, match=r"has no config.json; expected a checkpoint for transformers"):
        open_folder(tmp_path)
    (tmp_path / "sam3.pt").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"has no config.json \(sam3.pt is for the authors' own code\)"):
        open_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_open_folder_with_damaged_config_raises(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config.json is damaged: expected"):
        open_folder(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "sam3_lite_text", "clip"])
def test_open_folder_of_another_kind_raises(tmp_path, kind):
    with pytest.raises(
        WeightsError, match=f"says model_type '{kind}'; expected one of the SAM family: sam3_video, sam3"
    ):
        open_folder(with_weights(configured(tmp_path / "other", kind)))


def test_open_folder_without_weights_raises(tmp_path):
    with pytest.raises(WeightsError, match=r"lacks model.safetensors: copy the whole file from where mine came from"):
        open_folder(configured(tmp_path / "mine", "sam"))


def test_open_folder_without_a_shard_names_it(sharded, tmp_path):
    folder = copy(sharded, tmp_path / "copy")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(WeightsError, match=f"lacks {lost.name}: "):
        open_folder(folder)


@pytest.mark.parametrize("left", [1, 4, 100, -1, -1000])
def test_open_folder_with_weights_cut_off_names_the_file(checkpoint, tmp_path, left):
    file = copy(checkpoint, tmp_path / "copy") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"model.safetensors .*(cut off|damaged): delete it, then copy"):
        load_model(file.parent)


def test_open_folder_with_weights_too_long_raises(checkpoint, tmp_path):
    file = copy(checkpoint, tmp_path / "copy") / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(WeightsError, match="bytes instead of"):
        open_folder(file.parent)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a safetensors file at all", bytes(64), b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"[]"],
)
def test_open_folder_with_something_else_as_weights_raises(tmp_path, content):
    folder = configured(tmp_path / "mine", "sam")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="is not a safetensors file, or damaged: delete it"):
        open_folder(folder)


def test_open_folder_with_a_pointer_of_git_says_how_to_fetch(tmp_path):
    folder = configured(tmp_path / "mine", "sam")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(WeightsError, match=r"is a pointer that git left .* run git lfs pull in"):
        open_folder(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_open_folder_that_may_not_be_read_raises(checkpoint, tmp_path):
    file = copy(checkpoint, tmp_path / "copy") / "model.safetensors"
    file.chmod(0)
    with pytest.raises(WeightsError, match=r"cannot be read .* check its permissions"):
        open_folder(file.parent)


def test_load_weights_of_another_model_names_what_is_missing(tmp_path):
    folder = save_family("sam", tmp_path / "sam")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        WeightsError, match=r"not a whole checkpoint of SamModel: \d+ weights are missing \(vision_encoder"
    ):
        load_model(folder, device="cpu")


def test_load_weights_of_another_shape_raises(tmp_path):
    folder = save_family("sam", tmp_path / "sam")
    config = json.loads((folder / "config.json").read_text())
    config["mask_decoder_config"]["mlp_dim"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"could not load the checkpoint in .* as SamModel"):
        load_model(folder, device="cpu")


# The Hub's cache


def test_find_cached_takes_main_then_the_newest(hub, checkpoint):
    assert find_cached(SAM2) is None
    for age, letter in enumerate("abc"):
        snapshot = put_in_cache(hub, SAM2, checkpoint, revision=letter * 40, main=letter == "a")
        os.utime(snapshot, (age, age))
    assert find_cached(SAM2).folder.name == "a" * 40
    (hub / "models--facebook--sam2.1-hiera-tiny" / "refs" / "main").unlink()
    assert find_cached(SAM2).folder.name == "c" * 40


def test_all_cached_finds_checkpoints_of_the_family(hub, checkpoint, tmp_path):
    (hub / "datasets--someone--photos").mkdir()
    (hub / "version.txt").write_text("1")
    put_in_cache(hub, "someone/llama", with_weights(configured(tmp_path / "llama", "llama")))
    put_in_cache(hub, "someone/half", configured(tmp_path / "half", "sam"))
    put_in_cache(hub, SAM2, checkpoint)
    assert list(all_cached()) == [SAM2]
    assert all_cached(tmp_path / "nowhere") == {}


# Downloads


@pytest.fixture
def client():
    """Let the Hub's own client talk to a function in place of the network."""

    def talk_to(handler):
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(handler)))

    yield talk_to
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


def test_load_downloads_what_it_reads_and_no_more(hub, checkpoint, monkeypatch):
    asked = serve(monkeypatch, hub, checkpoint)
    assert load_model("sam2.1-small", device="cpu").name == "sam2.1-small"
    assert [(repo_id, cache) for repo_id, cache, _ in asked] == [("facebook/sam2.1-hiera-small", None)] * 2
    assert asked[0][2] == ["config.json"]
    wanted = asked[1][2]
    for kept in (
        "config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
        "merges.txt",
    ):
        assert list(huggingface_hub.utils.filter_repo_objects([kept], allow_patterns=wanted)) == [kept]
    for left in ("sam3.pt", "pytorch_model.bin", "README.md", "onnx/model.onnx", "assets/model.safetensors"):
        assert not list(huggingface_hub.utils.filter_repo_objects([left], allow_patterns=wanted))


def test_load_what_is_on_disk_asks_no_network(hub, checkpoint, monkeypatch):
    refuse(monkeypatch, AssertionError("asked the network"))
    put_in_cache(hub, "someone/fine-tuned", checkpoint)
    assert load_model("someone/fine-tuned", device="cpu").name == "someone/fine-tuned"


def test_load_other_revision_where_main_is_partial(hub, checkpoint, tmp_path):
    put_in_cache(hub, SAM2, checkpoint, revision="a" * 40, main=False)
    put_in_cache(hub, SAM2, configured(tmp_path / "half", "sam2_video"), revision="b" * 40)
    assert isinstance(load_model(SAM2, device="cpu"), SamFamily)


def test_load_model_of_another_kind_downloads_its_config_only(hub, tmp_path, monkeypatch):
    asked = serve(monkeypatch, hub, with_weights(configured(tmp_path / "llama", "llama")))
    with pytest.raises(WeightsError, match="says model_type 'llama'; expected one of the SAM family: sam3_video"):
        load_model("someone/llama")
    assert [patterns for _, _, patterns in asked] == [["config.json"]]


def test_load_repository_without_weights_for_transformers_raises(hub, tmp_path, monkeypatch):
    serve(monkeypatch, hub, configured(tmp_path / "original", "sam3_video"))
    with pytest.raises(WeightsError, match=r"lacks model.safetensors: .* it is no checkpoint for transformers"):
        load_model("facebook/sam3.1")


@pytest.mark.parametrize(
    ("error", "token", "told"),
    [
        (gated(401), None, ["is gated", "not logged in", PAGE, "hf auth login", "huggingface-cli login", "HF_TOKEN"]),
        (gated(403), "hf_x", ["is gated", "no access", PAGE, "pending", "fine-grained token"]),
        (forbidden(), "hf_x", ["is gated", "no access", PAGE]),
        (missing(), "hf_x", ["there is no model 'facebook/sam3'", PAGE, "private"]),
        (
            offline(),
            None,
            ["not on this disk", "HF_HUB_OFFLINE", "hf download facebook/sam3", "copy FOLDER", "load_model("],
        ),
        (unreachable(), None, ["not on this disk", "cannot be reached", "once there is a network", "hf download"]),
        (broken_off(), None, ["not on this disk", "cannot be reached", "Load again"]),
        (unavailable(), None, ["failed", "503", "goes on where it stopped"]),
        (OSError(errno.ENOSPC, "No space left on device"), None, ["the disk is full", "HF_HUB_CACHE"]),
        (PermissionError(errno.EACCES, "denied", "/locked"), None, ["/locked cannot be written", "HF_HUB_CACHE"]),
        (RuntimeError("xet"), None, ["downloading facebook/sam3 failed (xet)", "goes on where it stopped"]),
    ],
)
def test_load_download_fails_says_what_to_do(monkeypatch, error, token, told):
    refuse(monkeypatch, error)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    with pytest.raises(WeightsError) as caught:
        load_model("sam3")
    assert [words for words in told if words not in str(caught.value)] == []
    assert caught.value.__cause__ is error


def test_load_half_a_download_offline_says_so(hub, checkpoint, monkeypatch):
    (put_in_cache(hub, SAM2, checkpoint) / "config.json").unlink()
    refuse(monkeypatch, offline())
    with pytest.raises(WeightsError, match="is on this disk only in part, and HF_HUB_OFFLINE forbids to download it"):
        load_model(SAM2)


def test_load_half_a_download_is_completed(hub, checkpoint, monkeypatch):
    (put_in_cache(hub, SAM2, checkpoint) / "model.safetensors").unlink()
    asked = serve(monkeypatch, hub, checkpoint)
    assert isinstance(load_model(SAM2, device="cpu"), SamFamily)
    assert len(asked) == 2


def test_load_name_that_no_repository_can_have_raises():
    with pytest.raises(WeightsError, match="'owner/a--b' cannot be the name of a repository; expected owner/name"):
        load_model("owner/a--b")


# The same with the Hub's own client: the errors above are those that it raises


def test_fetch_offline_says_how_to_copy_a_folder(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="facebook/sam3 is not on this disk, and HF_HUB_OFFLINE forbids"):
        fetch("facebook/sam3")


def test_fetch_half_a_download_offline_says_what_is_missing(monkeypatch, hub, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    put_in_cache(hub, "facebook/sam3", configured(tmp_path / "half", "sam3_video"))
    with pytest.raises(WeightsError, match=r"lacks model.safetensors: load facebook/sam3 again with a network"):
        fetch("facebook/sam3")


def test_fetch_without_a_network_says_so(client):
    def handler(request):
        raise httpx2.ConnectError("no route to host")

    client(handler)
    with pytest.raises(
        WeightsError, match="facebook/sam3 is not on this disk, and the Hugging Face Hub cannot be reached"
    ):
        fetch("facebook/sam3")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, "GatedRepo", "is gated: its licence has to be accepted first, and you are not logged in"),
        (403, "GatedRepo", "is gated: its licence"),
        (404, "RepoNotFound", "there is no model 'facebook/sam3' on the Hugging Face Hub"),
        (401, "RepoNotFound", "there is no model"),
    ],
)
def test_fetch_refused_by_the_hub_says_why(client, monkeypatch, status, code, told):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    client(lambda _: httpx2.Response(status, headers={"X-Error-Code": code}))
    with pytest.raises(WeightsError, match=told):
        fetch("facebook/sam3")
