"""The commands on concepts: each validates its arguments, then makes the next state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from sam3_widget.core import matching, prompts
from sam3_widget.core.answers import FLOOR
from sam3_widget.core.prompts import Exemplar
from sam3_widget.core.state import ConceptState, State
from sam3_widget.errors import InvalidPromptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_widget.core.prompts import Corners


def set_text(state: State, text: object, concept_id: object = None, at: object = None) -> State:
    """Say in words what the active concept is, or start one.

    Exemplars and removed detections stay where words are added to a concept that had none; other words make another
    concept of it, and they go.
    """
    words, spot = prompts.phrase(text), _spot(state, at)
    state, concept = _target(state, concept_id)
    if words == concept.text:
        return _put(state, _retried(replace(_welcoming(state, concept, spot), at=spot)))
    if concept.text:
        concept = replace(concept, exemplars=(), dismissed=(), away=())
        for instance in state.instances:
            if instance.concept_id == concept.concept_id and instance.touched:
                state = state.put(replace(instance, concept_id=None, matched=None))
    state = replace(state, selected=None)  # what comes next is said of what will be found
    label = "" if concept.text else concept.label
    return _put(state, replace(_welcoming(state, concept, spot), text=words, at=spot, label=label).asked())


def add_concept(state: State, text: object, at: object = None, label: object = "") -> State:
    """Add a concept to those there are, and make it the active one; the one of these words where there is one.

    What is found is of the class ``label``, "" for one named as the words; a concept that is there keeps its own.
    """
    words, spot, name = prompts.phrase(text), _spot(state, at), prompts.class_name(label)
    there = next((c for c in state.concepts if (c.text, c.at) == (words, spot)), None)
    if there is not None:
        return _put(state, _retried(there))
    state, concept = _started(replace(state, selected=None))
    return _put(state, replace(concept, text=words, at=spot, label=name).asked())


def remove_concept(state: State, concept_id: object) -> State:
    """Remove a concept with its instances; those that a person has refined, labelled or locked stay."""
    return _without(state, _concept(state, concept_id).concept_id)


def add_exemplar(
    state: State,
    box: Corners,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    concept_id: object = None,
    label: object = "",
) -> State:
    """Show the active concept what it means or does not mean, or start one, of the class ``label``."""
    shown = Exemplar(prompts.flag(positive, "positive"), 0, state.next_prompt_id, box)
    return _exemplified(state, shown, concept_id, label)


def add_exemplar_point(
    state: State,
    x: float,
    y: float,
    positive: object = True,  # noqa: FBT002 - a keyword argument of the verb
    concept_id: object = None,
    box: Corners | None = None,
    label: object = "",
) -> State:
    """Show the active concept a thing by a click on it; ``box`` where the thing under it is known already."""
    at = prompts.position(x, y, state.width, state.height)
    shown = Exemplar(prompts.flag(positive, "positive"), 0, state.next_prompt_id, box, at)
    return _exemplified(state, shown, concept_id, label)


def flip_exemplar(state: State, exemplar_id: object) -> State:
    """Turn a positive exemplar into a negative one, or back."""
    return _change_exemplar(state, exemplar_id, lambda e: replace(e, positive=not e.positive))


def remove_exemplar(state: State, exemplar_id: object) -> State:
    """Remove an exemplar; a concept of which nothing is left goes too."""
    return _change_exemplar(state, exemplar_id, lambda _: None)


def set_score_threshold(state: State, value: float, concept_id: object = None) -> State:
    """Set the score that detections of a concept must reach, or (None) those of all, new ones too."""
    level = prompts.number(value, "score_threshold")
    if not FLOOR <= level < 1:
        message = f"score_threshold must be a probability with {FLOOR} <= value < 1, got {level:g}"
        raise InvalidPromptError(message)
    if concept_id is not None:
        return state.put_concept(replace(_concept(state, concept_id), score_threshold=level))
    for concept in state.concepts:
        state = state.put_concept(replace(concept, score_threshold=level))
    return replace(state, settings=replace(state.settings, score_threshold=level))


def _spot(state: State, at: object) -> tuple[float, float] | None:
    if at is None:
        return None
    given = list(at) if isinstance(at, Iterable) and not isinstance(at, (str, bytes)) else []
    if len(given) != 2:  # noqa: PLR2004 - x and y
        message = f"at must be (x, y) in pixels, got {at!r:.200}"
        raise InvalidPromptError(message)
    return prompts.position(given[0], given[1], state.width, state.height)


def _concept(state: State, concept_id: object) -> ConceptState:
    return state.concept_of(prompts.integer(concept_id, "concept_id"))


def _started(state: State) -> tuple[State, ConceptState]:
    """Return a new concept with the state that has counted it; the caller puts it in."""
    concept = ConceptState(state.next_concept_id, score_threshold=state.settings.score_threshold)
    return replace(state, next_concept_id=state.next_concept_id + 1), concept


def _target(state: State, concept_id: object) -> tuple[State, ConceptState]:
    """Return the concept of this id, or (None) the active one, or a new one where none is active."""
    if concept_id is None:
        concept_id = state.concept
    return _started(state) if concept_id is None else (state, _concept(state, concept_id))


def _welcoming(
    state: State, concept: ConceptState, at: tuple[float, float] | None, box: Corners | None = None
) -> ConceptState:
    """Return the concept without having dismissed what a person now points at."""
    if at is None and box is None:
        return concept
    size = (state.height, state.width)
    kept = tuple(a for a in concept.dismissed if not matching.points_at(a, size, at, box))
    return replace(concept, dismissed=kept)


def _retried(concept: ConceptState) -> ConceptState:
    """Return the concept with its question asked again where that has failed or was cancelled."""
    return concept.asked() if concept.finding and concept.finding.error else concept


def _put(state: State, concept: ConceptState) -> State:
    """Return the state with a changed concept as the active one."""
    return replace(state.put_concept(concept), concept=concept.concept_id)


def _without(state: State, concept_id: int) -> State:
    index = next(k for k, c in enumerate(state.concepts) if c.concept_id == concept_id)
    rest = state.concepts[:index] + state.concepts[index + 1 :]
    active = state.concept
    if active == concept_id:
        active = rest[min(index, len(rest) - 1)].concept_id if rest else None
    state = replace(state, concepts=rest, concept=active)
    for instance in state.instances:
        if instance.concept_id != concept_id:
            continue
        if instance.touched:
            state = state.put(replace(instance, concept_id=None, matched=None))
        else:
            state = state.without(instance.object_id, hand_on=False)
    return state


def _exemplified(state: State, exemplar: Exemplar, concept_id: object, label: object) -> State:
    name = prompts.class_name(label)
    state, concept = _target(state, concept_id)
    is_new = not concept.text and not concept.exemplars
    if not exemplar.positive and is_new:
        message = (
            "a negative exemplar takes away from a concept, and none is active: "
            "select one, or give its words or a positive exemplar first"
        )
        raise InvalidPromptError(message)
    owned = replace(exemplar, concept_id=concept.concept_id)
    if is_new:
        concept = replace(concept, label=name)
    if owned.positive:
        concept = _welcoming(state, concept, owned.point, owned.box)
    state = replace(state, next_prompt_id=state.next_prompt_id + 1)
    return _put(state, replace(concept, exemplars=(*concept.exemplars, owned)).asked())


def _change_exemplar(state: State, exemplar_id: object, change: Callable[[Exemplar], Exemplar | None]) -> State:
    number = prompts.integer(getattr(exemplar_id, "exemplar_id", exemplar_id), "exemplar_id")
    concept = next((c for c in state.concepts if any(e.exemplar_id == number for e in c.exemplars)), None)
    if concept is None:
        message = f"there is no exemplar with exemplar_id {number}"
        raise NotFoundError(message)
    changed = [change(e) if e.exemplar_id == number else e for e in concept.exemplars]
    exemplars = tuple(e for e in changed if e is not None)
    for shown in exemplars:
        if shown.exemplar_id == number and shown.positive:
            concept = _welcoming(state, concept, shown.point, shown.box)
    if not exemplars and not concept.text:
        return _without(state, concept.concept_id)
    return _put(state, replace(concept, exemplars=exemplars).asked())
