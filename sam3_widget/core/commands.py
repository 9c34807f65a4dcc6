"""The commands of a session: each validates its arguments, then makes the next state. None changes anything else."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core import prompts
from sam3_widget.core.prompts import Box, Point, Stroke
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.state import InstanceState, State
from sam3_widget.errors import InvalidPromptError, LockedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sam3_widget.core.prompts import BoxRow, PointRow

_MAX_LABEL = 200
_MAX_RADIUS = 16_000  # OpenCV draws no thicker line


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
    try:
        inspect.signature(command).bind(state, **args)
    except TypeError as error:
        expected = ", ".join(list(inspect.signature(command).parameters)[1:]) or "no arguments"
        message = f"{name} takes {expected}: {error}"
        raise InvalidPromptError(message) from None
    return {
        key: _FORMS[key](value, state.width, state.height) if key in _FORMS else value for key, value in args.items()
    }


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


def add_point(state: State, x: float, y: float, positive: object = True, object_id: object = None) -> State:  # noqa: FBT002
    """Add a click to an instance, or start one."""
    px, py = prompts.position(x, y, state.width, state.height)
    include = prompts.flag(positive, "positive")
    state, instance = _target(state, object_id, starts=include, what="negative point")
    point = Point(px, py, include, instance.object_id, state.next_prompt_id)
    return _ask(_numbered(state), replace(instance, points=(*instance.points, point)))


def move_point(state: State, point_id: object, x: float, y: float) -> State:
    """Move a click; its effect at the old place goes with it."""
    px, py = prompts.position(x, y, state.width, state.height)
    return _change_point(state, point_id, lambda p: replace(p, x=px, y=py))


def flip_point(state: State, point_id: object) -> State:
    """Turn a positive click into a negative one, or back."""
    return _change_point(state, point_id, lambda p: replace(p, positive=not p.positive))


def remove_point(state: State, point_id: object) -> State:
    """Remove a click and its effect; an instance without prompts goes too."""
    return _change_point(state, point_id, lambda _: None)


def add_box(state: State, box: tuple[float, float, float, float], object_id: object = None) -> State:
    """Draw the box of an instance, in place of the one it has, or start an instance with it."""
    state, instance = _target(state, object_id, starts=True)
    had = instance.box is not None
    boxed = replace(instance, box=Box(*box, object_id=instance.object_id))
    return _ask(state, boxed, afresh=had)


def remove_box(state: State, object_id: object) -> State:
    """Remove an instance's box and its effect."""
    instance = _editable(state, object_id)
    if instance.box is None:
        message = f"object {instance.object_id} has no box to remove"
        raise NotFoundError(message)
    return _ask(state, replace(instance, box=None), afresh=True)


def add_stroke(
    state: State,
    path: prompts.Path,
    radius: float,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    object_id: object = None,
) -> State:
    """Paint (positive) or erase exactly what lies under a stroke."""
    size = prompts.number(radius, "radius")
    largest = min(max(state.width, state.height), _MAX_RADIUS)
    if not 0 < size <= largest:
        message = f"radius must be more than 0 and at most {largest} pixels, got {size:g}"
        raise InvalidPromptError(message)
    include = prompts.flag(positive, "positive")
    state, instance = _target(state, object_id, starts=include, what="eraser stroke")
    stroke = Stroke(path, size, include, instance.object_id, state.next_prompt_id)
    return _numbered(state).put(replace(instance, strokes=(*instance.strokes, stroke)))


def remove_stroke(state: State, stroke_id: object) -> State:
    """Remove a stroke and its effect."""
    number = prompts.integer(stroke_id, "stroke_id")
    instance = _editable(state, state.owner("stroke", number).object_id)
    rest = tuple(s for s in instance.strokes if s.stroke_id != number)
    return _ask(state, replace(instance, strokes=rest), afresh=True)


def set_mask(state: State, mask: RunLengths, object_id: object = None) -> State:
    """Start an instance from a mask, or start it over: its earlier prompts are forgotten."""
    state, instance = _target(state, object_id, starts=True)
    start = replace(instance, points=(), box=None, strokes=(), imported=mask, answer=None, candidate=0)
    return state.put(start)


