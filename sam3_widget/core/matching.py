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
TWIN = 0.8
"""IoU from which two detections of one answer are one object."""
INSIDE = 0.5
"""Share of a mask inside a negative box from which the box means it."""
AT_LEAST = 0.1
"""Score that a detection must reach where a person pointed at it, however high the threshold."""


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
        if concept.finding is not None and (finding is None or finding.text != concept.text):
            continue  # what there is was found by other words, and the question is open
        told = _told(state, concept, finding)
        if concept.settled != told:
            state = _settled(state, concept, finding, silhouette)
            now = state.concept_of(concept.concept_id)
            state = state.put_concept(replace(now, settled=_told(state, now, finding)))
    return state


def points_at(answer: Answer, size: tuple[int, int], at: tuple[float, float] | None, box: Corners | None) -> bool:
    """Return whether a position lies on a detection, or a box is about the box around it.

    Parameters
    ----------
    answer : Answer
        Of a detection.
    size : (height, width)
        Of the image in pixels, which ``at`` and ``box`` are in.
    at : (x, y) or None
    box : (x1, y1, x2, y2) or None
    """
    mask = _masks([answer])
    height, width = mask.shape[1:]
    scale = np.array([width / size[1], height / size[0]])
    if at is not None:
        x, y = (np.array(at) * scale).astype(int)
        if mask[0, y, x]:
            return True
    if box is None:
        return False
    drawn = np.zeros_like(mask)
    x1, y1, x2, y2 = np.round(np.array(box).reshape(2, 2) * scale).astype(int).ravel()
    drawn[0, y1:y2, x1:x2] = True
    top, left, bottom, right = _bounds(mask)[0]
    mask[0, top:bottom, left:right] = True
    return bool(_ious(mask, drawn)[0, 0] >= SAME)


def _told(state: State, concept: ConceptState, finding: Finding | None) -> tuple[object, ...]:
    """Return all that the instances of a concept follow from."""
    ours = tuple((i.object_id, i.matched, i.touched) for i in state.instances if i.concept_id == concept.concept_id)
    return finding, concept.score_threshold, concept.at, concept.exemplars, concept.dismissed, ours


def _settled(state: State, concept: ConceptState, finding: Finding | None, silhouette: Silhouette) -> State:
    if finding is None:
        return _only(state, concept, set())
    placed = tuple(e if e.box else replace(e, box=finding.places.get(e.exemplar_id)) for e in concept.exemplars)
    concept = replace(concept, exemplars=placed)
    state = state.put_concept(concept)
    wanted = _wanted(state, concept, finding)
    for instance in state.instances:  # what a person has given free again is what was found last
        mine = instance.concept_id == concept.concept_id and not instance.touched
        if mine and instance.matched is not None and instance.found is not instance.matched:
            state = state.put(replace(instance, found=instance.matched))
    state = _matched(state, concept, finding, wanted, silhouette)
    state = _only(state, concept, {finding.answers[k] for k in wanted})
    return _added(state, concept.concept_id, finding, wanted)


def _wanted(state: State, concept: ConceptState, finding: Finding) -> list[int]:
    """Return the detections that a concept means, by index, best first."""
    if not finding.answers:
        return []
    masks, scores = _masks(finding.answers), np.array([a.scores[0] for a in finding.answers], np.float32)
    keep = scores >= np.float32(
        concept.score_threshold if concept.at is None else min(AT_LEAST, concept.score_threshold)
    )
    keep &= masks.any((1, 2))
    for box in concept.negative_boxes:
        keep &= _share_inside(masks, box, state) <= INSIDE
    if concept.at is not None:
        height, width = masks.shape[1:]
        x, y = concept.at
        keep &= masks[:, int(y * height / state.height), int(x * width / state.width)]
        keep &= np.cumsum(keep) == 1
    if concept.dismissed:
        limit = np.array([TWIN if a in finding.answers else SAME for a in concept.dismissed])
        keep &= ~(_ious(masks, _masks(concept.dismissed, masks.shape[1:])) >= limit).any(1)
    return [int(k) for k in np.nonzero(keep)[0]]


def _matched(
    state: State, concept: ConceptState, finding: Finding, wanted: Sequence[int], silhouette: Silhouette
) -> State:
    """Return the state in which instances that were found again are linked to their new detections."""
    index = {answer: k for k, answer in enumerate(finding.answers)}
    ours = [i for i in state.instances if i.concept_id == concept.concept_id and i.matched not in index]
    ours += [i for i in concept.away if i.matched not in index]
    loose = [i for i in state.instances if i.concept_id is None and i.basis is not None]
    taken = {index[i.matched] for i in state.instances if i.matched in index}
    free = [k for k in range(len(finding.answers)) if k not in taken]
    rows = ours + loose
    unwanted = np.array([k not in wanted for k in free], np.bool_)
    if not rows or not free or (not ours and unwanted.all()):
        return state
    masks = _masks([finding.answers[k] for k in free])
    overlap = _overlap(rows, masks, silhouette)
    overlap[len(ours) :, unwanted] = 0  # a stranger joins only what is shown
    overlap[overlap < SAME] = 0
    overlap[:, ~unwanted] += overlap[:, ~unwanted] > 0  # what is shown comes before what is not
    pairs = np.argwhere(overlap)
    linked_rows, linked_columns = set(), set()
    for row, column in pairs[np.argsort(-overlap[overlap > 0], kind="stable")].tolist():
        if row in linked_rows or column in linked_columns:
            continue
        linked_rows.add(row)
        linked_columns.add(column)
        instance, answer = rows[row], finding.answers[free[column]]
        keeps = instance.labelled or not concept.found_as or (instance.touched and unwanted[column])
        label = instance.label if keeps else concept.found_as
        linked = replace(instance, matched=answer, concept_id=concept.concept_id, label=label)
        linked = linked if instance.touched else replace(linked, found=answer)
        if instance in concept.away:
            now = state.concept_of(concept.concept_id)
            away = tuple(linked if i is instance else i for i in now.away)
            state = state.put_concept(replace(now, away=away))
        else:
            state = state.put(linked).named(label)
    return state


