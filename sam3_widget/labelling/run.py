"""Label thousands of images with the same prompts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sam3_widget.core import prompts as checks
from sam3_widget.core.image import image_paths
from sam3_widget.errors import InvalidPromptError
from sam3_widget.labelling.journal import Journal
from sam3_widget.labelling.output import write_output
from sam3_widget.labelling.records import Asked, labelled
from sam3_widget.live import loaded
from sam3_widget.models.base import no_progress

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sam3_widget.labelling.journal import Record
    from sam3_widget.labelling.records import Prompts
    from sam3_widget.models.base import Model, Progress


@dataclass(frozen=True)
class Labelled:
    """What became of a folder of images.

    Attributes
    ----------
    path : Path
        The COCO file.
    images, objects : int
        In it.
    resumed : int
        Images of it that an earlier run had finished.
    failed : dict
        Why, by file; these are not in the COCO file, and the next run tries them again.
    seconds : float
        Of this run.
    """

    path: Path
    images: int
    objects: int
    resumed: int
    failed: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return it as a line, and one for each image that failed."""
        made = self.images - self.resumed
        speed = f", {made / self.seconds:.1f} images a second" if made and self.seconds > 0 else ""
        before = f", {self.resumed} of them from before" if self.resumed else ""
        line = f"{self.path}: {self.objects} objects in {self.images} images{before}{speed}"
        return "\n".join([line, *(f"failed: {file}: {why}" for file, why in self.failed.items())])


def label_images(
    images: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    text: str | Sequence[str] = (),
    prompts: Prompts | None = None,
    model: str | os.PathLike[str] | Model = "auto",
    score_threshold: float = 0.5,
    mask_threshold: float = 0.5,
    batch_size: int = 4,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Labelled:
    """Find the same things in many images, and write their masks as one COCO file.

    What is finished is on the disk at once, in a journal beside ``out``. A run that was interrupted or killed goes on
    with the same call: no image is done twice, and none is lost. Delete the journal to begin anew.

    Parameters
    ----------
    images : iterable of path, or path
        Image files; of a folder those in it, in the natural order of their names.
    out : path
        Of the COCO file, written when all images are done: run lengths, with a score for each object.
    text : str or list of str
        Concepts: every instance of each is found. They are the categories.
    prompts : callable, optional
        ``prompts(path)`` returns the jobs of an image, a list of :class:`~sam3_widget.jobs.Job` on that path: clicks,
        boxes and exemplars for models that take no words. With ``engine="ray"`` it travels to the workers.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes; with ``engine="ray"`` a name or a folder.
    score_threshold, mask_threshold : float
        Probabilities that a detection must reach, and a pixel of a mask exceed.
    batch_size : int
        Images encoded in one pass; no more than that are in memory at a time.
    engine : {"local", "ray"}
        On this machine, or on a Ray cluster: ``pip install sam3-widget[ray]``.
    workers : int, optional
        Of Ray, each with a model of its own, and a GPU of its own where the cluster has any; as many as there are GPUs,
        or one for each two CPUs.
    progress : callable
        Called with the finished fraction, 0 to 1; what it raises stops the run, and what is finished stays.

    Returns
    -------
    Labelled

    Raises
    ------
    InvalidPromptError
        Nothing is asked for, or it is malformed.
    FormatError
        The journal beside ``out`` is of a run that asked for something else.
    LockedError
        Another run is at it.
    """
    asked = _asked(text, prompts, score_threshold, mask_threshold, batch_size)
    files = [str(path) for path in image_paths(images)]
    target = Path(out)
    began = time.monotonic()
    told = {"text": asked.text, "score_threshold": score_threshold, "mask_threshold": mask_threshold}
    name = model if isinstance(model, str) else str(getattr(model, "name", model))
    with Journal(target.with_name(f"{target.name}.journal"), {**told, "model": name}) as journal:
        resumed = sum(journal.finished.get(file, False) for file in files)
        open_ = [file for file in files if not journal.finished.get(file, False)]
        progress(resumed / len(files))
        done = 0
        for records in _answers(open_, asked, model, engine, workers):
            journal.add(records)
            done += len(records)
            progress((resumed + done) / len(files))
        wanted = set(files)
        result = write_output(target, lambda: _labelled(journal, wanted), asked.text)
    return Labelled(target, *result, resumed=resumed, failed=_failed(journal, files), seconds=time.monotonic() - began)


def _asked(
    text: str | Sequence[str], prompts: Prompts | None, score_threshold: float, mask_threshold: float, batch_size: int
) -> Asked:
    words = tuple(checks.phrase(word) for word in ([text] if isinstance(text, str) else text))
    if not words and prompts is None:
        message = "expected text, or prompts: a function from the path of an image to a list of Job"
        raise InvalidPromptError(message)
    given: object = prompts
    if given is not None and not callable(given):
        message = f"prompts must be a function from the path of an image to a list of Job, got {prompts!r:.80}"
        raise InvalidPromptError(message)
    if checks.integer(batch_size, "batch_size") < 1:
        message = f"batch_size must be 1 or more, got {batch_size}"
        raise InvalidPromptError(message)
    return Asked(words, prompts, score_threshold, mask_threshold, batch_size)


def _answers(
    files: Sequence[str],
    asked: Asked,
    model: str | os.PathLike[str] | Model,
    engine: str,
    workers: int | None,
) -> Iterator[Sequence[Record]]:
    """Yield what becomes of the images, some at a time."""
    if engine == "ray":
        from sam3_widget.labelling.on_ray import answers  # noqa: PLC0415 - an extra

        yield from answers(files, asked, model, workers)
        return
    if engine != "local":
        message = f'engine must be "local" or "ray", got {engine!r}'
        raise InvalidPromptError(message)
    if not files:
        return
    ready = loaded(model)
    for start in range(0, len(files), asked.batch_size):
        yield labelled(ready, files[start : start + asked.batch_size], asked)


def _failed(journal: Journal, files: Iterable[str]) -> dict[str, str]:
    wanted = {file for file in files if not journal.finished.get(file, False)}
    return {r["file"]: r["error"] for r in journal.records() if r["file"] in wanted} if wanted else {}


def _labelled(journal: Journal, wanted: set[str]) -> Iterator[Record]:
    return (record for record in journal.records() if "error" not in record and record["file"] in wanted)
