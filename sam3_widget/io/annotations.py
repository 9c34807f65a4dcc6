"""What all formats write and read: a picture with its objects, their masks as run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sam3_widget.arrays import Arrays
from sam3_widget.errors import FormatError
from sam3_widget.session import Session, Verbs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.models.base import Model

UNLABELLED = "object"
"""Category of an object without a label, in formats in which every object has one."""
_MAX_LABEL = 200


@dataclass(frozen=True, eq=False)
class AnnotatedObject:
    """One object of a picture.

    Attributes
    ----------
    object_id : int
        1 or more; each once in a picture.
    label : str
        Class name, "" where there is none.
    mask : RunLengths
        Of the picture's size.
    score : float
        0 to 1; NaN where there is none.
    attributes : mapping
        Whatever else is known of it, as JSON has it: what COCO files of CVAT have under this name.
    """

    object_id: int
    label: str
    mask: RunLengths
    score: float = float("nan")
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """A picture with its objects, as files hold them: what readers return and writers take beside sessions.

    Attributes
    ----------
    file_name : str
        Name of the picture's file, with ``/`` between folders; "" where there is none.
    height, width : int
        Size of the picture in pixels.
    objects : tuple of AnnotatedObject

    Raises
    ------
    FormatError
        A mask is not of the picture's size, or two objects have one id.
    """

    file_name: str
    height: int
    width: int
    objects: tuple[AnnotatedObject, ...] = ()

    def __post_init__(self) -> None:
        """Check the objects."""
        seen = set()
        for found in self.objects:
            if (found.mask.height, found.mask.width) != (self.height, self.width):
                size = f"{found.mask.height} x {found.mask.width}"
                message = f"{self.tell(found)} has a mask of {size} pixels, the picture is {self.height} x {self.width}"
                raise FormatError(message)
            if found.object_id < 1 or found.object_id in seen:
                message = f"{self.tell(found)}: an object_id must be 1 or more, and each once in a picture"
                raise FormatError(message)
            seen.add(found.object_id)

    def __repr__(self) -> str:
        """Return name, size and number of objects."""
        size = f"{self.width} x {self.height}"
        return f"<AnnotatedImage {self.file_name!r}, {size}, {len(self.objects)} objects>"

    def tell(self, found: AnnotatedObject) -> str:
        """Return the words for one of its objects in an error."""
        label = f" ({found.label})" if found.label else ""
        return f"object {found.object_id}{label} of {self.file_name or 'the picture'}"

    @classmethod
    def of(cls, session: Arrays, file_name: str | None = None) -> AnnotatedImage:
        """Return what a session, a widget, or a frame of a clip holds now.

        Parameters
        ----------
        session : Session, Sam3Widget or a frame of a VideoSession
        file_name : str, optional
            The name of the file that the picture came from.
        """
        live = session._live  # noqa: SLF001 - one revision of all of it, without decoding the picture
        with live.lock:
            state, instances = live.state, session.instances
            name = live.image.name if file_name is None else file_name
        objects = tuple(AnnotatedObject(i.object_id, i.label, i.runs, i.score) for i in instances)
        return cls(name, state.height, state.width, objects)

    def to_session(self, image: object, model: str | os.PathLike[str] | Model = "auto") -> Session:
        """Return a session whose masks are these, to refine them.

        Parameters
        ----------
        image : path, array, ...
            The picture: what :class:`~sam3_widget.session.Session` takes.
        model : str, path or Model
        """
        session = Session(image, model)
        self.load_into(session)
        return session

    def load_into(self, session: Verbs) -> tuple[int, ...]:
        """Add the objects to a session or a widget, beside those that are there.

        Parameters
        ----------
        session : Session, Sam3Widget or a frame of a VideoSession

        Returns
        -------
        tuple of int
            Their ``object_id`` in the session, which gives new ones.

        Raises
        ------
        FormatError
            The session's picture is of another size, a mask is empty, or a label is not one line of text. Nothing is
            added then.
        """
        state = session._live.state  # noqa: SLF001 - its size, without decoding the picture
        if (state.height, state.width) != (self.height, self.width):
            message = (
                f"the masks of {self.file_name or 'the picture'} are for {self.height} x {self.width} pixels, "
                f"the session's picture is {state.height} x {state.width}"
            )
            raise FormatError(message)
        for found in self.objects:
            if not found.mask.area:
                message = f"{self.tell(found)} has an empty mask, which a session does not take"
                raise FormatError(message)
            if len(found.label) > _MAX_LABEL or not found.label.isprintable():
                message = f"{self.tell(found)}: a label must be one line of at most {_MAX_LABEL} characters"
                raise FormatError(message)
        return tuple(session.set_mask(found.mask, label=found.label).object_id for found in self.objects)


Annotated: TypeAlias = (
    "Arrays | AnnotatedImage | Iterable[Arrays | AnnotatedImage] | Mapping[str, Arrays | AnnotatedImage]"
)
"""What writers take: a session, a widget or an annotated image, several of them, or several by file name."""


def annotated(sessions: Annotated) -> list[AnnotatedImage]:
    """Return sessions as annotated images, each with a name of its own.

    Parameters
    ----------
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files. A picture without a name is called
        ``image_00001.png``, by its place.

    Raises
    ------
    FormatError
        It is something else, or two pictures have one name.
    """
    return _named(_pairs(sessions))


def data_set(sessions: Annotated, classes: Iterable[str] | None = None) -> tuple[list[AnnotatedImage], list[str]]:
    """Return sessions as annotated images, and the class names in their order.

    Parameters
    ----------
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
    classes : iterable of str, optional
        All class names in the order that is wanted. None takes those on offer in the sessions, then those of the
        objects.

    Raises
    ------
    FormatError
        As :func:`annotated`, or an object's label is not among ``classes``.
    """
    pairs = _pairs(sessions)
    images = _named(pairs)
    labels = [(image, found, found.label or UNLABELLED) for image in images for found in image.objects]
    if classes is None:
        offered = [name for _, one in pairs if isinstance(one, Arrays) for name in one.classes]
        return images, list(dict.fromkeys([*offered, *(label for *_, label in labels)]))
    names = list(dict.fromkeys(classes))
    for image, found, label in labels:
        if label not in names:
            message = f"{image.tell(found)} is of the class {label!r}, but the classes are {', '.join(names)}"
            raise FormatError(message)
    return images, names


def _pairs(sessions: Annotated) -> list[tuple[str | None, object]]:
    """Return each session with the name that it was given."""
    if isinstance(sessions, Mapping):
        return [(str(name), session) for name, session in sessions.items()]
    return [(None, session) for session in (sessions if isinstance(sessions, Iterable) else [sessions])]


def _named(pairs: Iterable[tuple[str | None, object]]) -> list[AnnotatedImage]:
    images: dict[str, AnnotatedImage] = {}
    for index, (name, one) in enumerate(pairs, 1):
        if isinstance(one, AnnotatedImage):
            image = one
        elif isinstance(one, Arrays):
            image = AnnotatedImage.of(one)
        else:
            message = f"expected a session, a widget or an AnnotatedImage, or several of them, got {one!r:.200}"
            raise FormatError(message)
        file_name = name or image.file_name or f"image_{index:05d}.png"
        if file_name in images:
            message = f"two pictures are called {file_name!r}: give a mapping, {{file name: session}}"
            raise FormatError(message)
        images[file_name] = replace(image, file_name=file_name)
    return list(images.values())


def chosen(value: object, name: str, options: Sequence[str]) -> None:
    """Check an option of a writer or a reader."""
    if value not in options:
        message = f"{name} must be {' or '.join(map(repr, options))}, got {value!r}"
        raise FormatError(message)


def encoded(
    images: Iterable[AnnotatedImage], name_of: Callable[[str], str], encode: Callable[[AnnotatedImage], bytes | str]
) -> dict[str, bytes | str]:
    """Return a file for each picture by its name, all of them made before the first is written.

    Raises
    ------
    FormatError
        Two pictures would be one file.
    """
    files: dict[str, bytes | str] = {}
    for image in images:
        name = name_of(image.file_name)
        if name in files:
            message = f"two pictures would be written to {name}: give their names apart, {{file name: session}}"
            raise FormatError(message)
        files[name] = encode(image)
    return files


def files_of(path: str | os.PathLike[str], pattern: str, what: str) -> list[Path]:
    """Return the file at a path, or all files of a folder and those below it that match a pattern, sorted.

    Raises
    ------
    FormatError
        There is none.
    """
    root = Path(path)
    found = [root] if root.is_file() else sorted(file for file in root.rglob(pattern) if file.is_file())
    if not found:
        message = f"{str(root)!r} holds no {what}"
        raise FormatError(message)
    return found
