"""What is known of a clip, as numpy arrays and plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from sam3_widget.core.clip import frame_of
from sam3_widget.video.timeline import Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.core.commands import Command
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import InstanceState
    from sam3_widget.models.base import Model
    from sam3_widget.video.live import Known, LiveClip

_Value = TypeVar("_Value")


class ByFrame(Mapping[int, dict[int, _Value]], Generic[_Value]):
    """A value of each object on each frame where it is known: ``by_frame[frame_idx][object_id]``.

    Values are made when a frame is asked for. A frame on which nothing is known holds nothing; one that the clip does
    not have raises.
    """

    def __init__(self, clip: LiveClip, value: Callable[[Known], _Value]) -> None:
        self._clip, self._value = clip, value

    def __getitem__(self, frame_idx: int) -> dict[int, _Value]:
        """Return the values on one frame by ``object_id``."""
        clip = self._clip
        frame_of(clip.document.length, frame_idx)
        known = ((i.object_id, clip.drawn(i.object_id, frame_idx)) for i in clip.state.common.instances)
        return {object_id: self._value(there) for object_id, there in known if there is not None}

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frames on which anything is known, ascending."""
        ids = (i.object_id for i in self._clip.state.common.instances)
        return iter(sorted({frame for object_id in ids for frame in self._clip.frames_of(object_id)}))

    def __len__(self) -> int:
        """Return the number of frames on which anything is known."""
        return sum(1 for _ in self)


class VideoArrays:
    """What a session and a widget on a clip hold at this moment."""

    _live: LiveClip

    @property
    def masks(self) -> ByFrame[NDArray[np.bool_]]:
        """``masks[frame_idx][object_id]``: ``(H, W)`` bool, exactly as drawn; all False where it is not in view."""
        return ByFrame(self._live, lambda known: known.mask.to_mask())

    @property
    def scores(self) -> ByFrame[float]:
        """``scores[frame_idx][object_id]``: how sure the model is, 0 to 1; NaN where no model made the mask."""
        return ByFrame(self._live, lambda known: known.score)

    @property
    def boxes(self) -> ByFrame[NDArray[np.float32]]:
        """``boxes[frame_idx][object_id]``: tight, ``(4,)`` float32 ``(x1, y1, x2, y2)``; zeros for an empty mask."""
        return ByFrame(self._live, lambda known: np.array(known.mask.bbox or (0, 0, 0, 0), np.float32))

    def runs(self, object_id: int) -> dict[int, RunLengths]:
        """Return the masks of an object as run lengths, by the frames where it is known."""
        self._live.state.common.instance(object_id)
        known = ((k, self._live.drawn(object_id, k)) for k in self._live.frames_of(object_id))
        return {frame_idx: there.mask for frame_idx, there in known if there is not None}

    @property
    def objects(self) -> tuple[InstanceState, ...]:
        """All objects, with id, label, colour and flags."""
        return self._live.state.common.instances

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names on offer, in the order of their number keys."""
        return self._live.state.common.classes

    @property
    def model(self) -> Model:
        """The model in use."""
        return self._live.model

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first, each with its name, arguments and time."""
        return self._live.history

    def tracks(self) -> list[dict[str, Any]]:
        """Return a row for each object on each frame where it is known, by object and frame.

        Each has ``object_id``, ``label``, ``frame_idx``, ``time`` (seconds, None where unknown), ``score``, ``area``
        (pixels), ``x1``, ``y1``, ``x2``, ``y2``, ``source`` (``"prompt"``, ``"forward"`` or ``"backward"``) and
        ``flag``: ``"score"`` where the score drops by 0.2 or more, ``"area"`` where the area changes by half or more
        from one frame to the next, else "".
        """
        live, rows = self._live, []
        live.settle()
        times = live.frames.times
        timeline = Timeline(live)
        with live.lock:
            timeline.update()
        for shared in self.objects:
            for frame_idx in live.frames_of(shared.object_id):
                known = live.drawn(shared.object_id, frame_idx)
                if known is None:
                    continue
                x1, y1, x2, y2 = known.mask.bbox or (0, 0, 0, 0)
                carried = known.carried
                source = "prompt" if carried is None else "forward" if carried.forward else "backward"
                rows.append(
                    {
                        "object_id": shared.object_id,
                        "label": shared.label,
                        "frame_idx": frame_idx,
                        "time": None if times is None else float(times[frame_idx]),
                        "score": known.score,
                        "area": known.mask.area,
                        "x1": x1,
                        "y1": y1,
                        "x2": x2,
                        "y2": y2,
                        "source": source,
                        "flag": timeline.marks[shared.object_id][frame_idx].flag,
                    }
                )
        return rows

    def to_dataframe(self) -> Any:  # noqa: ANN401 - pandas need not be installed
        """Return :meth:`tracks` as a pandas ``DataFrame``.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            pandas = import_module("pandas")  # not a dependency
        except ImportError as error:
            message = "a data frame takes pandas: pip install pandas (tracks() gives the same rows without it)"
            raise ImportError(message) from error
        return pandas.DataFrame(self.tracks())

    def worst_frame(self, object_id: int | None = None) -> int | None:
        """Return the carried frame of the lowest score, of one object or of all; None where nothing was carried."""
        rows = [r for r in self.tracks() if r["source"] != "prompt" and object_id in {None, r["object_id"]}]
        return min(rows, key=lambda r: float(r["score"]), default={"frame_idx": None})["frame_idx"]
