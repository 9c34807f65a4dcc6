"""How logits relate to pixels of the image: bilinear sampling, and keeping the promises about clicks and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF = 0.5
"""From a pixel's or cell's edge to its centre."""
LIMIT = 8.0
"""Largest magnitude of a logit."""
MARGIN = 1.0
"""How far on its side of zero a click ends up."""
NEGLIGIBLE = 1e-4
"""A bilinear weight this small cannot change a sign, but the cell behind it could belong to another click."""
SURE = 3.0
"""Mean magnitude of the logits of a region from which it is settled."""
REACH = 6
"""Cells within which a click belongs to a region."""
BUMP = 2.5
"""Standard deviation of what a disobeyed click adds, in cells."""
BOX_SLOPE = 4.0
"""Fall of the logits across a box's edge, per cell of the grid."""


def to_grid(points: NDArray[np.float32], size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Return where the pixels under ``points`` lie on a coarser grid.

    Parameters
    ----------
    points : (P, 2) float32
        ``(x, y)`` in pixels of the image.
    size, grid : (height, width)
        Of the image and of the logits.

    Returns
    -------
    (P, 2) float64
        ``(x, y)`` of the pixels' centres in units of cells, with cell ``i`` centred on ``i`` (half-pixel centres, as in
        ``cv2.resize``), clipped to the grid as bilinear sampling does at the border.
    """
    height, width = size
    last = np.array([width - 1, height - 1])
    pixel = np.clip(points.astype(np.float64).astype(np.int64), 0, last) + 0.5
    scale = np.array([grid[1] / width, grid[0] / height])
    return np.asarray(np.clip(pixel * scale - HALF, 0, [grid[1] - 1, grid[0] - 1]))


def bilinear_cells(
    position: NDArray[np.float64], grid: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return rows, columns and weights of the up to four cells that bilinear sampling reads at ``(x, y)``."""
    left, top = np.floor(position).astype(np.intp)
    fraction_x, fraction_y = position - (left, top)
    rows = np.array([top, top, top + 1, top + 1])
    columns = np.array([left, left + 1, left, left + 1])
    weights = np.outer([1 - fraction_y, fraction_y], [1 - fraction_x, fraction_x]).ravel()
    used = (weights > NEGLIGIBLE) & (rows < grid[0]) & (columns < grid[1])
    return rows[used], columns[used], weights[used]


