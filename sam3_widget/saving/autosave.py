"""Sessions that save themselves: after each change, in the background, to a file that is always whole."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from sam3_widget.errors import LockedError, Sam3WidgetError
from sam3_widget.saving.files import sweep, write_atomically
from sam3_widget.saving.sessions import check_image, locked, read, to_bytes

if TYPE_CHECKING:
    from sam3_widget.core.saved import Packed
    from sam3_widget.live import LiveDocument
    from sam3_widget.saving.locks import FileLock
    from sam3_widget.saving.sessions import SavedSession

log = logging.getLogger(__name__)

DELAY = 0.2
"""Seconds from a change to its writing: what changes meanwhile is written with it."""
_SHARE = 4
"""Times as long as the last writing took before the next begins, where that is more: it must not take the machine."""


class Autosave:
    """Writes a document to its file after each change.

    A change counts as saved when :meth:`flush` has returned after it: then it is in the file, on the disk, whatever
    becomes of the process. Without a flush it is there after :data:`DELAY` seconds, or four times as long as the last
    writing took where that is more, and the time of one writing. The file is replaced as a whole, so it holds what was
    there after one of the changes, never a part of one. :meth:`close` and the end of the interpreter flush.

    Parameters
    ----------
    live : LiveDocument
    target : Path
        Without symbolic links.
    lock : FileLock
        On the file, held.
    """

    def __init__(self, live: LiveDocument, target: Path, lock: FileLock) -> None:
        self.path = target
        self._live, self._lock = live, lock
        self._packed: Packed = WeakKeyDictionary()
        self._mutex, self._writing = threading.Lock(), threading.Lock()
        self._changes = self._written = 0
        self._took = 0.0
        self._thread: threading.Thread | None = None
        self._closed = self._failed = False
        self._pid = os.getpid()
        self._stop = live.listen(self)

    def changed(self) -> None:
        """Note that there is something to write; returns at once."""
        with self._mutex:
            self._changes += 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="sam3w-autosave", daemon=True)
                self._thread.start()

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Ignore how far the model is."""

    def failed(self, error: Exception) -> None:
        """Ignore an error of the model: it is part of the state."""

    def flush(self) -> None:
        """Return when all that was said so far is in the file, on the disk.

        Raises
        ------
        OSError
            It cannot be written.
        """
        changes = self._changes
        if changes > self._written:
            self._write(changes, to_bytes(self._live, self._packed))

    def close(self) -> None:
        """Write what is new, and let the file go: what comes later is not saved."""
        if not self._closed:
            try:
                self.flush()
            finally:
                self.hand_over().release()

    def hand_over(self) -> FileLock:
        """Write no more, and return the lock on the file."""
        with self._mutex:
            self._closed = True
        self._stop()
        with self._writing:  # nothing is under way any more
            _open.pop(self.path, None)
        self._live.keeper = None
        return self._lock

    def _work(self) -> None:
        """Write until there is nothing new."""
        while True:
            time.sleep(max(DELAY, _SHARE * self._took))
            with self._mutex:
                changes = self._changes
                if changes == self._written or self._closed:
                    self._thread = None
                    return
            start = time.monotonic()
            try:
                self._write(changes, to_bytes(self._live, self._packed))
            except Exception as error:  # the session goes on, and whoever watches it hears of it
                log.exception("%s could not be written", self.path)
                with self._mutex:
                    self._thread = None  # the next change tries again
                if not self._failed:
                    self._failed = True
                    message = f"the session could not be saved to {self.path} ({error}); the next change tries again"
                    self._live.failed({}, Sam3WidgetError(message))
                return
            self._took = time.monotonic() - start

    def _write(self, changes: int, data: bytes) -> None:
        """Write the file, unless a later state is in it already.

        The data was made before: whoever waits here may hold the document's lock.
        """
        with self._writing:
            if changes <= self._written or (self._closed and _open.get(self.path) is not self):
                return
            write_atomically(self.path, data)
            self._written = changes
            self._failed = False


_open: WeakValueDictionary[Path, Autosave] = WeakValueDictionary()
"""Those of this process, by their files; guarded by the lock of all documents."""


def begin(live: LiveDocument, path: str | os.PathLike[str]) -> Autosave:
    """Save a document as it goes, and go on from the file where there is one.

    A session of this process that is saved to the same file, as when a cell runs again, hands over: it is saved a last
    time, and told that it is saved no longer.

    Raises
    ------
    LockedError
        Another process saves to this file.
    InvalidImageError
        The file is of another image.
    FormatError
        There is a file that is no saved session.
    """
    target = Path(os.path.realpath(path))
    with live.lock:
        before = _open.get(target)
        if before is not None:
            before.flush()
        lock = locked(target) if before is None else None
        try:
            saved = read(target) if target.exists() else None
            if saved is not None:
                check_image(saved, live.image, f"{target} exists, and nothing was written to it: it")
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        if before is not None:
            former, lock = before._live, before.hand_over()  # noqa: SLF001 - its own module
            message = f"this session is saved no longer: another one of this kernel has gone on from {target}"
            former.failed({}, LockedError(message))
        assert lock is not None  # noqa: S101 - taken above, or handed over
        if saved is not None:
            classes = live.state.classes
            live.restore(saved.record, classes)
            live.notice = _went_on(saved, target, live.model.name)
            log.info(live.notice)
        sweep(target)
        keeper = live.keeper = _open[target] = Autosave(live, target, lock)
        return keeper


def _went_on(saved: SavedSession, target: Path, model: str) -> str:
    """Say in words that a session is not a new one."""
    steps, objects = len(saved.record.past), len(saved.record.state.instances)
    counted = f"{steps} step{'s' * (steps != 1)}, {objects} object{'s' * (objects != 1)}"
    other = "" if saved.model.name == model else f" It was made with the model {saved.model.name}; this is {model}."
    return f"Went on from {target.name}, saved {saved.when}: {counted}.{other}"


@atexit.register
def _close_all() -> None:
    """Write what is new before the interpreter ends."""
    for each in list(_open.values()):
        if each._pid != os.getpid():  # noqa: SLF001 - forked: its parent writes
            continue
        try:
            each.close()
        except Exception:  # the others are to be saved all the same
            log.exception("%s could not be written", each.path)
