"""Messages between the kernel and the front end: envelopes, snapshots and patches.

Envelope, both ways: ``{v, id, type, rev, payload}`` with binary buffers. The front end sends ``hello``, ``command``,
``cancel``, ``tile``, ``frame``, ``thumb`` and ``script``; the kernel sends ``snapshot``, ``patch``, ``timeline``,
``dataset``, ``progress``, ``notice``, ``error``, ``tile``, ``frame``, ``thumb`` and ``script``. A request is answered
once, under its own id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_widget.errors import ProtocolError
from sam3_widget.results import members_of, note_of, score_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import ConceptState, InstanceState, State
    from sam3_widget.live import LivePicture

VERSION = 1
_REQUESTS = ("hello", "command", "cancel", "tile", "frame", "thumb", "script")
_ADVICE = {
    "points": "This model takes no clicks",
    "boxes": "This model takes no boxes",
    "mask_prompt": "This model takes no masks",
    "text": 'Finding things by name takes SAM 3: load_model("sam3")',
    "exemplars": 'Finding things by example takes SAM 3 or the built-in model: load_model("builtin")',
    "video": 'Carrying objects through a clip takes a model that does: load_model("builtin")',
}


@dataclass(frozen=True)
class Request:
    """A message from the front end."""

    id: str
    type: str
    payload: Mapping[str, Any]

    @classmethod
    def parse(cls, content: object) -> Request:
        """Validate a message.

        Raises
        ------
        ProtocolError
            It is not a request of this version.
        """
        if not isinstance(content, dict) or content.get("v") != VERSION:
            message = f"a message must be an object with v = {VERSION}, got {content!r:.200}"
            raise ProtocolError(message)
        request_id, kind, payload = content.get("id"), content.get("type"), content.get("payload")
        if not isinstance(request_id, str) or kind not in _REQUESTS or not isinstance(payload, dict):
            message = (
                f"a request needs an id, a payload, and a type out of {', '.join(_REQUESTS)}, got {content!r:.200}"
            )
            raise ProtocolError(message)
        return cls(request_id, str(kind), payload)


def envelope(kind: str, rev: int, payload: Mapping[str, Any], request_id: str | None = None) -> dict[str, Any]:
    """Return a message to the front end."""
    return {"v": VERSION, "id": request_id, "type": kind, "rev": rev, "payload": dict(payload)}


@dataclass(frozen=True)
class View:
    """What the front end shows at one revision: plain JSON, and the mask of each instance.

    Attributes
    ----------
    rev : int
    common : dict
        Everything but the instances.
    instances : dict of dict
        By ``object_id``, in order of creation.
    masks : dict of RunLengths
        By ``object_id``.
    """

    rev: int
    common: dict[str, Any]
    instances: dict[int, dict[str, Any]]
    masks: dict[int, RunLengths]

    @classmethod
    def of(cls, document: LivePicture, rev: int, picture: Mapping[str, Any], **more: object) -> View:
        """Describe a document as it is now; call it under the document's lock.

        Parameters
        ----------
        document : LivePicture
        rev : int
            Of the view: it counts what its front ends were told.
        picture : mapping
            ``key``, ``name``, ``width`` and ``height`` of the picture.
        **more
            Of the widget's own, beside what every picture has, or in its place.
        """
        state, model = document.state, document.model
        undo, redo = document.titles
        capabilities = model.capabilities.to_json()
        masks = {i.object_id: document.mask(i) for i in state.instances}
        return cls(
            rev=rev,
            common={
                "image": dict(picture),
                "model": {
                    "name": model.name,
                    "capabilities": capabilities,
                    "advice": {name: _ADVICE[name] for name, able in capabilities.items() if not able},
                },
                "selected": state.selected,
                "classes": list(state.classes),
                "concepts": [told_of_concept(state, c) for c in state.concepts],
                "concept": state.concept,
                "settings": {
                    "mask_threshold": state.settings.mask_threshold,
                    "fill_holes": state.settings.fill_holes,
                    "min_area": state.settings.min_area,
                    "score_threshold": state.settings.score_threshold,
                },
                "history": {"undo": undo, "redo": redo},
                **more,
            },
            instances={i.object_id: _instance(document, i, masks[i.object_id]) for i in state.instances},
            masks=masks,
        )

    def snapshot(self, phase: str = "idle") -> tuple[dict[str, Any], list[bytes]]:
        """Return the whole view as a payload with buffers; later news of the status comes as progress."""
        instances = [{**told, "mask": k} for k, told in enumerate(self.instances.values())]
        told = {**self.common, "instances": instances, "status": status(phase, None)}
        return told, [m.to_bytes() for m in self.masks.values()]

    def since(self, base: View) -> tuple[dict[str, Any], list[bytes]]:
        """Return what changed since an earlier view as a payload with buffers."""
        buffers: list[bytes] = []
        changed = []
        for object_id, told in self.instances.items():
            mask, before = self.masks[object_id], base.masks.get(object_id)
            if told == base.instances.get(object_id) and mask is before:
                continue
            if mask is not before:
                told = {**told, "mask": len(buffers)}  # noqa: PLW2901 - the told instance with its new mask
                buffers.append(mask.to_bytes())
            changed.append(told)
        payload: dict[str, Any] = {
            "base": base.rev,
            "set": {name: value for name, value in self.common.items() if value != base.common.get(name)},
            "instances": changed,
            "removed": [object_id for object_id in base.instances if object_id not in self.instances],
        }
        kept = [object_id for object_id in base.instances if object_id in self.instances]
        order = list(self.instances)
        if [*kept, *(object_id for object_id in order if object_id not in base.instances)] != order:
            payload["order"] = order
        return payload, buffers


def status(phase: str, fraction: float | None, seconds_left: float | None = None) -> dict[str, Any]:
    """Return what the model does; a decode is too short for words, the pending instance says that it runs."""
    told = {"phase": phase, "fraction": fraction, "cancellable": phase != "idle"}
    return told if seconds_left is None else {**told, "seconds_left": round(seconds_left, 1)}


def told_of_concept(state: State, concept: ConceptState) -> dict[str, Any]:
    """Describe a concept of a picture."""
    shown, failed = concept.shown, concept.finding.error if concept.finding else None
    return {
        "concept_id": concept.concept_id,
        "text": concept.text,
        "color": concept.color,
        "count": len(members_of(state, concept)),
        "presence": round(shown.presence, 4) if shown else None,
        "score_threshold": concept.score_threshold,
        "pending": concept.pending,
        "error": str(failed) if failed else None,
        "note": note_of(state, concept),
        "at": concept.at,
        "exemplars": [
            {"exemplar_id": e.exemplar_id, "positive": int(e.positive), "box": e.box, "point": e.point}
            for e in concept.exemplars
        ],
    }


def _instance(document: LivePicture, state: InstanceState, mask: RunLengths) -> dict[str, Any]:
    score = score_of(state)
    failed = state.answer.error if state.answer else None
    return {
        "object_id": state.object_id,
        "label": state.label,
        "color": state.color,
        "score": None if math.isnan(score) else round(score, 4),
        "area": mask.area,
        "bbox": mask.bbox,
        "visible": state.visible,
        "locked": state.locked,
        "pending": state.pending,
        "error": str(failed) if failed else None,
        "candidate": state.candidate,
        "candidates": [round(s, 4) for s in state.answer.scores] if state.answer else [],
        "points": [[p.point_id, round(p.x, 2), round(p.y, 2), int(p.positive)] for p in state.points],
        "box": state.box.xyxy if state.box else None,
        "strokes": [[s.stroke_id, int(s.positive)] for s in state.strokes],
        "imported": state.imported is not None,
        "concept_id": state.concept_id,
        "note": document.note(state),
    }
