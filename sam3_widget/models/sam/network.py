"""The image models of transformers seen alike: an encoder that makes feature maps, and a decoder that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from sam3_widget.models.sam.clicks import NO_POINT
from sam3_widget.models.sam.runtime import follow, full_precision, place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sam3_widget.models.base import Progress
    from sam3_widget.models.sam.clicks import ClickBatch
    from sam3_widget.models.sam.runtime import Runtime

KINDS = {"sam": "SamModel", "sam_hq": "SamHQModel", "sam2": "Sam2Model", "edgetam": "EdgeTamModel"}
"""The class of transformers for each family."""
PROJECTIONS = {"conv_s0", "conv_s1"}
"""Parts of SAM 2's decoder that belong to its encoder's pass: they make the fine feature maps thin, once."""

Maps = tuple[torch.Tensor, ...]
"""All that the decoder reads of N images: feature maps (N, ...), the decoder's order."""


class Network:
    """A model of transformers, in two parts.

    The encoder runs in the chosen precision; the decoder, a hundredth of the work, always in float32.

    Parameters
    ----------
    model : PreTrainedModel
        Of one of the classes in :data:`KINDS`. Moved and cast in place.
    runtime : Runtime

    Attributes
    ----------
    encoder : nn.Module
    side : int
        Pixels per side of the encoder's square input.
    mask_side : int
        Pixels per side of the masks that the decoder takes and makes, which cover the same square.
    shapes : list of tuple of int
        Of the feature maps of one image, without N.
    """

    def __init__(self, model: PreTrainedModel, runtime: Runtime) -> None:
        self._model = cast("Any", model)
        self._runtime = runtime
        self.encoder = self._model.vision_encoder
        prompts, decoder = self._model.prompt_encoder, self._model.mask_decoder
        exact = [prompts, self._model.shared_image_embedding]
        exact += [part for name, part in decoder.named_children() if name not in PROJECTIONS]
        exact += [part for part in self.encoder.modules() if isinstance(part, nn.BatchNorm2d)]  # as torch wants it
        place(model, runtime, exact=exact)
        self.side: int = prompts.input_image_size
        channels, grid = prompts.hidden_size, prompts.image_embedding_size
        self.mask_side: int = 4 * grid[0]
        self._pyramid = hasattr(decoder, "conv_s0")
        self.shapes: list[tuple[int, ...]] = [(channels, *grid)]
        if self._pyramid:
            deep = (decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, channels)
            self.shapes = [(count, *size) for count, size in zip(deep, self._model.backbone_feature_sizes, strict=True)]
        elif hasattr(decoder, "hq_token"):
            self.shapes.append((*grid, self._model.config.vision_config.hidden_size))

    def encode(self, pixels: torch.Tensor, progress: Progress) -> Maps:
        """Return what the decoder reads of N images.

        Parameters
        ----------
        pixels : (N, 3, side, side) float32
        progress : callable
        """
        with follow(self._layers(), progress):
            made = self._model.get_image_embeddings(pixels.to(self._runtime.device, self._runtime.dtype))
        if isinstance(made, torch.Tensor):
            return (made,)
        if self._pyramid:
            return tuple(made)
        return made[0], made[1][0]  # SAM-HQ: of the encoder's intermediate states its decoder reads the first only

    def decode(self, maps: Maps, batch: ClickBatch, masks: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode N instances of one image.

        Parameters
        ----------
        maps : Maps
            Of that image, N = 1.
        batch : ClickBatch
        masks : (N, 1, S, S) float32 or None
            Earlier logits over the whole square, ``mask_side`` per side.

        Returns
        -------
        logits : (N, K, S, S) float32
            Over the whole square.
        scores : (N, K) float32
            Predicted IoU.
        """
        first, *others = (part.float().expand(len(batch.order), *part.shape[1:]) for part in maps)
        clicked = batch.labels is not None and bool((batch.labels != NO_POINT).any())
        with full_precision(self._runtime.device):
            output = self._model(
                image_embeddings=[first, *others] if self._pyramid else first,
                input_points=batch.points if clicked else None,
                input_labels=batch.labels if clicked else None,
                input_boxes=batch.boxes,
                input_masks=masks,
                multimask_output=batch.multimask,
                **({"intermediate_embeddings": others} if others and not self._pyramid else {}),
            )
        return output.pred_masks[:, 0], output.iou_scores[:, 0]

    def _layers(self) -> list[nn.Module]:
        """Return what the encoder runs one after the other."""
        backbone = getattr(self.encoder, "backbone", self.encoder)
        for blocks in ("layers", "blocks"):
            if hasattr(backbone, blocks):
                return [*getattr(backbone, blocks), self.encoder.neck]
        return [*backbone.timm_model.children(), self.encoder.neck]