def choose_candidate(state: State, object_id: object, index: object) -> State:
    """Show another of the masks that the model offered for an ambiguous click."""
    instance = _editable(state, object_id)
    number = prompts.integer(index, "index")
    offered = len(instance.answer.scores) if instance.answer else 0
    if not 0 <= number < offered:
        message = f"index must be below the number of candidates, {offered}, got {number}"
        raise InvalidPromptError(message)
    return state.put(replace(instance, candidate=number))


def set_label(state: State, object_id: object, label: object) -> State:
    """Name the class of an instance; "" takes the name away."""
    instance = state.instance(prompts.integer(object_id, "object_id"))
    if not isinstance(label, str) or len(label) > _MAX_LABEL or not label.isprintable():
        message = f"label must be one line of text, of at most {_MAX_LABEL} characters, got {label!r:.200}"
        raise InvalidPromptError(message)
    name = label.strip()
    classes = state.classes if not name or name in state.classes else (*state.classes, name)
    return replace(state, classes=classes).put(replace(instance, label=name))


def set_visible(state: State, object_id: object, visible: object) -> State:
    """Show or hide an instance in the view; its mask stays."""
    instance = state.instance(prompts.integer(object_id, "object_id"))
    return state.put(replace(instance, visible=prompts.flag(visible, "visible")))


def set_locked(state: State, object_id: object, locked: object) -> State:
    """Protect an instance from changes of its mask, or free it."""
    instance = state.instance(prompts.integer(object_id, "object_id"))
    return state.put(replace(instance, locked=prompts.flag(locked, "locked")))


def remove_object(state: State, object_id: object) -> State:
    """Remove an instance with all its prompts."""
    return state.without(_editable(state, object_id).object_id)


def set_mask_threshold(state: State, value: float) -> State:
    """Set the probability a pixel must exceed."""
    level = prompts.number(value, "mask_threshold")
    if not 0 < level < 1:
        message = f"mask_threshold must be a probability with 0 < value < 1, got {level:g}"
        raise InvalidPromptError(message)
    return replace(state, settings=replace(state.settings, mask_threshold=level))


def set_fill_holes(state: State, area: object) -> State:
    """Fill holes of at most this many pixels."""
    return replace(state, settings=replace(state.settings, fill_holes=_pixels(state, area, "fill_holes")))


def set_min_area(state: State, area: object) -> State:
    """Drop islands of fewer pixels than this."""
    return replace(state, settings=replace(state.settings, min_area=_pixels(state, area, "min_area")))


def set_points(state: State, points: Sequence[PointRow]) -> State:
    """Replace all clicks of all instances by rows of ``(x, y, positive, object_id)``.

    An ``object_id`` that does not exist yet starts that instance. Rows without one go to the selected instance or,
    with none selected, start one together. Clicks that are there already stay what they are.
    """
    ours = state.selected or state.next_object_id
    rows: dict[int, list[PointRow]] = {i.object_id: [] for i in state.instances}
    for row in points:
        rows.setdefault(ours if row[3] is None else row[3], []).append(row)
    for object_id, wanted in rows.items():
        state, instance = _found(state, object_id)
        old, clicks = list(instance.points), []
        for x, y, positive, _ in wanted:
            same = next((p for p in old if (p.x, p.y, p.positive) == (x, y, positive)), None)
            if same is None:
                same = Point(x, y, positive, object_id, state.next_prompt_id)
                state = _numbered(state)
            else:
                old.remove(same)
            clicks.append(same)
        if tuple(clicks) == instance.points:
            continue
        if instance.empty and not any(p.positive for p in clicks):
            message = "a negative point needs an object to take away from: select one, or give object_id"
            raise InvalidPromptError(message)
        state = replace(state, selected=object_id)
        state = _ask(state, replace(_unlocked(instance), points=tuple(clicks)), afresh=bool(old))
    return state


