"""The contract every model fulfils: encode an image once, then refine or detect on what was made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths

Progress = Callable[[float], None]
"""Called by a model with the finished fraction, 0 to 1. It raises ``CancelledError`` to stop the work."""


def no_progress(fraction: float) -> None:
    """Ignore progress; never cancels."""


@dataclass(frozen=True)
class Capabilities:
    """What a model can do. A view offers only these controls."""

    points: bool = True
    boxes: bool = False
    mask_prompt: bool = False
    text: bool = False
    exemplars: bool = False
    video: bool = False

    def to_json(self) -> dict[str, bool]:
        """Return the flags by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class InstancePrompts:
    """All prompts of one instance, in pixels of the original image.

    Attributes
    ----------
    points : (P, 2) float32
        ``(x, y)``; pixel ``(i, j)`` covers ``[i, i + 1) x [j, j + 1)``.
    labels : (P,) bool
        True includes, False excludes.
    box : (4,) float32 or None
        ``(x1, y1, x2, y2)``.
    """

    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    box: NDArray[np.float32] | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether a single positive click is all there is: the case for several candidates."""
        return self.box is None and len(self.points) == 1 and bool(self.labels[0])


@dataclass(frozen=True)
class Candidates:
    """The masks a decoder offers for one instance, best first.

    Attributes
    ----------
    logits : (K, h, w) float32
        Scores over the *whole* image at the model's own resolution (no padding), K from 1 to 3.
        Zero is the boundary at the default threshold; a sigmoid makes probabilities of them.
    scores : (K,) float32
        Predicted IoU of each, descending, 0 to 1.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class ConceptPrompts:
    """What stands for every matching thing in an image: a phrase, exemplar boxes, or both.

    Attributes
    ----------
    text : str
        A short noun phrase; "" where the exemplars alone say it, of which one must be positive then.
    boxes : (B, 4) float32
        Exemplars, ``(x1, y1, x2, y2)`` in pixels of the original image.
    labels : (B,) bool
        True for what the concept means, False for what it does not mean.
    """

    text: str = ""
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


