"""What is asked of every image that nobody has touched: the words and thresholds of one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_widget.core.state import Settings
from sam3_widget.errors import Sam3WidgetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sam3_widget.core.state import ConceptState, State
    from sam3_widget.live import LiveDocument

log = logging.getLogger(__name__)

_LAST = "set_score_threshold"
_WORDS = {
    "add_concept": "“{text}”",
    "set_mask_threshold": "mask threshold {value:g}",
    "set_fill_holes": "fill holes {area}",
    "set_min_area": "drop islands {area}",
    _LAST: "score threshold {value:g}",
}


@dataclass(frozen=True)
class Asked:
    """Commands on a new image, by name with their arguments."""

    commands: tuple[tuple[str, dict[str, Any]], ...] = ()

    @classmethod
    def of(cls, state: State) -> Asked:
        """Return what asks of a new image what is asked of this one: words with their classes, and thresholds."""
        now, usual = state.settings, Settings()
        said: list[tuple[str, dict[str, Any]]] = [
            (f"set_{name}", {argument: getattr(now, name)})
            for name, argument in (("mask_threshold", "value"), ("fill_holes", "area"), ("min_area", "area"))
            if getattr(now, name) != getattr(usual, name)
        ]
        if now.score_threshold != usual.score_threshold:
            said.append(("set_score_threshold", {"value": now.score_threshold}))
        worded = [concept for concept in state.concepts if concept.text]
        for number, concept in enumerate(worded, 1):
            said.append(("add_concept", {"text": concept.text, "label": _class_of(state, concept)}))
            if concept.score_threshold != now.score_threshold:
                said.append(("set_score_threshold", {"value": concept.score_threshold, "concept_id": number}))
        return cls(tuple(said))

    @classmethod
    def from_json(cls, told: Iterable[Iterable[Any]]) -> Asked:
        """Return what :meth:`to_json` told."""
        return cls(tuple((str(name), dict(args)) for name, args in told))

    def to_json(self) -> list[list[Any]]:
        """Return it as JSON has it."""
        return [[name, args] for name, args in self.commands]

    def __str__(self) -> str:
        """Return it in words; "" where nothing is asked."""
        said = dict.fromkeys((name == _LAST, _WORDS[name].format(**args)) for name, args in self.commands)
        return ", ".join(words for _, words in sorted(said, key=lambda each: each[0]))

    def ask(self, live: LiveDocument) -> None:
        """Ask it of a new image, without waiting; what the model does not take is left out."""
        for name, args in self.commands:
            try:
                live.run(name, args, wait=False)
            except Sam3WidgetError as error:
                log.info("%s was not asked of %s: %s", name, live.image.name, error)


def _class_of(state: State, concept: ConceptState) -> str:
    """Return the class that all objects of a concept have, where it is another than its words."""
    labels = {i.label for i in state.instances if i.concept_id == concept.concept_id}
    label = labels.pop() if len(labels) == 1 else concept.label
    return "" if label == concept.text else label
