"""A model for tests of everything but models: it paints discs, finds bright spots, and notes what it was asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.core import masks
from sam3_widget.models.base import (
    Candidates,
    Capabilities,
    ConceptPrompts,
    Detections,
    Embedding,
    Model,
    Newcomer,
    Seeker,
    Sighting,
    Tracked,
    Tracker,
    no_progress,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Frames, InstancePrompts, Progress, Sought

SHAPE = (60, 80)
STEP = 4
"""Pixels that an object moves to the right from one frame to the next."""
RADIUS = 6.0


class ToyEmbedding(Embedding):
    """The image itself, small."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        super().__init__(*image.shape[:2], nbytes=image.nbytes)
        self.small = cv2.resize(image, SHAPE[::-1], interpolation=cv2.INTER_AREA)


class ToyTracker(Tracker):
    """Moves every mask four pixels to the right with each frame, and surely; out of the frame there is nothing.

    Parameters
    ----------
    model : ToyModel
        Notes which frames were computed, of which objects.
    frames : callable
    """

    memory = 2

    def __init__(self, model: ToyModel, frames: Frames) -> None:
        self.model, self.frames = model, frames
        self.seen: dict[int, Sighting] = {}

    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        self.model.followed.append((object_id, [(s.frame_idx, s.prompts is not None) for s in sightings]))
        self.seen[object_id] = sightings[-1]

    def drop(self, object_id: int) -> None:
        del self.seen[object_id]

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        assert self.frames(frame_idx).dtype == np.uint8
        self.model.tracking.set()
        assert self.model.track_gate.wait(30)
        if self.model.fails_at == frame_idx:
            message = "out of memory"
            raise RuntimeError(message)
        found = {}
        for object_id, seen in self.seen.items():
            assert abs(frame_idx - seen.frame_idx) == 1
            self.model.stepped.append((object_id, frame_idx))
            moved = np.roll(seen.mask.to_mask(), STEP * (frame_idx - seen.frame_idx), 1)
            edge = moved[:, :STEP] if frame_idx > seen.frame_idx else moved[:, -STEP:]
            edge[:] = False
            found[object_id] = Tracked(np.where(moved, 8, -8).astype(np.float32), 0.8 if moved.any() else 0.0)
            self.seen[object_id] = type(seen)(frame_idx, masks.compose(found[object_id].logits, moved.shape))
        return found


class ToySeeker(ToyTracker, Seeker):
    """Finds bright spots on the way, and gives up what was found less than three frames ago and has left its spot."""

    def __init__(self, model: ToyModel, frames: Frames) -> None:
        ToyTracker.__init__(self, model, frames)
        Seeker.__init__(self)
        self.sought: list[Sought] = []
        self.last = 0

    def look_for(self, concepts: Sequence[Sought]) -> None:
        self.sought = list(concepts)

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        found = super().step(frame_idx)
        self.newcomers, self.lost, self.last = [], set(), frame_idx
        for concept in self.sought:
            self.model.sought.append((frame_idx, concept.text))
            offered = ToyModel._find(ToyEmbedding(self.frames(frame_idx)), ConceptPrompts(concept.text))
            spots = [(mask > 0, s) for mask, s in zip(offered.logits, offered.scores.tolist(), strict=True)]
            ours = {k: found[k].logits > 0 for k in concept.members if k in found}
            self.newcomers += [
                Newcomer(concept.concept_id, Tracked(np.where(spot, 8, -8).astype(np.float32), score))
                for spot, score in spots
                if score >= concept.threshold and not any((spot & mask).any() for mask in ours.values())
            ]
            self.lost |= {
                k
                for k, mask in ours.items()
                if k not in concept.kept and abs(frame_idx - concept.members[k]) < 3
                if mask.any() and not any((spot & mask).any() for spot, _ in spots)
            }
        for object_id in self.lost:
            self.drop(object_id)
            del found[object_id]
        return found

    def adopt(self, object_ids: Sequence[int | None]) -> None:
        for object_id, newcomer in zip(object_ids, self.newcomers, strict=True):
            if object_id is not None:
                self.seen[object_id] = Sighting(self.last, masks.compose(newcomer.tracked.logits, SHAPE))
        self.newcomers = []


