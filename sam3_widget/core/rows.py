"""Objects of a JSON file, whose fields are taken out by what they must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from sam3_widget.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_MISSING: Any = object()
_COUNT = "an integer, 0 or more"
_LARGE = 2**53


class Row:
    """A JSON object.

    Parameters
    ----------
    value : object
        What the file has there.
    where : str
        Where that is: ``"answers[3]"``.

    Raises
    ------
    FormatError
        It is no object; later, a field is missing or is something else. The message says what was expected.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            message = f"{where} must be an object, got {value!r:.80}"
            raise FormatError(message)
        self._value, self.where = value, where

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def check(self, holds: object, name: str, expected: str) -> None:
        """Raise the error that says what a field must be, unless it is that."""
        if not holds:
            got = self._value.get(name, _MISSING)
            told = "nothing" if got is _MISSING else f"{got!r:.80}"
            message = f"{self.where}: {name} must be {expected}, got {told}"
            raise FormatError(message)

    def take(self, name: str, kind: type[T], expected: str, default: Any = _MISSING) -> T:  # noqa: ANN401 - of that kind
        """Return a field of a type; where it is missing the default, if there is one."""
        value = self._value.get(name, default)
        if value is not default or default is _MISSING:
            self.check(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), name, expected)
        found: T = value
        return found

    def integer(self, name: str, default: int = _MISSING) -> int:
        """Return a number that counts or names something."""
        value = self.take(name, int, _COUNT, default)
        self.check(value >= 0, name, _COUNT)
        return value

    def optional(self, name: str) -> int | None:
        """Return an integer, or None where there is none."""
        return self.integer(name) if name in self else None

    def number(self, name: str) -> float:
        """Return a finite number."""
        self.check(_finite(self._value.get(name)), name, "a finite number")
        return float(self._value[name])

    def flag(self, name: str) -> bool:
        """Return a bool; False where there is none."""
        return self.take(name, bool, "true or false", default=False)

    def text(self, name: str, default: str = _MISSING) -> str:
        """Return text."""
        return self.take(name, str, "text", default)

    def inner(self, name: str) -> Row:
        """Return an object inside this one."""
        return Row(self._value.get(name), f"{self.where}: {name}")

    def items(self, name: str) -> list[Any]:
        """Return a list; an empty one where there is none."""
        return self.take(name, list, "a list") if name in self else []

    def lists(self, name: str, length: int) -> list[list[Any]]:
        """Return a list of lists of one length."""
        found = self.items(name)
        right = all(isinstance(each, list) and len(each) == length for each in found)
        self.check(right, name, f"a list of lists of {length}")
        return found

    def numbers(self, name: str) -> list[float]:
        """Return a list of finite numbers."""
        values = self.items(name)
        self.check(all(map(_finite, values)), name, "a list of finite numbers")
        return [float(v) for v in values]

    def rows(self, name: str) -> list[Row]:
        """Return the objects of a list."""
        within = "" if self.where == "the file" else f"{self.where}: "
        return [Row(value, f"{within}{name}[{k}]") for k, value in enumerate(self.items(name))]

    def whole(self, name: str, value: object) -> int:
        """Return an integer out of a field that is a list."""
        self.check(isinstance(value, int) and not isinstance(value, bool) and value >= 0, name, f"made of {_COUNT}")
        found: Any = value
        return int(found)

    def place(self, name: str, table: Sequence[T]) -> T:
        """Return the row of a table that a field names by its place."""
        return self.picks(name, table, [self._value.get(name)])[0]

    def pick(self, name: str, table: Sequence[T]) -> T | None:
        """Return the row of a table that a field names by its place, None where there is no such field."""
        return self.place(name, table) if name in self else None

    def picks(self, name: str, table: Sequence[T], places: Sequence[object] | None = None) -> tuple[T, ...]:
        """Return the rows of a table that a list names by their places."""
        found = []
        for place in self.items(name) if places is None else places:
            inside = isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(table)
            self.check(inside, name, f"the place of a row that came before: a number below {len(table)}")
            found.append(table[self.whole(name, place)])
        return tuple(found)


def _finite(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _LARGE
    return isinstance(value, float) and math.isfinite(value)
