"""Images, prompts and measures for the tests of models."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from skimage import data

from sam3_widget.models.base import ConceptPrompts, InstancePrompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTOGRAPHS = ("astronaut", "coffee", "coins", "chelsea")


def shapes() -> NDArray[np.uint8]:
    """Two discs and a square on a graded ground."""
    ground = np.linspace(60, 120, 320)[None, :, None] * np.ones((240, 1, 3))
    image = ground.astype(np.uint8)
    cv2.circle(image, (80, 80), 45, (200, 40, 40), -1)
    cv2.circle(image, (230, 90), 35, (40, 160, 60), -1)
    cv2.rectangle(image, (120, 150), (200, 220), (230, 220, 90), -1)
    return image


@cache
def picture(which: str) -> NDArray[np.uint8]:
    if which == "shapes":
        return shapes()
    image = getattr(data, which)()
    return np.ascontiguousarray(np.dstack([image] * 3) if image.ndim == 2 else image)


def prompts(
    *clicks: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None
) -> InstancePrompts:
    return InstancePrompts(
        np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2),
        np.array([click[2] for click in clicks], np.bool_),
        None if box is None else np.array(box, np.float32),
    )


def concept(text: str = "", *boxes: tuple[float, float, float, float, bool]) -> ConceptPrompts:
    return ConceptPrompts(
        text,
        np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4),
        np.array([box[4] for box in boxes], np.bool_),
    )


def mask_of(logits: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width) > 0)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))
