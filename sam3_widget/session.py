"""The verbs that people use, with and without a view."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_widget.arrays import Arrays
from sam3_widget.core.script import script
from sam3_widget.errors import PromptWarning, UnsupportedError
from sam3_widget.live import LiveDocument, LivePicture
from sam3_widget.saving import autosave as keeping
from sam3_widget.saving import sessions as files
from sam3_widget.saving.replay import Refused, replayed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from sam3_widget.core.prompts import Exemplar, Point, Stroke
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.models.base import Model
    from sam3_widget.results import Concept, Instance


class Verbs(Arrays):
    """What a session and a widget can do. Calls return when the model's answer is there.

    All positions are pixels ``(x, y)`` of the original image, boxes are ``(x1, y1, x2, y2)``.
    What is refused raises a :class:`~sam3_widget.errors.Sam3WidgetError` that says what was expected, and nothing has
    changed. Where the model itself fails (``ModelError``) or is cancelled (``CancelledError``), the prompt is kept: the
    next one, or an undo and a redo, asks again.
    """

    def _run(self, name: str, **args: Any) -> None:  # noqa: ANN401 - validated by the command
        self._live.run(name, args)

    def _run_for(self, name: str, **args: Any) -> Instance:  # noqa: ANN401 - validated by the command
        """Run a command that selects the instance it changed, and return that instance."""
        object_id = self._live.run(name, args).selected
        assert object_id is not None  # noqa: S101 - the command selected it
        return self.instance(object_id)

    def _run_for_concept(self, name: str, **args: Any) -> Concept:  # noqa: ANN401 - validated by the command
        """Run a command that makes the concept it changed the active one, and return that concept."""
        concept_id = self._live.run(name, args).concept
        assert concept_id is not None  # noqa: S101 - the command made it the active one
        return self.concept(concept_id)

    def add_point(
        self,
        x: float,
        y: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        object_id: int | None = None,
        label: str = "",
    ) -> Instance:
        """Click: include (positive) or exclude what is at ``(x, y)``.

        Parameters
        ----------
        x, y : float
            ``0 <= x < W`` and ``0 <= y < H``.
        positive : bool
        object_id : int, optional
            The instance to refine; None starts a new one.
        label : str
            Class of the instance where this starts one; one that is there keeps its own.

        Returns
        -------
        Instance
            The instance with its new mask.
        """
        instance = self._run_for("add_point", x=x, y=y, positive=positive, object_id=object_id, label=label)
        if instance.note:
            warnings.warn(instance.note, PromptWarning, stacklevel=2)
        return instance

    def move_point(self, point: Point | int, x: float, y: float) -> None:
        """Move a click, given by itself or its ``point_id``; its effect at the old place goes with it."""
        self._run("move_point", point_id=_id(point, "point_id"), x=x, y=y)

    def flip_point(self, point: Point | int) -> None:
        """Turn a positive click into a negative one, or back."""
        self._run("flip_point", point_id=_id(point, "point_id"))

    def remove_point(self, point: Point | int) -> None:
        """Remove a click and its effect; an instance without any prompt left goes too."""
        self._run("remove_point", point_id=_id(point, "point_id"))

    def add_box(
        self,
        box: Sequence[float] | NDArray[Any],
        object_id: int | None = None,
        positive: bool = True,  # noqa: FBT001, FBT002
        label: str = "",
    ) -> Instance:
        """Draw a box around an object; without ``object_id`` it starts an instance, a second box replaces the first.

        A box of one object can only include: ``positive=False`` raises an error that names the exemplar as the way.
        """
        return self._run_for("add_box", box=box, object_id=object_id, positive=positive, label=label)

    def remove_box(self, object_id: int) -> None:
        """Remove the box of an instance and its effect."""
        self._run("remove_box", object_id=object_id)

    def add_stroke(
        self,
        path: Iterable[tuple[float, float]] | NDArray[Any],
        radius: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        object_id: int | None = None,
        label: str = "",
    ) -> Instance:
        """Paint (positive) or erase what lies within ``radius`` pixels of a path of ``(x, y)``; no model is asked."""
        return self._run_for(
            "add_stroke", path=path, radius=radius, positive=positive, object_id=object_id, label=label
        )

    def remove_stroke(self, stroke: Stroke | int) -> None:
        """Remove a brush or eraser stroke and its effect."""
        self._run("remove_stroke", stroke_id=_id(stroke, "stroke_id"))

    def set_mask(self, mask: ArrayLike | RunLengths, object_id: int | None = None, label: str = "") -> Instance:
        """Import an ``(H, W)`` mask and go on refining it; the earlier prompts of that instance are forgotten."""
        return self._run_for("set_mask", mask=mask, object_id=object_id, label=label)

    def set_points(self, points: Iterable[Any]) -> None:
        """Replace all clicks by rows ``(x, y)``, ``(x, y, positive)`` or ``(x, y, positive, object_id)``, or Points.

        Those that are there already stay what they are. An ``object_id`` that does not exist yet starts that instance;
        rows without one go to the selected instance or, with none selected, start one together.
        """
        self._run("set_points", points=points)

    def set_boxes(self, boxes: Iterable[Any]) -> None:
        """Replace all boxes by rows ``(x1, y1, x2, y2)`` or ``(x1, y1, x2, y2, object_id)``, or Boxes.

        A row without an ``object_id`` is the box of the instance that has it already, or starts an instance.
        """
        self._run("set_boxes", boxes=boxes)

    def choose_candidate(self, object_id: int, index: int) -> None:
        """Show another of the masks offered for an ambiguous click; 0 is the best predicted."""
        self._run("choose_candidate", object_id=object_id, index=index)

    def set_label(self, object_id: int, label: str) -> None:
        """Name the class of an instance."""
        self._run("set_label", object_id=object_id, label=label)

    def set_visible(self, object_id: int, visible: bool) -> None:  # noqa: FBT001
        """Show or hide an instance in the view; arrays hold it all the same."""
        self._run("set_visible", object_id=object_id, visible=visible)

    def set_locked(self, object_id: int, locked: bool) -> None:  # noqa: FBT001
        """Protect an instance from changes, or free it."""
        self._run("set_locked", object_id=object_id, locked=locked)

    def remove_object(self, object_id: int) -> None:
        """Remove an instance with all its prompts."""
        self._run("remove_object", object_id=object_id)

    def select(self, object_id: int | None) -> None:
        """Select an instance, or none; not a step of the history."""
        self._run("select", object_id=object_id)

    def set_text(
        self, text: str, *, at: Sequence[float] | None = None, concept: Concept | int | None = None
    ) -> Concept:
        """Find every instance of what a phrase names; it becomes the words of the active concept.

        Each detection becomes an ordinary instance. When a concept changes, those found again (mask IoU from 0.5) keep
        id, label and colour, and none that a person has refined, labelled or locked is overwritten or removed. An
        instance that was removed stays away until one points at it again.

        Parameters
        ----------
        text : str
            A short noun phrase: ``"handle"``. Other words than before make another concept of it: its exemplars, and
            what was removed of its instances, are forgotten.
        at : (x, y), optional
            Only the instance at this position, in pixels: the best one there that scores 0.1 or more, whatever the
            score threshold.
        concept : Concept or int, optional
            The concept to give these words; None is the active one, or a new one where there is none.

        Raises
        ------
        UnsupportedError
            The model takes no text.
        """
        return self._run_for_concept("set_text", text=text, at=at, concept_id=_id(concept, "concept_id"))

    def add_concept(self, text: str, *, at: Sequence[float] | None = None, label: str = "") -> Concept:
        """Find every instance of one more concept, beside those there are; see :meth:`set_text`.

        What is found is labelled ``label``, by default with the words themselves.
        """
        return self._run_for_concept("add_concept", text=text, at=at, label=label)

    def remove_concept(self, concept: Concept | int) -> None:
        """Remove a concept with its instances; those that a person refined, labelled or locked stay."""
        self._run("remove_concept", concept_id=_id(concept, "concept_id"))

    def select_concept(self, concept: Concept | int | None) -> None:
        """Make a concept the active one; not a step of the history."""
        self._run("select_concept", concept_id=_id(concept, "concept_id"))

    def add_exemplar(
        self,
        box: Sequence[float] | NDArray[Any],
        positive: bool = True,  # noqa: FBT001, FBT002
        concept: Concept | int | None = None,
        label: str = "",
    ) -> Concept:
        """Show the active concept, by a box, what it means (positive) or does not mean; it is looked for again.

        Without a concept a positive exemplar starts one that has no words, and what it finds is labelled ``label``;
        one that is there keeps its own. Whatever lies mostly inside a negative exemplar is left out even where the
        model would keep it.
        """
        return self._run_for_concept(
            "add_exemplar", box=box, positive=positive, concept_id=_id(concept, "concept_id"), label=label
        )

    def add_exemplar_point(
        self,
        x: float,
        y: float,
        positive: bool = True,  # noqa: FBT001, FBT002
        concept: Concept | int | None = None,
        label: str = "",
    ) -> Concept:
        """Show the active concept an example by a click: the box of the object there is the exemplar."""
        return self._run_for_concept(
            "add_exemplar_point", x=x, y=y, positive=positive, concept_id=_id(concept, "concept_id"), label=label
        )

    def flip_exemplar(self, exemplar: Exemplar | int) -> None:
        """Turn a positive exemplar into a negative one, or back."""
        self._run("flip_exemplar", exemplar_id=_id(exemplar, "exemplar_id"))

    def remove_exemplar(self, exemplar: Exemplar | int) -> None:
        """Remove an exemplar; a concept of which nothing is left goes too."""
        self._run("remove_exemplar", exemplar_id=_id(exemplar, "exemplar_id"))

    def set_score_threshold(self, value: float, concept: Concept | int | None = None) -> None:
        """Set the score that detections of a concept, or (None) of all, must reach; no model is asked."""
        self._run("set_score_threshold", value=value, concept_id=_id(concept, "concept_id"))

    def undo(self) -> bool:
        """Take the last command back; False where there was none.

        The model is not asked, except for prompts it never answered: those that newer ones overtook, and those that
        were cancelled or failed.
        """
        return self._travel("undo")

    def redo(self) -> bool:
        """Bring the last undone command back; False where there was none."""
        return self._travel("redo")

    def _travel(self, name: str) -> bool:
        with self._live.lock:
            before = self._live.state
            return self._live.run(name, {}) is not before

    def reset(self) -> None:
        """Remove all instances and concepts; undo brings them back."""
        self._run("reset")

    def cancel(self) -> None:
        """Stop what the model is doing; prompts stay."""
        self._live.cancel()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that was said to a file, with its history and what the model answered: see :meth:`Session.load`.

        The file is written beside its place and moved into it, so it is whole or not there.

        Parameters
        ----------
        path : path
            By habit ``"….sam3.json"``; a file that is there is replaced.

        Raises
        ------
        LockedError
            Another session is saved to this file as it goes.
        UnsupportedError
            This is a frame of a clip.
        """
        files.save(self._kept, path)

    def flush(self) -> None:
        """Return when all that was said so far is in the file of ``autosave``; at once where there is none.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        keeper = self._kept.keeper
        if keeper is not None:
            keeper.flush()

    def script(self) -> str:
        """Return the Python that makes these masks: the commands in effect, as verbs of a new session.

        The image is given by its path where that is known, else as a variable ``image``. On the same image and model
        the script makes equal masks where each command was answered before the next, as with verbs.

        Raises
        ------
        FormatError
            The oldest commands were forgotten: the history has a bound.
        UnsupportedError
            This is a frame of a clip.
        """
        kept = self._kept
        path = kept.image.path
        with kept.lock:
            record = kept.record
        return script(record, repr(path) if path else "image", repr(kept.model.name))

    @property
    def _kept(self) -> LiveDocument:
        if not isinstance(self._live, LiveDocument):
            what, instead = "saving a frame of a clip", "save the masks of the clip, sam3_widget.io"
            message = f"{what} is not there yet: {instead}"
            raise UnsupportedError(message)
        return self._live

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every change of prompts, masks, labels or settings.

        It is called on the thread that made the change, for a new mask the model's own. Verbs work there but return
        before the mask is there. An exception in it is logged.

        Returns
        -------
        callable
            Stops the calls.
        """
        return self._live.listen(_Callback(callback))

    @property
    def mask_threshold(self) -> float:
        """Probability that a pixel must exceed; setting it acts at once and asks no model."""
        return self._live.state.settings.mask_threshold

    @mask_threshold.setter
    def mask_threshold(self, value: float) -> None:
        self._run("set_mask_threshold", value=value)

    @property
    def score_threshold(self) -> float:
        """Score that detections of new concepts must reach; set it for all concepts, without asking the model."""
        return self._live.state.settings.score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self._run("set_score_threshold", value=value)

    @property
    def fill_holes(self) -> int:
        """Largest hole that is filled, in pixels; 0 fills none."""
        return self._live.state.settings.fill_holes

    @fill_holes.setter
    def fill_holes(self, area: int) -> None:
        self._run("set_fill_holes", area=area)

    @property
    def min_area(self) -> int:
        """Smallest island that stays, in pixels; 0 keeps all."""
        return self._live.state.settings.min_area

    @min_area.setter
    def min_area(self, area: int) -> None:
        self._run("set_min_area", area=area)


