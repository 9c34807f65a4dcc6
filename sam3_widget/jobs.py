"""What to segment in an image, as a value: the same prompts can be given to many."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sam3_widget.core import masks, prompts
from sam3_widget.core.answers import FLOOR
from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidImageError, InvalidPromptError, UnsupportedError
from sam3_widget.models.base import ConceptPrompts, InstancePrompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from sam3_widget.core.prompts import Corners
    from sam3_widget.models.base import Model

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Job:
    """What to segment in one image: a concept, or one object by clicks.

    Parameters
    ----------
    image : path, bytes, PIL image, numpy array or torch tensor
        See :meth:`sam3_widget.core.image.Image.read`. Jobs on equal images share one encoding.
    text : str, optional
        A concept in words. With one positive point: only the instance there.
    boxes : (B, 4) array-like, optional
        ``(x1, y1, x2, y2)`` in pixels: exemplars of a concept or, beside points and without text, the one box of
        the object.
    box_labels : (B,) array-like, optional
        1 for what the concept means, 0 for what it does not mean; 1 for all where they are left out.
    points : (P, 2) array-like, optional
        ``(x, y)`` in pixels: clicks on one object.
    point_labels : (P,) array-like, optional
        1 includes, 0 excludes; 1 for all where they are left out.
    score_threshold, mask_threshold : float
        Probabilities that a detection must reach, and a pixel of a mask exceed.
    label : str, optional
        Class of what is found; the text where it is left out.
    """

    image: object
    text: str | None = None
    boxes: ArrayLike | None = None
    box_labels: ArrayLike | None = None
    points: ArrayLike | None = None
    point_labels: ArrayLike | None = None
    score_threshold: float = 0.5
    mask_threshold: float = 0.5
    label: str | None = None


@dataclass(frozen=True)
class Task:
    """A checked job.

    Attributes
    ----------
    index : int
        Its place among the jobs.
    source : object
        What :meth:`sam3_widget.core.image.Image.read` reads: a path, or the image itself.
    key : str
        Of the image.
    size : (height, width)
        Of the image in pixels.
    question : ConceptPrompts or InstancePrompts
    at : (x, y) or None
        Only the instance of the concept here is meant.
    score_threshold : float
    level : float
        Logit that a pixel must exceed.
    label : str
        Class of what is found.
    """

    index: int
    source: object
    key: str
    size: tuple[int, int]
    question: ConceptPrompts | InstancePrompts
    at: tuple[float, float] | None
    score_threshold: float
    level: float
    label: str

    def read(self) -> Image:
        """Return the image; raises where its file is another one by now."""
        image = Image.read(self.source)
        if image.key != self.key:
            message = f"job {self.index}: {self.source} has changed since the jobs were checked"
            raise InvalidImageError(message)
        return image


def task_of(model: Model, index: int, job: Job) -> Task:
    """Return a job with everything in it validated, or raise an error that names the job."""
    try:
        return _task(model, index, job)
    except (InvalidPromptError, InvalidImageError, UnsupportedError) as error:
        message = f"job {index}: {error}"
        raise type(error)(message) from None


def _task(model: Model, index: int, job: object) -> Task:
    if not isinstance(job, Job):
        message = f"expected a Job, got {type(job).__name__}"
        raise InvalidPromptError(message)
    image = Image.read(job.image)
    source = job.image if isinstance(job.image, (str, os.PathLike)) else image
    boxes = _rows(job.boxes, "boxes", "(x1, y1, x2, y2)", image, prompts.corners)
    points = _rows(
        job.points,
        "points",
        "(x, y)",
        image,
        lambda row, width, height: prompts.position(row[0], row[1], width, height),
    )
    level = masks.logit(_probability(job.mask_threshold, "mask_threshold", 0))
    score = _probability(job.score_threshold, "score_threshold", FLOOR)
    asks = _clicks if points and job.text is None else _concept
    question, at = asks(model, job, boxes, points)
    given: object = job.label
    if given is not None and not isinstance(given, str):
        message = f"label must be text, got {given!r:.60}"
        raise InvalidPromptError(message)
    label = (job.text or "") if given is None else given
    return Task(index, source, image.key, (image.height, image.width), question, at, score, level, label)


def _clicks(
    model: Model, job: Job, boxes: list[Corners], points: list[tuple[float, float]]
) -> tuple[InstancePrompts, None]:
    labels = _labels(job.point_labels, len(points), "point_labels")
    if len(boxes) > 1 or job.box_labels is not None:
        message = "clicks without text are on one object, which has one box at most, and that includes"
        raise InvalidPromptError(message)
    if not labels.any() and not boxes:
        message = "clicks need a positive one, or a box: there is nothing to take away from"
        raise InvalidPromptError(message)
    _need(model, "points")
    if boxes:
        _need(model, "boxes")
    box = np.array(boxes[0], np.float32) if boxes else None
    return InstancePrompts(np.array(points, np.float32), labels, box), None


def _concept(
    model: Model, job: Job, boxes: list[Corners], points: list[tuple[float, float]]
) -> tuple[ConceptPrompts, tuple[float, float] | None]:
    if points and not (len(points) == 1 and _labels(job.point_labels, 1, "point_labels")[0]):
        message = "beside text, points must be one positive click: the instance that is meant"
        raise InvalidPromptError(message)
    signs = _labels(job.box_labels, len(boxes), "box_labels")
    if job.text is None and not signs.any():
        message = "expected text, a positive box, or points"
        raise InvalidPromptError(message)
    if job.text is not None:
        _need(model, "text")
    if boxes:
        _need(model, "exemplars")
    words = "" if job.text is None else prompts.phrase(job.text)
    exemplars = np.array(boxes, np.float32).reshape(-1, 4)
    return ConceptPrompts(words, exemplars, signs), points[0] if points else None


def _need(model: Model, what: str) -> None:
    if not getattr(model.capabilities, what):
        raise model.unsupported(what, "load a model that does")


def _rows(
    given: ArrayLike | None, name: str, form: str, image: Image, read: Callable[[list[object], int, int], _Row]
) -> list[_Row]:
    if given is None:
        return []
    rows = np.asarray(given, dtype=object)
    if rows.size == 0:
        return []
    if rows.ndim != 2 or rows.shape[1] != form.count(",") + 1:  # noqa: PLR2004 - rows of numbers
        message = f"{name} must be rows of {form} in pixels, got {given!r:.200}"
        raise InvalidPromptError(message)
    return [read(list(row), image.width, image.height) for row in rows]


def _labels(given: ArrayLike | None, count: int, name: str) -> NDArray[np.bool_]:
    if given is None:
        return np.ones(count, np.bool_)
    flags = [prompts.flag(v, name) for v in np.asarray(given, dtype=object).ravel().tolist()]
    if len(flags) != count:
        message = f"{name} must hold one label for each row, {count}, got {len(flags)}"
        raise InvalidPromptError(message)
    return np.array(flags, np.bool_)


def _probability(value: float, name: str, lowest: float) -> float:
    level = prompts.number(value, name)
    if not (0 < level < 1 and level >= lowest):
        form = f"{lowest} <= value < 1" if lowest else "0 < value < 1"
        message = f"{name} must be a probability with {form}, got {level:g}"
        raise InvalidPromptError(message)
    return level
