"""The widget for a clip: one frame on the canvas, and a timeline of all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import traitlets

from sam3_widget.core.clip import frame_of, frame_of_concept
from sam3_widget.errors import InvalidPromptError, ProtocolError
from sam3_widget.video.live import LiveClip
from sam3_widget.video.session import VideoSession, VideoVerbs
from sam3_widget.video.timeline import Timeline
from sam3_widget.widget import imagery
from sam3_widget.widget.canvas import CanvasWidget
from sam3_widget.widget.protocol import View, envelope, told_of_concept

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.commands import Command
    from sam3_widget.live import LivePicture
    from sam3_widget.models.base import Model
    from sam3_widget.video.timeline import Mark
    from sam3_widget.widget.protocol import Request

FRAME_SIDE = 1280
"""Most pixels a side of a frame as it is sent; where a person zooms in, tiles follow."""
LOSSLESS_PIXELS = 1 << 16
"""Most pixels of a frame that is sent as it is; beyond, JPEG keeps up with scrubbing."""
_SOURCES = {"prompt": 0, "forward": 1, "backward": 2}
_FLAGS = {"": 0, "score": 1, "area": 2}
_DEMO_FRAMES = 48
_DEMO_SIZE = (480, 320)
_EVEN = 0.25
"""Share of a frame's duration that a frame may be off for the clip to count as of one rate."""