@dataclass(frozen=True)
class Detections:
    """Everything that a concept head offers, unfiltered, best first: thresholds are the caller's.

    Attributes
    ----------
    logits : (N, h, w) float32
        Mask scores of each over the whole image, as in :class:`Candidates`.
    scores : (N,) float32
        Probability that this is the concept, presence included, descending, 0 to 1.
    boxes : (N, 4) float32
        The model's own boxes, ``(x1, y1, x2, y2)`` in pixels of the original image.
    presence : float
        Probability that the concept is in the image at all, 0 to 1.
    semantic : (h, w) float32
        Scores over the whole image that a pixel belongs to the concept, whichever instance it is of.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    presence: float
    semantic: NDArray[np.float32]


Question = tuple[InstancePrompts, "NDArray[np.float32] | None"]
"""The prompts of one instance, with the logits to start from."""


@dataclass(frozen=True)
class Sighting:
    """An object on one frame of a clip.

    Attributes
    ----------
    frame_idx : int
    mask : RunLengths
        Of the frame's size; empty where the object is not in view.
    prompts : InstancePrompts or None
        What a person said of it there; None on a frame that propagation brought it to.
    """

    frame_idx: int
    mask: RunLengths
    prompts: InstancePrompts | None = None


@dataclass(frozen=True)
class Tracked:
    """Where propagation brought an object.

    Attributes
    ----------
    logits : (h, w) float32
        Scores over the whole frame, as in :class:`Candidates`; nowhere positive where the object is not in view.
    score : float
        How sure the tracker is of the mask, 0 to 1; 0 where the object is not in view.
    """

    logits: NDArray[np.float32]
    score: float


class Tracker(ABC):
    """Carries objects from frame to frame of one clip, in one direction.

    Attributes
    ----------
    memory : int
        How many frames, without those that a person prompted, :meth:`follow` wants to know of an object.
    local : bool
        Whether what follows a prompted frame depends on nothing before it.
    progress : callable
        Called during a step that takes long, with the finished fraction of what it is about. What it raises ends the
        step, and the tracker is to be let go.
    """

    memory: int = 1
    local: bool = True
    progress: Progress = staticmethod(no_progress)

    @abstractmethod
    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        """Take an object up, or anew where it is followed already.

        Parameters
        ----------
        object_id : int
        sightings : sequence of Sighting
            All frames that a person prompted and the last :attr:`memory` others, in the order in which the clip is
            walked; the last is the frame next to that of the next :meth:`step`.
        """

    @abstractmethod
    def drop(self, object_id: int) -> None:
        """Follow an object no longer."""

    @abstractmethod
    def step(self, frame_idx: int) -> dict[int, Tracked]:
        """Carry every object that is followed to the next frame; returned by ``object_id``."""


@dataclass(frozen=True)
class Sought:
    """A concept that is looked for on a frame of a clip.

    Attributes
    ----------
    concept_id : int
    text : str
        A short noun phrase.
    threshold : float
        Score that a detection must reach, 0 to 1.
    members : mapping
        Its instances by ``object_id``, those that are followed among them: what they cover is nothing new. The value is
        the frame, in the order of the walk, that each is first known on.
    kept : frozenset of int
        Those of them that a person has refined, labelled, locked or removed: they are never given up.
    """

    concept_id: int
    text: str
    threshold: float
    members: Mapping[int, int] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Newcomer:
    """An instance of a concept that came into view.

    Attributes
    ----------
    concept_id : int
    tracked : Tracked
    """

    concept_id: int
    tracked: Tracked


class Seeker(Tracker):
    """A tracker that also looks for concepts on the frames that it comes to.

    Attributes
    ----------
    newcomers : list of Newcomer
        What the last step found that is none of the objects followed. It is followed on once :meth:`adopt` has given
        it an id.
    lost : set of int
        The objects that were followed and that the last step gave up: they are no instances of their concept, on none
        of the frames. They are followed no longer.
    """

    def __init__(self) -> None:
        self.newcomers: list[Newcomer] = []
        self.lost: set[int] = set()

    @abstractmethod
    def look_for(self, concepts: Sequence[Sought]) -> None:
        """Look for these concepts, and for no others, with the next step."""

    @abstractmethod
    def adopt(self, object_ids: Sequence[int | None]) -> None:
        """Follow :attr:`newcomers` under these ids, in their order; those that get None are followed no longer."""


Frames = Callable[[int], "NDArray[np.uint8]"]
"""Returns a frame of a clip by its index, ``(H, W, 3)`` uint8 RGB."""


class Embedding:
    """What an encoder made of one image. Models subclass it with whatever their decoder needs.

    Parameters
    ----------
    height, width : int
        Size of the original image in pixels.
    nbytes : int
        Memory that this embedding holds, for the cache's bound.
    """

    def __init__(self, height: int, width: int, nbytes: int) -> None:
        self.height = height
        self.width = width
        self.nbytes = nbytes

    def trim(self) -> None:
        """Give back, on the worker thread, memory that can be filled again without encoding; adjusts ``nbytes``."""


class Model(ABC):
    """One segmentation model. It runs on the engine's worker thread, one call at a time.

    Attributes
    ----------
    name : str
        The name ``load_model`` knows it by.
    capabilities : Capabilities
    batch : int
        How many instances :meth:`refine_many` decodes at once; 1 where one by one is quicker.
    max_points : int or None
        How many clicks of an instance it looks at: the first and the last half of them. None is any number.
    """

    name: str
    capabilities: Capabilities
    batch: int = 1
    max_points: int | None = None

    @abstractmethod
    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        """Encode an ``(H, W, 3)`` uint8 RGB image; called once per image."""

    @abstractmethod
    def refine(
        self,
        embedding: Embedding,
        prompts: InstancePrompts,
        previous: NDArray[np.float32] | None = None,
    ) -> Candidates:
        """Decode one instance.

        Parameters
        ----------
        embedding : Embedding
            From this model's own :meth:`encode`.
        prompts : InstancePrompts
            All prompts of the instance, not only the newest. There may be none when ``previous`` is given.
        previous : (h, w) float32, optional
            Logits over the whole image to start from: this model's earlier answer, or another mask at any
            resolution.

        Returns
        -------
        Candidates
            Up to three while the prompt is ambiguous, one otherwise.
        """

    def encode_many(self, images: Sequence[NDArray[np.uint8]], progress: Progress = no_progress) -> list[Embedding]:
        """Encode several images, in one forward pass where the model can; as :meth:`encode` for each."""
        return [self.encode(image, progress) for image in images]

    def refine_many(self, embedding: Embedding, questions: Sequence[Question]) -> list[Candidates]:
        """Decode several instances of one image, in chunks of :attr:`batch`; as :meth:`refine` for each."""
        return [self.refine(embedding, *question) for question in questions]

    def detect(self, embedding: Embedding, concept: ConceptPrompts, progress: Progress = no_progress) -> Detections:
        """Find every instance of a concept; only where :attr:`capabilities` has ``text`` or ``exemplars``."""
        return self.detect_many([embedding], [concept], progress)[0]

    def detect_many(
        self, embeddings: Sequence[Embedding], concepts: Sequence[ConceptPrompts], progress: Progress = no_progress
    ) -> list[Detections]:
        """Find the instances of one concept in each image, all of them in one forward pass."""
        del embeddings, concepts, progress
        what, instead = "concepts", "load a model like SAM 3"
        raise self.unsupported(what, instead)

    def tracker(self, frames: Frames) -> Tracker:
        """Return what carries objects through a clip; only where :attr:`capabilities` has ``video``.

        It may be a :class:`Seeker`, where concepts can be found by text.
        """
        del frames
        what, instead = "video", "load a model that does, like the built-in one"
        raise self.unsupported(what, instead)

    def unsupported(self, what: str, instead: str) -> UnsupportedError:
        """Return the error for a prompt this model cannot serve."""
        return UnsupportedError(f"the model {self.name!r} does not take {what}; {instead}")
