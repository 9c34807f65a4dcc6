"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import glob
import json
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from sam3_widget.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part, whenever the process ends.

    The data goes to a temporary file in the same folder, onto the disk, and then takes the file's name.

    Parameters
    ----------
    path : path
        In a folder that exists; a file that is there is replaced and keeps its permissions. Of a symbolic link the
        file that it points to is replaced.
    data : bytes or str
        A str is written as UTF-8.
    """
    with writing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file piece by piece that takes its name when all of it is there; see :func:`write_atomically`."""
    target = Path(os.path.realpath(path))
    part = target.with_name(f"{_start_of_part(target)}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what writers of a file left beside it that were killed; nobody may be writing it now."""
    target = Path(os.path.realpath(path))
    for part in target.parent.glob(f"{glob.escape(_start_of_part(target))}.????????.part"):
        part.unlink(missing_ok=True)


def _start_of_part(target: Path) -> str:
    return f".{target.name[:32]}"


def write_into(folder: str | os.PathLike[str], files: Mapping[str, bytes | str]) -> None:
    """Write files into a folder, each atomically; the folder and those below it are made where they are missing.

    Parameters
    ----------
    folder : path
    files : mapping
        Content by name relative to the folder, with ``/`` between folders.
    """
    root = Path(folder)
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(root / name, data)


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Parameters
    ----------
    path : path
    what : str
        What the file should be, with its article, for the error.

    Raises
    ------
    FormatError
        It is not JSON, or no object.
    OSError
        It cannot be read.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        message = f"{path} must be {what}, but it is not JSON ({error})"
        raise FormatError(message) from None
    if not isinstance(found, dict):
        message = f"{path} must be {what}: a JSON object, got {type(found).__name__}"
        raise FormatError(message)
    return found


def below(file_name: str, suffix: str) -> str:
    """Return the name of the file that stands for a picture: the same folders and stem, another suffix.

    Raises
    ------
    FormatError
        The name is no path inside a folder.
    """
    name = PurePosixPath(file_name.replace("\\", "/"))
    if name.is_absolute() or ":" in file_name or "\0" in file_name or ".." in name.parts or not name.stem:
        message = f"a picture's name must be a path inside a folder, like 'a.jpg' or 'train/a.jpg', got {file_name!r}"
        raise FormatError(message)
    return str(name.with_name(name.stem + suffix))


def _sync_folder(folder: Path) -> None:
    """Put the folder's entry on the disk, where the system opens folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
