"""SAM 3: clicks, boxes, masks, phrases, exemplars and video on one image encoder, which runs once for each image.

The model is described in "SAM 3: Segment Anything with Concepts" (Meta, 2025). Its parts are those of transformers'
``Sam3VideoModel``, whose detector and tracker share the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

import torch

from sam3_widget.core.image import Image
from sam3_widget.models.base import Candidates, Detections, Embedding, Model, no_progress
from sam3_widget.models.known import CAPABILITIES
from sam3_widget.models.sam.clicks import batch_clicks, to_candidates
from sam3_widget.models.sam.memory import Frame
from sam3_widget.models.sam.preprocess import HALF, Preprocess, read_channels
from sam3_widget.models.sam.runtime import choose_runtime, follow, place
from sam3_widget.models.sam.store import EmbeddingStore, fingerprint, remembered
from sam3_widget.models.sam.video import VideoNetwork
from sam3_widget.models.sam3.crowd import Crowd, Offer
from sam3_widget.models.sam3.detector import Detector
from sam3_widget.models.sam3.loading import load_sam3
from sam3_widget.models.sam3.seeking import Sam3Tracker
from sam3_widget.models.sam3.tracker import Tracker, exact_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase, Sam3VideoModel
    from transformers.models.sam3.modeling_sam3 import Sam3ViTModel

    from sam3_widget.models import base
    from sam3_widget.models.base import ConceptPrompts, Frames, InstancePrompts, Progress, Question, Sought
    from sam3_widget.models.sam.preprocess import Channels
    from sam3_widget.models.sam3.tracker import Maps


class Sam3Embedding(Embedding):
    """The encoder's output, and what the detector and the tracker make of it when they first need it.

    Attributes
    ----------
    encoded : (L, C)
        The encoder's last hidden state: C features at L positions.
    """

    def __init__(self, height: int, width: int, encoded: torch.Tensor) -> None:
        super().__init__(height, width, encoded.nbytes)
        self.encoded = encoded
        self._maps: dict[str, Maps] = {}

    def maps(self, head: str, make: Callable[[torch.Tensor], Maps]) -> Maps:
        """Return the feature maps of a head, which it makes of :attr:`encoded` the first time."""
        if head not in self._maps:
            self._maps[head] = make(self.encoded)
            self.nbytes += sum(level.nbytes for level in self._maps[head])
        return self._maps[head]

    def trim(self) -> None:
        """Forget the feature maps of both heads."""
        self._maps.clear()
        self.nbytes = self.encoded.nbytes


@dataclass(frozen=True)
class Sight(Frame):
    """A frame of a clip, as the tracker sees it, and what the detector sees it by.

    Attributes
    ----------
    encoded : (L, C)
        The encoder's last hidden state.
    """

    encoded: torch.Tensor


class Sam3(Model):
    """SAM 3 on one ``Sam3VideoModel``.

    Parameters
    ----------
    model : Sam3VideoModel
        Moved, cast and adapted in place: it belongs to this object from then on.
    tokenizer : PreTrainedTokenizerBase
        Of its text encoder.
    name : str
    device : str or torch.device
        ``"auto"`` is CUDA, else MPS, else the CPU.
    dtype : str or torch.dtype
        ``"auto"`` is bfloat16 on CUDA devices that have it, else float32.
    cache_dir : Path, optional
        Where the encoder's outputs are kept from one session to the next, rounded to float16; an image whose
        output is there is not encoded again.
    channels : pair of (3,) float
        Mean and standard deviation that images are normalised with.
    offload_memory : bool
        Whether what is remembered of objects between the frames of a clip lies in main memory, and not on the device.
    """

    capabilities = CAPABILITIES["sam3"]
    max_points = 16

    def __init__(
        self,
        model: Sam3VideoModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "sam3",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        cache_dir: Path | None = None,
        channels: tuple[Channels, Channels] = (HALF, HALF),
        offload_memory: bool = False,
    ) -> None:
        self.name = name
        self._model = model
        self._runtime = choose_runtime(device, dtype)
        self.batch = self._runtime.batch
        self._encoder: Sam3ViTModel = model.detector_model.vision_encoder.backbone
        place(model, self._runtime, exact=exact_parts(model))
        _restore_positions(self._encoder)
        self._preprocess = Preprocess(self._encoder.config.image_size, *channels)
        self._tracker = Tracker(model, self._runtime)
        self._detector = Detector(model, tokenizer, self._runtime, self._tracker.grid)
        self._video = VideoNetwork(model.tracker_model, self._runtime, offload_memory=offload_memory)
        self._alive: WeakValueDictionary[str, Sam3Embedding] = WeakValueDictionary()
        self._store = None
        if cache_dir is not None:
            key = fingerprint(self._encoder.parameters(), self._preprocess, self._runtime.dtype)
            rows, columns = self._tracker.grid
            self._store = EmbeddingStore(cache_dir, key, (rows * columns, self._encoder.config.hidden_size))

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        name: str = "sam3",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        resolution: int | None = None,
        cache_dir: Path | None = None,
        offload_memory: bool = False,
    ) -> Self:
        """Load a checkpoint from this disk.

        Parameters
        ----------
        folder : Path
            As ``save_pretrained`` writes it, or as the hub's cache holds it: configuration, weights, tokenizer.
        name, device, dtype, cache_dir, offload_memory
            As for the class.
        resolution : int, optional
            Pixels per side of the encoder's input, a multiple of its patch: fewer are quicker and coarser. The
            checkpoint's own, 1008, where None.

        Raises
        ------
        WeightsError
            The folder holds no whole checkpoint of SAM 3.
        ModelError
            The resolution does not fit it, or there is no such device or dtype.
        """
        runtime = choose_runtime(device, dtype)
        model, tokenizer = load_sam3(folder, runtime.dtype, resolution)
        channels = read_channels(folder)
        return cls(
            model,
            tokenizer,
            name=name,
            device=runtime.device,
            dtype=runtime.dtype,
            cache_dir=cache_dir,
            channels=channels,
            offload_memory=offload_memory,
        )

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        """Encode an image, or find in ``cache_dir`` what the encoder made of it."""
        return self.encode_many([image], progress)[0]

    def encode_many(self, images: Sequence[NDArray[np.uint8]], progress: Progress = no_progress) -> list[Embedding]:
        """Encode several images, of whatever sizes, in one pass of the encoder."""

        def encode(fresh: list[NDArray[np.uint8]]) -> list[torch.Tensor]:
            return self._encode(fresh, progress)

        with self._runtime.running():
            embeddings = [
                Sam3Embedding(image.shape[0], image.shape[1], state.to(self._runtime.device, self._runtime.dtype))
                for image, state in zip(images, remembered(self._store, images, encode), strict=True)
            ]
        self._alive.update({Image(image).key: made for image, made in zip(images, embeddings, strict=True)})
        return [*embeddings]

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Decode one instance with the tracker; see :meth:`sam3_widget.models.base.Model.refine`."""
        return self.refine_many(embedding, [(prompts, previous)])[0]

    def refine_many(self, embedding: Embedding, questions: Sequence[Question]) -> list[Candidates]:
        """Decode several instances of one image, at most :attr:`batch` of them at once."""
        own = self._own(embedding)
        answers: dict[int, Candidates] = {}
        with self._runtime.running():
            batches = batch_clicks(
                questions,
                scale=self._preprocess.scale(own.height, own.width),
                mask_size=self._tracker.mask_size,
                most=self.batch,
                max_points=self.max_points,
                device=self._runtime.device,
            )
            for batch in batches:
                logits, scores = self._tracker.decode(own.maps("tracker", self._tracker.maps), batch)
                answers.update(zip(batch.order, map(to_candidates, logits, scores), strict=True))
        return [answers[index] for index in range(len(questions))]

    def detect_many(
        self, embeddings: Sequence[Embedding], concepts: Sequence[ConceptPrompts], progress: Progress = no_progress
    ) -> list[Detections]:
        """Find the instances of one concept in each image, all of them in one pass of the detector.

        Raises
        ------
        InvalidPromptError
            A concept has neither a text nor a positive exemplar, or its text is too long.
        """
        if not embeddings:
            return []
        own = [self._own(embedding) for embedding in embeddings]
        sizes = [(embedding.height, embedding.width) for embedding in own]
        with self._runtime.running():
            maps = (embedding.maps("detector", self._detector.maps) for embedding in own)
            return self._detector.detect(maps, sizes, concepts, progress)

    def tracker(self, frames: Frames) -> base.Tracker:
        """Return what carries objects through a clip; see :meth:`sam3_widget.models.base.Model.tracker`."""
        return Sam3Tracker(
            self._video,
            self._preprocess,
            self._runtime,
            frames,
            max_points=self.max_points,
            look=partial(self._look, frames),
            crowd=Crowd(self._model, self._runtime, self._video.stored),
            detect=self._offers,
        )

    def _offers(self, frame: Frame, concepts: Sequence[Sought]) -> list[Offer]:
        """Return what the detector offers for concepts on a frame of a clip."""
        assert isinstance(frame, Sight)  # noqa: S101 - from _look
        maps = self._detector.maps(frame.encoded)
        return [Offer(c.concept_id, c.threshold, *self._detector.find(maps, c.text)) for c in concepts]

    def _look(self, frames: Frames, frame_idx: int, progress: Progress) -> Sight:
        """Return a frame as the tracker sees it; one whose embedding somebody still holds is not encoded again."""
        progress(0.0)
        image = frames(frame_idx)
        held = self._alive.get(Image(image).key)
        encoded = self._encode([image], progress)[0] if held is None else held.encoded
        return Sight(frame_idx, image.shape[0], image.shape[1], self._tracker.features(encoded), encoded)

    def _encode(self, images: list[NDArray[np.uint8]], progress: Progress) -> list[torch.Tensor]:
        """Return the encoder's (L, C) outputs of images, which it sees in one pass."""
        if not images:
            progress(1.0)
            return []
        pixels = self._preprocess(images).to(self._runtime.device, self._runtime.dtype)
        with follow(list(self._encoder.layers), progress):
            states = self._encoder(pixels).last_hidden_state
        return [state.clone() for state in states]  # one can be let go without the others

    def _own(self, embedding: Embedding) -> Sam3Embedding:
        if not isinstance(embedding, Sam3Embedding):
            message = f"expected an embedding made by {self.name!r}, got {type(embedding).__name__}"
            raise TypeError(message)
        return embedding


def _restore_positions(encoder: Sam3ViTModel) -> None:
    """Compute the positions of the encoder's patches in float32, which loading in half precision rounds."""
    layer: Any
    for layer in encoder.layers:
        positions = layer.precompute_positions(layer.config, layer.window_size)
        layer.position_ids = positions.to(layer.position_ids.device, torch.float32)