class Sam3VideoWidget(CanvasWidget, VideoVerbs):
    """Prompt on any frame of a clip in the notebook, propagate, correct, propagate again; take the masks away as numpy.

    It has every verb and attribute of :class:`~sam3_widget.video.session.VideoSession`; ``session`` is that session.

    Parameters
    ----------
    source : path, numpy array, torch tensor, list of images, iterator or VideoSession
        See :class:`~sam3_widget.video.session.VideoSession`. A session is shown as it is and goes on.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes, or a loaded model.
    classes : iterable of str
        Class names on offer; the number keys choose them.
    height : int
        Height of the canvas in CSS pixels.
    opacity : float
        Of the masks' fill, 0 to 1.
    outline : bool
        Show outlines only.

    Attributes
    ----------
    frame_idx : int
        The frame on the canvas. Observable; assign to go there.
    points, box_prompts, selected, text
        As of :class:`~sam3_widget.Sam3Widget`, of the frame on the canvas.
    """

    frame_idx = traitlets.Int(0).tag(sync=True)
    _clip = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        source: object,
        model: str | os.PathLike[str] | Model = "auto",
        classes: Iterable[str] = (),
        *,
        height: int = 440,
        opacity: float = 0.5,
        outline: bool = False,
    ) -> None:
        if isinstance(source, VideoVerbs):
            if model != "auto" or classes:
                message = "a session brings its own model and classes: give it alone"
                raise InvalidPromptError(message)
            self._live = source._live  # noqa: SLF001 - two views of one session
        else:
            self._live = LiveClip(source, model, classes)
        self._timeline = Timeline(self._live)
        self._frame = self._live.frame(0)
        self._deaf = self._frame.listen(_Ears(self))
        info, preview = self._pictured(0)
        look = {"height": height, "opacity": opacity, "outline": outline}
        super().__init__(self._live.listen, _image=info, _preview=preview, _clip=self._described(), **look)

    @classmethod
    def demo(cls, **options: Any) -> Sam3VideoWidget:  # noqa: ANN401 - the constructor's, but the clip
        """Open on a camera that moves over a cup of coffee, a picture of scikit-image's (Rachel Michetti, CC0)."""
        from skimage import data  # noqa: PLC0415 - slow to load, and only for the demo

        picture: Any = data.coffee()  # type: ignore[no-untyped-call]
        return cls([_filmed(picture, k / (_DEMO_FRAMES - 1)) for k in range(_DEMO_FRAMES)], **options)

    @property
    def session(self) -> VideoSession:
        """The session that this widget shows."""
        return VideoSession.of(self._live)

    def close(self) -> None:
        """Close the view; the session stays usable, and what it propagates goes on."""
        deaf = getattr(self, "_deaf", None)  # not there where the constructor failed
        if deaf is not None:
            deaf()
        super().close()

    def changed(self) -> None:
        """Send what changed to all views: on the timeline, then on the canvas."""
        length = self._clip["length"]
        if length != len(self._live.frames):
            self._clip = self._described()
            if self.frame_idx == length - 1:
                self.frame_idx = len(self._live.frames) - 1  # a live view goes with the newest frame
        self._tell_timeline(*self._timeline.update())
        super().changed()

    def progressed(self, phase: str, fraction: float | None, seconds_left: float | None = None) -> None:
        """Send how far the model's work is."""
        job = self._live.job
        if phase == "propagating" and job is not None:
            seconds_left = job.seconds_left
        super().progressed(phase, fraction, seconds_left)

    @traitlets.validate("frame_idx")
    def _existing(self, proposal: Mapping[str, Any]) -> int:
        return frame_of(self._live.document.length, proposal["value"])

    @traitlets.observe("frame_idx")
    def _go(self, _: object) -> None:
        """Show another frame."""
        with self._live.lock:
            if self._frame.frame_idx == self.frame_idx:
                return
            self._deaf()
            self._frame = self._live.frame(self.frame_idx)
            self._deaf = self._frame.listen(_Ears(self))
            request = self._request()  # a command on that frame answers it, not this
            self.changed()
            self._thread.request = request

    @property
    def _picture(self) -> LivePicture:
        return self._frame

    def _view(self, rev: int) -> View:
        frame_idx = self._frame.frame_idx
        concepts = self._concepts(frame_idx)
        return View.of(self._frame, rev, self._named(frame_idx), frame_idx=frame_idx, concepts=concepts)

    def _concepts(self, shown: int) -> list[dict[str, Any]]:
        """Describe the concepts of all frames in order of creation; of another frame without examples to grasp."""
        told = []
        asked = [frame_idx for frame_idx, sheet in self._live.state.sheets.items() if sheet.concepts]
        for frame_idx in asked:
            state = self._live.state.at(frame_idx)
            for concept in state.concepts:
                here = {} if frame_idx == shown else {"exemplars": [], "frame_idx": frame_idx}
                told.append({**told_of_concept(state, concept), **here})
        return sorted(told, key=lambda concept: concept["concept_id"])

    def _cancel(self) -> None:
        self._live.cancel()

    def _greet(self) -> None:
        super()._greet()
        self._timeline.update()
        everything = {object_id: dict(marks) for object_id, marks in self._timeline.marks.items()}
        self._tell_timeline(everything, [], whole=True)

    def _run_command(self, name: str, args: Mapping[str, Any], gesture: str | None) -> None:
        rest = dict(args)
        frame_idx = rest.pop("frame_idx", None)
        if frame_idx is not None:
            self.frame_idx = frame_of(self._live.document.length, frame_idx)
        if name == "propagate":
            self.propagate(**rest, wait=False)
        elif name != "seek":
            before = self._live.history
            self._for(name, rest).run(name, rest, gesture=gesture, wait=False)
            if name in {"undo", "redo"}:
                self._follow(before[-1:] if name == "undo" else self._live.history[-1:])

    def _for(self, name: str, args: Mapping[str, Any]) -> LivePicture:
        """Return the frame that a command is for: that of its concept, which may be another than is shown."""
        concept_id = args.get("concept_id")
        if concept_id is None or name in {"add_exemplar", "add_exemplar_point"}:
            return self._frame
        home = frame_of_concept(self._live.state, concept_id)
        if name == "select_concept":
            self.frame_idx = home
        return self._live.frame(home)

    def _follow(self, commands: Sequence[Command]) -> None:
        """Show the frame that a command was for."""
        for command in commands:
            self.frame_idx = command.args.get("frame_idx", self.frame_idx)

    def _serve(self, request: Request) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Return a tile of the frame on the canvas, or the picture and the masks of any frame."""
        payload = request.payload
        if request.type == "tile":
            return imagery.tile(self._frame.image, str(self._frame.frame_idx), payload, FRAME_SIDE)
        if request.type != "frame":
            message = f"a clip has no {request.type}"
            raise ProtocolError(message)
        frame_idx = frame_of(self._live.document.length, payload.get("frame_idx"))
        frame = self._live.frame(frame_idx)
        with frame.lock:
            state = frame.state
        masks = [(i.object_id, frame.mask(i)) for i in state.instances]
        shown = [(object_id, mask) for object_id, mask in masks if mask.area]
        told = {
            "frame_idx": frame_idx,
            "instances": [
                {"object_id": object_id, "mask": k, "area": mask.area} for k, (object_id, mask) in enumerate(shown)
            ],
        }
        buffers = [mask.to_bytes() for _, mask in shown]
        if payload.get("picture"):
            told["picture"], picture = self._pictured(frame_idx)
            buffers.append(picture)
        return told, buffers

    def _pictured(self, frame_idx: int) -> tuple[dict[str, Any], bytes]:
        """Return a frame's description and its encoded picture."""
        pixels = self._live.frames[frame_idx]
        return imagery.preview(pixels, self._named(frame_idx), FRAME_SIDE, LOSSLESS_PIXELS)

    def _named(self, frame_idx: int) -> dict[str, Any]:
        """Return what a frame is called and how large it is; no need to read it for that."""
        frames = self._live.frames
        name = f"{frames.name or 'clip'}, frame {frame_idx}"
        return {"key": str(frame_idx), "name": name, "width": frames.width, "height": frames.height}

    def _described(self) -> dict[str, Any]:
        """Return what the front end must know of the clip."""
        frames = self._live.frames
        count, times, fps = len(frames), frames.times, frames.fps
        uneven = times is not None and fps and np.abs(times - np.arange(count) / fps).max() > _EVEN / fps
        return {
            "length": count,
            "fps": fps,
            "times": np.round(times, 3).tolist() if uneven and times is not None else None,
            "video": self.model.capabilities.video,
        }

    def _tell_timeline(
        self, changed: Mapping[int, Mapping[int, Mark | None]], removed: Sequence[int], *, whole: bool = False
    ) -> None:
        """Send marks as rows ``[object_id, frame_idx, source, score, area, flag]``, with a None where one is gone."""
        if not (changed or removed or whole):
            return
        rows = [_row(object_id, k, mark) for object_id, marks in changed.items() for k, mark in marks.items()]
        payload = {"whole": whole, "rows": rows, "removed": list(removed)}
        self.send(envelope("timeline", self._shown.rev, payload))


