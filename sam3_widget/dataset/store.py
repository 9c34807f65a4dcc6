"""The files of a data set: a journal that is never behind, the sessions of its images, and the COCO file made of it.

Beside ``labels.json`` lie ``labels.json.journal``, with a line for each decision and each image that was left, and
``labels.json.sessions/``, with a saved session for each image that a person worked on and where the work stopped. The
COCO file holds the images that were accepted; it is made of the journal, and can be made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_widget.errors import FormatError, LockedError
from sam3_widget.labelling.journal import Journal
from sam3_widget.labelling.output import write_output
from sam3_widget.saving.files import read_json, sweep, write_atomically
from sam3_widget.saving.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sam3_widget.labelling.journal import Record

log = logging.getLogger(__name__)

ACCEPTED = "accepted"
_ASKED = {"labelled": "by hand"}
_FORMAT = "sam3-widget/dataset"
_DELAY = 0.5
"""Seconds from a change to the writing of the COCO file."""
_SHARE = 4
"""Times as long as the last writing took before the next begins, where that is more."""


def real_path(out: object) -> str:
    """Return where a COCO file lies, links followed, or raise an error that says what was expected."""
    if not isinstance(out, (str, os.PathLike)):
        message = f'out must be the path of a COCO file, like "labels.json", got {out!r:.80}'
        raise FormatError(message)
    return os.path.realpath(out)


class Store:
    """What a data set keeps on the disk. One holds the files at a time.

    Parameters
    ----------
    out : path
        Of the COCO file.
    gather : callable
        Called before the COCO file is written in the background, to add what is not in the journal yet.
    failed : callable
        Told of an error while the COCO file was written in the background.

    Attributes
    ----------
    out : Path
    classes : tuple of str
        Its first categories.

    Raises
    ------
    LockedError
        Another data set, here or in another process, has this file open.
    FormatError
        There is no such folder, or the file is something else than the output of a data set.
    """

    def __init__(
        self, out: str | os.PathLike[str], gather: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self.out = Path(real_path(out))
        given = Path(os.path.abspath(out)).parent  # noqa: PTH100 - without following links
        self._folders = (given, self.out.parent) if given.resolve() == self.out.parent else (self.out.parent,)
        self.classes: tuple[str, ...] = ()
        self._gather, self._failed = gather, failed
        self._journal = self._opened()
        self._sessions = self.out.with_name(f"{self.out.name}.sessions")
        try:
            self._sessions.mkdir(exist_ok=True)
            for file in (self.out, self._sessions / "state.json"):
                sweep(file)
        except OSError as error:
            self._journal.close()
            message = f"{self._sessions} must be a folder that can be written: {error}"
            raise FormatError(message) from None
        self._mutex, self._writing = threading.Lock(), threading.Lock()
        self._changes = self._written = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def _opened(self) -> Journal:
        if self.out.suffix.lower() != ".json" or self.out.is_dir():
            message = f'out must be the path of a COCO file, like "labels.json", got {str(self.out)!r}'
            raise FormatError(message)
        if not self.out.parent.is_dir():
            message = f"the folder {str(self.out.parent)!r} does not exist: make it first"
            raise FormatError(message)
        journal = self.out.with_name(f"{self.out.name}.journal")
        if self.out.exists() and not journal.exists():
            message = (
                f"{self.out} exists, and was not written here: to go on from its masks, give it as annotations= and "
                "another name as out; nothing was written"
            )
            raise FormatError(message)
        try:
            return Journal(journal, _ASKED)
        except LockedError:
            message = (
                f"{self.out} is being labelled by another widget ({FileLock(journal).holder()}): close that one, "
                "w.close(), or give another name as out; nothing was written"
            )
            raise LockedError(message) from None
        except FormatError as error:
            message = (
                f"{self.out} is not the output of a data set widget ({error}): to review what label_images made, give "
                "it as annotations= and another name as out"
            )
            raise FormatError(message) from None

    def name_of(self, path: Path) -> str:
        """Return what the journal calls an image: its path from the folder of the COCO file where it lies below it.

        The path is absolute. It makes no difference whether it, or the COCO file's, leads there by a link.
        """
        for place in (path, Path(os.path.realpath(path.parent), path.name)):
            for folder in self._folders:
                if place.is_relative_to(folder):
                    return place.relative_to(folder).as_posix()
        return path.as_posix()

    def path_of(self, name: str) -> Path:
        """Return where the image of a name lies."""
        return self.out.parent / name

    def session_path(self, name: str) -> Path:
        """Return where the session of an image is saved."""
        stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:48]
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
        return self._sessions / f"{stem}-{digest}.sam3.json"

    def records(self) -> Iterator[Record]:
        """Read what became of every image, one at a time."""
        return self._journal.records()

    def record(self, name: str) -> Record | None:
        """Read what became of one image; None where nothing was said of it."""
        return self._journal.record(name)

    def add(self, record: Record) -> None:
        """Note what became of an image; when this returns it is on the disk. The COCO file follows."""
        self._journal.add([record])
        self.outdated()

    @property
    def place(self) -> dict[str, Any]:
        """Where the work stopped, what is asked of untouched images, and the classes; empty at the beginning."""
        file = self._sessions / "state.json"
        if not file.exists():
            return {}
        found = read_json(file, "where the work on a data set stopped")
        if found.get("format") != _FORMAT:
            message = f"{file} must have the format {_FORMAT!r}, got {found.get('format')!r:.80}"
            raise FormatError(message)
        applied, classes = found.get("applied", []), found.get("classes", [])
        for name, told, is_one in (("applied", applied, _is_command), ("classes", classes, _is_name)):
            if not isinstance(told, list) or not all(map(is_one, told)):
                message = f"{file} is damaged: {name} is {told!r:.80}; without it the work starts at the first image"
                raise FormatError(message)
        return found

    @place.setter
    def place(self, told: Mapping[str, Any]) -> None:
        write_atomically(self._sessions / "state.json", json.dumps({"format": _FORMAT, "version": 1, **told}))

    def outdated(self) -> None:
        """Note that the COCO file is to be written; returns at once."""
        with self._mutex:
            self._changes += 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="sam3w-dataset", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Return when the COCO file holds all that was noted so far."""
        with self._writing:
            changes = self._changes
            if changes > self._written:
                read = self._journal.now()
                write_output(self.out, lambda: self._accepted(read()), self.classes)
                self._written = changes

    def close(self) -> None:
        """Write what is new, and let the files go."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        try:
            self.flush()
        finally:
            self._journal.close()

    def _accepted(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record["status"] == ACCEPTED:
                yield {**record, "file": str(self.path_of(record["file"]))}

    def _work(self) -> None:
        """Write until there is nothing new."""
        took = 0.0
        while True:
            time.sleep(max(_DELAY, _SHARE * took))
            with self._mutex:
                if self._closed or self._changes == self._written:
                    self._thread = None
                    return
            start = time.monotonic()
            try:
                self._gather()
                self.flush()
            except Exception as error:  # the work goes on, and whoever watches hears of it
                log.exception("%s could not be written", self.out)
                with self._mutex:
                    self._thread = None  # the next change tries again
                self._failed(error)
                return
            took = time.monotonic() - start


def _is_name(told: object) -> bool:
    return isinstance(told, str)


def _is_command(told: object) -> bool:
    return isinstance(told, list) and [type(each) for each in told] == [str, dict]
