"""What is known of the images of a data set without opening them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from sam3_widget.core.prompts import integer
from sam3_widget.errors import FormatError, InvalidPromptError, NotFoundError
from sam3_widget.io.annotations import AnnotatedImage
from sam3_widget.io.coco import read_coco

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sam3_widget.labelling.journal import Record

Status = Literal["open", "accepted", "rejected", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)
Order = Literal["given", "score"]
ORDERS: tuple[Order, ...] = get_args(Order)
AHEAD = 2
"""Images that are opened and encoded ahead."""


@dataclass
class Entry:
    """One image.

    Attributes
    ----------
    path : Path
    name : str
        What the journal calls it.
    start : AnnotatedImage or None
        What it started with.
    status : str
        What a person decided: one of :data:`STATUSES`.
    labels : Counter
        How many objects it has of each class, "" where they have none.
    score : float or None
        The lowest score of its objects; None where none has one.
    error : str or None
        Why it cannot be opened.
    """

    path: Path
    name: str
    start: AnnotatedImage | None = None
    status: Status = "open"
    labels: Counter[str] = field(default_factory=Counter)
    score: float | None = None
    error: str | None = None

    @property
    def count(self) -> int:
        """How many objects it has."""
        return self.labels.total()

    def take(self, objects: Iterable[tuple[str, float]]) -> None:
        """Note which objects it has, as label and score; NaN where there is no score."""
        told = list(objects)
        self.labels = Counter(label for label, _ in told)
        self.score = min((score for _, score in told if score == score), default=None)  # noqa: PLR0124 - not NaN


class Entries:
    """All images, what was decided of each, how many objects they have, and in which order to go through them.

    Parameters
    ----------
    entries : iterable of Entry
    said : iterable of Record
        What became of images before, of whichever folder.
    order : {"given", "score"}, optional
        As they are given, or the lowest score first, which is the way where images start with scores and nothing else
        is said.

    Attributes
    ----------
    order : str
    sequence : list of int
        The indices of the images in that order.
    resumed : bool
        Whether anything became of them before.

    Raises
    ------
    InvalidPromptError
        There is no such order.
    """

    def __init__(self, entries: Iterable[Entry], said: Iterable[Record], order: object = None) -> None:
        self._entries = list(entries)
        self._counts: Counter[str] = Counter()
        by_name = {entry.name: entry for entry in self._entries}
        told = set()
        for record in said:
            entry = by_name.get(record["file"])
            if entry is not None:
                told.add(entry.name)
                entry.status = record["status"]
                entry.take((o["label"], o.get("score", math.nan)) for o in record["objects"])
        self.resumed = bool(told)
        for entry in self._entries:
            if entry.start is not None and entry.name not in told:
                entry.take((o.label, o.score) for o in entry.start.objects)
            if entry.status != "rejected":
                self._counts += entry.labels
        self.order = _order(order, scored=any(entry.start and entry.score is not None for entry in self._entries))
        self.sequence = list(range(len(self._entries)))
        if self.order == "score":
            scores = [math.inf if entry.score is None else entry.score for entry in self._entries]
            self.sequence.sort(key=scores.__getitem__)

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Go through them as they were given."""
        return iter(self._entries)

    def __getitem__(self, index: int) -> Entry:
        """Return one image."""
        return self._entries[index]

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each class there are, those without one, "", last; rejected images do not count."""
        named = {label: count for label, count in self._counts.items() if label and count > 0}
        return {**named, "": self._counts[""]} if self._counts[""] > 0 else named

    def index(self, image: object) -> int:
        """Return the index of an image that is given by it, or by its path, or its name where only one has it.

        Raises
        ------
        NotFoundError
            There is none, or there are several.
        """
        if isinstance(image, (str, os.PathLike)):
            path = os.path.abspath(image)  # noqa: PTH100 - without following links
            found = [k for k, entry in enumerate(self) if str(entry.path) == path]
            found = found or [k for k, entry in enumerate(self) if entry.path.name == os.fspath(image)]
            if len(found) != 1:
                message = f"there are {len(found)} images {os.fspath(image)!r} in this data set: give the path of one"
                raise NotFoundError(message)
            return found[0]
        number = int(integer(image, "image_idx"))
        if not 0 <= number < len(self):
            message = f"image_idx must be from 0 to {len(self) - 1}, got {number}"
            raise NotFoundError(message)
        return number

    def indices(self, images: object) -> tuple[int, ...]:
        """Return the indices of several images.

        Raises
        ------
        InvalidPromptError
            This is no list.
        """
        if not isinstance(images, (list, tuple)):
            message = f"ahead must be a list of images, got {images!r:.80}"
            raise InvalidPromptError(message)
        return tuple(self.index(image) for image in images)

    def following(self, index: int, way: Literal[1, -1] = 1) -> tuple[int, ...]:
        """Return the next images after one that can be opened, as far as is known: two at most."""
        at = self.sequence.index(index)
        rest = self.sequence[at + 1 :] if way > 0 else self.sequence[:at][::-1]
        return tuple(islice((k for k in rest if self[k].error is None), AHEAD))

    def since(self, name: object) -> list[int]:
        """Return the indices of all images in their order, from one of this name on, and then those before it."""
        at = next((n for n, k in enumerate(self.sequence) if self[k].name == name), 0)
        return [*self.sequence[at:], *self.sequence[:at]]

    def decide(self, index: int, status: Status) -> None:
        """Note what was decided of an image."""
        entry = self[index]
        if (entry.status == "rejected") != (status == "rejected"):
            self._counts.update(entry.labels) if entry.status == "rejected" else self._counts.subtract(entry.labels)
        entry.status = status

    def take(self, index: int, objects: Iterable[tuple[str, float]]) -> bool:
        """Note which objects an image has, as label and score; return whether that is new."""
        entry = self[index]
        before = entry.labels, entry.score
        entry.take(objects)
        if (entry.labels, entry.score) == before:
            return False
        if entry.status != "rejected":
            self._counts.subtract(before[0])
            self._counts.update(entry.labels)
        return True


def checked_status(status: object) -> Status:
    """Return a decision, or raise an error that says what was expected."""
    for known in STATUSES:
        if status == known:
            return known
    message = f"a decision must be {', '.join(STATUSES)}, got {status!r:.80}"
    raise InvalidPromptError(message)


def _order(order: object, *, scored: bool) -> Order:
    for known in ORDERS:
        if order == known:
            return known
    if order is not None:
        message = f'order must be "given" or "score", got {order!r:.80}'
        raise InvalidPromptError(message)
    return "score" if scored else "given"


def starts(
    annotations: str | os.PathLike[str] | Iterable[AnnotatedImage] | None, paths: Sequence[Path]
) -> Mapping[Path, AnnotatedImage]:
    """Return what images start with, by their paths.

    Parameters
    ----------
    annotations : path or iterable of AnnotatedImage, optional
        A COCO file, or what any reader returned. A picture is known by its path, absolute or from the file's folder,
        else by its name where only one image has it. Objects without a pixel are left out.
    paths : sequence of Path

    Raises
    ------
    FormatError
        They are something else, or none of them is of one of these images.
    """
    if annotations is None:
        return {}
    if isinstance(annotations, (str, os.PathLike)):
        if not Path(annotations).is_file():
            message = f"the file of the annotations, {os.fspath(annotations)!r}, does not exist"
            raise FormatError(message)
        folder, found = Path(annotations).absolute().parent, read_coco(annotations)
    else:
        folder, found = Path.cwd(), list(annotations) if isinstance(annotations, Iterable) else [annotations]
        strange = [one for one in found if not isinstance(one, AnnotatedImage)]
        if strange:
            message = f"annotations must be a COCO file or what a reader returned, got {strange[0]!r:.80}"
            raise FormatError(message)
    known, names = set(paths), Counter(path.name for path in paths)
    by_name = {path.name: path for path in paths if names[path.name] == 1}
    result = {}
    for one in found:
        path = Path(os.path.abspath(folder / one.file_name))  # noqa: PTH100 - without following links
        place = path if path in known else by_name.get(path.name)
        if place is not None:
            result[place] = replace(one, objects=tuple(o for o in one.objects if o.mask.area))
    if found and not result:
        message = f"annotations are of other images: {found[0].file_name!r} is not among the {len(paths)} given"
        raise FormatError(message)
    return result
