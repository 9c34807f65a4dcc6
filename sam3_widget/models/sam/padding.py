"""Masks of models that pad images to a square: without the padding on the way out, and with it on the way in.

The image covers a share of the square that may end within a pixel of the masks, which are coarser than the square;
masks are resampled then, bilinearly, rather than cut.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable

Share = tuple[float, float]
"""What part of the square's height and of its width an image covers, from its upper left corner; 1 is all of it."""

BACKGROUND = -10.0
"""Logits that padding has at most: no object is there."""
TINY = 1e-6


def covered(side: int, share: Share) -> tuple[int, int]:
    """Return the height and width of masks over an image, for masks with so many pixels per side over the square."""
    height, width = (max(1, math.ceil(side * part - TINY)) for part in share)
    return height, width


def crop(masks: torch.Tensor, share: Share) -> torch.Tensor:
    """Return masks over the square as masks over the image in it.

    Parameters
    ----------
    masks : (N, K, S, S) float32
    share : (float, float)

    Returns
    -------
    (N, K, h, w) float32
    """
    height, width = covered(masks.shape[-1], share)
    if _even(masks.shape[-1], share):
        return masks[..., :height, :width]
    return _resample(masks, (height, width), share, "border")


def pad(masks: torch.Tensor, side: int, share: Share) -> torch.Tensor:
    """Return masks over an image as masks over the square that it lies in.

    Parameters
    ----------
    masks : (N, K, h, w) float32
    side : int
        S, the pixels per side of the outcome.
    share : (float, float)

    Returns
    -------
    (N, K, S, S) float32
        The padding is background, as sure as the mask's own.
    """
    height, width = masks.shape[-2:]
    ground = masks.amin((-2, -1), keepdim=True).clamp(max=BACKGROUND)
    if _even(side, share):
        square = ground.repeat(1, 1, side, side)
        square[..., :height, :width] = masks
        return square
    inverse = (1 / share[0], 1 / share[1])
    return _resample(masks - ground, (side, side), inverse, "zeros") + ground


def _even(side: int, share: Share) -> bool:
    """Whether the image ends between two pixels of the masks."""
    return all(abs(side * part - round(side * part)) < TINY for part in share) and min(share) * side >= 1


def _resample(masks: torch.Tensor, size: tuple[int, int], reach: Iterable[float], beyond: str) -> torch.Tensor:
    """Return masks of another size, over the upper left part of what they covered, or more than it where above 1."""
    down, right = reach
    window = torch.tensor([[right, 0, right - 1], [0, down, down - 1]], dtype=masks.dtype, device=masks.device)
    grid = functional.affine_grid(window.expand(len(masks), -1, -1), [len(masks), 1, *size], align_corners=False)
    return functional.grid_sample(masks, grid, padding_mode=beyond, align_corners=False)