class Session(Verbs):
    """An image, a model and everything said so far: the whole tool without a view.

    Parameters
    ----------
    image : path, bytes, PIL image, numpy array or torch tensor
        See :meth:`sam3_widget.core.image.Image.read`.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes, or a loaded model.
    classes : iterable of str
        Class names on offer.
    autosave : path, optional
        A file to save to after each change, in the background. Where it exists already, the session goes on from it:
        the same cell, run again after a restart, goes on where it stopped. A change is in the file a moment after it
        was made, whatever becomes of the process then; :meth:`flush` waits for that, and :meth:`close` and the end of
        the interpreter do. A file of another image is an error, and a file that another process saves to: nothing is
        written to it.

    Examples
    --------
    >>> from skimage import data
    >>> session = Session(data.coffee())
    >>> cup = session.add_point(300, 200)
    >>> cup.mask.shape
    (400, 600)
    """

    def __init__(
        self,
        image: object,
        model: str | os.PathLike[str] | Model = "auto",
        classes: Iterable[str] = (),
        *,
        autosave: str | os.PathLike[str] | None = None,
    ) -> None:
        self._live = opened(image, model, classes, autosave)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        image: object = None,
        model: str | os.PathLike[str] | Model | None = None,
        *,
        force: bool = False,
        replay: bool = False,
    ) -> Session:
        """Return a session from a file that :meth:`save` or ``autosave`` wrote: masks, ids, selection and history.

        No model is asked, and none is loaded before it is asked something; undo and redo go as far as they went.

        Parameters
        ----------
        path : path
        image : optional
            Whatever :class:`Session` takes; by default the file's own, at its path or beside the file.
        model : str, path or Model, optional
            By default the one that it was made with.
        force : bool
            Take another image than the saved one, if it is of the same size.
        replay : bool
            Give all commands in effect anew, to the model, in place of its earlier answers: see :meth:`replay`. What
            it cannot serve is told by a ``PromptWarning``.

        Raises
        ------
        FormatError
            The file is no saved session, or damaged.
        InvalidImageError
            The image is not found, or it is another one.
        """
        live = files.load(path, image, None if replay else model, force=force)
        if not replay:
            return cls.of(live)
        done = cls.of(live).replay(model)
        if done.refused:
            warnings.warn(str(done), PromptWarning, stacklevel=2)
        return done.session

    def replay(self, model: str | os.PathLike[str] | Model | None = None) -> Replay:
        """Give the commands that are in effect to a model, in place of what was answered before.

        A command is said of the object that it was said of: one that a person started is known by its place in the
        commands, a detected one by its mask, in which another model's detection is the same object from an IoU of 0.5.
        This session stays as it is.

        Parameters
        ----------
        model : str, path or Model, optional
            By default the one that answered before.
        """
        live, refused = replayed(self._kept, model)
        return Replay(Session.of(live), refused)

    def close(self) -> None:
        """Write what is new to the file of ``autosave``, and let it go; the session stays usable, but is not saved."""
        keeper = self._kept.keeper
        if keeper is not None:
            keeper.close()

    @classmethod
    def of(cls, document: LivePicture) -> Session:
        """Return a session on a document that something else shows as well."""
        session = cls.__new__(cls)
        session._live = document  # noqa: SLF001 - its own class
        return session

    def __repr__(self) -> str:
        """Return size, model and number of instances."""
        state = self._live.state
        size = f"{state.width} x {state.height}"
        return f"<Session {size}, model {self.model.name!r}, {len(state.instances)} instances>"


