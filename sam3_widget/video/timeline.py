"""What there is to see of a clip at a glance: each object on each frame, how sure, how large, and what looks wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_widget.core.clip import ClipState
    from sam3_widget.video.live import LiveClip

DROP = 0.2
"""Fall of the score below its median over the frames before that is worth a look."""
BEFORE = 5
"""Frames before that the median is of."""
JUMP = 1.5
"""Factor from one frame to the next by which an area has jumped."""
FEW = 64
"""Pixels that an area must change by, at least, to have jumped."""


@dataclass(frozen=True)
class Mark:
    """An object on a frame where something is known of it.

    Attributes
    ----------
    source : str
        ``"prompt"`` where a person said something, ``"forward"`` or ``"backward"`` where it was carried.
    score : float
        0 to 1; NaN where no model made the mask, and while its answer is awaited.
    area : int or None
        Pixels; None while the model's answer is awaited.
    flag : str
        ``"score"`` where it has dropped, ``"area"`` where it has jumped, else "".
    basis : tuple
        What the mask follows from; other things make another mask.
    """

    source: str
    score: float
    area: int | None
    flag: str
    basis: tuple[object, ...]


class Timeline:
    """All marks of a clip, kept up to date with little work.

    Parameters
    ----------
    clip : LiveClip
    """

    def __init__(self, clip: LiveClip) -> None:
        self._clip = clip
        self._told: ClipState | None = None
        self.marks: Mapping[int, Mapping[int, Mark]] = {}

    def update(self) -> tuple[dict[int, dict[int, Mark | None]], list[int]]:
        """Bring the marks in step with the clip, under its lock.

        Returns
        -------
        changed : dict
            By ``object_id`` and frame, each mark that is new or another one; None where there is none any more.
        removed : list of int
            Objects that are gone.
        """
        state, before = self._clip.state, self.marks
        if state is self._told and not any(m.area is None for by_frame in before.values() for m in by_frame.values()):
            return {}, []
        self.marks = {shared.object_id: self._of(shared.object_id) for shared in state.common.instances}
        self._told = state
        changed = {}
        for object_id, now in self.marks.items():
            old = before.get(object_id, {})
            news: dict[int, Mark | None] = {k: mark for k, mark in now.items() if old.get(k) is not mark}
            news.update(dict.fromkeys(old.keys() - now.keys()))
            if news:
                changed[object_id] = news
        return changed, [object_id for object_id in before if object_id not in self.marks]

    def _of(self, object_id: int) -> Mapping[int, Mark]:
        """Return the marks of one object, by frame, ascending."""
        state, old = self._clip.state, self.marks.get(object_id, {})
        marks, settings = {}, state.common.settings
        cleaned = settings.fill_holes or settings.min_area
        track = state.tracks.get(object_id, {})
        for frame_idx in self._clip.frames_of(object_id):
            sheet = state.sheets.get(frame_idx)
            said = sheet.instances.get(object_id) if sheet else None
            known = old.get(frame_idx)
            if said is None:
                carried = track[frame_idx]
                if known is None or not _same(known.basis, (carried, settings)):
                    way = "forward" if carried.forward else "backward"
                    area = self._area(object_id, frame_idx) if cleaned else carried.mask.area
                    known = Mark(way, carried.score, area, "", (carried, settings))
            else:
                basis = (said, said.pending, settings)
                if known is None or not _same(known.basis, basis):
                    known = self._prompted(object_id, frame_idx, basis, pending=said.pending)
            marks[frame_idx] = known
        return flagged(marks)

    def _prompted(self, object_id: int, frame_idx: int, basis: tuple[object, ...], *, pending: bool) -> Mark:
        if pending:
            return Mark("prompt", math.nan, None, "", basis)
        known = self._clip.known(object_id, frame_idx)
        assert known is not None  # noqa: S101 - something was said of it here
        return Mark("prompt", known.score, known.mask.area, "", basis)

    def _area(self, object_id: int, frame_idx: int) -> int | None:
        drawn = self._clip.drawn(object_id, frame_idx)
        return None if drawn is None else drawn.mask.area


def flagged(marks: Mapping[int, Mark]) -> dict[int, Mark]:
    """Return the marks of one object, by frame, ascending, with what looks wrong about those that were carried.

    The first frame of a bad stretch is flagged, not all of it: where the score falls by 0.2 or more below its median
    over the five frames before, and where the area changes by half or more from one frame to the next, as it does where
    an object vanishes.
    """
    result = dict(marks)
    scores: list[float] = []
    low = False
    frames = list(marks)
    for before, frame_idx in pairwise([frames[0] - 2, *frames] if frames else []):
        mark = marks[frame_idx]
        if before != frame_idx - 1:
            scores, low = [], False
        fallen = bool(scores) and mark.score < median(scores[-BEFORE:]) - DROP
        flag = "score" if fallen and not low else ""
        if not flag and before in marks and _jumped(marks[before].area, mark.area):
            flag = "area"
        if mark.source == "prompt":
            flag, fallen = "", False
        if mark.flag != flag:
            result[frame_idx] = replace(mark, flag=flag)
        if not math.isnan(mark.score) and not fallen:
            scores.append(mark.score)
        low = fallen
    return result


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two marks follow from the same things: snapshots share what has not changed."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _jumped(before: int | None, now: int | None) -> bool:
    if before is None or now is None or abs(now - before) < FEW:
        return False
    return max(now, before) >= JUMP * min(now, before)
