"""Predict how good a region is from what can be measured on it: contrast, colours, shape, the click, agreement.

The prediction is linear in a few measurements. Its coefficients are a ridge regression of the true IoU, made on
photographs of animals, clothes, fruit and things; they hold no picture and no part of one. The coefficient of the size
is about half of the fitted one, set by hand: a first click more often means a whole thing than a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.graph import surround

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.builtin.regions import Regions

DISTINCT_IOU = 0.8
"""Two regions that overlap more are one answer."""
MEASURES = ("contrast", "border", "compactness", "likeness", "centred", "offset", "agreement", "size")
MEAN = np.array([0.686, 0.070, 0.464, 0.596, 0.661, 0.247, 0.462, -1.984])
SPREAD = np.array([0.568, 0.113, 0.141, 0.230, 0.246, 0.170, 0.183, 1.347])
WEIGHTS = np.array([0.371, 0.026, -0.044, 0.024, -0.058, 0.086, -0.018, 0.057, -0.060, -0.039])


def predict_iou(measures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the predicted IoU of regions described by :func:`measure`, (M,) float64."""
    normal = (measures - MEAN) / SPREAD
    # The square of the size is there because there is a typical one.
    regressors = np.column_stack([np.ones(len(normal)), normal, normal[:, MEASURES.index("size")] ** 2])
    return np.asarray(regressors @ WEIGHTS)


def measure(regions: Regions, members: NDArray[np.bool_], click: NDArray[np.float64]) -> NDArray[np.float64]:
    """Describe regions around a click.

    Parameters
    ----------
    regions : Regions
    members : (M, N) bool
        Superpixels of each region.
    click : (2,) float64
        ``(x, y)`` on the work image.

    Returns
    -------
    (M, 8) float64
        The columns of ``MEASURES``.
    """
    area = members @ regions.area
    first, second = regions.pairs.T
    cut = members[:, first] != members[:, second]
    contour = cut @ regions.length
    contrast = (cut @ (regions.length * np.log(regions.contrast + 0.1))) / np.maximum(contour, 1)
    border = members @ regions.border
    perimeter = np.maximum(contour + border, 1)
    around = np.array([surround(regions, member, 3) for member in members])
    likeness = overlap(regions.colours(members * regions.area), regions.colours(around * regions.area))
    offset = np.linalg.norm((members * regions.area) @ regions.centre / area[:, None] - click, axis=1)
    return np.column_stack(
        [
            contrast,
            border / perimeter,
            np.sqrt(4 * np.pi * area) / perimeter,
            likeness,
            centredness(regions, members, click),
            offset / np.sqrt(area),
            agreement(regions, members),
            np.log(area / regions.area.sum()),
        ]
    )


def overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Bhattacharyya coefficient of distributions, row by row."""
    return np.asarray(np.sqrt(first * second).sum(1))


def centredness(regions: Regions, members: NDArray[np.bool_], click: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how deep the click lies, against the deepest point: people click the middle of what they mean."""
    x, y = np.round(click).astype(int)
    result = []
    for member in members:
        padded = np.pad(member[regions.labels].astype(np.uint8), 1)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
        result.append(float(depth[y, x]) / max(float(depth.max()), 1.0))
    return np.array(result)


def agreement(regions: Regions, members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each region's mean IoU with all of them."""
    return np.asarray(agreement_between(regions, members).mean(1))


def agreement_between(regions: Regions, members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of each region with each other, (M, M) float64."""
    area = members @ regions.area
    shared = (members * regions.area) @ members.T
    return np.asarray(shared / np.maximum(area[:, None] + area[None] - shared, 1e-9))


def choose(regions: Regions, members: NDArray[np.bool_], scores: NDArray[np.float64], most: int) -> list[int]:
    """Return the indices of the best regions, distinct ones only."""
    alike = agreement_between(regions, members)
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(alike[index, other] < DISTINCT_IOU for other in chosen):
            chosen.append(int(index))
        if len(chosen) == most:
            break
    return chosen
