"""Find everything that looks like an exemplar: likeness of features, its peaks, and a mask decoded at each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.base import Detections, InstancePrompts
from sam3_widget.models.builtin.geometry import LIMIT, bound_by_box
from sam3_widget.models.builtin.guide import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import ConceptPrompts, Progress
    from sam3_widget.models.builtin.runtime import BuiltinEmbedding, Runtime, Window

GRID_AREA = 512 * 384
"""Most cells of the logits of everything that is found, which all are in memory at once."""
GOOD_SIDE = 44
"""Side of an object, in pixels of the network's input, that the network sees well; smaller ones are enlarged."""
WORTH_IT, MOST_ZOOM = 1.25, 4.0
"""Least and greatest magnification."""
MOST_PARTS = 25
MOST_PLACES = 400
MOST_FOUND = 200
APART = 0.45
"""Least distance of two peaks, as a share of the exemplar's side."""
LIKELY = 0.5
"""Where to look: the probability that a place is of the exemplar's kind."""
CONTRAST = 10.0
"""Slope of that probability over the difference of two cosines."""
SAME = 0.5
"""IoU from which two masks are one thing."""
WITHIN = 0.75
"""Share of the smaller of two masks inside the other from which they cannot both be things."""
SIZES = 0.8
"""Standard deviation of the sizes of things of one kind, as the logarithm of their areas."""
BATCH = 8
BORDER = 4
"""Cells around a mask of which the logits are kept."""
RING = 0.3
"""Width of the ground around an exemplar that says what it is not, as a share of its side."""


