"""What an object in a video looks like, place by place, and how much another frame's places look like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.geometry import HALF, LIMIT
from sam3_widget.models.builtin.guide import fit
from sam3_widget.models.builtin.runtime import bounded, reduce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.models.builtin.runtime import BuiltinEmbedding, Runtime, Window

    Plane = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Size = tuple[int, int]

ROOM, AIR, ZOOM = 1.75, 1.3, 4.0
"""What is looked at for an object: this many of its longer sides, and of each side at least; greatest magnification."""
WHOLE = 0.9
"""Share of the picture's side from which all of it is looked at."""
PURE, FREE = 0.7, 0.1
"""A cell is the object's from this cover on, and the ground's below this one."""
FEWEST = 3
MOST_OBJECT, MOST_GROUND = 500, 1000
"""Least cells by which an object is known, and most of object and ground that are kept of a frame."""
SMOOTH = 0.7
"""Standard deviation, in cells, of the blur over what the cells look like."""
CHUNK = 128
"""Places that are compared at once: so few that the result stays in the processor's cache."""


@dataclass(frozen=True)
class Look:
    """A part of a picture as the network sees it.

    Attributes
    ----------
    size : (height, width)
        Of the picture.
    window : (x1, y1, x2, y2)
        Which part, in its pixels.
    seen : BuiltinEmbedding
        Its prompts are in pixels of the window.
    cells : (C, h, w) float32
        Features at stride 4, unit vectors.
    """

    size: Size
    window: Window
    seen: BuiltinEmbedding
    cells: Plane

    @classmethod
    def of(cls, runtime: Runtime, picture: NDArray[np.uint8], window: Window) -> Look:
        """Run the encoder on a part of an ``(H, W, 3)`` picture."""
        x1, y1, x2, y2 = window
        seen = runtime.encode(np.ascontiguousarray(picture[y1:y2, x1:x2]))
        fine, broad = seen.features.e4[0].numpy(), seen.features.e8[0].numpy()
        resized = np.stack([fit(plane, fine.shape[1:]) for plane in broad])
        both = np.concatenate([fine, resized / (np.linalg.norm(resized, axis=0) + 1e-6)]) * 0.5**0.5
        return cls((picture.shape[0], picture.shape[1]), window, seen, both.astype(np.float32))

    @property
    def grid(self) -> Size:
        """Rows and columns of cells."""
        return self.cells.shape[1], self.cells.shape[2]

    def cut(self, plane: Plane | Mask) -> Plane:
        """Return what of an ``(H, W)`` plane of the picture's size is here, cell by cell."""
        x1, y1, x2, y2 = self.window
        return np.asarray(fit(plane[y1:y2, x1:x2].astype(np.float32), self.grid), np.float32)

    def covered(self, mask: Mask) -> Mask:
        """Return which cells are mostly inside an ``(H, W)`` mask."""
        return np.asarray(self.cut(mask) > HALF)

    def draw(self, logits: Plane) -> Plane:
        """Return the network's logits with the picture's contours, ``(H, W)`` of the whole picture."""
        whole = np.full(self.size, -LIMIT, np.float32)
        x1, y1, x2, y2 = self.window
        whole[y1:y2, x1:x2] = fit(self.seen.guide.sharpen(bounded(logits)), (y2 - y1, x2 - x1))
        return whole


class Scene:
    """One frame of a clip, with what has been looked at of it.

    Parameters
    ----------
    runtime : Runtime
    frame_idx : int
    frame : (H, W, 3) uint8
        RGB.
    """

    def __init__(self, runtime: Runtime, frame_idx: int, frame: NDArray[np.uint8]) -> None:
        self.frame_idx = frame_idx
        self.frame_size: Size = (frame.shape[0], frame.shape[1])
        self.picture = reduce(frame)
        self._runtime = runtime
        self._looks: dict[Window, Look] = {}

    @property
    def size(self) -> Size:
        """Height and width of the picture; the frame may be larger."""
        return self.picture.shape[0], self.picture.shape[1]

    def look(self, box: NDArray[np.float64] | None = None) -> Look:
        """Look at what is around a box ``(x1, y1, x2, y2)`` in pixels of the picture, or at all of it."""
        height, width = self.size
        window = (0, 0, width, height) if box is None else around(box, self.size)
        if window not in self._looks:
            self._looks[window] = Look.of(self._runtime, self.picture, window)
        return self._looks[window]

    def forget(self) -> None:
        """Drop what was looked at."""
        self._looks.clear()

    def on(self, mask: RunLengths) -> Mask:
        """Return a frame's mask at the picture's size."""
        return mask.sampled(*self.size)

    def box(self, mask: RunLengths) -> NDArray[np.float64]:
        """Return the box around a frame's mask in pixels of the picture; of an empty one it is all of it."""
        factors = np.array(self.size[::-1]) / self.frame_size[::-1]
        return np.asarray(np.array(mask.bbox or (0, 0, *self.frame_size[::-1])) * np.tile(factors, 2), np.float64)


