"""Documents: the current state and its history. Undo and redo restore snapshots and compute nothing."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sam3_widget.core import commands
from sam3_widget.core.commands import Command
from sam3_widget.core.prompts import integer
from sam3_widget.core.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam3_widget.core.answers import Answer

LIMIT = 1000
"""Steps that can be undone; older ones are forgotten, and their arrays with them."""
BYTES = 1 << 30
"""Memory that the answers of models may take in the steps that can be undone; the oldest steps go first."""
_OFTEN = 16
"""Steps from one look at that memory to the next."""


class Snapshot(Protocol):
    """What a history keeps."""

    @property
    def answers(self) -> set[Answer]:
        """Everything that models have said and that this snapshot keeps."""


S = TypeVar("S", bound=Snapshot)


@dataclass(frozen=True)
class Step(Generic[S]):
    """A command with the state on its other side: before it in the past, after it in the future."""

    command: Command
    state: S
    gesture: str | None = None


@dataclass(frozen=True)
class Record(Generic[S]):
    """A history at one moment: all that a document is made of.

    Attributes
    ----------
    state : State or ClipState
    past : tuple of Step
        Oldest first.
    future : tuple of Step
        What was undone, the next redo last.
    """

    state: S
    past: tuple[Step[S], ...] = ()
    future: tuple[Step[S], ...] = ()


class History(ABC, Generic[S]):
    """A state that changes by commands only, and the way back.

    Parameters
    ----------
    state : State or ClipState
        Where it starts.
    """

    def __init__(self, state: S) -> None:
        self._state = state
        self._past: list[Step[S]] = []
        self._future: list[Step[S]] = []
        self._steps = 0

    @abstractmethod
    def _normalised(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return a command's arguments, checked and in one form."""

    @abstractmethod
    def _applied(self, name: str, args: Mapping[str, Any]) -> S:
        """Return the state after a command; the same one if it changes nothing."""

    @property
    def state(self) -> S:
        """The current snapshot."""
        return self._state

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first."""
        return tuple(step.command for step in self._past)

    @property
    def undo_title(self) -> str | None:
        """What an undo would take back, in words."""
        return self._past[-1].command.title if self._past else None

    @property
    def redo_title(self) -> str | None:
        """What a redo would bring back, in words."""
        return self._future[-1].command.title if self._future else None

    @property
    def record(self) -> Record[S]:
        """The history as it is now, to be kept."""
        return Record(self._state, tuple(self._past), tuple(self._future))

    def restore(self, record: Record[S]) -> None:
        """Go on from a history that was kept, in place of this one."""
        self._state, self._past, self._future = record.state, list(record.past), list(record.future)

    def run(self, name: str, args: Mapping[str, Any], gesture: str | None = None) -> None:
        """Apply a command and record it; nothing changes, and nothing is recorded, where it raises or changes nothing.

        Parameters
        ----------
        name : str
        args : mapping
        gesture : str, optional
            Commands of one gesture (a slider being dragged) that follow one another are one step of the history.
        """
        before = self._state
        checked = self._normalised(name, args)
        after = self._applied(name, checked)
        if after is before:
            return
        command = Command(name, checked, time.time())
        last = self._past[-1] if self._past else None
        if last and gesture is not None and last.gesture == gesture and last.command.name == name:
            before = self._past.pop().state
        self._past = [*self._past[1 - LIMIT :], Step(command, before, gesture)]
        self._future = []
        self._state = after
        self._steps += 1
        if self._steps % _OFTEN == 0:
            self._forget()

    def amend(self, change: Callable[[S], S]) -> None:
        """Replace the current state by what a model's answer makes of it; no step of the history."""
        self._state = change(self._state)

    def undo(self) -> bool:
        """Take the last command back; False where there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Bring the last undone command back; False where there is none."""
        return self._travel(self._future, self._past)

    def _forget(self) -> None:
        """Forget the oldest steps that would take the memory of the history beyond its bound."""
        held, seen = 0, set(self._state.answers)
        for k in range(len(self._past) - 1, -1, -1):
            fresh = self._past[k].state.answers - seen
            held += sum(answer.nbytes for answer in fresh)
            seen |= fresh
            if held > BYTES:
                self._past = self._past[k + 1 :]
                return

    def _travel(self, source: list[Step[S]], target: list[Step[S]]) -> bool:
        if not source:
            return False
        step = source.pop()
        target.append(replace(step, state=self._state))
        self._state = step.state
        return True


class Document(History[State]):
    """What was said of one image."""

    def _normalised(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        return commands.normalised(self._state, name, args)

    def _applied(self, name: str, args: Mapping[str, Any]) -> State:
        return commands.apply(self._state, name, args)

    def select(self, object_id: object) -> None:
        """Select an instance, or (None) none; this is not part of the history."""
        chosen = None if object_id is None else self._state.instance(integer(object_id, "object_id")).object_id
        if chosen != self._state.selected:
            self._state = replace(self._state, selected=chosen)

    def select_concept(self, concept_id: object) -> None:
        """Make a concept the active one, or (None) none; this is not part of the history."""
        chosen = None if concept_id is None else self._state.concept_of(integer(concept_id, "concept_id")).concept_id
        if chosen != self._state.concept:
            self._state = replace(self._state, concept=chosen)
