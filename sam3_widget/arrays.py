"""What a session holds, as numpy arrays and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.results import Concept, Instance, score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.core.commands import Command
    from sam3_widget.core.prompts import Box, Point
    from sam3_widget.live import LivePicture
    from sam3_widget.models.base import Model


class Arrays:
    """What a session and a widget hold at this moment; N is the number of instances, in order of creation."""

    _live: LivePicture
    """Of a data set another one at any time: what asks twice keeps it."""

    def concept(self, concept_id: int) -> Concept:
        """Return one concept."""
        live = self._live
        return Concept.of(live, live.state.concept_of(concept_id))

    def instance(self, object_id: int) -> Instance:
        """Return one instance with its mask."""
        live = self._live
        return Instance.of(live, live.state.instance(object_id))

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All concepts in order of creation."""
        live = self._live
        return tuple(Concept.of(live, c) for c in live.state.concepts)

    @property
    def text(self) -> str:
        """The words of the active concept, "" where there are none."""
        state = self._live.state
        return "" if state.concept is None else state.concept_of(state.concept).text

    @property
    def semantic_mask(self) -> NDArray[np.bool_]:
        """The pixels of all concepts, ``(H, W)`` bool, whichever instance they are of; none without a concept."""
        live = self._live
        state = live.state
        result = np.zeros((state.height, state.width), np.bool_)
        for concept in (Concept.of(live, c) for c in state.concepts):
            result |= concept.semantic_mask
        return result

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances in order of creation."""
        live = self._live
        return tuple(Instance.of(live, i) for i in live.state.instances)

    @property
    def model(self) -> Model:
        """The model in use."""
        return self._live.model

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, ``(H, W, 3)`` uint8 RGB, upright."""
        return self._live.image.pixels

    @property
    def masks(self) -> NDArray[np.bool_]:
        """All masks, ``(N, H, W)`` bool, exactly as drawn."""
        live = self._live
        state = live.state
        result = np.zeros((len(state.instances), state.height, state.width), np.bool_)
        for row, instance in zip(result, state.instances, strict=True):
            row[:] = live.mask(instance).to_mask()
        return result

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The tight box of each mask, ``(N, 4)`` float32 ``(x1, y1, x2, y2)``; zeros for an empty mask."""
        return np.array([i.box for i in self.instances], np.float32).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float32]:
        """How sure the model is of each mask, ``(N,)`` float32; NaN where no model made it. See :class:`Instance`."""
        return np.array([score_of(i) for i in self._live.state.instances], np.float32)

    @property
    def object_ids(self) -> NDArray[np.int64]:
        """Ids, ``(N,)`` int64."""
        return np.array([i.object_id for i in self._live.state.instances], np.int64)

    @property
    def labels(self) -> list[str]:
        """Class names, "" where there is none."""
        return [i.label for i in self._live.state.instances]

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names on offer, in the order of their number keys."""
        return self._live.state.classes

    @property
    def label_map(self) -> NDArray[np.int32]:
        """Which ``object_id`` each pixel shows, ``(H, W)`` int32, 0 for none; a smaller mask lies above a larger."""
        live = self._live
        state = live.state
        runs = sorted(((live.mask(i), i.object_id) for i in state.instances), key=lambda r: -r[0].area)
        result = np.zeros((state.height, state.width), np.int32)
        for mask, object_id in runs:
            if mask.bbox:
                x1, y1, x2, y2 = mask.bbox
                result[y1:y2, x1:x2][mask.window(x1, y1, x2, y2)] = object_id
        return result

    @property
    def logits(self) -> NDArray[np.float32]:
        """Scores before the threshold, ``(N, h, w)`` float32 at the model's own resolution, over the whole image."""
        live = self._live
        found = [live.logits(i) for i in live.state.instances]
        if not found:
            return np.zeros((0, 0, 0), np.float32)
        height, width = found[0].shape
        return np.stack([f if f.shape == (height, width) else cv2.resize(f, (width, height)) for f in found])

    @property
    def points(self) -> tuple[Point, ...]:
        """All clicks, oldest first."""
        clicks = (p for i in self._live.state.instances for p in i.points)
        return tuple(sorted(clicks, key=lambda p: p.point_id))

    @property
    def box_prompts(self) -> tuple[Box, ...]:
        """All boxes that were drawn, by instance."""
        return tuple(i.box for i in self._live.state.instances if i.box)

    @property
    def selected(self) -> int | None:
        """The ``object_id`` of the selected instance."""
        return self._live.state.selected

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands in effect, oldest first, each with its name, arguments and time."""
        return self._live.history
