"""What there is to see of a clip at a glance: each object on each frame, how sure, how large, and what looks wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_widget.core.clip import ClipState
    from sam3_widget.video.live import Known, LiveClip

DROP = 0.2
"""Fall of the score below its median over the frames before that is worth a look."""
BEFORE = 5
"""Frames before that the median is of."""
REACH = BEFORE + 1
"""Frames after a change whose flags it may change."""
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
        self._awaited: set[tuple[int, int]] = set()
        self.marks: dict[int, dict[int, Mark]] = {}

    def update(self) -> tuple[dict[int, dict[int, Mark | None]], list[int]]:
        """Bring the marks in step with the clip, under its lock.

        Returns
        -------
        changed : dict
            By ``object_id`` and frame, each mark that is new or another one; None where there is none any more.
        removed : list of int
            Objects that are gone.
        """
        state, changed = self._clip.state, {}
        held = {shared.object_id for shared in state.common.instances}
        removed = [object_id for object_id in self.marks if object_id not in held]
        for object_id in removed:
            del self.marks[object_id]
        for object_id in sorted(held):
            frames = self._touched(object_id)
            if frames:
                changed[object_id] = self._renew(object_id, frames)
        self._told = state
        return {object_id: news for object_id, news in changed.items() if news}, removed

    def _touched(self, object_id: int) -> set[int]:
        """Return the frames on which an object's mark may be another one than was told."""
        now, told = self._clip.state, self._told
        track, sheets = now.tracks.get(object_id, {}), now.sheets
        old = self.marks.get(object_id, {})
        if told is None or object_id not in self.marks or told.common.settings is not now.common.settings:
            return {*track, *now.prompted(object_id), *old}
        before = told.tracks.get(object_id, {})
        frames = {k for awaited, k in self._awaited if awaited == object_id}
        if track is not before:
            frames |= before.keys() ^ track.keys()
            frames |= {k for k, carried in track.items() if before.get(k) is not carried}
        if sheets is not told.sheets:
            for k in sheets.keys() | told.sheets.keys():
                said, was = (s[k].instances.get(object_id) if k in s else None for s in (sheets, told.sheets))
                if said is not was:
                    frames.add(k)
        return frames

    def _renew(self, object_id: int, frames: set[int]) -> dict[int, Mark | None]:
        """Make the marks of an object on some frames anew; return those that are others now."""
        marks = self.marks.setdefault(object_id, {})
        news: dict[int, Mark | None] = {}
        for k in frames:
            self._awaited.discard((object_id, k))
            mark = self._mark(object_id, k)
            if mark is None:
                if marks.pop(k, None) is not None:
                    news[k] = None
            elif mark is not marks.get(k):
                marks[k] = news[k] = mark
        for k in sorted({k + far for k in news for far in range(REACH + 1)} & marks.keys()):
            mark, flag = marks[k], flag_of(marks, k)
            if mark.flag != flag:
                marks[k] = news[k] = replace(mark, flag=flag)
        return news

    def _mark(self, object_id: int, frame_idx: int) -> Mark | None:
        """Return the mark of an object on a frame; the one that is there where it follows from the same things."""
        state = self._clip.state
        settings, sheet = state.common.settings, state.sheets.get(frame_idx)
        said = sheet.instances.get(object_id) if sheet else None
        carried = state.carried(object_id, frame_idx)
        if said is None and carried is None:
            return None
        old = self.marks[object_id].get(frame_idx)
        basis = (carried, settings) if said is None else (said, said.pending, settings)
        if said is not None and said.pending:
            self._awaited.add((object_id, frame_idx))
        if old is not None and _same(old.basis, basis):
            return old
        if said is None:
            assert carried is not None  # noqa: S101 - one of the two is there
            cleaned = settings.fill_holes or settings.min_area
            area = self._drawn(object_id, frame_idx).mask.area if cleaned else carried.mask.area
            return Mark("forward" if carried.forward else "backward", carried.score, area, "", basis)
        if said.pending:
            return Mark("prompt", math.nan, None, "", basis)
        known = self._drawn(object_id, frame_idx)
        return Mark("prompt", known.score, known.mask.area, "", basis)

    def _drawn(self, object_id: int, frame_idx: int) -> Known:
        known = self._clip.drawn(object_id, frame_idx)
        assert known is not None  # noqa: S101 - there is a mask
        return known


def flag_of(marks: Mapping[int, Mark], frame_idx: int) -> str:
    """Return what looks wrong about an object on a frame that it was carried to: ``"score"``, ``"area"`` or "".

    The first frame of a bad stretch is flagged, not all of it: where the score falls by more than 0.2 below its median
    over the five frames before, and where the area changes by half or more from one frame to the next, as it does where
    an object vanishes.
    """
    mark, before = marks[frame_idx], marks.get(frame_idx - 1)
    if mark.source == "prompt" or before is None:
        return ""
    if _fallen(marks, frame_idx) and not _fallen(marks, frame_idx - 1):
        return "score"
    return "area" if _jumped(before.area, mark.area) else ""


def _fallen(marks: Mapping[int, Mark], frame_idx: int) -> bool:
    """Whether the score is well below those of the frames just before."""
    scores: list[float] = []
    for k in range(frame_idx - 1, frame_idx - 1 - BEFORE, -1):
        if k not in marks:
            break
        if not math.isnan(marks[k].score):
            scores.append(marks[k].score)
    mark = marks[frame_idx]
    return mark.source != "prompt" and bool(scores) and mark.score < median(scores) - DROP


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two marks follow from the same things: snapshots share what has not changed."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _jumped(before: int | None, now: int | None) -> bool:
    if before is None or now is None or abs(now - before) < FEW:
        return False
    return max(now, before) >= JUMP * min(now, before)
