"""The tracker of SAM 3: what it reads of an image, and how clicks, boxes and earlier logits become masks on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam3_widget.models.sam.runtime import full_precision

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import Sam3VideoModel
    from transformers.models.sam3.modeling_sam3 import Sam3VisionNeck

    from sam3_widget.models.sam.clicks import ClickBatch
    from sam3_widget.models.sam.runtime import Runtime
    from sam3_widget.models.sam.video import Features

Maps = tuple["torch.Tensor", ...]
"""Feature maps (1, C, h, w) of one image, the finest first."""


def levels(neck: Sam3VisionNeck, encoded: torch.Tensor, grid: tuple[int, int]) -> Maps:
    """Return what a neck makes of the encoder's output: all levels but the coarsest, which neither head reads.

    Parameters
    ----------
    neck : Sam3VisionNeck
    encoded : (L, C)
    grid : (int, int)
        Rows and columns of the L positions.
    """
    spatial = encoded.view(1, *grid, -1).permute(0, 3, 1, 2)
    return tuple(layer(spatial) for layer in list(neck.fpn_layers)[:-1])


def exact_parts(model: Sam3VideoModel) -> list[nn.Module]:
    """Return the parts of a model whose weights are wanted in float32: all that clicks and masks go through."""
    return [model.tracker_model]


class Tracker:
    """What ``Sam3TrackerModel`` does, with the weights of a ``Sam3VideoModel``.

    Prompts are encoded and decoded in float32 in whatever precision the rest runs: they are a hundredth of the work,
    and half precision moves clicks and edges by pixels.

    Parameters
    ----------
    model : Sam3VideoModel
        On its device already, with :func:`exact_parts` in float32.
    runtime : Runtime

    Attributes
    ----------
    grid : (int, int)
        Rows and columns of the encoder's output.
    mask_size : (int, int)
        Height and width of the earlier logits that it takes.
    """

    def __init__(self, model: Sam3VideoModel, runtime: Runtime) -> None:
        self._model = model.tracker_model
        self._neck = model.tracker_neck
        self._runtime = runtime
        self.grid: tuple[int, int] = self._model.prompt_encoder.image_embedding_size
        self.mask_size: tuple[int, int] = self._model.prompt_encoder.mask_input_size
        with runtime.running(), full_precision(runtime.device):
            self._positions = self._model.get_image_wide_positional_embeddings()

    def maps(self, encoded: torch.Tensor) -> Maps:
        """Return what the decoder reads of the encoder's (L, C) output, as for the first frame of a video."""
        fine, middle, coarse = self._thinned(encoded)
        return fine, middle, coarse + self._model.no_memory_embedding.view(1, -1, 1, 1)

    def features(self, encoded: torch.Tensor) -> Features:
        """Return what a session caches of a frame, of the encoder's (L, C) output."""
        maps = self._thinned(encoded)
        positions = self._neck.position_encoding(maps[-1].shape, maps[-1].device, maps[-1].dtype)
        return {
            "vision_feats": [level.flatten(2).permute(2, 0, 1) for level in maps],
            "vision_pos_embeds": [positions.flatten(2).permute(2, 0, 1)],
        }

    def _thinned(self, encoded: torch.Tensor) -> Maps:
        """Return the levels of the neck in float32, the fine ones with the few features that the decoder reads."""
        fine, middle, coarse = (level.float() for level in levels(self._neck, encoded, self.grid))
        decoder = self._model.mask_decoder
        with full_precision(self._runtime.device):
            return decoder.conv_s0(fine), decoder.conv_s1(middle), coarse

    def decode(self, maps: Maps, batch: ClickBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode instances of one image.

        Parameters
        ----------
        maps : Maps
            From :meth:`maps`.
        batch : ClickBatch
            Of N instances.

        Returns
        -------
        logits : (N, K, h, w)
        scores : (N, K)
            Predicted IoU.
        """
        count = len(batch.order)
        fine, middle, coarse = (level.expand(count, -1, -1, -1) for level in maps)
        with full_precision(self._runtime.device):
            sparse, dense = self._model.prompt_encoder(batch.points, batch.labels, batch.boxes, batch.masks)
            logits, scores, _, _ = self._model.mask_decoder(
                image_embeddings=coarse,
                image_positional_embeddings=self._positions.expand(count, -1, -1, -1),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=batch.multimask,
                high_resolution_features=[fine, middle],
            )
        return logits[:, 0], scores[:, 0]
