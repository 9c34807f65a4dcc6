"""The exemplar side of SAM 3: boxes that show the detector what is meant, without torchvision."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sam3_widget.models.sam3.roi_align import roi_align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers.models.sam3.modeling_sam3 import Sam3GeometryEncoder

    from sam3_widget.models.base import ConceptPrompts

PADDING = -10
"""Label of a box that is none."""


def box_tensors(
    concepts: Sequence[ConceptPrompts], sizes: Sequence[tuple[int, int]], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return the exemplars of several images as arguments of ``Sam3Model.forward``.

    Parameters
    ----------
    concepts : sequence of ConceptPrompts
        One for each image.
    sizes : sequence of (int, int)
        Height and width of each image in pixels.
    device : torch.device
        Where the tensors go.

    Returns
    -------
    dict
        ``input_boxes`` (N, B, 4) float32, centre, width and height as shares of the image, and
        ``input_boxes_labels`` (N, B) int64, 1, 0 or -10 for padding; nothing where no image has an exemplar.
    """
    most = max(len(concept.boxes) for concept in concepts)
    if not most:
        return {}
    boxes = np.zeros((len(concepts), most, 4), np.float32)
    labels = np.full((len(concepts), most), PADDING, np.int64)
    for row, (concept, (height, width)) in enumerate(zip(concepts, sizes, strict=True)):
        corners = concept.boxes.reshape(-1, 2, 2) / np.array([width, height], np.float32)
        count = len(corners)
        boxes[row, :count] = np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], axis=1)
        labels[row, :count] = concept.labels
    return {
        "input_boxes": torch.from_numpy(boxes).to(device),
        "input_boxes_labels": torch.from_numpy(labels).to(device),
    }


def adopt(encoder: Sam3GeometryEncoder) -> None:
    """Change how this geometry encoder, and no other, reads boxes.

    It pools with our :func:`roi_align` where transformers wants torchvision's, and reads coordinates in float32
    in whatever precision the rest runs. It also lets an image without exemplars be asked for together with others
    that have some: transformers would show that image's text a token that stands for "the boxes of this image",
    and find something else than when asked for it alone.
    """
    vars(encoder)["_encode_boxes"] = MethodType(_encode_boxes, encoder)
    encoder.register_forward_hook(_hide_where_none, with_kwargs=True)


def _encode_boxes(
    encoder: Sam3GeometryEncoder,
    boxes: torch.Tensor,
    boxes_mask: torch.Tensor,
    boxes_labels: torch.Tensor,
    vision_features: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (N, B, C) features of boxes, as ``Sam3GeometryEncoder._encode_boxes`` does, and their mask."""
    count, dtype = boxes.shape[1], vision_features.dtype
    height, width = vision_features.shape[-2:]
    centre, extent = boxes[..., :2], boxes[..., 2:]
    corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)
    corners = corners * corners.new_tensor([width, height, width, height])
    pooled = encoder.boxes_pool_project(roi_align(vision_features, corners, encoder.roi_size).flatten(0, 1))
    positions = encoder._encode_box_coordinates(*boxes.flatten(0, 1).unbind(-1))  # noqa: SLF001 - as its own caller does
    embedded = (
        encoder.boxes_direct_project(boxes.to(dtype))
        + pooled.view(-1, count, encoder.hidden_size)
        + encoder.boxes_pos_enc_project(positions.to(dtype)).view(-1, count, encoder.hidden_size)
    )
    return encoder.label_embed(boxes_labels) + embedded, boxes_mask


def _hide_where_none(encoder: Sam3GeometryEncoder, args: Any, kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ANN401 - a hook's signature
    """Let nothing attend to the geometry of an image that has no exemplar."""
    del encoder, args
    output.attention_mask = output.attention_mask & kwargs["box_mask"].any(1, keepdim=True)
    return output
