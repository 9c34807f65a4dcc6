"""How many clicks a model needs to reach the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.errors import FormatError
from sam3_widget.evaluation.overlap import iou
from sam3_widget.evaluation.pictures import pictures, same_size
from sam3_widget.models.base import no_progress
from sam3_widget.session import Session

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.evaluation.pictures import Masks
    from sam3_widget.models.base import Model, Progress


@dataclass(frozen=True)
class ClickRun:
    """The clicks on one object.

    Attributes
    ----------
    file_name : str
    object_id : int
    label : str
        Of the true object.
    ious : tuple of float
        IoU after each click.
    """

    file_name: str
    object_id: int
    label: str
    ious: tuple[float, ...]

    def needed(self, target: float) -> int | None:
        """Return the number of clicks after which the IoU was first ``target`` or more; None if it never was."""
        return next((n for n, value in enumerate(self.ious, 1) if value >= target), None)


@dataclass(frozen=True)
class ClickEvaluation:
    """How many clicks a model needs.

    Attributes
    ----------
    runs : tuple of ClickRun
        One for each object.
    max_clicks : int
        After which a run was given up.
    noc : mapping
        Mean number of clicks for each target IoU; an object that never reached it counts with ``max_clicks``.
    never : mapping
        Fraction of the objects that never reached each target.
    """

    runs: tuple[ClickRun, ...]
    max_clicks: int
    noc: Mapping[float, float]
    never: Mapping[float, float]


def clicks_to(
    model: str | os.PathLike[str] | Model,
    images: Iterable[object],
    truth: Masks,
    *,
    targets: Sequence[float] = (0.85, 0.90),
    max_clicks: int = 20,
    progress: Progress = no_progress,
) -> ClickEvaluation:
    """Count the clicks that a model needs to reach an IoU: NoC@85 and NoC@90, the usual measure of click models.

    The protocol of Xu et al. 2016 and Sofiiuk et al. 2022: the first click goes to the middle of the object, each
    further one to the middle of the largest region that is wrong, positive where the object was missed and negative
    elsewhere; the middle is the pixel farthest from the region's border. A run ends when the highest target is reached,
    when nothing is left to correct, or after ``max_clicks``. Clicks go through a session, so masks are those of the
    widget.

    Parameters
    ----------
    model : str, path or Model
    images : iterable
        The pictures: what :class:`~sam3_widget.session.Session` takes.
    truth : Masks
        Of each of them, in this order: annotated images, sessions or ``(N, H, W)`` arrays.
    targets : sequence of float
        IoU to reach, above 0 and at most 1.
    max_clicks : int
    progress : callable
        Called with the finished fraction; what it raises stops the work.

    Raises
    ------
    FormatError
        A picture and its truth are of different sizes, there are not as many of them, a true mask is empty, or there
        is none.
    """
    sources, wanted = list(images), pictures(truth, "truth")
    if len(sources) != len(wanted):
        message = f"images and truth must be as many, got {len(sources)} and {len(wanted)}"
        raise FormatError(message)
    if not targets or any(not 0 < target <= 1 for target in targets) or max_clicks < 1:
        message = f"targets must be above 0 and at most 1, and max_clicks 1 or more, got {targets} and {max_clicks}"
        raise FormatError(message)
    total = sum(len(image.objects) for image in wanted)
    empty = next((i.tell(o) for i in wanted for o in i.objects if not o.mask.area), None)
    if empty or not total:
        message = f"the true mask of {empty} is empty" if empty else "truth holds no object to click on"
        raise FormatError(message)
    runs: list[ClickRun] = []
    for source, image in zip(sources, wanted, strict=True):
        session = Session(source, model)
        model = session.model
        same_size(image, session.image.shape[0], session.image.shape[1], "its picture")
        for found in image.objects:
            ious = _clicked(session, found.mask, max(targets), max_clicks)
            runs.append(ClickRun(image.file_name, found.object_id, found.label, ious))
            session.reset()
            progress(len(runs) / total)
    needed = {target: [run.needed(target) for run in runs] for target in targets}
    return ClickEvaluation(
        tuple(runs),
        max_clicks,
        {target: float(np.mean([max_clicks if n is None else n for n in each])) for target, each in needed.items()},
        {target: each.count(None) / len(runs) for target, each in needed.items()},
    )


def _clicked(session: Session, truth: RunLengths, target: float, max_clicks: int) -> tuple[float, ...]:
    """Click until an IoU is reached, nothing is wrong, or the clicks are used up; return the IoU after each."""
    wanted = truth.to_mask()
    mask, clicked = np.zeros(wanted.shape, np.bool_), np.zeros(wanted.shape, np.bool_)
    object_id: int | None = None
    ious: list[float] = []
    while len(ious) < max_clicks and (not ious or ious[-1] < target):
        missed, wrong = _largest(wanted & ~mask & ~clicked), _largest(mask & ~wanted & ~clicked)
        positive = bool(np.count_nonzero(missed) >= np.count_nonzero(wrong))
        region = missed if positive else wrong
        if not region.any():
            break
        x, y = _innermost(region)
        clicked[y, x] = True
        found = session.add_point(x + 0.5, y + 0.5, positive, object_id)
        object_id, mask = found.object_id, found.mask
        ious.append(iou(found.runs, truth))
    return tuple(ious)


def _largest(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of a region."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=4)
    if count == 1:
        return np.zeros(region.shape, np.bool_)
    return np.asarray(parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _innermost(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Return ``(x, y)`` of the pixel farthest from the border of a region; the picture's edge is a border."""
    padded = np.pad(region.view(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x), int(y)
