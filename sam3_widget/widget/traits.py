"""Traits that speak for the document: an assignment is a command."""

from __future__ import annotations

from typing import Any, Protocol

import traitlets

from sam3_widget.core.prompts import Point


class Speaker(Protocol):
    """A widget whose traits speak for its document."""

    def held(self, name: str) -> object:
        """Return what the document holds for the trait of this name."""

    def say(self, command: str, args: dict[str, object]) -> None:
        """Run a command of the document."""


class Said(traitlets.TraitType[Any, Any]):
    """A trait that always holds what the document holds.

    Assigning anything else runs a command; what the document refuses changes nothing.

    Parameters
    ----------
    command : str
        The command that an assignment runs.
    argument : str
        The argument that takes the assigned value.
    """

    def __init__(self, command: str, argument: str) -> None:
        super().__init__(default_value=None)  # until the widget has a document
        self._command, self._argument = command, argument
        self.tag(sync=True, to_json=_to_json)

    def validate(self, obj: Speaker, value: object) -> object:
        """Run the command unless this is what the document holds already; return what it holds then."""
        held = obj.held(str(self.name))
        if type(value) is type(held) and value == held:
            return held
        obj.say(self._command, {self._argument: value})
        return obj.held(str(self.name))


def _to_json(value: object, _: object) -> object:
    if not isinstance(value, tuple):
        return value
    return [[p.x, p.y, int(p.positive), p.object_id] if isinstance(p, Point) else [*p.xyxy, p.object_id] for p in value]
