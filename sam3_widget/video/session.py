"""The verbs on a clip, with and without a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core.clip import frame_of_concept, frame_of_prompt
from sam3_widget.core.runs import RunLengths
from sam3_widget.models.base import no_progress
from sam3_widget.session import Session
from sam3_widget.video.arrays import VideoArrays
from sam3_widget.video.live import LiveClip

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from sam3_widget.core.prompts import Exemplar, Point, Stroke
    from sam3_widget.models.base import Model, Progress
    from sam3_widget.results import Concept, Instance
    from sam3_widget.video.propagation import Propagation


@dataclass(frozen=True, eq=False)
class Step:
    """What is known on the newest frame of a stream.

    Attributes
    ----------
    frame_idx : int
    masks : dict
        ``(H, W)`` bool by ``object_id``.
    scores : dict
        How sure the model is, 0 to 1, by ``object_id``.
    """

    frame_idx: int
    masks: dict[int, NDArray[np.bool_]]
    scores: dict[int, float]


class VideoVerbs(VideoArrays):
    """What a session and a widget on a clip can do. Calls return when the model's answer is there.

    All positions are pixels ``(x, y)`` of the frames, boxes are ``(x1, y1, x2, y2)``; frames count from 0. What is
    refused raises a :class:`~sam3_widget.errors.Sam3WidgetError` that says what was expected, and nothing has changed.
    """

    def frame(self, frame_idx: int) -> Session:
        """Return one frame as a session of its own: its verbs act on this frame, undo and redo on the whole clip."""
        return Session.of(self._live.frame(frame_idx))

    # Prompts

    def add_point(
        self,
        x: float,
        y: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        object_id: int | None = None,
        frame_idx: int = 0,
    ) -> Instance:
        """Click on a frame: see :meth:`sam3_widget.Session.add_point`; on an object that was carried there it corrects.

        What was carried on from this frame becomes stale and goes; :meth:`propagate` computes it again.
        """
        return self.frame(frame_idx).add_point(x, y, positive, object_id)

    def add_box(
        self, box: Sequence[float] | NDArray[Any], object_id: int | None = None, frame_idx: int = 0
    ) -> Instance:
        """Draw a box around an object on a frame: see :meth:`sam3_widget.Session.add_box`."""
        return self.frame(frame_idx).add_box(box, object_id)

    def add_stroke(
        self,
        path: Iterable[tuple[float, float]] | NDArray[Any],
        radius: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        object_id: int | None = None,
        frame_idx: int = 0,
    ) -> Instance:
        """Paint or erase on a frame: see :meth:`sam3_widget.Session.add_stroke`."""
        return self.frame(frame_idx).add_stroke(path, radius, positive, object_id)

    def set_mask(self, mask: ArrayLike | RunLengths, object_id: int | None = None, frame_idx: int = 0) -> Instance:
        """Give the ``(H, W)`` mask of an object on a frame: see :meth:`sam3_widget.Session.set_mask`."""
        return self.frame(frame_idx).set_mask(mask, object_id)

    def set_text(self, text: str, *, at: Sequence[float] | None = None, frame_idx: int = 0) -> Concept:
        """Find every instance of what a phrase names on a frame: see :meth:`sam3_widget.Session.set_text`."""
        return self.frame(frame_idx).set_text(text, at=at)

    def add_concept(self, text: str, *, at: Sequence[float] | None = None, frame_idx: int = 0) -> Concept:
        """Find every instance of one more concept on a frame: see :meth:`sam3_widget.Session.add_concept`."""
        return self.frame(frame_idx).add_concept(text, at=at)

    def add_exemplar(
        self,
        box: Sequence[float] | NDArray[Any],
        positive: bool = True,  # noqa: FBT001, FBT002
        concept: Concept | int | None = None,
        frame_idx: int = 0,
    ) -> Concept:
        """Show by a box on a frame what to find there: see :meth:`sam3_widget.Session.add_exemplar`."""
        return self.frame(frame_idx).add_exemplar(box, positive, concept)

    def add_exemplar_point(
        self,
        x: float,
        y: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        concept: Concept | int | None = None,
        frame_idx: int = 0,
    ) -> Concept:
        """Show by a click on a frame what to find there: see :meth:`sam3_widget.Session.add_exemplar_point`."""
        return self.frame(frame_idx).add_exemplar_point(x, y, positive, concept)

    def move_point(self, point: Point | int, x: float, y: float) -> None:
        """Move a click, on whichever frame it is."""
        self._holding("point", point).move_point(point, x, y)

    def flip_point(self, point: Point | int) -> None:
        """Turn a positive click into a negative one, or back."""
        self._holding("point", point).flip_point(point)

    def remove_point(self, point: Point | int) -> None:
        """Remove a click and its effect on this frame and those that follow."""
        self._holding("point", point).remove_point(point)

    def remove_stroke(self, stroke: Stroke | int) -> None:
        """Remove a brush or eraser stroke and its effect."""
        self._holding("stroke", stroke).remove_stroke(stroke)

    def flip_exemplar(self, exemplar: Exemplar | int) -> None:
        """Turn a positive exemplar into a negative one, or back."""
        self._holding("exemplar", exemplar).flip_exemplar(exemplar)

    def remove_exemplar(self, exemplar: Exemplar | int) -> None:
        """Remove an exemplar; a concept of which nothing is left goes too."""
        self._holding("exemplar", exemplar).remove_exemplar(exemplar)

    def remove_box(self, object_id: int, frame_idx: int = 0) -> None:
        """Remove the box of an object on a frame and its effect."""
        self.frame(frame_idx).remove_box(object_id)

    def choose_candidate(self, object_id: int, index: int, frame_idx: int = 0) -> None:
        """Show another of the masks offered for an ambiguous click on a frame."""
        self.frame(frame_idx).choose_candidate(object_id, index)

    def remove_concept(self, concept: Concept | int) -> None:
        """Remove a concept with its instances; those that a person refined, labelled or locked stay."""
        number = getattr(concept, "concept_id", concept)
        self.frame(frame_of_concept(self._live.state, number)).remove_concept(number)

    def load_masks(
        self, masks: Mapping[int, Mapping[int, ArrayLike | RunLengths]], labels: Mapping[int, str] | None = None
    ) -> None:
        """Take masks from elsewhere: ``masks[object_id][frame_idx]``, ``(H, W)`` bool or run lengths.

        Each object's first mask counts as a person's, the others as if they had been carried there: a correction on a
        frame makes those after it stale. An object of the same id is replaced. One step of the history.
        """
        runs = {
            object_id: {
                frame_idx: mask if isinstance(mask, RunLengths) else RunLengths.from_mask(np.asarray(mask, np.bool_))
                for frame_idx, mask in by_frame.items()
            }
            for object_id, by_frame in masks.items()
        }
        self._live.load_masks(runs, labels or {})

    # Objects

    def select(self, object_id: int | None) -> None:
        """Select an object on all frames, or (None) no object; no step of the history."""
        self.frame(0).select(object_id)

    def set_label(self, object_id: int, label: str) -> None:
        """Name the class of an object."""
        self.frame(0).set_label(object_id, label)

    def set_visible(self, object_id: int, visible: bool) -> None:  # noqa: FBT001
        """Show or hide an object in the view; arrays hold it all the same."""
        self.frame(0).set_visible(object_id, visible)

    def set_locked(self, object_id: int, locked: bool) -> None:  # noqa: FBT001
        """Protect an object from changes, propagation included, or free it."""
        self.frame(0).set_locked(object_id, locked)

    def remove_object(self, object_id: int) -> None:
        """Remove an object with all its prompts and masks on all frames."""
        self.frame(0).remove_object(object_id)

    def reset(self) -> None:
        """Remove all objects and concepts on all frames; undo brings them back."""
        self.frame(0).reset()

    def undo(self) -> bool:
        """Take the last command back, whichever frame it was on; False where there was none.

        What propagation had made before that command is there again.
        """
        return self._live.travel("undo")

    def redo(self) -> bool:
        """Bring the last undone command back; False where there was none."""
        return self._live.travel("redo")

    # Settings

    @property
    def mask_threshold(self) -> float:
        """Probability that a pixel must exceed; setting it acts at once where objects were prompted.

        What was carried keeps the threshold that it was carried with.
        """
        return self.frame(0).mask_threshold

    @mask_threshold.setter
    def mask_threshold(self, value: float) -> None:
        self.frame(0).mask_threshold = value

    @property
    def score_threshold(self) -> float:
        """Score that detections of new concepts must reach; set it for all concepts, without asking the model."""
        return self.frame(0).score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self.frame(0).score_threshold = value

    @property
    def fill_holes(self) -> int:
        """Largest hole that is filled, in pixels, on all frames; 0 fills none."""
        return self.frame(0).fill_holes

    @fill_holes.setter
    def fill_holes(self, area: int) -> None:
        self.frame(0).fill_holes = area

    @property
    def min_area(self) -> int:
        """Smallest island that stays, in pixels, on all frames; 0 keeps all."""
        return self.frame(0).min_area

    @min_area.setter
    def min_area(self, area: int) -> None:
        self.frame(0).min_area = area

    # Propagation

    def propagate(
        self,
        start: int | None = None,
        stop: int | None = None,
        direction: str = "forward",
        object_ids: Iterable[int] | None = None,
        *,
        progress: Progress = no_progress,
        wait: bool = True,
    ) -> Propagation:
        """Carry objects from the frames where they are known through those where they are not.

        Frames that are known already are not computed again, so that after a correction only those that it can have
        changed are. Results are there frame by frame.

        With a model that takes text, what the words of a frame name is looked for on the frames beyond it too: what
        comes into view there becomes an object of its own, and what turns out within some frames to have been no such
        thing goes again, unless a person has touched it. Neither is looked for where only some objects are carried.

        Parameters
        ----------
        start, stop : int, optional
            The frames from ``start`` up to, without it, ``stop``; the whole clip where they are left out.
        direction : {"forward", "backward", "both"}
        object_ids : iterable of int, optional
            Only these objects; locked ones are never carried.
        progress : callable
            Called with the finished fraction, 0 to 1, while this call waits; what it raises stops the work.
        wait : bool
            Return when it is over; else at once, and ``cancel()`` or the returned object's ends it.

        Raises
        ------
        CancelledError
            It was cancelled, by :meth:`cancel`, ``progress`` or an interrupt; finished frames stay.
        ModelError
            The model failed.
        UnsupportedError
            The model carries nothing through a video.
        """
        if not self.model.capabilities.video:
            what, instead = "video", "load a model that does, like the built-in one"
            raise self.model.unsupported(what, instead)
        job = self._live.propagate(start, stop, direction, object_ids)
        if wait:
            try:
                while not job.wait(_MOMENT):
                    progress(job.fraction)
            except BaseException:  # an interrupt too: nothing goes on behind the caller's back
                job.cancel()
                raise
            progress(1.0)
        return job

    def step(self, frame: object) -> Step:
        """Take the next frame of a live source, and carry to it what is known on the frame before.

        The session of a live source is made of its iterator and takes the first frame from it; prompts on that frame,
        or later on the newest, say what to follow::

            v = VideoSession(camera, "builtin")
            v.add_box((210, 80, 420, 460), frame_idx=0)
            for frame in camera:
                result = v.step(frame)

        A stream gives up what takes later frames: propagation backward over frames that are no longer held (the last
        256 MB of them are), and a model's second look at objects that it was not sure of when they appeared.

        Parameters
        ----------
        frame : numpy array, PIL image, path, torch tensor
            Of the size of the first; see :meth:`sam3_widget.core.image.Image.read`.

        Returns
        -------
        Step

        Raises
        ------
        InvalidVideoError
            The frame has another size, or the session's source is no live one.
        """
        frame_idx = self._live.step(frame)
        return Step(frame_idx, self.masks[frame_idx], self.scores[frame_idx])

    def cancel(self) -> None:
        """Stop what the model is doing; prompts and finished frames stay."""
        self._live.cancel()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every change; returns a function that ends the calls."""
        return self._live.listen(_Callback(callback))

    def _holding(self, what: str, prompt: object) -> Session:
        """Return the frame that holds a prompt, given by itself or by its id."""
        return self.frame(frame_of_prompt(self._live.state, what, getattr(prompt, f"{what}_id", prompt)))


