"""How good masks are against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.evaluation.overlap import boundary_f, ious, is_crowd
from sam3_widget.evaluation.pictures import paired, pictures
from sam3_widget.evaluation.precision import THRESHOLDS, average_precisions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.evaluation.pictures import Masks


@dataclass(frozen=True)
class Match:
    """A true object and the mask that was predicted for it.

    Attributes
    ----------
    file_name : str
        The picture, "" where it has no name.
    truth_id : int
        ``object_id`` of the true object.
    pred_id : int or None
        ``object_id`` of the predicted one; None where nothing was predicted that overlaps.
    label : str
        Class of the true object.
    iou : float
        Intersection over union; 0 where nothing was predicted.
    boundary_f : float
        See :func:`boundary_f`; 0 where nothing was predicted.
    """

    file_name: str
    truth_id: int
    pred_id: int | None
    label: str
    iou: float
    boundary_f: float


@dataclass(frozen=True)
class Evaluation:
    """How good masks are.

    Attributes
    ----------
    matches : tuple of Match
        One for each true object, crowds left out.
    unmatched : int
        Predicted objects that belong to no true one.
    ap, ap50, ap75 : float
        COCO's average precision of masks: over the IoU thresholds 0.5, 0.55, ... 0.95, and at 0.5 and 0.75; the mean
        over classes. NaN without true objects.
    ap_by_label : mapping
        ``ap`` of each class.
    """

    matches: tuple[Match, ...]
    unmatched: int
    ap: float
    ap50: float
    ap75: float
    ap_by_label: Mapping[str, float]

    @property
    def iou(self) -> float:
        """The mean IoU over true objects; NaN without any."""
        return _mean([match.iou for match in self.matches])

    @property
    def boundary_f(self) -> float:
        """The mean boundary F over true objects; NaN without any."""
        return _mean([match.boundary_f for match in self.matches])


def evaluate(pred: Masks, truth: Masks) -> Evaluation:
    """Compare masks with true ones.

    Objects are matched one to one, pairs of the largest IoU first, whatever their classes. Average precision is COCO's
    (pycocotools' ``COCOeval`` for masks of all areas, at most 100 for each class and picture): it takes classes into
    account where both sides have labels, and else takes all objects for one class. A mask without a score counts as
    sure. A true object with the attribute ``iscrowd`` is no object to be found, and nothing on it is wrong.

    Parameters
    ----------
    pred, truth : Session, widget, AnnotatedImage or (N, H, W) bool array; or several of them
        Of several pictures those of one name belong together, and where not all have a name those in one place.

    Raises
    ------
    FormatError
        The pictures do not belong together, or are of different sizes.

    Examples
    --------
    >>> truth = np.zeros((1, 10, 10), bool)
    >>> truth[0, 2:8, 2:8] = True
    >>> pred = np.roll(truth, 1, axis=2)
    >>> round(evaluate(pred, truth).iou, 3)
    0.714
    """
    pairs = paired(pictures(pred, "pred"), pictures(truth, "truth"))
    tables = [ious(p, t) for p, t in pairs]
    matches: list[Match] = []
    unmatched = 0
    for (p, t), table in zip(pairs, tables, strict=True):
        plain = np.array([not is_crowd(o) for o in t.objects], np.bool_)
        mate = _matched(table[:, plain])
        found = [o for o, is_plain in zip(t.objects, plain, strict=True) if is_plain]
        unmatched += len(p.objects) - len(mate)
        for k, true in enumerate(found):
            row = mate.get(k)
            name, label = t.file_name or p.file_name, true.label
            if row is None:
                matches.append(Match(name, true.object_id, None, label, 0.0, 0.0))
            else:
                one = p.objects[row]
                overlap = float(table[:, plain][row, k])
                matches.append(
                    Match(name, true.object_id, one.object_id, label, overlap, boundary_f(one.mask, true.mask))
                )
    labelled = all(any(o.label for image in side for o in image.objects) for side in zip(*pairs, strict=True))
    by_label = average_precisions(pairs, tables, labelled=labelled)
    ap = np.array([values for values in by_label.values() if not np.isnan(values).any()]).reshape(-1, len(THRESHOLDS))
    return Evaluation(
        tuple(matches),
        unmatched,
        _mean(ap.ravel().tolist()),
        _mean(ap[:, 0].tolist()),
        _mean(ap[:, 5].tolist()),
        {label: float(values.mean()) for label, values in by_label.items()},
    )


def _matched(table: NDArray[np.float64]) -> dict[int, int]:
    """Return for true objects (columns) which prediction is theirs, pairs of the largest IoU first."""
    rows, columns = np.nonzero(table)
    mate: dict[int, int] = {}
    for k in np.argsort(-table[rows, columns], kind="stable").tolist():
        row, column = int(rows[k]), int(columns[k])
        if column not in mate and row not in mate.values():
            mate[column] = row
    return mate


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
