"""Sharp contours from coarse logits: the picture itself says where, between two coarse cells, the contour runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.geometry import LIMIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.integer | np.floating]

RADIUS = 2
"""Half the side of the window in which logits are linear in the colours, in coarse cells."""
EPSILON = 12.0
"""Variance of colours, in Lab units squared, that counts as an edge."""
SOFT = 0.8
"""Standard deviation, in pixels, of the blur that gives even the hardest contour a slope for a threshold to move on."""


class Guide:
    """A picture prepared for sharpening: the fast guided filter (He and Sun, arXiv:1505.00996).

    Parameters
    ----------
    picture : (H, W, 3) uint8
        RGB, at the size of the sharp logits.
    coarse : (h, w)
        Size of the logits that will be sharpened.
    """

    def __init__(self, picture: NDArray[np.uint8], coarse: tuple[int, int]) -> None:
        self.size: tuple[int, int] = (picture.shape[0], picture.shape[1])
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        self._fine = cv2.split(lab)
        self._coarse = fit(lab, coarse).astype(np.float32)
        self._centre = local_mean(self._coarse)
        products = self._coarse[..., :, None] * self._coarse[..., None, :]
        squares = local_mean(products.reshape(*coarse, 9)).reshape(products.shape)
        covariance = squares - self._centre[..., :, None] * self._centre[..., None, :]
        inverse = np.linalg.inv(covariance + EPSILON * np.eye(3, dtype=np.float32))
        self._inverse = np.asarray(inverse, np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in (*self._fine, self._coarse, self._centre, self._inverse))

    def sharpen(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return coarse ``(h, w)`` logits at the picture's size, with contours on its edges."""
        average = local_mean(logits)
        joint = local_mean(self._coarse * logits[..., None]) - self._centre * average[..., None]
        slope = np.matmul(self._inverse, joint[..., None])[..., 0]
        offset = average - (slope * self._centre).sum(-1)
        # Channel by channel, which OpenCV does several times as fast as numpy the whole.
        *slopes, sharp = (
            cv2.resize(plane, self.size[::-1], interpolation=cv2.INTER_LINEAR).reshape(self.size)
            for plane in cv2.split(local_mean(np.dstack([slope, offset])))
        )
        for plane, channel in zip(slopes, self._fine, strict=True):
            sharp = sharp + np.asarray(cv2.multiply(plane, channel, dtype=cv2.CV_32F)).reshape(self.size)
        soft = cv2.GaussianBlur(np.clip(sharp, -LIMIT, LIMIT), (3, 3), SOFT)
        return np.asarray(soft, np.float32).reshape(self.size)


def fit(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Return a picture at another ``(height, width)``: along each axis the mean of what a pixel covers, or linear."""
    for rows, columns in {(min(size[0], picture.shape[0]), min(size[1], picture.shape[1])): None, size: None}:
        shrinks = (rows, columns) != size or size[0] < picture.shape[0] or size[1] < picture.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        if (rows, columns) != picture.shape[:2]:
            resized = cv2.resize(picture, (columns, rows), interpolation=method)
            picture = np.asarray(resized).reshape(rows, columns, *picture.shape[2:])
    return picture


def local_mean(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over a square window, channel by channel."""
    side = 2 * RADIUS + 1
    mean = cv2.blur(np.ascontiguousarray(picture), (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(mean, np.float32).reshape(picture.shape)
