"""How much masks overlap, and how well their boundaries agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject

_BOUNDARY = 0.008
"""How far boundaries may lie apart, as a part of the picture's diagonal: what DAVIS has."""


def iou(first: RunLengths, second: RunLengths) -> float:
    """Return intersection over union of two masks of one size; 0 where both are empty."""
    shared = _intersection(first, second)
    return shared / (first.area + second.area - shared) if shared else 0.0


def ious(pred: AnnotatedImage, truth: AnnotatedImage) -> NDArray[np.float64]:
    """Return the ``(P, T)`` IoU of all pairs; with a crowd, the part of the predicted mask that lies on it."""
    table = np.zeros((len(pred.objects), len(truth.objects)))
    for k, one in enumerate(pred.objects):
        for n, other in enumerate(truth.objects):
            if is_crowd(other):
                table[k, n] = _intersection(one.mask, other.mask) / max(1, one.mask.area)
            else:
                table[k, n] = iou(one.mask, other.mask)
    return table


def is_crowd(found: AnnotatedObject) -> bool:
    """Return whether an annotation stands for many objects, as COCO has it."""
    return bool(found.attributes.get("iscrowd"))


def boundary_f(pred: RunLengths, truth: RunLengths) -> float:
    """Return how well the boundaries of two masks agree: the harmonic mean of precision and recall.

    The measure F of DAVIS (Perazzi et al. 2016, after Martin, Fowlkes and Malik 2004): a pixel of a boundary is right
    where the other boundary is at most 0.8 % of the picture's diagonal away, rounded up to pixels. Two empty masks
    agree.

    Parameters
    ----------
    pred, truth : RunLengths
        Of one size.
    """
    boxes = [mask.bbox for mask in (pred, truth) if mask.bbox is not None]
    if not boxes:
        return 1.0
    edges = np.array(boxes)
    left, top = np.maximum(edges[:, :2].min(0) - 1, 0).tolist()
    right, bottom = np.minimum(edges[:, 2:].max(0) + 1, (truth.width, truth.height)).tolist()
    reach = math.ceil(_BOUNDARY * math.hypot(truth.height, truth.width))
    ours, theirs = (_boundary(mask.window(left, top, right, bottom)) for mask in (pred, truth))
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = float((_distance(theirs)[ours] <= reach).mean())
    recall = float((_distance(ours)[theirs] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _covered(mask: RunLengths, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels of a mask lie before each flat index."""
    ends = np.cumsum(mask.counts)
    inside = np.arange(len(ends)) % 2
    before = np.cumsum(mask.counts * inside) - mask.counts * inside
    run = np.minimum(np.searchsorted(ends, at), len(ends) - 1)
    result: NDArray[np.int64] = before[run] + inside[run] * (at - ends[run] + mask.counts[run])
    return result


def _intersection(first: RunLengths, second: RunLengths) -> int:
    """Return how many pixels two masks share, without decoding them."""
    if first.bbox is None or second.bbox is None:
        return 0
    (a1, b1, a2, b2), (c1, d1, c2, d2) = first.bbox, second.bbox
    if a2 <= c1 or c2 <= a1 or b2 <= d1 or d2 <= b1:
        return 0
    ends = np.cumsum(second.counts)
    begin, end = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
    return int((_covered(first, end) - _covered(first, begin)).sum())


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that differ from the one on the right, below, or both, as DAVIS and Berkeley have it."""
    padded = np.pad(mask, ((0, 1), (0, 1)), "edge")
    right, below, both = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    result: NDArray[np.bool_] = (mask ^ right) | (mask ^ below) | (mask ^ both)
    return result


def _distance(boundary: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each pixel to a boundary, in pixels."""
    far = cv2.distanceTransform((~boundary).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    return np.asarray(np.sqrt(np.round(far**2)))  # squares of distances are whole numbers
