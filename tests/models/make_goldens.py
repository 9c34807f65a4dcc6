"""Write what the processors of transformers and torchvision make: ``python -m tests.models.make_goldens``.

Run by hand, where torchvision is installed with its compiled operators; tests read the file where it is not.

The file in the repository was made by transformers 5.23.0, torchvision 0.28.0 and torch 2.13.0, on an x86-64 CPU.
Inputs are made anew by whoever needs them, of integers and of a generator's raw bits: these never change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDENS = Path(__file__).with_name("goldens.npz")
SIDE = 56
"""Pixels per side of what the processors return."""
BINS = 7
"""Per side, of SAM 3's boxes."""
EXTENTS = (0.2, 0.9, 1.0, 2.5, 7.0, 7.1, 13.4, 21.5)
"""Widths and heights of boxes, in pixels of the features: some smaller than a bin, some than a pixel."""


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) picture of random pixels, of this size always the same."""
    bits = np.random.PCG64(1000 * height + width).random_raw(height * width * 3)
    return (bits >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) picture whose channels are slopes to the right, downwards and to the corner."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // width, 255 - 255 * y // height, 255 * x * y // (height * width)], -1).astype(np.uint8)


PICTURES = {
    "landscape": noise(40, 61),
    "portrait": noise(97, 35),
    "square": noise(SIDE, SIDE),
    "half a row": smooth(57, 112),  # where it is 56 wide, it is 28.5 high
    "large": smooth(480, 360),
    "flat": smooth(9, 300),
    "tiny": noise(2, 3),
    "one pixel": noise(1, 1),
}
PROCESSORS: dict[str, dict[str, dict[str, int]]] = {
    "Sam3": {"size": {"height": SIDE, "width": SIDE}},
    "Sam2": {"size": {"height": SIDE, "width": SIDE}},
    "Sam": {"size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}},
}


def regions() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (2, 2, 23, 31) features and (2, 64, 4) boxes: the first image's inside it, the second's anywhere."""
    shape = (2, 2, 23, 31)
    bits = np.random.PCG64(0)
    features = (bits.random_raw(int(np.prod(shape))) >> np.uint64(40)) / 2.0**23 - 1
    extents = np.array([(width, height) for width in EXTENTS for height in EXTENTS])
    places = (bits.random_raw(2 * extents.size) >> np.uint64(40)).reshape(2, *extents.shape) / 2.0**24
    beyond = np.array([0, 4])[:, None, None]
    starts = places * (np.array([31, 23]) - extents + 2 * beyond) - beyond
    boxes = np.concatenate([starts, starts + extents], axis=-1)
    return features.reshape(shape).astype(np.float32), boxes.astype(np.float32)


def preprocessed() -> dict[str, NDArray[np.float32]]:
    """Return (3, SIDE, SIDE) pixels by processor and picture."""
    import transformers  # noqa: PLC0415 - whoever reads the goldens needs none of these

    made = {}
    for name, settings in PROCESSORS.items():
        process = getattr(transformers, f"{name}ImageProcessor")(**settings)
        for title, picture in PICTURES.items():
            pixels = process(picture, input_data_format="channels_last", return_tensors="pt").pixel_values
            made[f"{name} {title}"] = pixels[0].numpy()
    return made


def pooled() -> NDArray[np.float32]:
    """Return (2, 64, 2, BINS, BINS): the features in each box."""
    import torch  # noqa: PLC0415
    import torchvision  # noqa: PLC0415

    features, boxes = (torch.from_numpy(values) for values in regions())
    bins: NDArray[np.float32] = torchvision.ops.roi_align(features, list(boxes), BINS).numpy()
    return bins.reshape(*boxes.shape[:2], *bins.shape[1:])


if __name__ == "__main__":
    np.savez_compressed(GOLDENS, roi_align=pooled(), **preprocessed())