def set_boxes(state: State, boxes: Sequence[BoxRow]) -> State:
    """Replace all boxes by rows of ``((x1, y1, x2, y2), object_id)``.

    An ``object_id`` that does not exist yet starts that instance. A row without one is the box of an instance that has
    it already, or starts an instance.
    """
    wanted: dict[int, Box | None] = {i.object_id: None for i in state.instances}
    claimed = {object_id for _, object_id in boxes}
    fresh = max([state.next_object_id - 1, *(k for k in claimed if k is not None)])
    for box, object_id in boxes:
        owner = object_id
        if owner is None:
            there = (i.object_id for i in state.instances if i.box and i.box.xyxy == box)
            owner = next((k for k in there if k not in claimed), None)
        if owner is None:
            owner = fresh = fresh + 1
        if wanted.get(owner) is not None:
            message = f"an object has one box at most, got two for object_id {owner}"
            raise InvalidPromptError(message)
        claimed.add(owner)
        wanted[owner] = Box(*box, object_id=owner)
    for owner, new in wanted.items():
        state, instance = _found(state, owner)
        if new != instance.box:
            state = replace(state, selected=owner)
            state = _ask(state, replace(_unlocked(instance), box=new), afresh=instance.box is not None)
    return state


def reset(state: State) -> State:
    """Remove every instance; settings and classes stay."""
    return replace(state, instances=(), selected=None)


def _pixels(state: State, area: object, name: str) -> int:
    number = prompts.integer(area, name)
    whole = state.width * state.height
    if not 0 <= number <= whole:
        message = f"{name} must be an area from 0 to the image's {whole} pixels, got {number}"
        raise InvalidPromptError(message)
    return number


def _unlocked(instance: InstanceState) -> InstanceState:
    if instance.locked:
        message = f"object {instance.object_id} is locked: unlock it to change it"
        raise LockedError(message)
    return instance


def _editable(state: State, object_id: object) -> InstanceState:
    return _unlocked(state.instance(prompts.integer(object_id, "object_id")))


def _found(state: State, object_id: int) -> tuple[State, InstanceState]:
    """Return the instance with this id; an empty one, which the caller must fill, where there is none yet."""
    found = next((i for i in state.instances if i.object_id == object_id), None)
    if found is None:
        return replace(state, next_object_id=max(state.next_object_id, object_id + 1)), InstanceState(object_id)
    return state, found


def _target(state: State, object_id: object, *, starts: bool, what: str = "") -> tuple[State, InstanceState]:
    """Return the instance to change, selected; a new one where the id is None and the prompt can start one."""
    if object_id is not None:
        instance = _editable(state, object_id)
    elif starts:
        instance = InstanceState(state.next_object_id)
        state = replace(state, next_object_id=state.next_object_id + 1).put(instance)
    else:
        message = f"a {what} needs an object to take away from: select one, or give object_id"
        raise InvalidPromptError(message)
    return replace(state, selected=instance.object_id), instance


def _numbered(state: State) -> State:
    return replace(state, next_prompt_id=state.next_prompt_id + 1)


def _ask(state: State, instance: InstanceState, *, afresh: bool = False) -> State:
    """Put a changed instance with a question to the model; one without any prompt goes."""
    if instance.empty:
        return state.put(instance).without(instance.object_id)
    return state.put(instance.asked(afresh=afresh))


def _change_point(state: State, point_id: object, change: Callable[[Point], Point | None]) -> State:
    number = prompts.integer(getattr(point_id, "point_id", point_id), "point_id")
    instance = _editable(state, state.owner("point", number).object_id)
    changed = [change(p) if p.point_id == number else p for p in instance.points]
    points = tuple(p for p in changed if p is not None)
    state = replace(state, selected=instance.object_id)
    return _ask(state, replace(instance, points=points), afresh=True)


COMMANDS: dict[str, Callable[..., State]] = {
    f.__name__: f
    for f in (
        add_point,
        move_point,
        flip_point,
        remove_point,
        add_box,
        remove_box,
        add_stroke,
        remove_stroke,
        set_mask,
        choose_candidate,
        set_label,
        set_visible,
        set_locked,
        remove_object,
        set_mask_threshold,
        set_fill_holes,
        set_min_area,
        set_points,
        set_boxes,
        reset,
    )
}
