"""From logits to the mask that is drawn: bilinear to the image's size, threshold, strokes, hygiene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.core.runs import RunLengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.prompts import Stroke

Window = tuple[int, int, int, int]
"""``(x1, y1, x2, y2)`` in pixels, ends exclusive."""

SURE = 8.0
"""Logit of a pixel that a person decided: a probability of 0.9997."""
_PRIOR_SIDE = 512
_CONNECTED_8, _CONNECTED_4 = 8, 4
_ALL = 4
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Hygiene:
    """What is cleaned up after the threshold; areas in pixels of the original image, 0 turns a step off.

    Attributes
    ----------
    fill_holes : int
        Background holes of at most this area are filled.
    min_area : int
        Islands smaller than this are dropped, except the only one.
    """

    fill_holes: int = 0
    min_area: int = 0


def logit(probability: float) -> float:
    """Return the logit of a probability between 0 and 1 (exclusive)."""
    return math.log(probability / (1 - probability))


def _taps(
    start: int, stop: int, size: int, source: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the two source indices and the weight of the second for each target pixel."""
    at = np.clip((np.arange(start, stop) + 0.5) * (source / size) - 0.5, 0, source - 1)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float32)


def threshold(logits: NDArray[np.float32], level: float, height: int, width: int) -> tuple[NDArray[np.bool_], Window]:
    """Return where logits exceed a level, interpolated bilinearly to the image's size.

    Pixel centres lie at half-integers, as in ``torch.nn.functional.interpolate(align_corners=False)``. What lies
    between four logits on one side of the level lies on that side, so that only the border is interpolated.

    Parameters
    ----------
    logits : (h, w) float32
    level : float
    height, width : int
        Size of the image in pixels.

    Returns
    -------
    mask : (y2 - y1, x2 - x1) bool
        Of the smallest window that can hold it.
    window : (x1, y1, x2, y2)
    """
    over = logits > level
    rows, cols = np.nonzero(over.any(1))[0], np.nonzero(over.any(0))[0]
    if not len(rows):
        return np.zeros((0, 0), np.bool_), (0, 0, 0, 0)
    x1, x2 = _reach(int(cols[0]), int(cols[-1]), logits.shape[1], width)
    y1, y2 = _reach(int(rows[0]), int(rows[-1]), logits.shape[0], height)
    left, right, across = _taps(x1, x2, width, logits.shape[1])
    above, below, down = _taps(y1, y2, height, logits.shape[0])
    lines = np.unique(above)
    pairs = over[lines].view(np.uint8) + over[np.minimum(lines + 1, len(over) - 1)]
    corners = pairs.take(left, axis=1) + pairs.take(right, axis=1)  # how many of the four exceed it
    begin = np.searchsorted(above, lines)
    count = np.diff(begin, append=len(above))
    mask = np.repeat(corners == _ALL, count, axis=0)
    line, x = np.nonzero((corners != 0) & (corners != _ALL))
    many = count[line]
    y = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many - begin[line], many)
    x = np.repeat(x, many)
    upper = logits[above[y], left[x]]
    upper += (logits[above[y], right[x]] - upper) * across[x]
    lower = logits[below[y], left[x]]
    lower += (logits[below[y], right[x]] - lower) * across[x]
    mask[y, x] = upper + (lower - upper) * down[y] > level
    return mask, (x1, y1, x2, y2)


def _reach(first: int, last: int, source: int, size: int) -> tuple[int, int]:
    """Return the target pixels that source pixels ``first`` to ``last`` have any weight in."""
    scale = size / source
    return max(0, math.floor((first - 0.5) * scale)), min(size, math.ceil((last + 1.5) * scale))


def paint(mask: NDArray[np.bool_], strokes: Sequence[Stroke], origin: tuple[int, int]) -> None:
    """Paint strokes into a mask, in order and in place; ``origin`` is the ``(x, y)`` of its first pixel."""
    canvas = mask.view(np.uint8)
    for stroke in strokes:
        _draw(canvas, stroke, (1.0, 1.0), origin, 1 if stroke.positive else 0)


def _draw(
    canvas: NDArray[np.uint8], stroke: Stroke, scale: tuple[float, float], origin: tuple[int, int], value: int
) -> None:
    """Draw one stroke; ``scale`` is target pixels per image pixel in x and y."""
    factor = 1 << _SUBPIXEL_BITS
    path = np.array(stroke.path, np.float64) * scale - 0.5 - np.array(origin)
    radius = stroke.radius * (scale[0] + scale[1]) / 2
    fixed = np.round(path * factor).astype(np.int32)
    thickness = max(1, round(2 * radius))
    cv2.polylines(
        canvas,
        [fixed],
        isClosed=False,
        color=value,
        thickness=thickness,
        lineType=cv2.LINE_8,
        shift=_SUBPIXEL_BITS,
    )
    for x, y in fixed.tolist():  # round ends and corners
        cv2.circle(canvas, (x, y), round(radius * factor), value, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)