def obey_clicks(
    logits: NDArray[np.float32],
    points: NDArray[np.float32],
    labels: NDArray[np.bool_],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """Return logits whose bilinear upsampling has every click on its own side of zero.

    Where two opposite clicks read the same cells, the later one wins them; the earlier keeps its side if the cells that
    it does not share can still decide it.

    Parameters
    ----------
    logits : (h, w) float32
    points, labels : (P, 2) float32, (P,) bool
        In pixels of the image, oldest first.
    size : (height, width)
        Of the image.
    """
    result = logits.copy()
    signs = np.where(labels, 1.0, -1.0)
    positions = to_grid(points, size, logits.shape)
    owner = np.full(logits.shape, -1)
    cells = [bilinear_cells(position, logits.shape) for position in positions]
    for index, (rows, columns, _) in enumerate(cells):
        owner[rows, columns] = index
    for index, (rows, columns, weights) in enumerate(cells):
        sign = signs[index]
        if sign * float(weights @ result[rows, columns]) >= MARGIN:
            continue
        mine = signs[owner[rows, columns]] == sign
        values = result[rows, columns] * sign
        values[mine] = np.maximum(values[mine], MARGIN)
        foreign = float(weights[~mine] @ values[~mine])
        if mine.any() and foreign < 0:
            needed = (MARGIN - foreign) / float(weights[mine].sum())
            values[mine] = np.maximum(values[mine], min(needed, LIMIT))
        result[rows, columns] = values * sign
    return result


def bound_by_box(logits: NDArray[np.float32], box: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return logits whose bilinear upsampling is positive only inside the box.

    Each side of the box is a linear ramp through zero at that side. Bilinear sampling reproduces a linear function and
    keeps an inequality between samples, so what stays below the ramps cannot be positive beyond them.

    Parameters
    ----------
    logits : (h, w) float32
    box : (4,) float32
        ``(x1, y1, x2, y2)`` in pixels of the image.
    size : (height, width)
        Of the image.
    """
    x1, y1, x2, y2 = box.astype(np.float64)
    across = _side_ramps(x1, x2, size[1], logits.shape[1])
    down = _side_ramps(y1, y2, size[0], logits.shape[0])
    return np.minimum(logits, np.minimum(across[None, :], down[:, None])).astype(np.float32)


def _side_ramps(low: float, high: float, pixels: int, cells: int) -> NDArray[np.float64]:
    scale = cells / pixels
    centre = np.arange(cells) + 0.5
    ramps = np.minimum(centre - low * scale, high * scale - centre) * BOX_SLOPE
    # Beyond the outermost centres sampling repeats the outermost cell, so that one speaks for pixels outside, too.
    if low > HALF and low * scale < HALF:
        ramps[0] = min(ramps[0], -1e-3)
    if high < pixels - HALF and high * scale > cells - HALF:
        ramps[-1] = min(ramps[-1], -1e-3)
    return np.asarray(ramps)


def nudge(
    logits: NDArray[np.float32],
    points: NDArray[np.float32],
    labels: NDArray[np.bool_],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """Return logits with a smooth bump under each click that they disobey, so that no lone pixel has to obey it.

    Parameters
    ----------
    logits : (h, w) float32
    points, labels : (P, 2) float32, (P,) bool
        In pixels of the image, oldest first.
    size : (height, width)
        Of the image.
    """
    result = logits.copy()
    rows, columns = np.indices(logits.shape)
    for (x, y), label in zip(to_grid(points, size, logits.shape), labels, strict=True):
        sign = 1.0 if label else -1.0
        lacking = MARGIN - sign * float(result[round(y), round(x)])
        if lacking > 0:
            bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * BUMP**2))
            result += (sign * lacking * bump).astype(np.float32)
    return result


def keep_settled(
    logits: NDArray[np.float32],
    previous: NDArray[np.float32],
    points: NDArray[np.float32],
    labels: NDArray[np.bool_],
    size: tuple[int, int],
) -> NDArray[np.float32]:
    """Return logits whose mask differs from a settled earlier one only where a click asked for it.

    A region that changes sides stays changed if it is at a click that the earlier mask contradicts, or if the earlier
    logits were not sure about it and it is more than a contour moved by a pixel or two; otherwise it gets them back. A
    contradicting click that no change is near has been answered in some other way, and then all changes stay.

    Parameters
    ----------
    logits, previous : (h, w) float32
    points, labels : (P, 2) float32, (P,) bool
        In pixels of the image.
    size : (height, width)
        Of the image.
    """
    changed = (logits > 0) != (previous > 0)
    count, regions = cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)
    thick = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    region, before = regions[changed], previous[changed]
    sizes = np.bincount(region, minlength=count)
    sure = np.bincount(region, np.abs(before), minlength=count) / np.maximum(sizes, 1) > SURE
    sure |= np.bincount(regions[thick], minlength=count) == 0
    columns, rows = np.rint(to_grid(points, size, logits.shape)).astype(np.intp).T
    contradicted = (previous[rows, columns] > 0) != labels
    for row, column in zip(rows[contradicted], columns[contradicted], strict=True):
        near = regions[max(0, row - REACH) : row + REACH + 1, max(0, column - REACH) : column + REACH + 1]
        if not near.any():
            return logits
        sure[near] = False
    result = logits.copy()
    result[changed] = np.where(sure[region], before, logits[changed])
    return result
