"""What has been labelled so far, line by line, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sam3_widget.errors import FormatError
from sam3_widget.saving.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

VERSION = 1
Record = dict[str, Any]
"""What became of one image: ``file``, then ``width``, ``height`` and ``objects``, or ``error``."""


class Journal:
    """A file of JSON lines: what was asked, then one line for each image.

    A line counts once it is on the disk; what a kill leaves of an unfinished one is cut off when the file is opened
    again. One process has it open at a time.

    Parameters
    ----------
    path : path
        Made where it is missing.
    asked : mapping
        What is asked of every image, as JSON has it.

    Attributes
    ----------
    finished : dict
        By file, whether the last line about it has objects, not an error.

    Raises
    ------
    FormatError
        The file is no journal, another process has it open, or something else was asked.
    """

    def __init__(self, path: str | os.PathLike[str], asked: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.finished: dict[str, bool] = {}
        self._newest: dict[str, int] = {}
        self._count = 0
        self._lock = FileLock(self.path)
        if not self._lock.acquire():
            message = f"{self.path} is in use by {self._lock.holder()}: wait for it, or give another name"
            raise FormatError(message)
        self._file = self.path.open("a+b")
        try:
            self._resume(json.loads(json.dumps(asked)))
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, so that others may open it."""
        self._close()

    def add(self, records: Sequence[Record]) -> None:
        """Write what became of some images; when this returns it is on the disk."""
        self._write("".join(json.dumps(record) + "\n" for record in records))
        for record in records:
            self._note(record)

    def records(self) -> Iterator[Record]:
        """Read the newest line of every image, in the order of the file, one at a time."""
        newest = set(self._newest.values())
        for number, line in enumerate(self._lines()):
            if number in newest:
                yield json.loads(line)

    def _resume(self, asked: Mapping[str, Any]) -> None:
        head = {"version": VERSION, "asked": asked}
        whole = 0
        for number, line in enumerate(self._lines()):
            if not line.endswith(b"\n"):
                break  # cut off by a kill
            try:
                told = json.loads(line)
                if number:
                    self._note(told)
            except (ValueError, TypeError, KeyError) as error:
                message = f"{self.path} is not the journal of a run: line {number + 1} says {line[:80]!r}"
                raise FormatError(message) from error
            if number == 0 and told != head:
                message = (
                    f"{self.path} is of another run, with {told}; this one has {head}: ask the same to go on with it, "
                    "give another name, or delete the file to begin anew"
                )
                raise FormatError(message)
            whole += len(line)
        self._file.truncate(whole)
        if whole == 0:
            self._write(json.dumps(head) + "\n")

    def _note(self, record: Record) -> None:
        """Remember what the next line says."""
        file = record["file"]
        self._count += 1
        self.finished[file], self._newest[file] = "error" not in record, self._count

    def _close(self) -> None:
        self._file.close()
        self._lock.release()

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from file

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
