"""What the parts of SAM 3 are compared with: transformers' own models, and loops that spell a definition out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import Sam3TrackerConfig, Sam3TrackerModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import Sam3VideoModel


def reference_tracker(model: Sam3VideoModel) -> Sam3TrackerModel:
    """Return transformers' click model, with an encoder of its own and the weights of this one.

    Its neck has three levels. Given the fourth, which nothing reads, it would add the embedding "no memory" to that
    one; the authors' code and ``Sam3TrackerVideoModel`` add it to the coarsest level that the decoder reads.
    """
    config = model.config.tracker_config
    vision = config.vision_config.to_dict()
    tracker = Sam3TrackerModel(
        Sam3TrackerConfig(
            vision_config={**vision, "scale_factors": vision["scale_factors"][:-1]},
            prompt_encoder_config=config.prompt_encoder_config.to_dict(),
            mask_decoder_config=config.mask_decoder_config.to_dict(),
        )
    )
    weights = dict(model.tracker_model.state_dict())
    for part, module in (("backbone", model.detector_model.vision_encoder.backbone), ("neck", model.tracker_neck)):
        weights |= {f"vision_encoder.{part}.{name}": weight for name, weight in module.state_dict().items()}
    tracker.load_state_dict({name: weights[name] for name in tracker.state_dict()})
    return tracker.eval()


def naive_roi_align(features: NDArray[np.float64], box: Sequence[float], bins: int) -> NDArray[np.float64]:
    """Return (C, bins, bins): the mean of bilinear samples in each bin, sample by sample.

    As "Mask R-CNN" has it, before the half-pixel correction: a box spans at least one pixel, a bin has as many
    samples along each axis as it is long, rounded up; a sample beyond one pixel outside counts as zero.
    """
    _, height, width = features.shape
    x1, y1, x2, y2 = (float(value) for value in box)
    tall, wide = max(y2 - y1, 1.0) / bins, max(x2 - x1, 1.0) / bins
    rows, columns = int(np.ceil(tall)), int(np.ceil(wide))
    pooled = np.zeros((len(features), bins, bins))
    for p, q, i, j in np.ndindex(bins, bins, rows, columns):
        y = y1 + (p + (i + 0.5) / rows) * tall
        x = x1 + (q + (j + 0.5) / columns) * wide
        if -1 <= y <= height and -1 <= x <= width:
            pooled[:, p, q] += _bilinear(features, y, x) / (rows * columns)
    return pooled


def _bilinear(features: NDArray[np.float64], y: float, x: float) -> NDArray[np.float64]:
    _, height, width = features.shape
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = features[:, top, left] * (1 - (x - left)) + features[:, top, right] * (x - left)
    lower = features[:, bottom, left] * (1 - (x - left)) + features[:, bottom, right] * (x - left)
    return np.asarray(upper * (1 - (y - top)) + lower * (y - top))


def fake_torchvision() -> SimpleNamespace:
    """Return what stands for torchvision in transformers' geometry encoder where it is not installed."""

    def roi_align(features: torch.Tensor, boxes: Sequence[torch.Tensor], bins: int) -> torch.Tensor:
        maps = features.double().numpy()
        pooled = [
            naive_roi_align(image, box, bins) for image, own in zip(maps, boxes, strict=True) for box in own.tolist()
        ]
        return torch.from_numpy(np.stack(pooled)).to(features.dtype)

    return SimpleNamespace(ops=SimpleNamespace(roi_align=roi_align))
