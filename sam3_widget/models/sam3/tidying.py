"""What SAM 3 does to the masks on a frame of a clip beside its network: one for each thing, without holes and specks.

transformers leaves it to a compiled kernel that it downloads, and skips it where there is none. The definitions are
those of ``transformers.models.sam3_video``: ``nms_masks``, ``fill_holes_in_mask_scores`` and, of its processor,
``_apply_object_wise_non_overlapping_constraints``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOWHERE = -10.0
"""The logit of a pixel that was taken from a mask."""
FILLED, WIPED = 0.1, -0.1
"""The logits of a filled hole and of a speck that was wiped away."""


def best_of_each(masks: torch.Tensor, scores: torch.Tensor, most: float) -> torch.Tensor:
    """Return which detections are left when those that overlap a better one are dropped, best first.

    Parameters
    ----------
    masks : (N, h, w)
        Logits.
    scores : (N,)
    most : float
        IoU up to which two detections are two things.

    Returns
    -------
    (K,) int64
        Indices, ascending.
    """
    flat = (masks > 0).flatten(1).float()
    shared = flat @ flat.T
    areas = flat.sum(1)
    overlap = (shared / (areas[:, None] + areas[None] - shared).clamp(min=1)).cpu().numpy()
    left: list[int] = torch.argsort(scores, descending=True, stable=True).tolist()
    kept = []
    while left:
        best, *rest = left
        kept.append(best)
        left = [k for k in rest if overlap[best, k] <= most]
    return torch.tensor(sorted(kept), dtype=torch.int64, device=masks.device)


def cleaned(masks: torch.Tensor, most: int) -> torch.Tensor:
    """Return masks without holes and specks of at most so many pixels.

    A speck goes only if it is at most half of its mask, so that a small object stays.

    Parameters
    ----------
    masks : (N, h, w) float32
        Logits.
    most : int
        0 changes nothing.
    """
    if most <= 0 or not len(masks):
        return masks
    return torch.stack([_cleaned(mask, most) for mask in masks])


def apart(masks: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return masks of which no two of one group share a pixel: it belongs to the one with the highest score.

    Parameters
    ----------
    masks : (N, h, w) float32
        Logits.
    scores : (N,) float32
    groups : (N,) int64
    """
    result = masks.clone()
    for group in set(groups.tolist()):
        rows = torch.nonzero(groups == group)[:, 0]
        claims = torch.where(masks[rows] > 0, scores[rows, None, None], 0.0)
        owner = claims.argmax(0)
        mine = owner == torch.arange(len(rows), device=masks.device)[:, None, None]
        result[rows] = torch.where(mine | (masks[rows] <= 0), masks[rows], NOWHERE)
    return result


def _cleaned(mask: torch.Tensor, most: int) -> torch.Tensor:
    """Return one mask, ``(h, w)``, without small holes, then without small specks."""
    inside = (mask > 0).cpu().numpy()
    holes = _small(~inside, most)
    inside |= holes
    specks = _small(inside, min(most, int(inside.sum()) // 2))
    filled = torch.where(torch.from_numpy(holes).to(mask.device), FILLED, mask)
    return torch.where(torch.from_numpy(specks).to(mask.device), WIPED, filled)


def _small(pixels: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """Return the pixels of the islands of at most so many; corners connect."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] <= most
    small[0] = False  # the ground
    return np.asarray(small[parts])