def _row(object_id: int, frame_idx: int, mark: Mark | None) -> list[float | None]:
    if mark is None:
        return [object_id, frame_idx, None]
    score = None if math.isnan(mark.score) else round(mark.score, 3)
    return [object_id, frame_idx, _SOURCES[mark.source], score, mark.area, _FLAGS[mark.flag]]


def _filmed(picture: NDArray[np.uint8], at: float) -> NDArray[np.uint8]:
    """Return what a camera sees of a picture, 0 to 1 on its way: it moves, turns and comes nearer."""
    width, height = _DEMO_SIZE
    x, y = 260 + 80 * at, 190 + 30 * math.sin(math.pi * at)
    turn = cv2.getRotationMatrix2D((x, y), 10 * math.sin(2 * math.pi * at), 0.8 + 0.3 * at)
    turn[:, 2] += np.array([width / 2 - x, height / 2 - y])
    return cv2.warpAffine(picture, turn, _DEMO_SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)  # type: ignore[return-value]


class _Ears:
    """Hears of the model's work on the frame that is shown; of changes, the clip tells."""

    def __init__(self, widget: Sam3VideoWidget) -> None:
        self._widget = widget

    def changed(self) -> None:
        pass

    def progressed(self, phase: str, fraction: float | None) -> None:
        self._widget.progressed(phase, fraction)

    def failed(self, error: Exception) -> None:
        self._widget.failed(error)
