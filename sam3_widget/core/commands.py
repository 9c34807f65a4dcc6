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
    from collections.abc import Callable, Iterable, Mapping

_MAX_LABEL = 200


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


def apply(state: State, name: str, args: Mapping[str, Any]) -> State:
    """Return the state after a command.

    Raises
    ------
    NotFoundError
        There is no such command, instance or prompt.
    InvalidPromptError
        An argument is missing, unknown, malformed or outside the image.
    LockedError
        The instance is locked.
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
    return command(state, **args)


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


def add_box(state: State, box: object, object_id: object = None) -> State:
    """Draw the box of an instance, in place of the one it has, or start an instance with it."""
    corners = prompts.corners(box, state.width, state.height)
    state, instance = _target(state, object_id, starts=True)
    had = instance.box is not None
    boxed = replace(instance, box=Box(*corners, object_id=instance.object_id))
    return _ask(state, boxed, afresh=had)


def remove_box(state: State, object_id: object) -> State:
    """Remove an instance's box and its effect."""
    instance = _editable(state, object_id)
    if instance.box is None:
        message = f"instance {instance.object_id} has no box to remove"
        raise NotFoundError(message)
    return _ask(state, replace(instance, box=None), afresh=True)


def add_stroke(
    state: State,
    path: object,
    radius: float,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    object_id: object = None,
) -> State:
    """Paint (positive) or erase exactly what lies under a stroke."""
    positions = prompts.polyline(path)
    size = prompts.number(radius, "radius")
    if size <= 0:
        message = f"radius must be more than 0 pixels, got {size:g}"
        raise InvalidPromptError(message)
    include = prompts.flag(positive, "positive")
    state, instance = _target(state, object_id, starts=include, what="eraser stroke")
    stroke = Stroke(positions, size, include, instance.object_id, state.next_prompt_id)
    return _numbered(state).put(replace(instance, strokes=(*instance.strokes, stroke)))


def remove_stroke(state: State, stroke_id: object) -> State:
    """Remove a stroke and its effect."""
    number = prompts.integer(stroke_id, "stroke_id")
    instance = _editable(state, state.owner("stroke", number).object_id)
    rest = tuple(s for s in instance.strokes if s.stroke_id != number)
    return _ask(state, replace(instance, strokes=rest), afresh=True)


def set_mask(state: State, mask: object, object_id: object = None) -> State:
    """Start an instance from a mask, or start it over: its earlier prompts are forgotten."""
    if isinstance(mask, RunLengths):
        runs = mask
    else:
        array = np.asarray(mask)
        if array.shape != (state.height, state.width):
            message = f"mask must have the image's shape ({state.height}, {state.width}), got {array.shape}"
            raise InvalidPromptError(message)
        if array.dtype != np.bool_ and not np.isin(array, (0, 1, 255)).all():
            message = f"mask must be bool, or hold only 0 and 1 (or 255), got {array.dtype} with other values"
            raise InvalidPromptError(message)
        runs = RunLengths.from_mask(array.astype(np.bool_))
    if runs.area == 0:
        message = "mask must have at least one pixel that is True"
        raise InvalidPromptError(message)
    state, instance = _target(state, object_id, starts=True)
    start = replace(instance, points=(), box=None, strokes=(), imported=runs, answer=None, candidate=0)
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
    if not isinstance(label, str) or len(label) > _MAX_LABEL:
        message = f"label must be text of at most {_MAX_LABEL} characters, got {label!r}"
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
    return replace(state, settings=replace(state.settings, fill_holes=_pixels(area, "fill_holes")))


def set_min_area(state: State, area: object) -> State:
    """Drop islands of fewer pixels than this."""
    return replace(state, settings=replace(state.settings, min_area=_pixels(area, "min_area")))


def set_points(state: State, points: Iterable[tuple[float, float, object, int | None]]) -> State:
    """Replace all clicks of all instances by rows of ``(x, y, positive, object_id)``.

    Rows whose ``object_id`` is None go to the selected instance or, with none selected, start one together.
    """
    rows = list(points)
    wanted: dict[int, list[Point]] = {}
    ours = state.selected
    starts = any(prompts.flag(positive, "positive") for _, _, positive, object_id in rows if object_id is None)
    for x, y, positive, object_id in rows:
        px, py = prompts.position(x, y, state.width, state.height)
        include = prompts.flag(positive, "positive")
        owner = ours if object_id is None else object_id
        state, instance = _target(state, owner, starts=starts, what="negative point")
        ours = instance.object_id if object_id is None else ours
        point = Point(px, py, include, instance.object_id, state.next_prompt_id)
        state = _numbered(state)
        wanted.setdefault(instance.object_id, []).append(point)
    for instance in state.instances:
        new = wanted.get(instance.object_id, [])
        if [(p.x, p.y, p.positive) for p in new] != [(p.x, p.y, p.positive) for p in instance.points]:
            state = _ask(state, replace(_unlocked(instance), points=tuple(new)), afresh=True)
    return state


def set_boxes(state: State, boxes: Iterable[tuple[object, int | None]]) -> State:
    """Replace all boxes by rows of ``((x1, y1, x2, y2), object_id)``; a row whose id is None starts an instance."""
    wanted: dict[int, Box] = {}
    for box, object_id in boxes:
        corners = prompts.corners(box, state.width, state.height)
        state, instance = _target(state, object_id, starts=True)
        if instance.object_id in wanted:
            message = f"an instance has one box at most, got two for object_id {instance.object_id}"
            raise InvalidPromptError(message)
        wanted[instance.object_id] = Box(*corners, object_id=instance.object_id)
    for instance in state.instances:
        new = wanted.get(instance.object_id)
        if new != instance.box:
            state = _ask(state, replace(_unlocked(instance), box=new), afresh=instance.box is not None)
    return state


def reset(state: State) -> State:
    """Remove every instance; settings and classes stay."""
    return replace(state, instances=(), selected=None)


def _pixels(area: object, name: str) -> int:
    number = prompts.integer(area, name)
    if number < 0:
        message = f"{name} must be an area of 0 or more pixels, got {number}"
        raise InvalidPromptError(message)
    return number


def _unlocked(instance: InstanceState) -> InstanceState:
    if instance.locked:
        message = f"instance {instance.object_id} is locked: unlock it to change it"
        raise LockedError(message)
    return instance


def _editable(state: State, object_id: object) -> InstanceState:
    return _unlocked(state.instance(prompts.integer(object_id, "object_id")))


def _target(state: State, object_id: object, *, starts: bool, what: str = "") -> tuple[State, InstanceState]:
    """Return the instance to change, selected; a new one where the id is None and the prompt can start one."""
    if object_id is not None:
        instance = _editable(state, object_id)
    elif starts:
        instance = InstanceState(state.next_object_id)
        state = replace(state, next_object_id=state.next_object_id + 1).put(instance)
    else:
        message = f"a {what} needs an instance to take away from: select one, or give object_id"
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