def compose(
    base: NDArray[np.float32] | RunLengths | None,
    size: tuple[int, int],
    level: float = 0.0,
    strokes: Sequence[Stroke] = (),
    hygiene: Hygiene | None = None,
    keep: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]] = ((), ()),
) -> RunLengths:
    """Make the mask that is drawn.

    Parameters
    ----------
    base : (h, w) float32, RunLengths or None
        A decoder's logits, or a mask that is exact already; None starts from nothing.
    size : (height, width)
        Of the image in pixels.
    level : float
        Logit that a pixel must exceed; a mask that is exact already is not thresholded.
    strokes : sequence of Stroke
        Painted in order after the threshold.
    hygiene : Hygiene, optional
    keep : (inside, outside)
        Positions ``(x, y)`` whose island or hole hygiene must leave alone.
    """
    if isinstance(base, RunLengths) and not strokes and not hygiene:
        return base
    height, width = size
    mask: NDArray[np.bool_]
    window: Window
    if isinstance(base, RunLengths):
        window = base.bbox or (0, 0, 0, 0)
        mask = base.window(*window)
    elif base is not None:
        mask, window = threshold(base, level, height, width)
    else:
        mask, window = np.zeros((0, 0), np.bool_), (0, 0, 0, 0)
    if strokes:
        mask, window = _widen(mask, window, strokes, size)
        paint(mask, strokes, window[:2])
    if hygiene:
        origin = np.array(window[:2])
        inside, outside = (np.array(p, np.float64).reshape(-1, 2).astype(np.int64) - origin for p in keep)
        mask = clean(mask, hygiene, inside, outside)
    return RunLengths.from_window(mask, window[0], window[1], height, width)


def _widen(
    mask: NDArray[np.bool_], window: Window, strokes: Sequence[Stroke], size: tuple[int, int]
) -> tuple[NDArray[np.bool_], Window]:
    """Return a copy of the mask with a window that holds the positive strokes as well."""
    spans = [window] if mask.size else []
    for stroke in strokes:
        if stroke.positive:
            xs, ys = zip(*stroke.path, strict=True)
            r = stroke.radius + 2
            spans.append((int(min(xs) - r), int(min(ys) - r), math.ceil(max(xs) + r), math.ceil(max(ys) + r)))
    if not spans:
        return mask.copy(), window
    x1, y1, x2, y2 = (pick(edge) for pick, edge in zip((min, min, max, max), zip(*spans, strict=True), strict=True))
    x1, y1 = min(max(0, x1), size[1] - 1), min(max(0, y1), size[0] - 1)
    x2, y2 = max(min(size[1], x2), x1 + 1), max(min(size[0], y2), y1 + 1)
    wide = np.zeros((y2 - y1, x2 - x1), np.bool_)
    if mask.size:
        wide[window[1] - y1 : window[3] - y1, window[0] - x1 : window[2] - x1] = mask
    return wide, (x1, y1, x2, y2)


def prior_from_mask(mask: RunLengths) -> NDArray[np.float32]:
    """Return logits for a mask: its coverage at no more than 512 pixels a side, scaled to +-8.

    Returns
    -------
    (h, w) float32
    """
    scale = min(1.0, _PRIOR_SIDE / max(mask.height, mask.width))
    size = (max(1, round(mask.width * scale)), max(1, round(mask.height * scale)))
    full = mask.to_mask().view(np.uint8) * np.uint8(255)
    cover = cv2.resize(full, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return ((cover * 2 - 1) * SURE).astype(np.float32)


def paint_logits(
    logits: NDArray[np.float32], strokes: Sequence[Stroke], height: int, width: int
) -> NDArray[np.float32]:
    """Return logits with strokes burnt in as decided; shape ``(h, w)``, for an image of ``height`` x ``width``."""
    result = logits.astype(np.float32, copy=True)
    scale = (logits.shape[1] / width, logits.shape[0] / height)
    for stroke in strokes:
        under = np.zeros(logits.shape, np.uint8)
        _draw(under, stroke, scale, (0, 0), 1)
        result[under > 0] = SURE if stroke.positive else -SURE
    return result


def clean(
    mask: NDArray[np.bool_],
    hygiene: Hygiene,
    inside: NDArray[np.int64],
    outside: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Fill holes and drop islands, but none that a person's prompt speaks for.

    Parameters
    ----------
    mask : (h, w) bool
    hygiene : Hygiene
    inside, outside : (P, 2) int64
        Positions ``(x, y)`` that a person said to be inside or outside: such an island or hole stays.

    Returns
    -------
    (h, w) bool
    """
    if hygiene.fill_holes and mask.any():
        padded = np.pad(~mask, 1, constant_values=True)
        around = np.zeros((1, 2), np.int64)  # what surrounds the mask is no hole in it, however little of it is here
        small = _small_parts(padded, hygiene.fill_holes + 1, np.vstack([outside + 1, around]), _CONNECTED_4)
        mask = mask | small[1:-1, 1:-1]
    if hygiene.min_area and mask.any():
        small = _small_parts(mask, hygiene.min_area, inside, _CONNECTED_8)
        if not (small == mask).all():
            mask = mask & ~small
    return mask


def _small_parts(mask: NDArray[np.bool_], below: int, keep: NDArray[np.int64], connectivity: int) -> NDArray[np.bool_]:
    """Return the connected parts of fewer pixels than ``below`` that hold no position to keep."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=connectivity)
    small = stats[:, cv2.CC_STAT_AREA] < below
    small[0] = False
    height, width = mask.shape
    x, y = keep[:, 0], keep[:, 1]
    within = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    small[parts[y[within], x[within]]] = False
    chosen: NDArray[np.bool_] = small[parts]
    return chosen
