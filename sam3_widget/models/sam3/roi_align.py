"""ROI align, equal to ``torchvision.ops.roi_align`` with its defaults, without torchvision.

Every sample lies on a grid whose rows and columns are independent of each other, and so does bilinear
interpolation: each bin is a weighted sum of rows, then of columns, and all bins of a box are two matrix products.

See "Mask R-CNN" (He et al., 2017) for the method; torchvision's defaults are the form before the half-pixel
correction (``aligned=False``), with as many samples per bin as the bin is wide and high, rounded up.
"""

from __future__ import annotations

import torch

from sam3_widget.models.sam.runtime import full_precision


def roi_align(features: torch.Tensor, boxes: torch.Tensor, output_size: int) -> torch.Tensor:
    """Pool what is inside each box to a small grid.

    Parameters
    ----------
    features : (B, C, H, W)
        Of any floating-point dtype.
    boxes : (B, N, 4)
        ``(x1, y1, x2, y2)`` in pixels of the features, N boxes of each image. One that is narrower than a pixel
        counts as one pixel wide; what lies outside the features counts as zero.
    output_size : int
        Bins per side.

    Returns
    -------
    (B, N, C, output_size, output_size)
        Of the features' dtype; computed in float32.
    """
    height, width = features.shape[-2:]
    x1, y1, x2, y2 = boxes.float().unbind(-1)
    rows = _bin_weights(y1, y2, output_size, height)
    columns = _bin_weights(x1, x2, output_size, width)
    with full_precision(features.device):
        pooled = torch.einsum("bnph,bchw,bnqw->bncpq", rows, features.float(), columns)
    return pooled.to(features.dtype)


def _bin_weights(start: torch.Tensor, end: torch.Tensor, bins: int, length: int) -> torch.Tensor:
    """Return what each position along one axis contributes to each bin, averaged over the bin's samples.

    Parameters
    ----------
    start, end : (B, N) float32
        Extents of the boxes along this axis.
    bins : int
        How many bins the extent is divided into.
    length : int
        Number of positions along this axis.

    Returns
    -------
    (B, N, bins, length) float32
    """
    extent = (end - start).clamp(min=1)
    count = torch.ceil(extent / bins)[..., None, None]
    step = torch.arange(int(count.max()) if count.numel() else 0, device=start.device)
    bin_index = torch.arange(bins, device=start.device)[:, None]
    size = (extent / bins)[..., None, None]
    samples = start[..., None, None] + bin_index * size + (step + 0.5) * size / count
    counted = (step < count) & (samples >= -1) & (samples <= length)
    nearest = samples.clamp(0, length - 1)
    low = nearest.floor()
    fraction = nearest - low
    share = counted / count
    weights = torch.zeros(*start.shape, bins, length, device=start.device)
    weights.scatter_add_(-1, low.long(), share * (1 - fraction))
    weights.scatter_add_(-1, (low.long() + 1).clamp(max=length - 1), share * fraction)
    return weights
