"""The detector of SAM 3: phrases and exemplars become every matching instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Detections
from sam3_widget.models.sam.runtime import follow
from sam3_widget.models.sam3.exemplars import adopt, box_tensors
from sam3_widget.models.sam3.phrases import Phrases
from sam3_widget.models.sam3.tracker import levels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase, Sam3VideoModel

    from sam3_widget.models.base import ConceptPrompts, Progress
    from sam3_widget.models.sam.runtime import Runtime
    from sam3_widget.models.sam3.tracker import Maps


class Detector:
    """What ``Sam3Model`` does, on an image that is encoded already.

    Parameters
    ----------
    model : Sam3VideoModel
        On its device already.
    tokenizer : PreTrainedTokenizerBase
        Of its text encoder.
    runtime : Runtime
    grid : (int, int)
        Rows and columns of the encoder's output.
    """

    def __init__(
        self, model: Sam3VideoModel, tokenizer: PreTrainedTokenizerBase, runtime: Runtime, grid: tuple[int, int]
    ) -> None:
        self._model = model.detector_model
        self._neck = self._model.vision_encoder.neck
        self._phrases = Phrases(self._model, tokenizer)
        self._runtime = runtime
        self._grid = grid
        adopt(self._model.geometry_encoder)

    def maps(self, encoded: torch.Tensor) -> Maps:
        """Return what the detector reads of the encoder's (L, C) output."""
        return levels(self._neck, encoded, self._grid)

    def detect(
        self,
        maps: Iterable[Maps],
        sizes: Sequence[tuple[int, int]],
        concepts: Sequence[ConceptPrompts],
        progress: Progress,
    ) -> list[Detections]:
        """Find the instances of one concept in each image, in one forward pass.

        Parameters
        ----------
        maps : iterable of Maps
            From :meth:`maps`, of each image; wanted only once the concepts are known to be good.
        sizes : sequence of (int, int)
            Height and width of each original image in pixels.
        concepts : sequence of ConceptPrompts
        progress : callable

        Raises
        ------
        InvalidPromptError
            A concept has neither a text nor a positive exemplar, or its text is too long.
        """
        for concept in concepts:
            if not concept.text.strip() and not concept.labels.any():
                message = "nothing to find: expected a text, or at least one positive exemplar"
                raise InvalidPromptError(message)
        features, mask = self._phrases([concept.text for concept in concepts])
        layers = [*self._model.detr_encoder.layers, *self._model.detr_decoder.layers, self._model.mask_decoder]
        with follow(layers, progress):
            output = self._model(
                vision_embeds=self._vision(maps),
                text_embeds=BaseModelOutputWithPooling(pooler_output=features),
                attention_mask=mask,
                **box_tensors(concepts, sizes, self._runtime.device),
            )
        presences = output.presence_logits[:, 0].float().sigmoid()
        scores = output.pred_logits.float().sigmoid() * presences[:, None]
        return [
            _best_first(*answer)
            for answer in zip(
                output.pred_masks, scores, output.pred_boxes, presences, output.semantic_seg[:, 0], sizes, strict=True
            )
        ]

    def find(self, maps: Maps, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return everything that the detector offers for a phrase in one image, in no order, on its device.

        Returns
        -------
        logits : (N, h, w) float32
        scores : (N,) float32
            Presence included.
        """
        features, mask = self._phrases([text])
        output = self._model(
            vision_embeds=self._vision([maps]),
            text_embeds=BaseModelOutputWithPooling(pooler_output=features),
            attention_mask=mask,
        )
        scores = output.pred_logits[0].float().sigmoid() * output.presence_logits[0].float().sigmoid()
        return output.pred_masks[0].float(), scores

    def _vision(self, maps: Iterable[Maps]) -> Sam3VisionEncoderOutput:
        """Return feature maps as the detector takes them: with one level more, which it drops.

        Of the positions it looks at those of the coarsest level that it keeps.
        """
        stacked = [torch.cat(level) for level in zip(*maps, strict=True)]
        coarse = stacked[-1]
        positions = self._neck.position_encoding(coarse.shape, coarse.device, torch.float32).to(coarse.dtype)
        return Sam3VisionEncoderOutput(
            fpn_hidden_states=(*stacked, coarse), fpn_position_encoding=(positions, positions)
        )


def _best_first(
    logits: torch.Tensor,
    scores: torch.Tensor,
    boxes: torch.Tensor,
    presence: torch.Tensor,
    semantic: torch.Tensor,
    size: tuple[int, int],
) -> Detections:
    """Return what a detector offers for one image, boxes bounded by it."""
    order = torch.argsort(scores, descending=True, stable=True)
    height, width = size
    extent = np.array([width, height, width, height], np.float32)
    return Detections(
        logits=logits[order].float().cpu().numpy(),
        scores=scores[order].cpu().numpy(),
        boxes=boxes[order].float().clamp(0, 1).cpu().numpy() * extent,
        presence=float(presence),
        semantic=semantic.float().cpu().numpy(),
    )