@dataclass(frozen=True)
class Appearance:
    """Places of a frame: an object's and the ground's around it.

    Attributes
    ----------
    object_, ground : (N, C) float32
        Unit features.
    """

    object_: Plane
    ground: Plane

    @classmethod
    def of(cls, look: Look, mask: Mask) -> Appearance | None:
        """Return what an ``(H, W)`` mask of the picture's size shows, None where there is too little of it."""
        cover = look.cut(mask).ravel()
        cells = look.cells.reshape(len(look.cells), -1).T
        object_ = cells[cover > min(PURE, float(cover.max()) / 2)]
        if len(object_) < FEWEST:
            return None
        return cls(_some(object_, MOST_OBJECT), _some(cells[cover < FREE], MOST_GROUND))

    def share_in(self, others: Sequence[Appearance]) -> float:
        """Return which share of the object looks more like the object in others than like the ground there."""
        return float(np.mean(alike(self.object_, others) > 0))


def odds(look: Look, others: Sequence[Appearance], near: Mask) -> Plane:
    """Return by how much each cell looks more like object than like ground, as a difference of cosines; -1 far off.

    Parameters
    ----------
    look : Look
    others : sequence of Appearance
    near : (h, w) bool
        Cells that are asked for.
    """
    result = np.full(look.grid, -1, np.float32)
    result[near] = alike(look.cells[:, near].T, others)
    return np.asarray(cv2.GaussianBlur(result, (0, 0), SMOOTH), np.float32)


def alike(places: Plane, others: Sequence[Appearance]) -> Plane:
    """Return, for each of ``(N, C)`` features, the cosine to the nearest place of an object less that of a ground."""
    return _nearest(places, [each.object_ for each in others]) - _nearest(places, [each.ground for each in others])


def _nearest(places: Plane, others: Sequence[Plane]) -> Plane:
    """Return the greatest cosine of each of ``(N, C)`` unit vectors to others, -1 where there are none."""
    known = np.concatenate([places[:0], *others]).T.copy()
    best = np.full(len(places), -1, np.float32)
    if known.size:
        for start in range(0, len(places), CHUNK):
            best[start : start + CHUNK] = (places[start : start + CHUNK] @ known).max(1)
    return best


def _some(places: Plane, most: int) -> Plane:
    """Return at most so many places, evenly taken."""
    if len(places) <= most:
        return places.copy()
    return places[np.linspace(0, len(places) - 1, most).astype(np.intp)]


def around(box: NDArray[np.float64], size: Size) -> Window:
    """Return which part of a picture of a ``(height, width)`` to look at for what is in a box ``(x1, y1, x2, y2)``."""
    height, width = size
    across, down = box[2:] - box[:2]
    needed = max(AIR * down / height, AIR * across / width, ROOM * max(across, down) / (height * width) ** 0.5)
    share = max(needed, 1 / ZOOM)
    if share >= WHOLE:
        return 0, 0, width, height
    rows, columns = round(share * height), round(share * width)
    left = int(np.clip((box[0] + box[2] - columns) / 2, 0, width - columns))
    top = int(np.clip((box[1] + box[3] - rows) / 2, 0, height - rows))
    return left, top, left + columns, top + rows


def box_of(mask: Mask) -> NDArray[np.float64]:
    """Return ``(x1, y1, x2, y2)`` around a mask, ends exclusive."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return np.array([x, y, x + width, y + height], np.float64)
