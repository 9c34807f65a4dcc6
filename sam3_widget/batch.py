"""Jobs on many images, answered in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sam3_widget.core import masks, matching, prompts
from sam3_widget.core.answers import Finding
from sam3_widget.core.prompts import Exemplar
from sam3_widget.core.state import ConceptState, State
from sam3_widget.engine import engine_of
from sam3_widget.errors import InvalidPromptError
from sam3_widget.jobs import checked
from sam3_widget.models.base import ConceptPrompts, InstancePrompts, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.jobs import Job, Task
    from sam3_widget.models.base import Candidates, Detections, Embedding, Model, Progress

_Item = TypeVar("_Item")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was segmented in one image, best first.

    Attributes
    ----------
    masks : (N, H, W) bool
    boxes : (N, 4) float32
        The tight box of each mask, ``(x1, y1, x2, y2)`` in pixels; zeros for an empty one.
    scores : (N,) float32
        That a detection is the concept, or the IoU predicted for the mask of clicks.
    labels : list of str
        The words of the concept, "" without any.
    logits : (N, h, w) float32
        Before the threshold, over the whole image.
    presence : float
        Probability that the concept is in the image; NaN for clicks.
    semantic_mask : (H, W) bool
        The pixels of the concept, whichever instance they are of; for clicks those of the mask.
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: list[str]
    logits: NDArray[np.float32]
    presence: float
    semantic_mask: NDArray[np.bool_]

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

    Raises
    ------
    InvalidPromptError, InvalidImageError
        A job is malformed; the message says which.
    UnsupportedError
        The model takes no such prompts.
    """
    if prompts.integer(batch_size, "batch_size") < 1:
        message = f"batch_size must be 1 or more, got {batch_size}"
        raise InvalidPromptError(message)
    tasks = [checked(model, index, job) for index, job in enumerate(jobs)]
    by_image: dict[str, list[Task]] = {}
    for task in tasks:
        by_image.setdefault(task.image.key, []).append(task)
    found: dict[int, Segmentation] = {}
    progress(0.0)
    with engine_of(model).exclusive:
        for group in _chunks(list(by_image.values()), batch_size):
            embeddings = model.encode_many([task[0].image.pixels for task in group])
            pairs = [(task, e) for same, e in zip(group, embeddings, strict=True) for task in same]
            for task, answer in _answers(model, pairs, batch_size):
                found[task.index] = answer
                progress(len(found) / len(tasks))
    return [found[task.index] for task in tasks]


def _answers(
    model: Model, pairs: Sequence[tuple[Task, Embedding]], batch_size: int
) -> Iterator[tuple[Task, Segmentation]]:
    """Answer the tasks on a batch of images: clicks image by image, concepts together."""
    clicks: dict[Embedding, list[tuple[Task, InstancePrompts]]] = {}
    concepts: list[tuple[Task, Embedding, ConceptPrompts]] = []
    for task, embedding in pairs:
        if isinstance(task.question, InstancePrompts):
            clicks.setdefault(embedding, []).append((task, task.question))
        else:
            concepts.append((task, embedding, task.question))
    for embedding, asked in clicks.items():
        answers = model.refine_many(embedding, [(question, None) for _, question in asked])
        for (task, _), candidates in zip(asked, answers, strict=True):
            yield task, _clicked(task, candidates)
    for chunk in _chunks(concepts, batch_size):
        found = model.detect_many([e for _, e, _ in chunk], [question for _, _, question in chunk])
        for (task, _, question), detections in zip(chunk, found, strict=True):
            yield task, _detected(task, question, detections)


def _clicked(task: Task, candidates: Candidates) -> Segmentation:
    runs = masks.compose(candidates.logits[0], task.size, task.level)
    return _segmentation(candidates.logits[:1], [runs], candidates.scores[:1], "", float("nan"), runs)


def _detected(task: Task, question: ConceptPrompts, detections: Detections) -> Segmentation:
    """Filter detections exactly as a session does: by making its instances of them."""
    finding = Finding(text=question.text)
    finding.write(detections.logits, detections.scores, detections.presence, detections.semantic, {})
    boxes = [prompts.corners(box, task.image.width, task.image.height) for box in question.boxes]
    exemplars = tuple(
        Exemplar(bool(positive), 1, k, box)
        for k, (box, positive) in enumerate(zip(boxes, question.labels, strict=True))
    )
    concept = ConceptState(1, question.text, exemplars, task.at, task.score_threshold, finding=finding)
    state = matching.settle(State(*task.size, concepts=(concept,)), lambda _, shape: np.zeros(shape, np.bool_))
    kept = [i.found for i in state.instances if i.found]
    logits = np.array([a.logits[0] for a in kept if a.logits is not None], np.float32)
    return _segmentation(
        logits.reshape(-1, *detections.logits.shape[1:]),
        [masks.compose(mask, task.size, task.level) for mask in logits],
        np.array([a.scores[0] for a in kept], np.float32),
        question.text,
        detections.presence,
        masks.compose(detections.semantic, task.size, task.level),
    )


def _segmentation(
    logits: NDArray[np.float32],
    found: Sequence[RunLengths],
    scores: NDArray[np.float32],
    label: str,
    presence: float,
    semantic: RunLengths,
) -> Segmentation:
    return Segmentation(
        masks=np.array([m.to_mask() for m in found], np.bool_).reshape(-1, semantic.height, semantic.width),
        boxes=np.array([m.bbox or (0, 0, 0, 0) for m in found], np.float32).reshape(-1, 4),
        scores=scores,
        labels=[label] * len(found),
        logits=logits,
        presence=presence,
        semantic_mask=semantic.to_mask(),
    )


def _chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[k : k + size] for k in range(0, len(items), size))
