"""Concepts along a clip: what is looked for on a frame, and which of the finds are new objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.matching import SAME
from sam3_widget.models.base import Sought

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sam3_widget.core.clip import ClipState
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import ConceptState


def sought(state: ClipState, before: int, frame_idx: int) -> list[Sought]:
    """Return the concepts to look for on a frame that is reached from the one before it.

    Those are the concepts that have words and were asked for or looked for on the frame before, but not on this one:
    elsewhere nobody knows which of their instances are known already. Where the same words were asked for on several
    frames, they are looked for once.
    """
    concepts: dict[str, tuple[int, ConceptState]] = {}
    same: dict[str, set[int]] = {}
    for asked, sheet in state.sheets.items():
        for concept in sheet.concepts:
            same.setdefault(concept.text, set()).add(concept.concept_id)
            beside = before == asked or before in state.looked_for(concept)
            if beside and frame_idx != asked and _lookable(concept):
                nearest = concepts.get(concept.text)
                if nearest is None or abs(frame_idx - asked) < abs(frame_idx - nearest[0]):
                    concepts[concept.text] = asked, concept
    return [
        _asked(state, concept, same[text], forward=frame_idx > before)
        for text, (_, concept) in concepts.items()
        if frame_idx not in state.looked_for(concept)
    ]


def covered(state: ClipState, concept_id: int, mask: RunLengths, there: Iterable[tuple[int, RunLengths]]) -> bool:
    """Return whether what was found of a concept on a frame is an object that is known there.

    Parameters
    ----------
    state : ClipState
    concept_id : int
    mask : RunLengths
        Of what was found.
    there : iterable of (int, RunLengths)
        The ``object_id`` and the mask of each object known on the frame. An object of other words is another thing,
        even in the same place.
    """
    texts = {c.concept_id: c.text for sheet in state.sheets.values() for c in sheet.concepts}
    owners = {i.object_id: i.concept_id for i in state.common.instances if i.concept_id is not None}
    owners |= state.shadows
    pixels = mask.to_mask()
    for object_id, other in there:
        words = texts.get(owners[object_id]) if object_id in owners else None
        if words not in {None, texts[concept_id]}:
            continue
        shown = other.to_mask()
        shared = np.count_nonzero(pixels & shown)
        if shared and shared >= SAME * np.count_nonzero(pixels | shown):
            return True
    return False


def _lookable(concept: ConceptState) -> bool:
    """Whether a concept is more than what was shown, or pointed at, on its own frame."""
    found = concept.finding is not None and concept.finding.done
    return bool(concept.text) and concept.at is None and found


def _asked(state: ClipState, concept: ConceptState, same: set[int], *, forward: bool) -> Sought:
    """Return a concept as a tracker looks for it, with the instances of all concepts of the same words."""
    ours = [i.object_id for i in state.common.instances if i.concept_id in same]
    shadows = [object_id for object_id, concept_id in state.shadows.items() if concept_id in same]
    members = {}
    for object_id in (*ours, *shadows):
        known = {*state.prompted(object_id), *state.tracks.get(object_id, ())}
        if known:
            members[object_id] = min(known) if forward else max(known)
    kept = frozenset(shadows) | {object_id for object_id in ours if state.touched(object_id)}
    return Sought(concept.concept_id, concept.text, concept.score_threshold, members, kept)
