"""From superpixels back to pixels: smooth logits whose contour follows the picture's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.geometry import LIMIT
from sam3_widget.models.builtin.graph import colour_evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.builtin.regions import Regions

SOFTNESS = 2.0
"""Pixels of the work image for one unit of logit across the contour."""
COLOUR_WEIGHT = 0.5
COLOUR_CLIP = 1.5
"""In logits: how far a pixel's own colour may move the contour."""
GUIDE_RADIUS = 3
GUIDE_EPSILON = 4.0
"""Variance of the guide, in Lab units squared, that counts as an edge."""


def to_pixels(
    regions: Regions, guide: Guide, member: NDArray[np.bool_], around: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return logits of a region.

    Parameters
    ----------
    regions : Regions
    guide : Guide
    member : (N,) bool
        Its superpixels.
    around : (N,) bool
        Superpixels outside of it that it has to be told from.

    Returns
    -------
    (h, w) float32
    """
    mask = member[regions.labels]
    if not mask.any():
        return np.full(mask.shape, -LIMIT, np.float32)
    distance = signed_distance(mask)
    inside, outside = regions.area * member, regions.area * around
    evidence = colour_evidence(regions, inside[:, None], outside[:, None])[regions.word, 0]
    colour = np.clip(COLOUR_WEIGHT * evidence, -COLOUR_CLIP, COLOUR_CLIP)
    rough = np.clip(distance / SOFTNESS + colour, -LIMIT, LIMIT).astype(np.float32)
    return np.asarray(np.clip(guide.smooth(rough), -LIMIT, LIMIT), np.float32)


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance to the contour in pixels, positive inside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    # distanceTransform has no bound for a picture that is all one side.
    return np.asarray(np.clip(inside, 0, 1e4) - np.clip(outside, 0, 1e4), np.float32)


@dataclass(frozen=True)
class Guide:
    """A picture prepared for smoothing others along its edges: the guided filter (He, Sun and Tang, PAMI 2013).

    Attributes
    ----------
    picture : (h, w, 3) float32
    centre : (h, w, 3) float32
        Its local mean.
    inverse : (h, w, 3, 3) float32
        Inverse of its local covariance.
    """

    picture: NDArray[np.float32]
    centre: NDArray[np.float32]
    inverse: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return self.picture.nbytes + self.centre.nbytes + self.inverse.nbytes

    def smooth(self, source: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ``(h, w)`` source, smoothed where the picture is smooth."""
        average = local_mean(source)
        joint = local_mean(self.picture * source[..., None]) - self.centre * average[..., None]
        slope = np.einsum("hwij,hwj->hwi", self.inverse, joint)
        offset = average - (slope * self.centre).sum(-1)
        return np.asarray((local_mean(slope) * self.picture).sum(-1) + local_mean(offset), np.float32)


def build_guide(picture: NDArray[np.float32]) -> Guide:
    """Prepare an ``(h, w, 3)`` float32 picture."""
    picture = np.ascontiguousarray(picture)
    centre = local_mean(picture)
    products = picture[..., :, None] * picture[..., None, :]
    squares = local_mean(products.reshape(*picture.shape[:2], 9)).reshape(products.shape)
    covariance = squares - centre[..., :, None] * centre[..., None, :]
    inverse = np.linalg.inv(covariance + GUIDE_EPSILON * np.eye(3, dtype=np.float32))
    return Guide(picture, centre, np.asarray(inverse, np.float32))


def local_mean(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over a square window, channel by channel."""
    side = 2 * GUIDE_RADIUS + 1
    mean = cv2.blur(np.ascontiguousarray(picture), (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(mean, np.float32).reshape(picture.shape)
