"""What is asked of every image, and what becomes of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_widget.batch import segment_batch
from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidPromptError, Sam3WidgetError
from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject
from sam3_widget.io.coco import to_xywh
from sam3_widget.io.rle import from_coco_rle, to_coco_rle
from sam3_widget.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sam3_widget.batch import Segmentation
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.labelling.journal import Record
    from sam3_widget.models.base import Model

    Prompts = Callable[[Path], Iterable[Job]]


@dataclass(frozen=True)
class Asked:
    """What is asked of every image.

    Attributes
    ----------
    text : tuple of str
        Concepts in words.
    prompts : callable or None
        Returns the jobs of an image, by its path.
    score_threshold, mask_threshold : float
        Of the concepts in words.
    batch_size : int
        Images encoded in one pass.
    """

    text: tuple[str, ...]
    prompts: Prompts | None
    score_threshold: float
    mask_threshold: float
    batch_size: int

    def jobs(self, path: Path) -> list[Job]:
        """Return the jobs of one image."""
        score, mask = self.score_threshold, self.mask_threshold
        jobs = [Job(path, text, score_threshold=score, mask_threshold=mask) for text in self.text]
        own = self.prompts(path) if self.prompts else ()
        return [*jobs, *(_checked(job) for job in own)]


def _checked(job: object) -> Job:
    if not isinstance(job, Job):
        message = f"prompts must return a list of Job, got {type(job).__name__} in it"
        raise InvalidPromptError(message)
    return job


def labelled(model: Model, paths: Sequence[str], asked: Asked) -> list[Record]:
    """Return what becomes of a batch of images; one that fails takes none of the others with it."""
    try:
        return _together(model, paths, asked)
    except Exception as error:  # noqa: BLE001 - whatever an image does to a model is that image's failure
        if len(paths) == 1:
            reason = str(error) if isinstance(error, Sam3WidgetError) else f"{type(error).__name__}: {error}"
            return [{"file": paths[0], "error": reason}]
        return [record for path in paths for record in labelled(model, [path], asked)]


def _together(model: Model, paths: Sequence[str], asked: Asked) -> list[Record]:
    jobs = [asked.jobs(Path(path)) for path in paths]
    answers = iter(segment_batch(model, [job for each in jobs for job in each], batch_size=asked.batch_size))
    return [_record(path, [next(answers) for _ in each]) for path, each in zip(paths, jobs, strict=True)]


def _record(path: str, answers: Sequence[Segmentation]) -> Record:
    objects: list[dict[str, Any]] = []
    size: tuple[int, int] | None = None
    for found in answers:
        size = (found.semantic.height, found.semantic.width)
        for mask, score, label in zip(found.runs, found.scores.tolist(), found.labels, strict=True):
            if mask.area:
                objects.append(told_of_object(len(objects) + 1, label, mask, score))
    if size is None:  # nothing was asked of it: it is in the file all the same
        image = Image.read(path)
        size = (image.height, image.width)
    return {"file": path, "height": size[0], "width": size[1], "objects": objects}


def told_of_object(object_id: int, label: str, mask: RunLengths, score: float) -> dict[str, Any]:
    """Return an object as a record has it: what COCO says of one, but for numbers and with its label in words."""
    shape = {"segmentation": to_coco_rle(mask), "area": mask.area, "bbox": to_xywh(mask)}
    told = {"label": label, **shape, "iscrowd": 0, "object_id": object_id}
    return told if math.isnan(score) else {**told, "score": round(score, 4)}


def annotated(record: Record, file_name: str) -> AnnotatedImage:
    """Return what a record says of an image."""
    objects = tuple(
        AnnotatedObject(o["object_id"], o["label"], from_coco_rle(o["segmentation"]), o.get("score", math.nan))
        for o in record["objects"]
    )
    return AnnotatedImage(file_name, record["height"], record["width"], objects)
