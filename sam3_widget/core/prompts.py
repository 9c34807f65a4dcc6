"""What a person says: points, boxes, brush strokes and exemplars, in pixels of the original image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sam3_widget.errors import InvalidPromptError

Path = tuple[tuple[float, float], ...]
Corners = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)``."""
PointRow = tuple[float, float, bool, "int | None"]
BoxRow = tuple[Corners, "int | None"]

_FAR = 4
"""How many times the image's longer side a stroke may run off it."""
_EDGE = 1.5
"""How far a painted pixel may lie beyond the radius of its stroke: pixels are painted whole."""


@dataclass(frozen=True)
class Point:
    """A click.

    Attributes
    ----------
    x, y : float
        Pixels of the original image; pixel ``(i, j)`` covers ``[i, i + 1) x [j, j + 1)``.
    positive : bool
        True includes what is there, False excludes it.
    object_id : int
        The instance it belongs to.
    point_id : int
        Unique in its session; later prompts have larger ids.
    """

    x: float
    y: float
    positive: bool
    object_id: int
    point_id: int


@dataclass(frozen=True)
class Box:
    """A box around one instance: ``(x1, y1, x2, y2)`` in pixels of the original image."""

    x1: float
    y1: float
    x2: float
    y2: float
    object_id: int

    @property
    def xyxy(self) -> Corners:
        """The corners as a tuple."""
        return (self.x1, self.y1, self.x2, self.y2)


@dataclass(frozen=True, eq=False)
class Stroke:
    """A brush (positive) or eraser (negative) stroke: a disc of ``radius`` pixels moved along ``path``."""

    path: Path
    radius: float
    positive: bool
    object_id: int
    stroke_id: int

    def covers(self, x: float, y: float) -> bool:
        """Tell whether a position lies on a pixel the stroke painted, or next to one."""
        first = self.path[0]
        segments = zip(self.path, self.path[1:] or (first,), strict=False)
        return any(_distance(x, y, *a, *b) <= self.radius + _EDGE for a, b in segments)


@dataclass(frozen=True)
class Exemplar:
    """A box that shows a concept what it means, or (negative) does not mean.

    Attributes
    ----------
    positive : bool
    concept_id : int
    exemplar_id : int
        Unique in its session, as a point's.
    box : (x1, y1, x2, y2) or None
        Pixels of the original image; None while the object under ``point`` is not known yet.
    point : (x, y) or None
        The click that stands for the box, where one made it.
    """

    positive: bool
    concept_id: int
    exemplar_id: int
    box: Corners | None = None
    point: tuple[float, float] | None = None


def _distance(x: float, y: float, ax: float, ay: float, bx: float, by: float) -> float:
    """Return the distance in pixels from a position to the segment a-b."""
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    t = 0.0 if length == 0 else min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / length))
    return math.hypot(x - ax - t * dx, y - ay - t * dy)


def number(value: object, name: str) -> float:
    """Return a finite float, or raise an error that names the argument."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        message = f"{name} must be a number, got {value!r}"
        raise InvalidPromptError(message)
    try:
        result = float(value)
    except (OverflowError, TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        message = f"{name} must be a finite number, got {value!r}"
        raise InvalidPromptError(message)
    return result


def integer(value: object, name: str) -> int:
    """Return an int (numpy integers too), or raise an error that names the argument."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        message = f"{name} must be an integer, got {value!r}"
        raise InvalidPromptError(message)
    try:
        return int(value.__index__())
    except TypeError:  # an array of several
        message = f"{name} must be an integer, got {value!r:.200}"
        raise InvalidPromptError(message) from None


def flag(value: object, name: str) -> bool:
    """Return a bool; 0 and 1 (labels of the field) count as one."""
    if isinstance(value, bool) or (hasattr(value, "__index__") and int(value.__index__()) in {0, 1}):
        return bool(value)
    if type(value).__name__ in {"bool", "bool_"}:  # numpy's own bool has no __index__
        return bool(value)
    message = f"{name} must be True or False (1 or 0), got {value!r}"
    raise InvalidPromptError(message)


def phrase(text: object, longest: int = 200) -> str:
    """Return a short line of text with single spaces, or raise an error that says what was expected."""
    if not isinstance(text, str) or not text.strip() or len(text) > longest or not text.strip().isprintable():
        message = f"text must be a phrase such as 'coffee cup', of at most {longest} characters, got {text!r:.200}"
        raise InvalidPromptError(message)
    return " ".join(text.split())


def class_name(label: object, longest: int = 200) -> str:
    """Return a class name without the space around it, or raise an error that says what was expected."""
    if not isinstance(label, str) or len(label) > longest or not label.isprintable():
        message = f"label must be one line of text, of at most {longest} characters, got {label!r:.200}"
        raise InvalidPromptError(message)
    return label.strip()


