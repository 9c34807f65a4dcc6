"""The commands of a session by name: how their arguments are checked, and how they are applied."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core import concepts, edits, prompts
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidPromptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam3_widget.core.state import State


@dataclass(frozen=True)
class Command:
    """One recorded change.

    Attributes
    ----------
    name : str
        One of :data:`COMMANDS`.
    args : mapping
        Its arguments.
    time : float
        Seconds since the epoch.
    """

    name: str
    args: Mapping[str, Any]
    time: float

    @property
    def title(self) -> str:
        """What a person reads beside undo: "Add point"."""
        return self.name.replace("_", " ").capitalize()


def normalised(state: State, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command's arguments checked by name and in one form, which no caller can change later.

    Raises
    ------
    NotFoundError
        There is no such command.
    InvalidPromptError
        An argument is missing, unknown or malformed.
    """
    command = COMMANDS.get(name)
    if command is None:
        message = f"there is no command {name!r}; there are: {', '.join(sorted(COMMANDS))}"
        raise NotFoundError(message)
    return {
        key: _FORMS[key](value, state.width, state.height) if key in _FORMS else _plain(value, key)
        for key, value in bound(command, state, name, args).items()
    }


def bound(command: Callable[..., object], state: object, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that a command takes by these names, or raise an error that says which it takes."""
    try:
        inspect.signature(command).bind(state, **args)
    except TypeError as error:
        expected = ", ".join(list(inspect.signature(command).parameters)[1:]) or "no arguments"
        message = f"{name} takes {expected}: {error}"
        raise InvalidPromptError(message) from None
    return dict(args)


def apply(state: State, name: str, args: Mapping[str, Any]) -> State:
    """Return the state after a command whose arguments are :func:`normalised`; the same one if it changes nothing.

    Raises
    ------
    NotFoundError
        There is no such instance or prompt.
    InvalidPromptError
        An argument is malformed or outside the image.
    LockedError
        The instance is locked.
    """
    after = COMMANDS[name](state, **args)
    return state if after == state else after


def _plain(value: object, key: str) -> object:
    """Return a number, a word or a position as Python's own kind of it; whatever else it is the command refuses."""
    if isinstance(value, np.generic):
        return value.item()
    if key == "at" and isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(_plain(each, "") for each in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    held: Any = getattr(value, key, value)  # a prompt stands for its id
    try:
        if hasattr(held, "__index__"):
            return operator.index(held)
        return float(held) if hasattr(held, "__float__") else held
    except (TypeError, ValueError, OverflowError):  # an array of several
        return held


def _runs(mask: object, width: int, height: int) -> RunLengths:
    """Return a mask of the image's size as run lengths."""
    if isinstance(mask, RunLengths):
        shape: tuple[int, ...] = (mask.height, mask.width)
        runs = mask
    else:
        try:
            array = np.asarray(mask)
        except ValueError:
            array = np.zeros(0)
        shape = array.shape
        if shape == (height, width):
            if array.dtype != np.bool_ and (array.dtype.kind not in "iuf" or not np.isin(array, (0, 1, 255)).all()):
                message = f"mask must be bool, or hold only 0 and 1 (or 255), got {array.dtype} with other values"
                raise InvalidPromptError(message)
            runs = RunLengths.from_mask(array.astype(np.bool_))
    if shape != (height, width):
        message = f"mask must have the image's shape ({height}, {width}), got {shape}"
        raise InvalidPromptError(message)
    if runs.area == 0:
        message = "mask must have at least one pixel that is True"
        raise InvalidPromptError(message)
    return runs


_FORMS: dict[str, Callable[[Any, int, int], Any]] = {
    "mask": _runs,
    "path": prompts.polyline,
    "box": prompts.corners,
    "points": prompts.point_rows,
    "boxes": prompts.box_rows,
}
"""The form of each argument that is more than a number or a word."""


COMMANDS: dict[str, Callable[..., State]] = {
    f.__name__: f
    for f in (
        edits.add_point,
        edits.move_point,
        edits.flip_point,
        edits.remove_point,
        edits.add_box,
        edits.remove_box,
        edits.add_stroke,
        edits.remove_stroke,
        edits.set_mask,
        edits.choose_candidate,
        edits.set_label,
        edits.set_visible,
        edits.set_locked,
        edits.remove_object,
        edits.set_mask_threshold,
        edits.set_fill_holes,
        edits.set_min_area,
        edits.set_points,
        edits.set_boxes,
        edits.reset,
        concepts.set_text,
        concepts.add_concept,
        concepts.remove_concept,
        concepts.add_exemplar,
        concepts.add_exemplar_point,
        concepts.flip_exemplar,
        concepts.remove_exemplar,
        concepts.set_score_threshold,
    )
}
"""Every command of a session by its name."""
