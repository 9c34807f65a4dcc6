"""What has been labelled so far, line by line, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sam3_widget.errors import FormatError, LockedError
from sam3_widget.saving.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self._lock = FileLock(self.path)
        if not self._lock.acquire():
            message = f"{self.path} is in use by {self._lock.holder()}: wait for it, or give another name"
            raise LockedError(message)
        self._file = self.path.open("ab", buffering=0)
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
        """Write what became of some images; when this returns it is on the disk.

        Raises
        ------
        OSError
            It cannot be written, and nothing of it is in the file.
        """
        lines = [json.dumps(record).encode() + b"\n" for record in records]
        at = self._append(b"".join(lines))
        for record, line in zip(records, lines, strict=True):
            self._note(record, at)
            at += len(line)

    def records(self) -> Iterator[Record]:
        """Read the newest line of every image, in the order of the file, one at a time."""
        return self.now()()

    def now(self) -> Callable[[], Iterator[Record]]:
        """Return a function that reads what the journal holds now, each time the same, whatever is added later."""
        newest = set(self._newest.copy().values())

        def read() -> Iterator[Record]:
            with self.path.open("rb") as file:
                at = 0
                for line in file:
                    if at in newest:
                        yield json.loads(line)
                    at += len(line)

        return read

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
        size = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # cut off by a kill
                self._read(line, size, head)
                size += len(line)
        self._file.truncate(size)
        if size == 0:
            self._append(json.dumps(head).encode() + b"\n")

    def _read(self, line: bytes, at: int, head: Mapping[str, Any]) -> None:
        """Take a line that is there already; the first is the head."""
        try:
            told = json.loads(line)
            if at > 0:
                self._note(told, at)
                return
        except (ValueError, TypeError, KeyError) as error:
            message = f"{self.path} is not the journal of a run: at byte {at} it says {line[:80]!r}"
            raise FormatError(message) from error
        if told != head:
            message = (
                f"{self.path} is of another run, with {told}; this one has {head}: ask the same to go on with it, "
                "give another name, or delete the file to begin anew"
            )
            raise FormatError(message)

    def _note(self, record: Record, at: int) -> None:
        """Remember what the line that begins at a byte says."""
        file = record["file"]
        self.finished[file], self._newest[file] = "error" not in record, at

    def _append(self, data: bytes) -> int:
        """Write at the end, all of it or nothing; return where it begins."""
        start = os.fstat(self._file.fileno()).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(start)
            raise
        return start
