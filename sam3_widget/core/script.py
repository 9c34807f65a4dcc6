"""The commands of a document as Python: the verbs of a session, in their order."""

from __future__ import annotations

import base64
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sam3_widget.core.commands import COMMANDS
from sam3_widget.core.runs import RunLengths
from sam3_widget.core.state import State
from sam3_widget.errors import FormatError

if TYPE_CHECKING:
    from sam3_widget.core.document import Record, Step

    Said = tuple[str, dict[str, Any]]

_ACTIVE = {"set_text", "add_exemplar", "add_exemplar_point"}
"""Commands that mean the active concept where they name none."""
_ARGUMENTS = {"concept_id": "concept"}
_PROPERTIES = {"set_mask_threshold": "mask_threshold", "set_fill_holes": "fill_holes", "set_min_area": "min_area"}


def script(record: Record[State], image: str, model: str) -> str:
    """Return the Python that says again, to a new session, all that is in effect.

    It makes the same masks on the same image and model, where the model had answered each command before the next was
    given, as it has for verbs; a click that was overtaken by the next one is answered in the script.

    Parameters
    ----------
    record : Record
    image, model : str
        Python expressions of the session's image and model.

    Raises
    ------
    FormatError
        The oldest commands were forgotten.
    """
    first = record.past[0].state if record.past else record.state
    if replace(first, selected=None) != State(first.height, first.width, classes=first.classes):
        message = (
            "the oldest commands of this session were forgotten, so no script can make its masks: save() keeps them all"
        )
        raise FormatError(message)
    lines = [_line(name, args) for step in record.past for name, args in explicit(step)]
    classes = f", classes={list(first.classes)!r}" if first.classes else ""
    head = ["from sam3_widget import Session"]
    if any("RunLengths" in line for line in lines):
        head = ["from base64 import b64decode", "", *head, "from sam3_widget.core.runs import RunLengths"]
    return "\n".join([*head, "", f"s = Session({image}, model={model}{classes})", *lines, ""])


def explicit(step: Step[State]) -> list[Said]:
    """Return a command, by name with its arguments, so that it means the same whatever is selected.

    Where it cannot name what it means, a selection goes before it.
    """
    name, args, before = step.command.name, dict(step.command.args), step.state
    if name == "add_exemplar_point":
        args.pop("box", None)  # of the mask under the click, which is there again
    if name == "set_points":
        ours = before.selected or before.next_object_id
        args["points"] = tuple((x, y, on, ours if owner is None else owner) for x, y, on, owner in args["points"])
    if name == "set_boxes":
        args["boxes"] = tuple((*box, owner) for box, owner in args["boxes"])
    if name in _ACTIVE and args.get("concept_id") is None:
        if before.concept is not None:
            args["concept_id"] = before.concept
        elif before.concepts:
            return [("select_concept", {"concept_id": None}), (name, args)]
    return [(name, args)]


def _line(name: str, args: dict[str, Any]) -> str:
    """Return a command as a statement."""
    if name in _PROPERTIES:
        return f"s.{_PROPERTIES[name]} = {next(iter(args.values()))!r}"
    if name == "select_concept":
        return f"s.select_concept({args['concept_id']!r})"
    told = []
    for parameter in list(inspect.signature(COMMANDS[name]).parameters.values())[1:]:
        if parameter.default is parameter.empty:
            told.append(_expression(args[parameter.name]))
        elif parameter.name in args and args[parameter.name] is not parameter.default:
            told.append(f"{_ARGUMENTS.get(parameter.name, parameter.name)}={_expression(args[parameter.name])}")
    return f"s.{name}({', '.join(told)})"


def _expression(value: object) -> str:
    if isinstance(value, RunLengths):
        return f'RunLengths.from_bytes(b64decode("{base64.b64encode(value.to_bytes()).decode("ascii")}"))'
    return repr(value)
