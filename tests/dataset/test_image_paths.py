"""A folder, or a list, as paths of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3_widget.core.image import SUFFIXES, image_files, image_paths
from sam3_widget.errors import InvalidPromptError

NAMES = ["img1.png", "IMG2.PNG", "img10.jpg", "img010.jpg", "a.tiff", "b.webp", "2.png", "10.png", "1.bmp"]
NATURAL = ["1.bmp", "2.png", "10.png", "a.tiff", "b.webp", "img1.png", "IMG2.PNG", "img010.jpg", "img10.jpg"]


@pytest.fixture
def folder(tmp_path):
    for name in [*NAMES, "notes.txt", ".hidden.png", "png", "labels.json", "clip.mp4", "x.png.part"]:
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.png").touch()
    return tmp_path


def test_image_paths_of_a_folder_are_its_image_files_in_natural_order(folder):
    assert [path.name for path in image_paths(folder)] == NATURAL
    assert image_paths(str(folder)) == image_paths(folder) == image_files(folder)
    assert {path.parent for path in image_paths(folder)} == {folder}


def test_image_paths_of_a_folder_are_relative_where_it_is(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert image_paths(folder.name)[0] == Path(folder.name, "1.bmp")


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_image_paths_take_every_suffix_in_any_case(tmp_path, suffix):
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).touch()
    assert len(image_paths(tmp_path)) == 2


def test_image_paths_of_a_list_are_as_given_each_once(folder):
    given = ["b.png", Path("a.png"), "x/../a.png", Path("b.png"), "a.png"]
    assert image_paths(given) == [Path("b.png"), Path("a.png"), Path("x/../a.png")]
    assert image_paths(iter(given)) == image_paths(given)
    assert image_paths(folder.glob("*.jpg")) != []
    assert image_paths(tuple(given[:1])) == [Path("b.png")]


@pytest.mark.parametrize("given", ["{folder}/img1.png", "{folder}/nowhere", "", 3, None, [3], [None], [b"a.png"], 1.5])
def test_image_paths_of_something_else_raise(folder, given):
    given = given.format(folder=folder) if isinstance(given, str) and given else given
    if given == "":  # the folder that one is in would be "."
        with pytest.raises(InvalidPromptError):
            image_paths("{nothing}")
        return
    with pytest.raises(InvalidPromptError, match="images must be a folder or a list of paths, got"):
        image_paths(given)


def test_image_paths_of_one_file_raise(folder):
    with pytest.raises(InvalidPromptError, match=r"a folder or a list of paths, got .*img1\.png"):
        image_paths(folder / "img1.png")


def test_image_paths_of_nothing_raise(tmp_path):
    (tmp_path / "notes.txt").touch()
    for given in ([], (), iter([]), tmp_path):
        with pytest.raises(InvalidPromptError, match="there are no images"):
            image_paths(given)