def search(runtime: Runtime, embedding: BuiltinEmbedding, concept: ConceptPrompts, progress: Progress) -> Detections:
    """Find what looks like the positive exemplars and not like the negative ones.

    Enlarged views of the picture are encoded where the exemplars are small; they stay in the embedding until it is
    trimmed.
    """
    progress(0.0)
    height, width = embedding.picture.shape[:2]
    factors = np.array([width / embedding.width, height / embedding.height], np.float32)
    boxes = within(concept.boxes * np.tile(factors, 2), height, width)
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    scale = 2 * (embedding.coarse[0] * embedding.coarse[1] / (height * width)) ** 0.5
    windows = tiles(height, width, float(np.median(sides[concept.labels])), scale)
    embedding.forget_all_but(windows)
    views = []
    for number, window in enumerate(windows):
        views.append(View.of(runtime, embedding, window))
        progress(0.4 * (number + 1) / len(windows))
    patterns = [examine(runtime, views, box) for box in boxes]
    wanted = [each for each, label in zip(patterns, concept.labels, strict=True) if label]
    unwanted = [each.shown for each, label in zip(patterns, concept.labels, strict=True) if not label]
    typical = sorted(wanted, key=lambda each: each.area)[len(wanted) // 2]
    kinds = [each.shown for each in wanted], [*unwanted, *(each.ground for each in wanted if each.ground is not None)]
    grid = grid_of(height, width)
    semantic = np.full(grid, -LIMIT, np.float32)
    found: list[Found] = []
    for number, view in enumerate(views):
        odds = view.odds(kinds)
        rows, columns = on_grid(view.window, (height, width), grid)
        part = semantic[rows, columns]
        np.maximum(part, fit(odds, part.shape), out=part)
        places = view.places(odds, typical.side)[: MOST_PLACES // len(views)]
        for start in range(0, len(places), BATCH):
            for logits, score in view.decode(runtime, places[start : start + BATCH], typical, kinds):
                whole = np.clip(fit(logits, part.shape), -LIMIT, LIMIT).astype(np.float32)
                found.append(Found.cut(whole, (rows.start, columns.start), score))
            progress(0.4 + 0.55 * (number + start / len(places)) / len(views))
    kept = without_duplicates(found)
    logits = np.full((len(kept), *grid), -LIMIT, np.float32)
    for whole, one in zip(logits, kept, strict=True):
        rows, columns = one.logits.shape
        whole[one.corner[0] : one.corner[0] + rows, one.corner[1] : one.corner[1] + columns] = one.logits
    scores = np.array([one.score for one in kept], np.float32)
    around = np.array([one.box for one in kept], np.float32).reshape(-1, 4)
    scale = np.array([embedding.width / grid[1], embedding.height / grid[0]] * 2, np.float32)
    progress(1.0)
    return Detections(logits, scores, around * scale, float(scores.max(initial=0.0)), semantic)


@dataclass(frozen=True)
class Kind:
    """What an exemplar, or the ground beside it, looks like.

    Attributes
    ----------
    fine, broad : (C,) float32
        Mean unit features at strides 4 and 8.
    """

    fine: NDArray[np.float32]
    broad: NDArray[np.float32]

    def __matmul__(self, other: Kind) -> float:
        """Return the mean cosine."""
        return float(self.fine @ other.fine + self.broad @ other.broad) / 2


Kinds = tuple["Sequence[Kind]", "Sequence[Kind]"]
"""What is looked for, and what it is not."""


def tiles(height: int, width: int, side: float, scale: float) -> list[Window]:
    """Return views ``(x1, y1, x2, y2)`` of an image that show objects of a side at a good size.

    Parameters
    ----------
    height, width : int
        Of the image.
    side : float
        Of the exemplar, in the image's pixels.
    scale : float
        Of the network's input when it sees the whole image.
    """
    zoom = min(GOOD_SIDE / (side * scale), MOST_ZOOM)
    if zoom <= WORTH_IT:
        return [(0, 0, width, height)]
    view = (height / zoom, width / zoom)
    overlap = min(1.5 * side, *(part / 2 for part in view))
    counts = [
        max(1, int(np.ceil((total - overlap) / max(part - overlap, 1))))
        for total, part in zip((height, width), view, strict=True)
    ]
    while counts[0] * counts[1] > MOST_PARTS:
        counts[int(np.argmax(counts))] -= 1
    starts = []
    for total, part, count in zip((height, width), view, counts, strict=True):
        length = max(part, (total + (count - 1) * overlap) / count)
        first = np.linspace(0, total - length, count)
        starts.append([(int(start), int(np.ceil(start + length))) for start in first])
    return [(x1, y1, min(x2, width), min(y2, height)) for y1, y2 in starts[0] for x1, x2 in starts[1]]


@dataclass(frozen=True)
class View:
    """A part of the picture as the network sees it.

    Attributes
    ----------
    window : (x1, y1, x2, y2)
        In pixels of the picture.
    seen : BuiltinEmbedding
        Its prompts are in pixels of the window.
    fine, broad : (C, h, w) float32
        Unit features at strides 4 and 8.
    """

    window: Window
    seen: BuiltinEmbedding
    fine: NDArray[np.float32]
    broad: NDArray[np.float32]

    @classmethod
    def of(cls, runtime: Runtime, whole: BuiltinEmbedding, window: Window) -> View:
        """Look at a window, or remember what was seen there."""
        x1, y1, x2, y2 = window
        if (y2 - y1, x2 - x1) == whole.picture.shape[:2]:
            seen = whole
        elif window in whole.parts:
            seen = whole.parts[window]
        else:
            seen = runtime.encode(np.ascontiguousarray(whole.picture[y1:y2, x1:x2]))
            whole.keep(window, seen)
        return cls(window, seen, seen.features.e4[0].numpy(), seen.features.e8[0].numpy())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the picture."""
        return self.window[3] - self.window[1], self.window[2] - self.window[0]

    def prompts(
        self, points: Sequence[tuple[float, float]] = (), box: NDArray[np.float32] | None = None
    ) -> InstancePrompts:
        """Return positive clicks and a box, given in pixels of the window, as this view's embedding takes them."""
        factors = np.array([self.seen.width / self.size[1], self.seen.height / self.size[0]], np.float32)
        clicks = np.array(points, np.float32).reshape(-1, 2) * factors
        scaled = None if box is None else (box * np.tile(factors, 2)).astype(np.float32)
        return InstancePrompts(clicks.astype(np.float32), np.ones(len(clicks), np.bool_), scaled)

    def odds(self, kinds: Kinds) -> NDArray[np.float32]:
        """Return, at stride 4, the logit of a place being of the kind that is looked for, ``(h, w)``."""
        alike, unlike = (likeness(self.fine, self.broad, each) for each in kinds)
        return np.asarray(np.clip(CONTRAST * (alike - unlike), -LIMIT, LIMIT), np.float32)

    def places(self, odds: NDArray[np.float32], side: float) -> list[tuple[float, float]]:
        """Return ``(x, y)`` in pixels of the window where things of a side, in such pixels, may be; likeliest first."""
        down, across = self.size[0] / odds.shape[0], self.size[1] / odds.shape[1]
        return [(x * across, y * down) for x, y in peaks(sigmoid(odds), side / (down * across) ** 0.5)]

    def decode(
        self, runtime: Runtime, places: Sequence[tuple[float, float]], pattern: Pattern, kinds: Kinds
    ) -> list[tuple[NDArray[np.float32], float]]:
        """Return logits, on this view, of the thing at each place, and how sure it is."""
        logits, quality = runtime.decode(self.seen, [(self.prompts([place]), None) for place in places])
        found = []
        for candidates, ious in zip(logits[:, 1:], quality[:, 1:], strict=True):
            scores = [self.rate(each, float(iou), pattern, kinds) for each, iou in zip(candidates, ious, strict=True)]
            best = int(np.argmax(scores))
            found.append((candidates[best], scores[best]))
        return found

    def rate(self, logits: NDArray[np.float32], iou: float, pattern: Pattern, kinds: Kinds) -> float:
        """Return how sure it is that a mask is a thing like the exemplars, 0 to 1."""
        mask = (logits > 0).astype(np.float32)
        area = float(mask.mean()) * self.size[0] * self.size[1]
        if area == 0:
            return 0.0
        shown = self.describe(mask)
        alike, unlike = (max((shown @ kind for kind in each), default=-1.0) for each in kinds)
        of_kind = float(sigmoid(np.array(CONTRAST * (alike - unlike), np.float32)))
        of_size = np.exp(-((np.log(area / pattern.area) / SIZES) ** 2) / 2)
        return float((max(alike, 0.0) * of_kind * of_size * iou) ** 0.5)

    def describe(self, mask: NDArray[np.float32]) -> Kind:
        """Return what a mask's inside looks like."""
        return Kind(mean_feature(self.fine, mask), mean_feature(self.broad, mask))


@dataclass(frozen=True)
class Pattern:
    """What is in an exemplar box.

    Attributes
    ----------
    shown, ground : Kind
        Of the thing, and of what is around it, None where it fills the view.
    side, area : float
        Side of the box and area of the thing, in pixels of the picture.
    """

    shown: Kind
    ground: Kind | None
    side: float
    area: float


def examine(runtime: Runtime, views: Sequence[View], box: NDArray[np.float32]) -> Pattern:
    """Look at what is in a box, ``(x1, y1, x2, y2)`` in pixels of the picture, in the view that shows it best."""
    view = min(views, key=lambda each: eccentricity(each.window, box))
    inside = (box - np.tile(view.window[:2], 2)).astype(np.float32)
    logits = runtime.decode(view.seen, [(view.prompts(box=inside), None)])[0][0, 0]
    logits = bound_by_box(logits, inside, view.size)
    mask = (logits > 0).astype(np.float32)
    scale = np.array([mask.shape[1] / view.size[1], mask.shape[0] / view.size[0]] * 2)
    last = np.array([mask.shape[1] - 1, mask.shape[0] - 1] * 2)
    x1, y1, x2, y2 = np.clip((inside * scale).astype(int), 0, last)
    if not mask.any():
        mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    margin = max(2, round(RING * max(x2 - x1, y2 - y1)))
    ring = np.zeros_like(mask)
    ring[max(0, y1 - margin) : y2 + margin + 1, max(0, x1 - margin) : x2 + margin + 1] = 1
    ring *= cv2.erode(1 - mask, np.ones((3, 3)))
    area = float(mask.mean()) * view.size[0] * view.size[1]
    ground = view.describe(ring) if ring.any() else None
    return Pattern(view.describe(mask), ground, float(np.sqrt(np.prod(box[2:] - box[:2]))), area)


def within(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return ``(N, 4)`` boxes inside a picture, at least a pixel wide and high."""
    size = np.array([width, height])
    low = np.clip(boxes[:, :2], 0, size - 1)
    high = np.clip(boxes[:, 2:], low + 1, size)
    return np.hstack([low, high]).astype(np.float32)


def eccentricity(window: Window, box: NDArray[np.float32]) -> float:
    """Return how far a box is from the middle of a window, 1 where it reaches the border."""
    x1, y1, x2, y2 = window
    middle, half = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1]) / 2
    return float(np.max(np.abs(box.reshape(2, 2) - middle) / half))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities."""
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def mean_feature(features: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unit mean of ``(C, h, w)`` features where ``(H, W)`` weights are."""
    share = fit(weights, (features.shape[1], features.shape[2])).astype(np.float32)
    mean = features.reshape(len(features), -1) @ share.ravel()
    return np.asarray(mean / (np.linalg.norm(mean) + 1e-6), np.float32)


def likeness(fine: NDArray[np.float32], broad: NDArray[np.float32], kinds: Sequence[Kind]) -> NDArray[np.float32]:
    """Return the ``(h, w)`` cosine at stride 4 to the most similar of some kinds; -1 where there is none."""
    size = (fine.shape[1], fine.shape[2])
    best = np.full(size, -1, np.float32)
    for kind in kinds:
        near = np.tensordot(kind.fine, fine, 1)
        far = fit(np.tensordot(kind.broad, broad, 1), size).astype(np.float32)
        best = np.maximum(best, (near + far) / 2).astype(np.float32)
    return best


def peaks(likely: NDArray[np.float32], side: float) -> list[tuple[float, float]]:
    """Return ``(x, y)`` of likely places, the likeliest first, none too near to a likelier one.

    Parameters
    ----------
    likely : (h, w) float32
    side : float
        Of an object, in cells.
    """
    smooth = cv2.GaussianBlur(likely, (0, 0), max(0.6, 0.15 * side))
    free = (smooth > LIKELY).astype(np.uint8)
    rows, columns = np.nonzero(free)
    found = []
    for n in np.argsort(-smooth[rows, columns], kind="stable"):
        row, column = int(rows[n]), int(columns[n])
        if free[row, column]:
            found.append((column + 0.5, row + 0.5))
            cv2.circle(free, (column, row), max(1, round(APART * side)), 0, -1)
            if len(found) == MOST_PLACES:
                break
    return found


@dataclass
class Found:
    """One thing: its mask as a window of logits, and how sure it is.

    Attributes
    ----------
    logits : (h, w) float32
        On the cells of the whole image's grid that start at ``corner``.
    corner : (row, column)
    score : float
        0 to 1.
    """

    logits: NDArray[np.float32]
    corner: tuple[int, int]
    score: float

    @classmethod
    def cut(cls, logits: NDArray[np.float32], corner: tuple[int, int], score: float) -> Found:
        """Return a thing with no more of its logits than what is near its mask."""
        x, y, width, height = cv2.boundingRect((logits > 0).astype(np.uint8))
        top, left = max(0, y - BORDER), max(0, x - BORDER)
        near = logits[top : y + height + BORDER, left : x + width + BORDER].copy()
        return cls(near, (corner[0] + top, corner[1] + left), score)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """``(x1, y1, x2, y2)`` of the mask, in cells."""
        x, y, width, height = cv2.boundingRect(self.mask.astype(np.uint8))
        x, y = x + self.corner[1], y + self.corner[0]
        return x, y, x + width, y + height

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Where it is."""
        return np.asarray(self.logits > 0)

    @cached_property
    def area(self) -> int:
        """Cells of the mask."""
        return int(np.count_nonzero(self.mask))

    def shared(self, other: Found) -> int:
        """Return how many cells two things share."""
        top, left = (max(a, b) for a, b in zip(self.corner, other.corner, strict=True))
        ends = [min(one.corner[axis] + one.logits.shape[axis] for one in (self, other)) for axis in (0, 1)]
        if top >= ends[0] or left >= ends[1]:
            return 0
        windows = [
            one.mask[top - one.corner[0] : ends[0] - one.corner[0], left - one.corner[1] : ends[1] - one.corner[1]]
            for one in (self, other)
        ]
        return int(np.count_nonzero(windows[0] & windows[1]))


def without_duplicates(found: Sequence[Found]) -> list[Found]:
    """Return the best of those that are the same thing, or of which one holds the other, best first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda each: -each.score):
        if one.area == 0 or len(kept) == MOST_FOUND:
            continue
        for other in kept:
            shared = one.shared(other)
            if shared > SAME * (one.area + other.area - shared) or shared > WITHIN * min(one.area, other.area):
                break
        else:
            kept.append(one)
    return kept


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Return the grid of the logits of everything found in an image."""
    scale = min(1.0, (GRID_AREA / (height * width)) ** 0.5)
    return min(max(1, round(height * scale)), GRID_AREA), min(max(1, round(width * scale)), GRID_AREA)


def on_grid(window: Window, size: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of a grid that a window of a picture of a size covers."""
    spans = []
    for low, high, pixels, cells in zip(window[1::-1], window[:1:-1], size, grid, strict=True):
        start = min(round(low * cells / pixels), cells - 1)
        spans.append(slice(start, max(start + 1, round(high * cells / pixels))))
    return spans[0], spans[1]
