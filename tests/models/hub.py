"""The Hub's cache as it lies on a disk, and the errors that its client raises; nothing here touches a network."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import httpx2
import huggingface_hub
from huggingface_hub import errors

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MAIN = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(cache: Path, repo_id: str, source: Path, *, revision: str = MAIN, main: bool = True) -> Path:
    """Lay a folder out as a downloaded repository: blobs, a snapshot of links to them, and where main points."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / revision
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        blob = repo / "blobs" / f"{revision[:8]}-{file.name}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    if main:
        (repo / "refs" / "main").write_text(revision, encoding="utf-8")
    return snapshot


def answer(status: int) -> httpx2.Response:
    """Return a response of the Hub with this status."""
    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/api/models/owner/name"))


def gated(status: int) -> Exception:
    """Return the error for a gated repository: 401 without a login, 403 without access."""
    return errors.GatedRepoError("Cannot access gated repo", response=answer(status))


def missing() -> Exception:
    """Return the error for a repository that does not exist."""
    return errors.RepositoryNotFoundError("Repository Not Found", response=answer(404))


def forbidden() -> Exception:
    """Return the error for a token without the permission to read gated repositories."""
    return errors.HfHubHTTPError("403 Forbidden", response=answer(403))


def unavailable() -> Exception:
    """Return the error for a Hub that is down."""
    return errors.HfHubHTTPError("503 Service Unavailable", response=answer(503))


def caused(error: Exception, cause: Exception) -> Exception:
    """Return an error as it arrives after ``raise error from cause``."""
    error.__cause__ = cause
    return error


def offline() -> Exception:
    """Return the error where HF_HUB_OFFLINE is set and nothing is in the cache."""
    return caused(errors.LocalEntryNotFoundError("Cannot find"), errors.OfflineModeIsEnabled("offline"))


def unreachable() -> Exception:
    """Return the error where no network is there and nothing is in the cache."""
    return caused(errors.LocalEntryNotFoundError("Got: ConnectError"), httpx2.ConnectError("no route"))


def broken_off() -> Exception:
    """Return the error where the network goes away in the middle of a file."""
    return httpx2.ReadTimeout("timed out")


def with_weights(folder: Path) -> Path:
    """Write the smallest safetensors file that is whole into a folder, and return the folder."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


def configured(folder: Path, model_type: str) -> Path:
    """Make a folder whose configuration says what kind of model is in it, and return it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return folder


def copy(source: Path, target: Path) -> Path:
    """Copy a folder, and return the copy."""
    shutil.copytree(source, target)
    return target


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let every download fail with this error."""

    def snapshot_download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def serve(monkeypatch: pytest.MonkeyPatch, cache: Path, source: Path) -> list[tuple[str, Path | None, list[str]]]:
    """Let every download succeed with the files of a folder, and return the list of what was asked for."""
    asked = []

    def snapshot_download(repo_id: str, *, cache_dir: Path | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, cache_dir, allow_patterns))
        snapshot = cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / MAIN
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in (file for pattern in allow_patterns for file in source.glob(pattern)):
            (snapshot / file.name).write_bytes(file.read_bytes())
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked
