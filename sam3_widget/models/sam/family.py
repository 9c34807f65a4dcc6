"""SAM, SAM-HQ, SAM 2 and EdgeTAM: clicks, boxes and masks on the models of transformers.

"Segment Anything" (Kirillov et al., 2023), "Segment Anything in High Quality" (Ke et al., 2023), "SAM 2: Segment
Anything in Images and Videos" (Ravi et al., 2024), "EdgeTAM: On-Device Track Anything Model" (Zhou et al., 2025).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
import transformers

from sam3_widget.errors import ModelError, WeightsError
from sam3_widget.models.base import Embedding, Model, no_progress
from sam3_widget.models.known import CAPABILITIES
from sam3_widget.models.sam.clicks import batch_clicks, to_candidates
from sam3_widget.models.sam.network import KINDS, Maps, Network
from sam3_widget.models.sam.padding import covered, crop, pad
from sam3_widget.models.sam.preprocess import Channels, Preprocess, read_channels
from sam3_widget.models.sam.runtime import choose_runtime
from sam3_widget.models.sam.store import EmbeddingStore, fingerprint, remembered
from sam3_widget.models.sam.tracking import SamTracker
from sam3_widget.models.sam.video import VIDEO_KINDS, VideoNetwork, image_part, place_memory
from sam3_widget.models.weights.checkpoint import FAMILIES, model_type, require, unimportable
from sam3_widget.models.weights.files import read_json
from sam3_widget.models.weights.pretrained import load_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from sam3_widget.models.base import Candidates, Frames, InstancePrompts, Progress, Question, Tracker

PADDED = {"sam", "sam_hq"}
"""Families that keep an image's proportions and pad it to a square; the others stretch it."""
MEAN: Channels = (0.485, 0.456, 0.406)
STD: Channels = (0.229, 0.224, 0.225)
"""Per channel, of ImageNet: what all of them were trained with."""


class FamilyEmbedding(Embedding):
    """What the encoder made of one image.

    Attributes
    ----------
    maps : tuple of tensors
        Feature maps, each with a leading dimension of 1.
    """

    def __init__(self, height: int, width: int, maps: Maps) -> None:
        super().__init__(height, width, sum(part.nbytes for part in maps))
        self.maps = maps


