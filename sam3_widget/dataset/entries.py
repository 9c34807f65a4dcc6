"""What is known of the images of a data set without opening them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from sam3_widget.errors import FormatError
from sam3_widget.io.coco import read_coco

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sam3_widget.io.annotations import AnnotatedImage

Status = Literal["open", "accepted", "rejected", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)


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
        None of them is of one of these images.
    """
    if annotations is None:
        return {}
    if isinstance(annotations, (str, os.PathLike)):
        folder, found = Path(annotations).absolute().parent, read_coco(annotations)
    else:
        folder, found = Path.cwd(), list(annotations)
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


def listed(labels: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return classes with their numbers of objects, those without a class last."""
    named = [(label, count) for label, count in labels.items() if label and count > 0]
    return [*named, *([("", labels[""])] if labels.get("", 0) > 0 else [])]
