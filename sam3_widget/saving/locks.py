"""Locks on files: one writer, whichever process it is in."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_FAR = 1 << 20
"""Where the locked byte lies, beyond what the file says: where locks are mandatory it can be read all the same."""


class FileLock:
    """The right to write a file, held by a lock on ``<name>.lock`` beside it.

    The operating system holds the lock and lets it go when the process ends, however it ends; so a lock file that is
    left over locks nothing. What is in it is for the error message of others.

    Parameters
    ----------
    target : Path
        The file to be written.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.lock")
        self._handle: int | None = None
        self._pid = os.getpid()

    def acquire(self) -> bool:
        """Take the lock; False where another holds it."""
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _lock(handle):
                os.close(handle)
                return False
            if self._replaced(handle):  # its holder removed it between the two steps above
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            about = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.write(handle, json.dumps(about).encode())
            self._handle = handle
        return True

    def holder(self) -> str:
        """Return who holds the lock, in words."""
        try:
            about = json.loads(self.path.read_bytes())
            return f"process {about['pid']} on {about['host']}, since {about['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def release(self) -> None:
        """Let the lock go."""
        handle, self._handle = self._handle, None
        if handle is not None:
            if self._pid == os.getpid():  # a process that was forked has the lock of its parent open, no more
                with suppress(OSError):  # where a file that is open cannot be removed, it stays
                    self.path.unlink()
            os.close(handle)

    def __del__(self) -> None:
        """Let the lock go with whoever held it."""
        self.release()

    def _replaced(self, handle: int) -> bool:
        try:
            return not os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return True


def _lock(handle: int) -> bool:
    """Lock an open file, without waiting; where the file system has no locks, one does without."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there is one of the two

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl  # noqa: PLC0415 - there is one of the two

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        log.warning("files cannot be locked here (%s): see to it yourself that one process alone writes", error)
    return True