def position(x: object, y: object, width: int, height: int) -> tuple[float, float]:
    """Return ``(x, y)`` inside the image, or raise an error that says what was expected."""
    px, py = number(x, "x"), number(y, "y")
    if not (0 <= px < width and 0 <= py < height):
        message = f"point must lie inside the image, 0 <= x < {width} and 0 <= y < {height}, got ({px:g}, {py:g})"
        raise InvalidPromptError(message)
    return px, py


def corners(box: object, width: int, height: int) -> Corners:
    """Return ``(x1, y1, x2, y2)`` inside the image, or raise an error that says what was expected."""
    form = "box must be (x1, y1, x2, y2) in pixels with x1 < x2 and y1 < y2"
    values = _sequence(box)
    if len(values) != 4:  # noqa: PLR2004 - the four of xyxy
        message = f"{form}, got {box!r}"
        raise InvalidPromptError(message)
    x1, y1, x2, y2 = (number(v, "a corner of the box") for v in values)
    shown = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    if not (x1 < x2 and y1 < y2):
        message = f"{form}, got {shown}"
        raise InvalidPromptError(message)
    if not (x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height):
        message = f"box must lie inside the image, 0 <= x <= {width} and 0 <= y <= {height}, got {shown}"
        raise InvalidPromptError(message)
    return x1, y1, x2, y2


def polyline(path: object, width: int, height: int) -> Path:
    """Return the positions of a stroke; it may run off the image, but not to another world."""
    form = "path must be one or more (x, y) positions in pixels"
    rows = [_sequence(row) for row in _sequence(path)]
    if not rows or any(len(row) != 2 for row in rows):  # noqa: PLR2004 - x and y
        message = f"{form}, got {path!r:.200}"
        raise InvalidPromptError(message)
    found = tuple((number(x, "x"), number(y, "y")) for x, y in rows)
    reach = _FAR * max(width, height)
    if any(abs(v) > reach for at in found for v in at):
        message = f"{form} near the image: within {reach} pixels of its corner"
        raise InvalidPromptError(message)
    return found


def point_rows(points: object, width: int, height: int) -> tuple[PointRow, ...]:
    """Return ``(x, y, positive, object_id)`` of points given as :class:`Point`, tuples or mappings."""
    form = "points must be a list of (x, y), (x, y, positive), (x, y, positive, object_id) or Point"
    rows: list[PointRow] = []
    for item in _listed(points, form):
        if isinstance(item, Point):
            given: list[Any] = [item.x, item.y, item.positive, item.object_id]
        elif isinstance(item, Mapping):
            given = [item.get("x"), item.get("y"), item.get("positive", True), item.get("object_id")]
        else:
            given = _sequence(item)
        if not 2 <= len(given) <= 4:  # noqa: PLR2004 - x, y, positive, object_id
            message = f"{form}, got {item!r:.200}"
            raise InvalidPromptError(message)
        x, y, positive, object_id = [*given, True, None][:4] if len(given) == 2 else [*given, None][:4]  # noqa: PLR2004
        px, py = position(x, y, width, height)
        rows.append((px, py, flag(positive, "positive"), _optional_id(object_id)))
    return tuple(rows)


def box_rows(boxes: object, width: int, height: int) -> tuple[BoxRow, ...]:
    """Return ``((x1, y1, x2, y2), object_id)`` of boxes given as :class:`Box` or tuples."""
    form = "box_prompts must be a list of (x1, y1, x2, y2), (x1, y1, x2, y2, object_id) or Box"
    rows: list[BoxRow] = []
    for item in _listed(boxes, form):
        given = [*item.xyxy, item.object_id] if isinstance(item, Box) else _sequence(item)
        if not 4 <= len(given) <= 5:  # noqa: PLR2004 - x1, y1, x2, y2, object_id
            message = f"{form}, got {item!r:.200}"
            raise InvalidPromptError(message)
        object_id = given[4] if len(given) == 5 else None  # noqa: PLR2004
        rows.append((corners(given[:4], width, height), _optional_id(object_id)))
    return tuple(rows)


def _optional_id(object_id: object) -> int | None:
    if object_id is None:
        return None
    number_ = integer(object_id, "object_id")
    if number_ < 1:
        message = f"object_id must be 1 or more, got {number_}"
        raise InvalidPromptError(message)
    return number_


def _listed(value: object, form: str) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        message = f"{form}, got {value!r:.200}"
        raise InvalidPromptError(message)
    return list(value)


def _sequence(value: object) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return []
    return list(value)
