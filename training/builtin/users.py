"""Simulated users: where they click, what boxes they draw, which wrong masks they bring along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.clicks import largest_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

CENTRED, INSIDE = 0.5, 0.35
"""Shares of clicks at the middle of what is meant, and anywhere well inside; the others go anywhere on it."""
BOX_JITTER = 0.04
"""Standard deviation of a box's sides, as a share of the box."""


def depth(region: Mask) -> NDArray[np.float32]:
    """Return each pixel's distance to the boundary of a region; the border of the picture is a boundary."""
    padded = np.pad(region.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)


def click_in(region: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """Return ``(x, y)`` of a click in a region: at its middle, well inside, or anywhere, as people do."""
    inside = depth(region)
    kind = rng.random()
    if kind < CENTRED:
        y, x = np.unravel_index(int(inside.argmax()), inside.shape)
        return float(x) + 0.5, float(y) + 0.5
    least = 0.3 * float(inside.max()) if kind < CENTRED + INSIDE else 0.0
    places = np.flatnonzero(inside > least)
    y, x = np.unravel_index(int(rng.choice(places)), inside.shape)
    return float(x) + float(rng.random()), float(y) + float(rng.random())


def correct(mask: Mask, truth: Mask, rng: np.random.Generator) -> tuple[float, float, bool]:
    """Return ``(x, y)`` and label of a click on the largest error; inside the object where nothing is wrong."""
    missed, wrong = largest_region(truth & ~mask), largest_region(mask & ~truth)
    positive = bool(missed.sum() >= wrong.sum())
    region = missed if positive else wrong
    if not region.any():
        return (*click_in(truth, rng), True)
    return (*click_in(region, rng), positive)


def draw_box(truth: Mask, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ``(x1, y1, x2, y2)`` around an object, as tight as people draw it."""
    x, y, width, height = cv2.boundingRect(truth.astype(np.uint8))
    jitter = rng.normal(0, BOX_JITTER * (2.5 if rng.random() < 0.15 else 1.0), 4) * (width, height, width, height)
    jitter += rng.normal(0, 0.7, 4)
    # People leave some air around a thing rather than cut it.
    box = np.array([x, y, x + width, y + height]) + np.abs(jitter) * np.where(
        rng.random(4) < 0.75, [-1, -1, 1, 1], [1, 1, -1, -1]
    )
    box = np.clip(box, 0, [truth.shape[1], truth.shape[0]] * 2)
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        box = np.array([x, y, x + width, y + height], np.float64)
    return box.astype(np.float32)


def spoil(truth: Mask, other: Mask, rng: np.random.Generator) -> Mask:
    """Return a mask with the errors of another tool: grown, shrunk, shifted, cut, or with something else in it."""
    mask = truth.astype(np.uint8)
    size = max(1, int(np.sqrt(mask.sum()) * rng.uniform(0.02, 0.2)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    kind = rng.integers(0, 5)
    if kind == 0:
        mask = cv2.dilate(mask, kernel)
    elif kind == 1:
        mask = cv2.erode(mask, kernel)
    elif kind == 2:
        mask = np.roll(mask, tuple(rng.integers(-2 * size, 2 * size + 1, 2)), (0, 1))
    elif kind == 3:
        mask |= other.astype(np.uint8)
    if kind == 4 or rng.random() < 0.3:
        x, y = click_in(truth, rng)
        cv2.circle(mask, (int(x), int(y)), int(size * rng.uniform(1, 3)), 0, -1)
    if rng.random() < 0.3:
        x, y = rng.uniform(0, truth.shape[1]), rng.uniform(0, truth.shape[0])
        cv2.circle(mask, (int(x), int(y)), int(size * rng.uniform(0.5, 2)), 1, -1)
    return mask > 0
