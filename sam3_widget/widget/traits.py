"""Traits that take prompts in the forms people write them, and say what was expected of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import traitlets

from sam3_widget.core.prompts import Box, Point
from sam3_widget.errors import InvalidPromptError

PointRow = tuple[float, float, bool, "int | None"]
BoxRow = tuple[tuple[float, float, float, float], "int | None"]


def point_rows(value: object) -> list[PointRow]:
    """Return rows ``(x, y, positive, object_id)`` of points given as ``Point``, tuples or mappings."""
    form = "points must be a list of (x, y), (x, y, positive), (x, y, positive, object_id) or Point"
    rows: list[PointRow] = []
    for item in _items(value, form):
        if isinstance(item, Point):
            rows.append((item.x, item.y, item.positive, item.object_id))
        elif isinstance(item, Mapping) and {"x", "y"} <= set(item):
            rows.append((item["x"], item["y"], item.get("positive", True), item.get("object_id")))
        elif isinstance(item, Iterable) and 2 <= len(row := list(item)) <= 4:  # noqa: PLR2004 - x, y, positive, id
            x, y, positive, object_id = (*row, True, None)[:4] if len(row) == 2 else (*row, None)[:4]  # noqa: PLR2004
            rows.append((x, y, positive, object_id))
        else:
            message = f"{form}, got {item!r}"
            raise InvalidPromptError(message)
    return rows


def box_rows(value: object) -> list[BoxRow]:
    """Return rows ``((x1, y1, x2, y2), object_id)`` of boxes given as ``Box`` or tuples."""
    form = "box_prompts must be a list of (x1, y1, x2, y2), (x1, y1, x2, y2, object_id) or Box"
    rows: list[BoxRow] = []
    for item in _items(value, form):
        if isinstance(item, Box):
            rows.append((item.xyxy, item.object_id))
        elif isinstance(item, Iterable) and 4 <= len(row := list(item)) <= 5:  # noqa: PLR2004 - xyxy, id
            rows.append(((row[0], row[1], row[2], row[3]), row[4] if len(row) == 5 else None))  # noqa: PLR2004
        else:
            message = f"{form}, got {item!r}"
            raise InvalidPromptError(message)
    return rows


def selected_id(value: object) -> object:
    """Return an ``object_id`` or None; the document checks it."""
    return value


class Speaker(Protocol):
    """A widget whose traits speak for its document."""

    def told(self) -> bool:
        """Tell whether it is the document that speaks, so that a trait just takes its value."""

    def say(self, command: str, args: Mapping[str, Any], name: str) -> object:
        """Run a command, and return what the trait of this name holds then."""


class Said(traitlets.TraitType[Any, Any]):
    """A trait that speaks for the document: assigning it runs a command, and a refused value changes nothing.

    Parameters
    ----------
    command : str
        The command that an assignment runs.
    argument : str
        Its argument.
    parse : callable
        Turns an assigned value into that argument.
    default : object
        What the trait holds before anything is said.
    """

    def __init__(self, command: str, argument: str, parse: Callable[[object], object], default: object) -> None:
        super().__init__(default_value=default, allow_none=True)
        self._command, self._argument, self._parse = command, argument, parse
        self.tag(sync=True, to_json=_to_json)

    def validate(self, obj: Speaker, value: object) -> object:
        """Run the command, unless it is the document that speaks, and return what the document holds then."""
        if obj.told():
            return value
        return obj.say(self._command, {self._argument: self._parse(value)}, str(self.name))


def _items(value: object, form: str) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        message = f"{form}, got {value!r}"
        raise InvalidPromptError(message)
    return list(value)


def _to_json(value: object, _: object) -> object:
    if not isinstance(value, tuple):
        return value
    return [[p.x, p.y, int(p.positive), p.object_id] if isinstance(p, Point) else [*p.xyxy, p.object_id] for p in value]