@dataclass(frozen=True)
class Replay:
    """What came of giving a session to another model.

    Attributes
    ----------
    session : Session
        On the same image, with the other model's answers and a history of its own.
    refused : tuple of Refused
        The commands that are not in it, or that the model did not answer; oldest first.
    """

    session: Session
    refused: tuple[Refused, ...]

    def __str__(self) -> str:
        """Return what was refused, and why."""
        if not self.refused:
            return f"{self.session.model.name} took every command"
        reasons = "; ".join(f"{each.command.title} ({each.reason})" for each in self.refused)
        return f"{self.session.model.name} did not take {len(self.refused)} of the commands: {reasons}"


def opened(
    image: object,
    model: str | os.PathLike[str] | Model,
    classes: Iterable[str],
    autosave: str | os.PathLike[str] | None,
) -> LiveDocument:
    """Return a document about an image, saved to a file as it goes, and gone on from that file, where one is given."""
    live = LiveDocument(image, model, classes)
    if autosave is not None:
        keeping.begin(live, autosave)
    return live


@dataclass(frozen=True)
class _Callback:
    callback: Callable[[], None]

    def changed(self) -> None:
        self.callback()

    def progressed(self, phase: str, fraction: float | None) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass


def _id(prompt: object, name: str) -> Any:  # noqa: ANN401 - validated by the command
    return getattr(prompt, name, prompt)
