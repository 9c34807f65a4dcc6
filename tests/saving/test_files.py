"""Files are whole or not there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from sam3_widget.errors import FormatError
from sam3_widget.saving.files import below, write_atomically, write_into

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_written_and_replaced(tmp_path: Path):
    target = tmp_path / "a.txt"
    write_atomically(target, "grün")
    assert target.read_bytes() == "grün".encode()
    write_atomically(str(target), b"\x00new")
    assert target.read_bytes() == b"\x00new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_on_the_way_leaves_the_old_file(tmp_path: Path, monkeypatch):
    target = tmp_path / "a.txt"
    write_atomically(target, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_data_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch):
    target = tmp_path / "a.txt"
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(target.exists()))
    write_atomically(target, "new")
    assert seen[0] is False
    assert seen[-1] is True, "then the folder, in which the name is"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_kept_and_links_followed(tmp_path: Path):
    target, link, plain = tmp_path / "a.txt", tmp_path / "link", tmp_path / "plain"
    write_atomically(target, "old")
    plain.write_text("")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_folder_that_is_missing_raises(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "a.txt", "")


def test_folders_are_made_for_several_files(tmp_path: Path):
    write_into(tmp_path / "new", {"a.txt": "1", "b/c/d.txt": b"2"})
    assert (tmp_path / "new" / "a.txt").read_text() == "1"
    assert (tmp_path / "new" / "b" / "c" / "d.txt").read_text() == "2"


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jpg", "a.txt"), ("b/a.tar.gz", "b/a.tar.txt"), (r"b\a", "b/a.txt"), ("./a.b", "a.txt")]
)
def test_below_keeps_folders_and_stem(name, expected):
    assert below(name, ".txt") == expected


@pytest.mark.parametrize("name", ["", "/a.jpg", "../a.jpg", "b/../../a.jpg", r"..\a.jpg", r"C:\a.jpg", "a\0.jpg", "."])
def test_a_name_that_leaves_the_folder_raises(name):
    with pytest.raises(FormatError, match="must be a path inside a folder"):
        below(name, ".txt")
