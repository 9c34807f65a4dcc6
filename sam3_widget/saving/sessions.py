"""Sessions as files: the whole history with what models said, as JSON, and back without asking a model.

A file is one JSON object, a line for each row: ``format`` and ``version``; ``image`` (key, name, size, path) and
``model`` (name, capabilities); then the tables of :mod:`sam3_widget.core.saved`, in which ``past``, ``future`` and
``state`` are the history. Logits are float16, as they are kept, their low bytes before their high ones, deflated, in
base64; masks are run lengths in base64.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sam3_widget.core.image import Image
from sam3_widget.core.restored import from_plain
from sam3_widget.core.rows import Row
from sam3_widget.core.saved import to_plain
from sam3_widget.errors import FormatError, InvalidImageError, LockedError
from sam3_widget.live import LiveDocument
from sam3_widget.models.base import Capabilities
from sam3_widget.saving.deferred import DeferredModel
from sam3_widget.saving.files import read_json, write_atomically
from sam3_widget.saving.locks import FileLock

if TYPE_CHECKING:
    from sam3_widget.core.document import Record
    from sam3_widget.core.saved import Packed
    from sam3_widget.core.state import State
    from sam3_widget.models.base import Model

FORMAT, VERSION = "sam3-widget/session", 1


@dataclass(frozen=True)
class SavedSession:
    """What a file holds.

    Attributes
    ----------
    key : str
        Of the image: a hash of its pixels.
    name, path : str
        Of the image's file, "" where there is none.
    height, width : int
        Of the image in pixels.
    model : DeferredModel
        The model that it was made with.
    saved : float
        When, in seconds since the epoch.
    record : Record
        The history.
    """

    key: str
    name: str
    path: str
    height: int
    width: int
    model: DeferredModel
    saved: float
    record: Record[State]

    @property
    def when(self) -> str:
        """When it was saved, in words."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.saved))


def to_bytes(live: LiveDocument, packed: Packed | None = None) -> bytes:
    """Return the file of a document as it is now; see :func:`~sam3_widget.core.saved.to_plain` for ``packed``."""
    image, model = live.image, live.model
    with live.lock:
        record = live.record
    whole: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "saved": time.time(),
        "image": {
            "key": image.key,
            "name": image.name,
            "height": image.height,
            "width": image.width,
            "path": image.path,
        },
        "model": {
            "name": model.name,
            "capabilities": model.capabilities.to_json(),
            "max_points": model.max_points,
        },
        **to_plain(record, live.lock, WeakKeyDictionary() if packed is None else packed),
    }
    return b"{\n" + b",\n".join(_text(name) + b":" + _lines(value) for name, value in whole.items()) + b"\n}\n"


def read(path: str | os.PathLike[str]) -> SavedSession:
    """Read a file of a session.

    Raises
    ------
    FormatError
        It is something else, of a later version, or damaged.
    """
    whole = read_json(path, "a saved session")
    if whole.get("format") != FORMAT:
        message = f"{path} must be a saved session, with the format {FORMAT!r}, got {whole.get('format')!r:.80}"
        raise FormatError(message)
    file = Row(whole, "the file")
    try:
        version = file.integer("version")
        if version != VERSION:
            message = f"version {VERSION} was expected, got {version}: a newer sam3_widget reads it"
            raise FormatError(message)  # noqa: TRY301 - told like what the rows refuse
        image, model = file.inner("image"), file.inner("model")
        height, width = image.integer("height"), image.integer("width")
        flags = {name: value for name, value in model.take("capabilities", dict, "an object").items() if value is True}
        able = Capabilities(**{name: name in flags for name in Capabilities().to_json()})
        return SavedSession(
            image.text("key"),
            image.text("name"),
            image.text("path"),
            height,
            width,
            DeferredModel(model.text("name"), able, model.optional("max_points")),
            file.number("saved"),
            from_plain(whole, height, width),
        )
    except FormatError as error:
        message = f"{path} cannot be read as a saved session: {error}"
        raise FormatError(message) from error


def save(live: LiveDocument, path: str | os.PathLike[str]) -> None:
    """Write a document to a file, atomically.

    Raises
    ------
    LockedError
        Another session is saved to this file as it goes.
    """
    target = Path(os.path.realpath(path))
    if live.keeper is not None and live.keeper.path == target:
        live.keeper.flush()
    lock = None if live.keeper is not None and live.keeper.path == target else locked(target)
    try:
        write_atomically(target, to_bytes(live))
    finally:
        if lock is not None:
            lock.release()


def load(
    path: str | os.PathLike[str],
    image: object = None,
    model: str | os.PathLike[str] | Model | None = None,
    *,
    force: bool = False,
) -> LiveDocument:
    """Return the document of a file: see :meth:`sam3_widget.Session.load`."""
    saved = read(path)
    picture = _found(saved, Path(path)) if image is None else Image.read(image)
    check_image(saved, picture, path, force=force)
    given = saved.model if model is None or model == saved.model.name else model
    live = LiveDocument(picture, given)
    live.restore(saved.record)
    return live


def check_image(saved: SavedSession, image: Image, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse another image than the one that was saved; one of the same size only where it is not forced."""
    if saved.key == image.key:
        return
    size, given = f"{saved.width} x {saved.height}", f"{image.width} x {image.height}"
    message = (
        f"{path} was saved on another image: {_called(saved.name)} of {size}, got {_called(image.name)} of {given}"
    )
    if (saved.height, saved.width) != (image.height, image.width):
        raise InvalidImageError(message)
    if not force:
        message += "; Session.load(path, image, force=True) puts it on this one all the same"
        raise InvalidImageError(message)


def locked(target: Path) -> FileLock:
    """Return the lock on a file that is to be written.

    Raises
    ------
    FormatError
        Its folder does not exist.
    LockedError
        Another holds it.
    """
    if not target.parent.is_dir():
        message = f"the folder {str(target.parent)!r} does not exist: make it first"
        raise FormatError(message)
    lock = FileLock(target)
    if not lock.acquire():
        message = (
            f"{target} is being saved to by another session ({lock.holder()}): "
            "close that one, or give another file; nothing was written"
        )
        raise LockedError(message)
    return lock


def _found(saved: SavedSession, path: Path) -> Image:
    """Return the image at the place where it was, or of its name beside the file."""
    places = [Path(saved.path)] if saved.path else []
    if saved.name:
        places.append(path.absolute().parent / saved.name)
    for place in places:
        if place.is_file():
            return Image.read(place)
    where = f"not found at {' or '.join(str(p) for p in places)}" if places else "not from a file"
    what = f"{_called(saved.name)}, {saved.width} x {saved.height}"
    message = f"the image of {path} ({what}) is {where}: give it, Session.load(path, image)"
    raise InvalidImageError(message)


def _called(name: str) -> str:
    return repr(name) if name else "one without a name"


def _text(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _lines(value: object) -> bytes:
    if not isinstance(value, list) or not value:
        return _text(value)
    return b"[\n" + b",\n".join(map(_text, value)) + b"\n]"