def _overlap(
    instances: Sequence[InstanceState], masks: NDArray[np.bool_], silhouette: Silhouette
) -> NDArray[np.float32]:
    """Return the IoU of each instance with each mask: of what it was found as, and of what a person made of it."""
    result = np.zeros((len(instances), len(masks)), np.float32)
    found = [(row, i.matched) for row, i in enumerate(instances) if i.matched]
    if found:
        rows = [row for row, _ in found]
        result[rows] = _ious(_masks([a for _, a in found], masks.shape[1:]), masks)
    drawn = [row for row, i in enumerate(instances) if i.prompted or not i.matched]
    if drawn:
        seen = _ious(np.stack([silhouette(instances[row], masks.shape[1:]) for row in drawn]), masks)
        result[drawn] = np.maximum(result[drawn], seen)
    return result


def _only(state: State, concept: ConceptState, answers: set[Answer]) -> State:
    """Return the state without the untouched instances of a concept that are none of these detections.

    They are put away, as they are, until their detections count again.
    """
    away = []
    for instance in state.instances:
        mine = instance.concept_id == concept.concept_id and not instance.touched
        if mine and instance.matched not in answers:
            away.append(instance)
            state = state.without(instance.object_id, hand_on=False)
    now = state.concept_of(concept.concept_id)
    return state.put_concept(replace(now, away=(*now.away, *away))) if away else state


def _added(state: State, concept_id: int, finding: Finding, wanted: Sequence[int]) -> State:
    """Return the state with an instance for each detection that has none: one that was put away, or a new one."""
    concept = state.concept_of(concept_id)
    away = {i.matched: i for i in concept.away if i.matched in finding.answers}
    shown = {i.matched for i in state.instances}
    used = {i.object_id for i in state.instances}
    added = []
    for k in wanted:
        answer = finding.answers[k]
        if answer in shown:
            continue
        made = away.pop(answer, None)
        if made is None or made.object_id in used:
            object_id = finding.object_ids.setdefault(k, state.next_object_id)
            object_id = state.next_object_id if object_id in used else object_id
            made = InstanceState(object_id, concept.found_as, found=answer, matched=answer, concept_id=concept_id)
        used.add(made.object_id)
        state = replace(state, next_object_id=max(state.next_object_id, made.object_id + 1)).named(made.label)
        added.append(made)
    instances = list(state.instances)
    for made in added:
        at = next((k for k, i in enumerate(instances) if i.object_id > made.object_id), len(instances))
        instances.insert(at, made)
    left = tuple(i for i in concept.away if i in away.values())
    return replace(state, instances=tuple(instances)).put_concept(replace(concept, away=left))


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
    a, b = _bounds(first), _bounds(second)
    sizes, others = first.sum((1, 2)), second.sum((1, 2))
    result = np.zeros((len(first), len(second)), np.float32)
    meet = (np.maximum(a[:, None, :2], b[None, :, :2]) < np.minimum(a[:, None, 2:], b[None, :, 2:])).all(2)
    for row, column in np.argwhere(meet).tolist():
        (y1, x1), (y2, x2) = np.maximum(a[row, :2], b[column, :2]), np.minimum(a[row, 2:], b[column, 2:])
        both = np.count_nonzero(first[row, y1:y2, x1:x2] & second[column, y1:y2, x1:x2])
        result[row, column] = both / (sizes[row] + others[column] - both)
    return result


def _bounds(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ``(N, 4)`` rows ``(y1, x1, y2, x2)`` around each mask; an empty one has none inside."""
    rows, columns = np.asarray(masks.any(2)), np.asarray(masks.any(1))
    top, left = rows.argmax(1), columns.argmax(1)
    bottom = np.where(rows.any(1), masks.shape[1] - rows[:, ::-1].argmax(1), 0)
    right = np.where(columns.any(1), masks.shape[2] - columns[:, ::-1].argmax(1), 0)
    return np.stack([top, left, bottom, right], 1)


def _share_inside(masks: NDArray[np.bool_], box: Corners, state: State) -> NDArray[np.float64]:
    """Return the share of each mask that lies inside a box of image pixels."""
    height, width = masks.shape[1:]
    x = (np.arange(width) + 0.5) * (state.width / width)
    y = (np.arange(height) + 0.5) * (state.height / height)
    columns, rows = (x >= box[0]) & (x < box[2]), (y >= box[1]) & (y < box[3])
    inside = masks[:, rows][:, :, columns].sum((1, 2))
    return np.asarray(inside / np.maximum(masks.sum((1, 2)), 1), np.float64)
