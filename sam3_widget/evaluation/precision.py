"""Average precision of masks as COCO computes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.evaluation.overlap import is_crowd
from sam3_widget.io.annotations import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of the IoU."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100
"""Predictions of one class that count on a picture."""


def average_precisions(
    pairs: Sequence[tuple[AnnotatedImage, AnnotatedImage]], tables: Sequence[NDArray[np.float64]], *, labelled: bool
) -> dict[str, NDArray[np.float64]]:
    """Return the average precision of each class of the truth at each IoU threshold, NaN where all are crowds."""

    def class_of(found: AnnotatedObject) -> str:
        return (found.label or UNLABELLED) if labelled else ""

    result = {}
    for label in dict.fromkeys(class_of(o) for _, truth in pairs for o in truth.objects):
        scores, hits, ignored, total = [], [], [], 0
        for (pred, truth), table in zip(pairs, tables, strict=True):
            rows = [k for k, o in enumerate(pred.objects) if class_of(o) == label]
            rows = sorted(rows, key=lambda k: -_score(pred.objects[k]))[:_MOST]
            columns = [k for k, o in enumerate(truth.objects) if class_of(o) == label]
            columns.sort(key=lambda k: is_crowd(truth.objects[k]))
            crowd = np.array([is_crowd(truth.objects[k]) for k in columns], np.bool_)
            hit, passed = _assigned(table[np.ix_(rows, columns)], crowd)
            hits.append(hit)
            ignored.append(passed)
            scores += [_score(pred.objects[k]) for k in rows]
            total += int((~crowd).sum())
        order = np.argsort(-np.array(scores), kind="stable")
        result[label] = _precision(np.concatenate(hits, 1)[:, order], np.concatenate(ignored, 1)[:, order], total)
    return result


def _score(found: AnnotatedObject) -> float:
    return 1.0 if math.isnan(found.score) else float(found.score)


def _assigned(table: NDArray[np.float64], crowd: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each threshold which predictions hit a true object, and which do not count (``COCOeval.evaluateImg``).

    Parameters
    ----------
    table : (P, T) float64
        IoU, predictions by falling score, crowds last.
    crowd : (T,) bool
    """
    hit = np.zeros((len(THRESHOLDS), len(table)), np.bool_)
    ignored = np.zeros_like(hit)
    for level, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(crowd), np.bool_)
        for k, row in enumerate(table):
            for some in (~crowd & ~taken, crowd):  # a crowd takes any number, but only what fits no object
                reached = np.where(some & (row >= min(threshold, 1 - 1e-10)), row, -1.0)
                if len(row) and reached.max() >= 0:
                    best = len(row) - 1 - int(reached[::-1].argmax())  # of equals COCO takes the last
                    taken[best], hit[level, k], ignored[level, k] = True, True, crowd[best]
                    break
    return hit & ~ignored, ignored


def _precision(hits: NDArray[np.bool_], ignored: NDArray[np.bool_], total: int) -> NDArray[np.float64]:
    """Return the mean precision at 101 recalls for each threshold (``COCOeval.accumulate``)."""
    result = np.full(len(THRESHOLDS), np.nan)
    if not total:
        return result
    for level, (hit, passed) in enumerate(zip(hits, ignored, strict=True)):
        right = np.cumsum(hit)
        wrong = np.cumsum(~hit & ~passed)
        precision = right / (right + wrong + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / total, _RECALLS)
        result[level] = np.append(precision, np.zeros(1))[np.minimum(at, len(precision))].mean()
    return result
