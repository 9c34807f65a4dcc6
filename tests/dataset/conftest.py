"""A folder of pictures, and data sets on it that are closed when the test is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sam3_widget.dataset.dataset import DataSet
from tests.dataset.folders import CLASSES, pictures
from tests.toy import ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


@pytest.fixture
def work(tmp_path) -> Path:
    """Return a folder with a folder of pictures in it, ``images``."""
    place = tmp_path / "work"
    place.mkdir()
    pictures(place / "images")
    return place


@pytest.fixture
def out(work) -> Path:
    """Return where the COCO file goes."""
    return work / "labels.json"


@pytest.fixture
def opened(work, out) -> Generator[Callable[..., DataSet]]:
    """Return what opens a data set, by default on all pictures."""
    made: list[DataSet] = []

    def open_(images=None, target=None, classes=CLASSES, model=None, **rest) -> DataSet:
        where = work / "images" if images is None else images
        made.append(DataSet(where, target or out, classes, model or ToyModel(), **rest))
        return made[-1]

    yield open_
    for each in made:
        each.close()