class SamFamily(Model):
    """One of ``SamModel``, ``SamHQModel``, ``Sam2Model`` and ``EdgeTamModel``, or a video model that holds one of them.

    ``Sam2VideoModel`` and ``EdgeTamVideoModel`` carry objects through a clip with the weights that also refine masks.

    The encoder runs in the chosen precision; the decoder of images, a hundredth of the work, always in float32.

    Parameters
    ----------
    model : PreTrainedModel
        Moved and cast in place: it belongs to this object from then on.
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

    Raises
    ------
    ModelError
        There is no memory to offload, since the model carries nothing through a clip.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        name: str,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        cache_dir: Path | None = None,
        channels: tuple[Channels, Channels] = (MEAN, STD),
        offload_memory: bool = False,
    ) -> None:
        family = FAMILIES[model.config.model_type]
        self.name = name
        has_video = model.config.model_type in VIDEO_KINDS
        if offload_memory and not has_video:
            message = f"{name!r} carries nothing through a clip: no memory to offload; expected offload_memory=False"
            raise ModelError(message)
        self.capabilities = replace(CAPABILITIES[family], video=has_video)
        self._runtime = choose_runtime(device, dtype)
        self.batch = self._runtime.batch
        image_model = image_part(model) if has_video else model
        self._network = Network(image_model, self._runtime)
        self._video = None
        if has_video:
            place_memory(model, image_model, self._runtime)
            self._video = VideoNetwork(model, self._runtime, offload_memory=offload_memory)
        self._preprocess = Preprocess(self._network.side, *channels, family not in PADDED)
        self._sizes = [math.prod(shape) for shape in self._network.shapes]
        self._store = None
        if cache_dir is not None:
            key = fingerprint(image_model.parameters(), self._preprocess, self._runtime.dtype)
            self._store = EmbeddingStore(cache_dir, key, (sum(self._sizes),))

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        name: str,
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
            As ``save_pretrained`` writes it, or as the Hub's cache holds it: configuration and weights. The public
            checkpoints of SAM 2 and EdgeTAM are those of ``Sam2VideoModel`` and ``EdgeTamVideoModel``; one of an image
            model carries nothing through a video.
        name, device, dtype, cache_dir, offload_memory
            As for the class.
        resolution : None
            These models take images at the resolution of their training only.

        Raises
        ------
        WeightsError
            The folder holds no whole checkpoint of this family, or a package that it needs is missing.
        ModelError
            A resolution was asked for, there is no such device or dtype, or no memory to offload.
        """
        if resolution is not None:
            message = f"the resolution of {name!r} cannot be changed, got {resolution}; expected None"
            raise ModelError(message)
        runtime = choose_runtime(device, dtype)
        stated_type = model_type(folder)
        family = FAMILIES[stated_type]
        if family not in KINDS:
            message = f"{folder} holds a checkpoint of the family {family!r}; expected one of: {', '.join(KINDS)}"
            raise WeightsError(message)
        require(family)
        try:
            kind = getattr(transformers, VIDEO_KINDS.get(stated_type, KINDS[family]))
        except ImportError as error:
            raise unimportable(error) from error
        stated = {key: value for key, value in read_json(folder / "config.json").items() if key != "model_type"}
        model = load_whole(kind, folder, dtype=torch.float32, config=kind.config_class.from_dict(stated))
        channels = read_channels(folder, MEAN, STD)
        return cls(
            model,
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
            maps = self._network.encode(self._preprocess(fresh), progress) if fresh else ()
            progress(1.0)
            return [torch.cat([part.flatten() for part in parts]) for parts in zip(*maps, strict=True)]

        with self._runtime.running():
            return [
                FamilyEmbedding(image.shape[0], image.shape[1], self._unpack(state))
                for image, state in zip(images, remembered(self._store, images, encode), strict=True)
            ]

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Decode one instance; see :meth:`sam3_widget.models.base.Model.refine`."""
        return self.refine_many(embedding, [(prompts, previous)])[0]

    def refine_many(self, embedding: Embedding, questions: Sequence[Question]) -> list[Candidates]:
        """Decode several instances of one image, at most :attr:`batch` of them at once."""
        if not isinstance(embedding, FamilyEmbedding):
            message = f"expected an embedding made by {self.name!r}, got {type(embedding).__name__}"
            raise TypeError(message)
        side = self._network.mask_side
        height, width = self._preprocess.size(embedding.height, embedding.width)
        share = (height / self._preprocess.side, width / self._preprocess.side)
        answers: dict[int, Candidates] = {}
        with self._runtime.running():
            for batch in batch_clicks(
                questions,
                scale=self._preprocess.scale(embedding.height, embedding.width),
                mask_size=covered(side, share),
                most=self.batch,
                device=self._runtime.device,
            ):
                masks = None if batch.masks is None else pad(batch.masks, side, share)
                logits, scores = self._network.decode(embedding.maps, batch, masks)
                answers.update(zip(batch.order, map(to_candidates, crop(logits, share), scores), strict=True))
        return [answers[index] for index in range(len(questions))]

    def tracker(self, frames: Frames) -> Tracker:
        """Return what carries objects through a clip; see :meth:`sam3_widget.models.base.Model.tracker`."""
        if self._video is None:
            return super().tracker(frames)
        return SamTracker(self._video, self._preprocess, self._runtime, frames)

    def _unpack(self, state: torch.Tensor) -> Maps:
        """Return the feature maps in what the store keeps: all their values in a row."""
        parts = torch.split(state.to(self._runtime.device, self._runtime.dtype), self._sizes)
        return tuple(part.view(1, *shape) for part, shape in zip(parts, self._network.shapes, strict=True))
