"""How detections become instances: filtered, matched to those that are there, and never over what a person did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.state import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.answers import Answer, Finding
    from sam3_widget.core.prompts import Corners
    from sam3_widget.core.state import ConceptState, State

    Silhouette = Callable[[InstanceState, tuple[int, int]], NDArray[np.bool_]]
    """The mask of an instance at a given ``(h, w)``."""

SAME = 0.5
"""IoU from which two masks are one object."""
INSIDE = 0.5
"""Share of a mask inside a negative box from which the box means it."""
AT_LEAST = 0.1
"""Score that a detection must exceed where a person pointed at it, however high the threshold."""


def settle(state: State, silhouette: Silhouette) -> State:
    """Bring instances in step with what was found of each concept; nothing changes where they are.

    An instance that is found again keeps its id, label and colour. One that a person has refined, labelled or locked
    stays as it is; the detection of the same object is not shown a second time.

    Parameters
    ----------
    state : State
    silhouette : callable
        Returns the ``(h, w)`` bool mask of an instance.
    """
    for concept in state.concepts:
        finding = concept.shown
        if finding is None and concept.finding is not None:  # nothing was ever found, and the question is open
            continue
        told = (finding, concept.score_threshold, concept.at, concept.exemplars, concept.dismissed, concept.text)
        if concept.settled != told:
            state = _settled(state, concept, finding, silhouette)
            now = state.concept_of(concept.concept_id)
            state = state.put_concept(replace(now, settled=(*told[:3], now.exemplars, *told[4:])))
    return state


def _settled(state: State, concept: ConceptState, finding: Finding | None, silhouette: Silhouette) -> State:
    if finding is None:
        return _only(state, concept, set())
    placed = tuple(e if e.box else replace(e, box=finding.places.get(e.exemplar_id)) for e in concept.exemplars)
    concept = replace(concept, exemplars=placed)
    state = state.put_concept(concept)
    wanted = _wanted(state, concept, finding)
    state = _matched(state, concept, finding, wanted, silhouette)
    state = _only(state, concept, {finding.answers[k] for k in wanted})
    return _added(state, concept, finding, wanted)


def _wanted(state: State, concept: ConceptState, finding: Finding) -> list[int]:
    """Return the detections that a concept means, by index, best first."""
    if not finding.answers:
        return []
    masks, scores = _masks(finding.answers), np.array([a.scores[0] for a in finding.answers])
    keep = scores > (concept.score_threshold if concept.at is None else min(AT_LEAST, concept.score_threshold))
    keep &= masks.any((1, 2))
    for box in concept.negative_boxes:
        keep &= _share_inside(masks, box, state) <= INSIDE
    dismissed = [a for a in concept.dismissed if a not in finding.answers]
    keep &= np.array([a not in concept.dismissed for a in finding.answers])
    if dismissed:
        keep &= ~(_ious(masks, _masks(dismissed, masks.shape[1:])) >= SAME).any(1)
    if concept.at is not None:
        height, width = masks.shape[1:]
        x, y = concept.at
        keep &= masks[:, int(y * height / state.height), int(x * width / state.width)]
        return [int(k) for k in np.nonzero(keep)[0][:1]]
    return [int(k) for k in np.nonzero(keep)[0]]


def _matched(
    state: State, concept: ConceptState, finding: Finding, wanted: Sequence[int], silhouette: Silhouette
) -> State:
    """Return the state in which instances that were found again are linked to their new detections."""
    index = {answer: k for k, answer in enumerate(finding.answers)}
    ours = [i for i in state.instances if i.concept_id == concept.concept_id and i.matched not in index]
    loose = [i for i in state.instances if i.concept_id is None and i.basis is not None]
    taken = {index[i.matched] for i in state.instances if i.matched in index}
    free = [k for k in range(len(finding.answers)) if k not in taken]
    rows = ours + loose
    if not rows or not free:
        return state
    masks = _masks([finding.answers[k] for k in free])
    overlap = _ious(np.stack([silhouette(i, masks.shape[1:]) for i in rows]), masks)
    overlap[len(ours) :, [k not in wanted for k in free]] = 0  # a stranger joins only what is shown
    for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
        row, column = divmod(flat, len(free))
        if overlap[row, column] < SAME:
            break
        overlap[row], overlap[:, column] = 0, 0
        instance, answer = rows[row], finding.answers[free[column]]
        finding.object_ids[free[column]] = instance.object_id
        label = instance.label if instance.labelled or not concept.text else concept.text
        linked = replace(instance, matched=answer, concept_id=concept.concept_id, label=label)
        state = state.put(linked if instance.touched else replace(linked, found=answer)).named(label)
    return state


def _only(state: State, concept: ConceptState, answers: set[Answer]) -> State:
    """Return the state without the untouched instances of a concept that are none of these detections."""
    for instance in state.instances:
        mine = instance.concept_id == concept.concept_id and not instance.touched
        if mine and instance.matched not in answers:
            selected = None if state.selected == instance.object_id else state.selected
            state = replace(state.without(instance.object_id), selected=selected)
    return state


def _added(state: State, concept: ConceptState, finding: Finding, wanted: Sequence[int]) -> State:
    """Return the state with an instance for each detection that has none, under the id it had before if it had one."""
    shown = {i.matched for i in state.instances}
    used = {i.object_id for i in state.instances}
    added = []
    for k in wanted:
        answer = finding.answers[k]
        if answer in shown:
            continue
        object_id = finding.object_ids.get(k)
        if object_id is None or object_id in used:
            object_id = state.next_object_id
        finding.object_ids[k] = object_id
        used.add(object_id)
        state = replace(state, next_object_id=max(state.next_object_id, object_id + 1)).named(concept.text)
        made = InstanceState(object_id, concept.text, found=answer, matched=answer, concept_id=concept.concept_id)
        added.append(made)
    instances = list(state.instances)
    for made in added:
        at = next((k for k, i in enumerate(instances) if i.object_id > made.object_id), len(instances))
        instances.insert(at, made)
    return replace(state, instances=tuple(instances)) if added else state


def _masks(answers: Sequence[Answer], shape: tuple[int, ...] | None = None) -> NDArray[np.bool_]:
    """Return ``(N, h, w)`` masks of detections, resampled to the nearest pixel where another ``(h, w)`` is asked."""
    found = []
    for answer in answers:
        assert answer.logits is not None  # noqa: S101 - detections are born written
        mask = answer.logits[0] > 0
        if shape is not None and mask.shape != shape:
            rows = (np.arange(shape[0]) * mask.shape[0]) // shape[0]
            mask = mask[rows][:, (np.arange(shape[1]) * mask.shape[1]) // shape[1]]
        found.append(mask)
    return np.stack(found)


def _ious(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the ``(N, M)`` IoU of each of N masks with each of M; 0 for two empty ones."""
    a, b = first.reshape(len(first), -1).astype(np.float32), second.reshape(len(second), -1).astype(np.float32)
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None] - both
    return np.asarray(both / np.maximum(either, 1), np.float32)


def _share_inside(masks: NDArray[np.bool_], box: Corners, state: State) -> NDArray[np.float64]:
    """Return the share of each mask that lies inside a box of image pixels."""
    height, width = masks.shape[1:]
    x = (np.arange(width) + 0.5) * (state.width / width)
    y = (np.arange(height) + 0.5) * (state.height / height)
    columns, rows = (x >= box[0]) & (x < box[2]), (y >= box[1]) & (y < box[3])
    inside = masks[:, rows][:, :, columns].sum((1, 2))
    return np.asarray(inside / np.maximum(masks.sum((1, 2)), 1), np.float64)
