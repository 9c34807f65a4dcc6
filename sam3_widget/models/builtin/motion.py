"""Where everything in one picture has gone in the next: dense optical flow, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.guide import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths

SIDE = 512
"""Longest side of the grey pictures between which motion is measured."""
SLIP, SLIP_SHARE = 1.0, 0.05
"""How far from itself a place may come by going back and forth: in pixels of those, and as a share of the way."""

CUT = 0.15
"""Mean trust below which two pictures are of different scenes; of one scene it is hardly ever below 0.5."""


class Motion:
    """The optical flow between two pictures of one size: DIS (Kroeger et al., ECCV 2016), back and forth.

    Parameters
    ----------
    before, after : (H, W, 3) uint8
        RGB.

    Attributes
    ----------
    trust : (h, w) float32
        How surely each place of ``after`` was in ``before`` where the flow says, 0 to 1; on grey pictures whose longest
        side is at most :data:`SIDE`.
    cut : bool
        Whether the two are of different scenes.
    """

    def __init__(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        first, second = _grey(before), _grey(after)
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        back = np.asarray(flow.calc(second, first, np.empty(0)), np.float32)
        forth = np.asarray(flow.calc(first, second, np.empty(0)), np.float32)
        rows, columns = np.indices(first.shape, np.float32)
        self._source = columns + back[..., 0], rows + back[..., 1]
        returned = self._from(forth)
        slip = np.linalg.norm(back + returned, axis=2) / (SLIP + SLIP_SHARE * np.linalg.norm(back, axis=2))
        self.trust = np.asarray(np.exp(-(slip**2) / 2), np.float32)
        self.cut = bool(self.trust.mean() < CUT)

    def carry(self, mask: RunLengths) -> NDArray[np.float32]:
        """Return where what a mask covers is now: pixels from its boundary, positive inside, of :attr:`trust`'s shape.

        What was at the border of the picture goes on beyond it.
        """
        inside = mask.sampled(*self.trust.shape).astype(np.uint8)
        depth, distance = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (inside, 1 - inside))
        signed = np.where(inside > 0, depth - 0.5, 0.5 - distance).astype(np.float32)
        return self._from(signed)

    def _from(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a plane of the picture before, as it has moved."""
        moved = cv2.remap(plane, *self._source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of a picture at the size at which motion is measured."""
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(fit(grey, (max(1, round(height * scale)), max(1, round(width * scale)))), np.uint8)