class VideoSession(VideoVerbs):
    """A clip, a model and everything said so far: prompt on any frame, propagate, correct, propagate again.

    All positions are pixels ``(x, y)`` of the frames, boxes are ``(x1, y1, x2, y2)``; frames count from 0. Calls return
    when the model's answer is there. What is refused raises a :class:`~sam3_widget.errors.Sam3WidgetError` that says
    what was expected, and nothing has changed.

    Parameters
    ----------
    source : path, numpy array, torch tensor, list of images or iterator
        A video file, a folder of frames, ``(T, H, W, 3)``: see :meth:`sam3_widget.video.frames.Frames.read`. An
        iterator is a live source: see :meth:`step`.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes, or a loaded model.
    classes : iterable of str
        Class names on offer.

    Examples
    --------
    >>> v = VideoSession("clip.mp4", "builtin")  # doctest: +SKIP
    >>> chair = v.add_box((210, 80, 420, 460), frame_idx=0)  # doctest: +SKIP
    >>> v.propagate()  # doctest: +SKIP
    >>> v.add_point(300, 200, positive=False, object_id=chair.object_id, frame_idx=40)  # doctest: +SKIP
    >>> v.propagate()  # only what follows frame 40 is computed again  # doctest: +SKIP
    >>> v.masks[45][chair.object_id].shape  # doctest: +SKIP
    (480, 720)
    """

    def __init__(
        self, source: object, model: str | os.PathLike[str] | Model = "auto", classes: Iterable[str] = ()
    ) -> None:
        self._live = LiveClip(source, model, classes)

    @classmethod
    def of(cls, clip: LiveClip) -> VideoSession:
        """Return a session on a clip that something else shows as well."""
        session = cls.__new__(cls)
        session._live = clip  # noqa: SLF001 - its own class
        return session

    def __repr__(self) -> str:
        """Return size, model and number of objects."""
        common = self._live.state.common
        size = f"{len(self)} frames {common.width} x {common.height}"
        return f"<VideoSession {size}, model {self.model.name!r}, {len(common.instances)} objects>"

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._live.document.length

    @property
    def name(self) -> str:
        """Name of the clip's file or folder, "" where there is none."""
        return self._live.frames.name

    @property
    def fps(self) -> float | None:
        """Frames per second, on average; None where the source does not say."""
        return self._live.frames.fps

    @property
    def height(self) -> int:
        """Rows of pixels of a frame."""
        return self._live.frames.height

    @property
    def width(self) -> int:
        """Columns of pixels of a frame."""
        return self._live.frames.width


_MOMENT = 0.05
"""Seconds from one look at a propagation to the next."""


class _Callback:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def changed(self) -> None:
        self._callback()

    def progressed(self, phase: str, fraction: float | None) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass
