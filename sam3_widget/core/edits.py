"""The commands on instances and settings: each validates its arguments, then makes the next state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sam3_widget.core import prompts
from sam3_widget.core.prompts import Box, Point, Stroke
from sam3_widget.core.state import InstanceState, State
from sam3_widget.errors import InvalidPromptError, LockedError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sam3_widget.core.prompts import BoxRow, Corners, PointRow
    from sam3_widget.core.runs import RunLengths

_MAX_RADIUS = 16_000  # OpenCV draws no thicker line


def add_point(
    state: State,
    x: float,
    y: float,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    object_id: object = None,
    label: object = "",
) -> State:
    """Add a click to an instance, or start one, of this class."""
    px, py = prompts.position(x, y, state.width, state.height)
    include = prompts.flag(positive, "positive")
    state, instance = _target(state, object_id, label, starts=include, what="negative point")
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


def add_box(
    state: State,
    box: Corners,
    object_id: object = None,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    label: object = "",
) -> State:
    """Draw the box of an instance, in place of the one it has, or start an instance, of this class, with it."""
    if not prompts.flag(positive, "positive"):
        message = (
            "a box of one object can only include: to exclude things like what is in it, give the box to a concept, "
            "add_exemplar(box, positive=False); to take a part away from one object, use negative points"
        )
        raise UnsupportedError(message)
    state, instance = _target(state, object_id, label, starts=True)
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
    label: object = "",
) -> State:
    """Paint (positive) or erase exactly what lies under a stroke; one that starts an instance gives it this class."""
    size = prompts.number(radius, "radius")
    largest = min(max(state.width, state.height), _MAX_RADIUS)
    if not 0 < size <= largest:
        message = f"radius must be more than 0 and at most {largest} pixels, got {size:g}"
        raise InvalidPromptError(message)
    include = prompts.flag(positive, "positive")
    state, instance = _target(state, object_id, label, starts=include, what="eraser stroke")
    stroke = Stroke(path, size, include, instance.object_id, state.next_prompt_id)
    return _numbered(state).put(replace(instance, strokes=(*instance.strokes, stroke)))


def remove_stroke(state: State, stroke_id: object) -> State:
    """Remove a stroke and its effect."""
    number = prompts.integer(stroke_id, "stroke_id")
    instance = _editable(state, state.owner("stroke", number).object_id)
    rest = tuple(s for s in instance.strokes if s.stroke_id != number)
    return _ask(state, replace(instance, strokes=rest), afresh=True)


def set_mask(state: State, mask: RunLengths, object_id: object = None, label: object = "") -> State:
    """Start an instance, of this class, from a mask, or start it over: its earlier prompts are forgotten."""
    state, instance = _target(state, object_id, label, starts=True)
    start = replace(instance, points=(), box=None, strokes=(), imported=mask, found=None, answer=None, candidate=0)
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
    name = prompts.class_name(label)
    return state.named(name).put(replace(instance, label=name, labelled=bool(name)))


def set_visible(state: State, object_id: object, visible: object) -> State:
    """Show or hide an instance in the view; its mask stays."""
    instance = state.instance(prompts.integer(object_id, "object_id"))
    return state.put(replace(instance, visible=prompts.flag(visible, "visible")))


def set_locked(state: State, object_id: object, locked: object) -> State:
    """Protect an instance from changes of its mask, or free it."""
    instance = state.instance(prompts.integer(object_id, "object_id"))
    return state.put(replace(instance, locked=prompts.flag(locked, "locked")))


def remove_object(state: State, object_id: object) -> State:
    """Remove an instance with all its prompts; a detected one does not come back with the next detection."""
    instance = _editable(state, object_id)
    if instance.concept_id is not None and instance.matched:
        concept = state.concept_of(instance.concept_id)
        state = state.put_concept(replace(concept, dismissed=(*concept.dismissed, instance.matched)))
    return state.without(instance.object_id)


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
    """Remove every instance and concept; settings and classes stay."""
    return replace(state, instances=(), selected=None, concepts=(), concept=None)


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


def _target(
    state: State, object_id: object, label: object, *, starts: bool, what: str = ""
) -> tuple[State, InstanceState]:
    """Return the instance to change, selected; a new one, labelled, where the id is None and the prompt can start one.

    One that is there keeps its label.
    """
    name = prompts.class_name(label)
    if object_id is not None:
        instance = _editable(state, object_id)
    elif starts:
        instance = InstanceState(state.next_object_id, label=name, labelled=bool(name))
        state = replace(state, next_object_id=state.next_object_id + 1).named(name).put(instance)
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
