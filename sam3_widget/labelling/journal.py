"""What has been labelled so far, line by line, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sam3_widget.errors import FormatError, LockedError
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
        The file is no journal, or something else was asked.
    LockedError
        It is open already, here or in another process.
    """

    def __init__(self, path: str | os.PathLike[str], asked: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.finished: dict[str, bool] = {}
        self._newest: dict[str, int] = {}
        self._size = 0
        self._lock = FileLock(self.path)
        if not self._lock.acquire():
            message = f"{self.path} is in use by {self._lock.holder()}: wait for it, or give another name"
            raise LockedError(message)
        self._file = self.path.open("a+b")
        try:
            self._resume(json.loads(json.dumps(asked)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, so that others may open it."""
        self.close()

    def add(self, records: Sequence[Record]) -> None:
        """Write what became of some images; when this returns it is on the disk."""
        lines = [json.dumps(record).encode() + b"\n" for record in records]
        self._write(b"".join(lines))
        for record, line in zip(records, lines, strict=True):
            self._note(record, line)

    def records(self) -> Iterator[Record]:
        """Read the newest line of every image, in the order of the file, one at a time."""
        newest = set(self._newest.values())
        with self.path.open("rb") as file:
            at = 0
            for line in file:
                if at in newest:
                    yield json.loads(line)
                at += len(line)

    def record(self, file: str) -> Record | None:
        """Read the newest line of an image; None where there is none."""
        if file not in self._newest:
            return None
        with self.path.open("rb") as lines:
            lines.seek(self._newest[file])
            found: Record = json.loads(lines.readline())
            return found

    def close(self) -> None:
        """Close the file, so that others may open it."""
        self._file.close()
        self._lock.release()

    def _resume(self, asked: Mapping[str, Any]) -> None:
        head = {"version": VERSION, "asked": asked}
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut off by a kill
                self._read(number, line, head)
        self._file.truncate(self._size)
        if self._size == 0:
            line = json.dumps(head).encode() + b"\n"
            self._write(line)
            self._size = len(line)

    def _read(self, number: int, line: bytes, head: Mapping[str, Any]) -> None:
        """Take a line that is there already; the first is the head."""
        try:
            told = json.loads(line)
            if number > 1:
                self._note(told, line)
                return
        except (ValueError, TypeError, KeyError) as error:
            message = f"{self.path} is not the journal of a run: line {number} says {line[:80]!r}"
            raise FormatError(message) from error
        if told != head:
            message = (
                f"{self.path} is of another run, with {told}; this one has {head}: ask the same to go on with it, "
                "give another name, or delete the file to begin anew"
            )
            raise FormatError(message)
        self._size = len(line)

    def _note(self, record: Record, line: bytes) -> None:
        """Remember what the next line says."""
        file = record["file"]
        self.finished[file], self._newest[file] = "error" not in record, self._size
        self._size += len(line)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