class ToyModel(Model):
    """Discs of six logit pixels around clicks, filled boxes; an ambiguous click offers three radii.

    A concept finds the bright spots of the image: with the words "red", "green" or "blue" those of that colour, with
    any other words all. Scores fall by 0.1 from 0.95 with the area; a positive exemplar raises what it touches to
    0.99, and a negative one is shrugged at.

    Attributes
    ----------
    detected : list
        The concepts that were looked for, in order.
    detect_gate : threading.Event
        Detection waits for it; set at first.
    asked : list
        The prompts and earlier logits of each refinement, in order.
    gate : threading.Event
        Refinement waits for it; set at first.
    encode_gate : threading.Event
        Encoding waits for it; set at first.
    fails : Exception or None
        Raised by the next refinement.
    followed : list
        ``(object_id, [(frame_idx, prompted), ...])`` of each object that a tracker took up.
    stepped : list
        ``(object_id, frame_idx)`` of each mask that a tracker made.
    track_gate : threading.Event
        Trackers wait for it; set at first.
    fails_at : int or None
        The frame at which trackers raise.
    seeks : bool
        Whether trackers look for concepts on the way.
    sought : list
        ``(frame_idx, text)`` of each concept that a tracker looked for.
    """

    name = "toy"

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        everything = Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True)
        self.capabilities = capabilities or everything
        self.detected: list[ConceptPrompts] = []
        self.detect_gate = threading.Event()
        self.detect_gate.set()
        self.detecting = threading.Event()
        self.asked: list[tuple[InstancePrompts, NDArray[np.float32] | None]] = []
        self.encoded = 0
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.encode_gate = threading.Event()
        self.encode_gate.set()
        self.encoding = threading.Event()
        self.refining = threading.Event()
        self.fails: Exception | None = None
        self.followed: list[tuple[int, list[tuple[int, bool]]]] = []
        self.stepped: list[tuple[int, int]] = []
        self.track_gate = threading.Event()
        self.track_gate.set()
        self.tracking = threading.Event()
        self.fails_at: int | None = None
        self.seeks = False
        self.sought: list[tuple[int, str]] = []

    def tracker(self, frames: Frames) -> Tracker:
        return ToySeeker(self, frames) if self.seeks else ToyTracker(self, frames)

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        self.threads.add(threading.current_thread().name)
        progress(0.25)
        self.encoding.set()
        while not self.encode_gate.wait(0.01):
            progress(0.5)
        self.encoded += 1
        return ToyEmbedding(image)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        self.threads.add(threading.current_thread().name)
        self.asked.append((prompts, previous))
        self.refining.set()
        assert self.gate.wait(30)
        if self.fails:
            error, self.fails = self.fails, None
            raise error
        factors = (1.0, 1.5, 0.5) if prompts.ambiguous and previous is None else (1.0,)
        logits = np.stack([self._draw(embedding, prompts, previous, RADIUS * f) for f in factors])
        return Candidates(logits, np.linspace(0.9, 0.7, len(factors)).astype(np.float32))

    def detect_many(
        self, embeddings: Sequence[Embedding], concepts: Sequence[ConceptPrompts], progress: Progress = no_progress
    ) -> list[Detections]:
        self.threads.add(threading.current_thread().name)
        self.detected.extend(concepts)
        progress(0.5)
        self.detecting.set()
        while not self.detect_gate.wait(0.01):
            progress(0.5)
        if self.fails:
            error, self.fails = self.fails, None
            raise error
        return [self._find(e, c) for e, c in zip(embeddings, concepts, strict=True)]

    @staticmethod
    def _find(embedding: Embedding, concept: ConceptPrompts) -> Detections:
        assert isinstance(embedding, ToyEmbedding)
        small, (height, width) = embedding.small, SHAPE
        _, parts, stats, _ = cv2.connectedComponentsWithStats((small.max(2) > 128).astype(np.uint8))
        colors = {"red": 0, "green": 1, "blue": 2}
        found = [
            (parts == k, int(stats[k, cv2.CC_STAT_AREA]))
            for k in range(1, len(stats))
            if concept.text not in colors or small[parts == k].mean(0).argmax() == colors[concept.text]
        ]
        found.sort(key=lambda spot: -spot[1])
        scale = np.array([width / embedding.width, height / embedding.height] * 2)
        scored = []
        for rank, (mask, _) in enumerate(found):
            score = max(0.06, 0.95 - 0.1 * rank)
            for (x1, y1, x2, y2), positive in zip(
                (concept.boxes * scale).round().astype(int), concept.labels, strict=True
            ):
                if positive and mask[y1:y2, x1:x2].any():
                    score = 0.99
            scored.append((score, mask))
        scored.sort(key=lambda one: -one[0])
        logits = np.array([np.where(mask, 8, -8) for _, mask in scored], np.float32).reshape(-1, *SHAPE)
        every = np.any([mask for _, mask in scored], axis=0) if scored else np.zeros(SHAPE, bool)
        return Detections(
            logits,
            np.array([score for score, _ in scored], np.float32),
            np.zeros((len(scored), 4), np.float32),
            0.9 if scored else 0.1,
            np.where(every, 8, -8).astype(np.float32),
        )

    @staticmethod
    def _draw(
        embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None, radius: float
    ) -> NDArray[np.float32]:
        height, width = SHAPE
        scale = np.array([width / embedding.width, height / embedding.height])
        if previous is None:
            logits = np.full(SHAPE, -8, np.float32)
        else:
            logits = np.array(cv2.resize(previous, (width, height)), np.float32)
        if prompts.box is not None:
            x1, y1, x2, y2 = (prompts.box.reshape(2, 2) * scale).round().astype(int).ravel()
            logits[y1:y2, x1:x2] = 8
        ys, xs = np.mgrid[:height, :width] + 0.5
        for (x, y), positive in zip(prompts.points * scale, prompts.labels, strict=True):
            logits[np.hypot(xs - x, ys - y) < radius] = 8 if positive else -8
        return logits
