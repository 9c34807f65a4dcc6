"""Jobs on many images, answered in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sam3_widget.core import masks, matching, prompts
from sam3_widget.core.answers import Finding
from sam3_widget.core.prompts import Exemplar
from sam3_widget.core.state import ConceptState, State
from sam3_widget.engine import checked, checked_detections, engine_of
from sam3_widget.errors import InvalidPromptError, ModelError, Sam3WidgetError
from sam3_widget.jobs import Job, task_of
from sam3_widget.models.base import ConceptPrompts, InstancePrompts, Model, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.jobs import Task
    from sam3_widget.models.base import Candidates, Detections, Embedding, Progress

_Item = TypeVar("_Item")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was segmented in one image, best first.

    Attributes
    ----------
    runs : tuple of RunLengths
        The N masks as run lengths: what is kept of them.
    scores : (N,) float32
        That a detection is the concept, or the IoU predicted for the mask of clicks.
    labels : list of str
        The job's label, or else the words of the concept; "" without either.
    logits : (N, h, w) float32
        Before the threshold, over the whole image.
    presence : float
        Probability that the concept is in the image; NaN for clicks.
    semantic : RunLengths
        The pixels of the concept, whichever instance they are of; for clicks those of the mask.
    """

    runs: tuple[RunLengths, ...]
    scores: NDArray[np.float32]
    labels: list[str]
    logits: NDArray[np.float32]
    presence: float
    semantic: RunLengths

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The masks, ``(N, H, W)`` bool."""
        shape = (len(self.runs), self.semantic.height, self.semantic.width)
        return np.array([m.to_mask() for m in self.runs], np.bool_).reshape(shape)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The tight box of each mask, ``(N, 4)`` float32 ``(x1, y1, x2, y2)`` in pixels; zeros for an empty one."""
        return np.array([m.bbox or (0, 0, 0, 0) for m in self.runs], np.float32).reshape(-1, 4)

    @property
    def semantic_mask(self) -> NDArray[np.bool_]:
        """The pixels of the concept, ``(H, W)`` bool."""
        return self.semantic.to_mask()

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.scores)


def segment_batch(
    model: Model, jobs: Iterable[Job], *, batch_size: int = 4, progress: Progress = no_progress
) -> list[Segmentation]:
    """Segment many images: one forward pass of the encoder, and of the concept head, for each batch.

    Parameters
    ----------
    model : Model
        From :func:`~sam3_widget.models.catalog.load_model`.
    jobs : iterable of Job
        Concepts and clicks may be mixed. All of them are checked before the first is run.
    batch_size : int
        Images encoded, and concepts looked for, in one pass; less takes less memory.
    progress : callable
        Called with the finished fraction, 0 to 1; what it raises stops the work.

    Returns
    -------
    list of Segmentation
        In the order of the jobs.

    Notes
    -----
    Images given as paths are read again when their batch comes, so that no more than a batch of them is in memory.

    Raises
    ------
    InvalidPromptError, InvalidImageError
        A job is malformed; the message says which.
    UnsupportedError
        The model takes no such prompts.
    ModelError
        The model failed; the message says on which jobs.
    """
    if isinstance(jobs, Job):
        message = "jobs must be a list of Job, got a single one: put it in a list"
        raise InvalidPromptError(message)
    loaded: object = model
    if not isinstance(loaded, Model):
        message = f"model must be a loaded model, from load_model, got {model!r:.200}"
        raise ModelError(message)
    if prompts.integer(batch_size, "batch_size") < 1:
        message = f"batch_size must be 1 or more, got {batch_size}"
        raise InvalidPromptError(message)
    tasks = [task_of(model, index, job) for index, job in enumerate(jobs)]
    by_image: dict[str, list[Task]] = {}
    for task in tasks:
        by_image.setdefault(task.key, []).append(task)
    found: dict[int, Segmentation] = {}
    progress(0.0)
    for group in _chunks(list(by_image.values()), batch_size):
        try:
            for task, answer in _answers(model, group, batch_size):
                found[task.index] = answer
        except Sam3WidgetError:
            raise
        except Exception as error:
            indexes = ", ".join(str(task.index) for same in group for task in same)
            message = f"{model.name} failed on the batch of job {indexes}: {error!r}"
            raise ModelError(message) from error
        progress(len(found) / len(tasks))
    return [found[task.index] for task in tasks]


def _answers(model: Model, group: Sequence[Sequence[Task]], batch_size: int) -> Iterator[tuple[Task, Segmentation]]:
    """Answer the tasks on a batch of images: clicks image by image, concepts together."""
    exclusive = engine_of(model).exclusive
    pixels = [same[0].read().pixels for same in group]
    with exclusive:
        embeddings = model.encode_many(pixels)
    concepts: list[tuple[Task, Embedding, ConceptPrompts]] = []
    for same, embedding in zip(group, embeddings, strict=True):
        clicks = [(task, task.question) for task in same if isinstance(task.question, InstancePrompts)]
        concepts += [(t, embedding, t.question) for t in same if isinstance(t.question, ConceptPrompts)]
        with exclusive:
            answers = model.refine_many(embedding, [(question, None) for _, question in clicks])
        for (task, _), candidates in zip(clicks, answers, strict=True):
            yield task, _clicked(task, checked(candidates))
    for chunk in _chunks(concepts, batch_size):
        with exclusive:
            found = model.detect_many([e for _, e, _ in chunk], [question for _, _, question in chunk])
        for (task, _, question), detections in zip(chunk, found, strict=True):
            yield task, _detected(task, question, checked_detections(detections))


def _clicked(task: Task, candidates: Candidates) -> Segmentation:
    logits = _kept(candidates.logits[:1])
    runs = masks.compose(logits[0], task.size, task.level)
    return Segmentation((runs,), candidates.scores[:1], [task.label], logits, float("nan"), runs)


def _detected(task: Task, question: ConceptPrompts, detections: Detections) -> Segmentation:
    """Filter detections exactly as a session does: by making its instances of them."""
    finding = Finding(text=question.text)
    finding.write(detections.logits, detections.scores, detections.presence, detections.semantic, {})
    height, width = task.size
    exemplars = tuple(
        Exemplar(bool(positive), 1, k, prompts.corners(box, width, height))
        for k, (box, positive) in enumerate(zip(question.boxes, question.labels, strict=True))
    )
    concept = ConceptState(1, question.text, exemplars, task.at, task.score_threshold, finding=finding)
    state = matching.settle(State(*task.size, concepts=(concept,)), lambda _, shape: np.zeros(shape, np.bool_))
    kept = [i.found for i in state.instances if i.found]
    logits = [a.logits[0].astype(np.float32) for a in kept if a.logits is not None]
    return Segmentation(
        tuple(masks.compose(mask, task.size, task.level) for mask in logits),
        np.array([a.scores[0] for a in kept], np.float32),
        [task.label] * len(kept),
        np.stack(logits) if logits else np.zeros((0, *detections.semantic.shape), np.float32),
        detections.presence,
        masks.compose(_kept(detections.semantic), task.size, task.level),
    )


def _kept(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits in the precision that a session keeps them in, so that masks are the same."""
    return logits.astype(np.float16).astype(np.float32)


def _chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[k : k + size] for k in range(0, len(items), size))
