"""Folders of small pictures, what a data set made of one holds, and what would be there after a kill."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sam3_widget.core.runs import RunLengths
from sam3_widget.io import AnnotatedImage, read_coco
from sam3_widget.io.annotations import AnnotatedObject

if TYPE_CHECKING:
    from pathlib import Path

    from sam3_widget.dataset.dataset import DataSet
    from sam3_widget.live import LiveDocument

COUNT = 6
CLASSES = ("cat", "dog")
SPOTS = {"red": (0, (5, 5, 25, 25)), "green": (1, (40, 5, 60, 25)), "blue": (2, (40, 40, 50, 50))}


def picture(shade: int) -> np.ndarray:
    """Return a picture with a red, a green and a smaller blue spot; each shade is another picture."""
    pixels = np.full((60, 80, 3), shade, np.uint8)
    for channel, (x1, y1, x2, y2) in SPOTS.values():
        pixels[y1:y2, x1:x2] = 0
        pixels[y1:y2, x1:x2, channel] = 250
    return pixels


def pictures(folder: Path, count: int = COUNT, first: int = 0) -> Path:
    """Write pictures into a folder, ``00.png`` and so on."""
    folder.mkdir(exist_ok=True)
    for k in range(first, first + count):
        Image.fromarray(picture(50 + k)).save(folder / f"{k:02d}.png")
    return folder


def click(data: DataSet, x: float, y: float, label: str = "cat") -> int:
    """Click into the image that is shown, and return the object that the click has started."""
    object_id = data.live.run("add_point", {"x": x, "y": y, "label": label}).selected
    assert object_id is not None
    return object_id


def drawn(live: LiveDocument) -> dict[int, tuple[str, bytes]]:
    """Return label and mask of each object."""
    return {i.object_id: (i.label, live.mask(i).to_bytes()) for i in live.state.instances}


def held(data: DataSet) -> list[tuple[str, dict[int, tuple[str, bytes]]]]:
    """Return status, labels and masks of all images, each opened."""
    told = []
    for k, entry in enumerate(data.entries):
        live = data.open(k)
        live.settle()
        told.append((entry.status, drawn(live)))
    return told


def labels(out: Path) -> dict[str, list[str]]:
    """Return the labels in a COCO file, by the images' names."""
    return {one.file_name: [o.label for o in one.objects] for one in read_coco(out)}


def disc(x: int, y: int, radius: float = 5) -> RunLengths:
    """Return the mask of a disc."""
    ys, xs = np.mgrid[:60, :80]
    return RunLengths.from_mask(np.hypot(xs - x, ys - y) < radius)


def annotation(name: str, *objects: tuple[str, int, int, float]) -> AnnotatedImage:
    """Return an image with discs: label, place and score of each."""
    told = [AnnotatedObject(k, label, disc(x, y), score) for k, (label, x, y, score) in enumerate(objects, 1)]
    return AnnotatedImage(name, 60, 80, tuple(told))


def settled(*names: str) -> None:
    """Wait until all models have answered, and all is written that is written in the background.

    With ``names``, for the threads of these names alone.
    """
    for thread in threading.enumerate():
        if thread.name in (names or ("sam3w-toy", "sam3w-autosave", "sam3w-dataset")):
            thread.join(30)


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder with their content."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def as_after_a_kill(work: Path) -> Path:
    """Return a copy of a folder as it lies on the disk: what would be left if the process were killed now."""
    for number in range(100):
        copy = work.with_name(f"{work.name}-killed-{number}")
        if not copy.exists():
            return shutil.copytree(work, copy)
    raise AssertionError("too many kills")
