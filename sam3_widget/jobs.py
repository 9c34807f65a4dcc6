"""What to segment in an image, as a value: the same prompts can be given to many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sam3_widget.core import masks, prompts
from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidImageError, InvalidPromptError, UnsupportedError
from sam3_widget.models.base import ConceptPrompts, InstancePrompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

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
        Probabilities that a detection, and a pixel of a mask, must exceed.
    """

    image: object
    text: str | None = None
    boxes: ArrayLike | None = None
    box_labels: ArrayLike | None = None
    points: ArrayLike | None = None
    point_labels: ArrayLike | None = None
    score_threshold: float = 0.5
    mask_threshold: float = 0.5


@dataclass(frozen=True)
class Task:
    """A checked job.

    Attributes
    ----------
    index : int
        Its place among the jobs.
    image : Image
    question : ConceptPrompts or InstancePrompts
    at : (x, y) or None
        Only the instance of the concept here is meant.
    score_threshold : float
    level : float
        Logit that a pixel must exceed.
    """

    index: int
    image: Image
    question: ConceptPrompts | InstancePrompts
    at: tuple[float, float] | None
    score_threshold: float
    level: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.image.height, self.image.width


def checked(model: Model, index: int, job: Job) -> Task:
    """Return a job with everything in it validated, or raise an error that names the job."""
    try:
        return _task(model, index, job)
    except (InvalidPromptError, InvalidImageError, UnsupportedError) as error:
        message = f"job {index}: {error}"
        raise type(error)(message) from None


def _task(model: Model, index: int, job: Job) -> Task:
    image = Image.read(job.image)
    boxes = _rows(job.boxes, "boxes", "(x1, y1, x2, y2)", image, prompts.corners)
    points = _rows(
        job.points,
        "points",
        "(x, y)",
        image,
        lambda row, width, height: prompts.position(row[0], row[1], width, height),
    )
    labels = _labels(job.point_labels, len(points), "point_labels")
    level = masks.logit(_probability(job.mask_threshold, "mask_threshold"))
    score = _probability(job.score_threshold, "score_threshold")
    question: ConceptPrompts | InstancePrompts
    if points and job.text is None:
        if len(boxes) > 1 or job.box_labels is not None:
            message = "clicks without text are on one object, which has one box at most, and that includes"
            raise InvalidPromptError(message)
        if not labels.any() and not boxes:
            message = "clicks need a positive one, or a box: there is nothing to take away from"
            raise InvalidPromptError(message)
        _need(model, "points")
        box = np.array(boxes[0], np.float32) if boxes else None
        question = InstancePrompts(np.array(points, np.float32), labels, box)
        return Task(index, image, question, None, score, level)
    if points and not (len(points) == 1 and labels[0]):
        message = "beside text, points must be one positive click: the instance that is meant"
        raise InvalidPromptError(message)
    signs = _labels(job.box_labels, len(boxes), "box_labels")
    if job.text is None and not signs.any():
        message = "expected text, a positive box, or points"
        raise InvalidPromptError(message)
    _need(model, "exemplars" if job.text is None else "text")
    words = "" if job.text is None else prompts.phrase(job.text)
    question = ConceptPrompts(words, np.array(boxes, np.float32).reshape(-1, 4), signs)
    return Task(index, image, question, points[0] if points else None, score, level)


def _need(model: Model, what: str) -> None:
    if not getattr(model.capabilities, what):
        raise model.unsupported(what, "load a model that does")


def _rows(
    given: ArrayLike | None, name: str, form: str, image: Image, read: Callable[[list[object], int, int], _Row]
) -> list[_Row]:
    if given is None:
        return []
    rows = np.asarray(given, dtype=object)
    if rows.ndim != 2 or rows.shape[1] != form.count(",") + 1:  # noqa: PLR2004 - rows of numbers
        message = f"{name} must be rows of {form} in pixels, got {given!r:.200}"
        raise InvalidPromptError(message)
    return [read(list(row), image.width, image.height) for row in rows]


def _labels(given: ArrayLike | None, count: int, name: str) -> NDArray[np.bool_]:
    if given is None:
        return np.ones(count, np.bool_)
    flags = [prompts.flag(v, name) for v in np.asarray(given).ravel().tolist()]
    if len(flags) != count:
        message = f"{name} must hold one label for each row, {count}, got {len(flags)}"
        raise InvalidPromptError(message)
    return np.array(flags, np.bool_)


def _probability(value: float, name: str) -> float:
    level = prompts.number(value, name)
    if not 0 < level < 1:
        message = f"{name} must be a probability with 0 < value < 1, got {level:g}"
        raise InvalidPromptError(message)
    return level
