"""The pictures that the model learns from: the training sets of the data folder, read into memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.clicks import split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHARES = {"various": 0.46, "ccp1004": 0.25, "feralcat": 0.24, "dsb2018": 0.05}
"""Training sets, and how often a picture is drawn from each. Nothing else is ever read."""
LONGEST = 448
"""Longest side in memory, in pixels."""
CELLS_SIDE = 640
"""Microscopy is kept larger: its objects are small."""


@dataclass(frozen=True)
class Picture:
    """One picture and what is marked in it.

    Attributes
    ----------
    name : str
        Set, folder and file.
    image : (H, W, 3) uint8
        RGB.
    ids : (H, W) int32
        Instance of each pixel, 0 for none. No id stands for two separate instances.
    wholes : (W,) int32
        Ids that are parts of one thing (the garments of a person); empty where instances are things themselves.
    """

    name: str
    image: NDArray[np.uint8]
    ids: NDArray[np.int32]
    wholes: NDArray[np.int32]


def read_picture(name: str, image_path: Path, mask_path: Path) -> Picture:
    """Read a pair at the size that is kept in memory."""
    image, ids = cv2.imread(str(image_path)), cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
    if image is None or ids is None:
        message = f"cannot read {image_path} and {mask_path}"
        raise OSError(message)
    longest = CELLS_SIDE if name == "dsb2018" else LONGEST
    scale = min(1.0, longest / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ids = cv2.resize(ids.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    wholes = np.zeros(0, np.int32)
    if name == "ccp1004":
        ids = separate(ids)
        wholes = np.unique(ids[ids > 0])
    rgb = np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)
    folder = image_path.parent.parent.name
    return Picture(f"{name}/{folder}/{image_path.name}", rgb, ids, wholes)


def separate(categories: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return an id for each connected component of each category: two shoes are two."""
    result, last = np.zeros_like(categories), 0
    for category in np.unique(categories[categories > 0]):
        count, labels = cv2.connectedComponents((categories == category).astype(np.uint8), connectivity=8)
        result = np.where(labels > 0, labels + last, result).astype(np.int32)
        last += count - 1
    return result


def read_set(data: Path, name: str, *, development: bool = False, workers: int = 2) -> list[Picture]:
    """Read a whole set, in an order that does not depend on the machine."""
    pairs = split(data / name, development=development)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda pair: read_picture(name, *pair), pairs))


class Library:
    """All pictures for learning, drawn from at random.

    Parameters
    ----------
    data : path
        The data folder, which has a folder for each of :data:`SHARES`.
    """

    def __init__(self, data: Path) -> None:
        self.sets = {name: read_set(data, name) for name in SHARES}
        self.weights: dict[str, NDArray[np.float64]] = {}
        for name, pictures in self.sets.items():
            # A folder counts by the root of its pictures, so that the many small ones are seen often enough.
            folders = [picture.name.split("/")[1] for picture in pictures]
            counts = {folder: folders.count(folder) for folder in folders}
            weights = np.array([counts[folder] ** -0.5 for folder in folders])
            self.weights[name] = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Picture:
        """Return a picture."""
        name = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        pictures = self.sets[name]
        return pictures[int(rng.choice(len(pictures), p=self.weights[name]))]
