"""Masks as polygons along the edges of their pixels, and polygons as masks: exact in both directions.

The pixel in column ``x`` and row ``y`` is the square from ``(x, y)`` to ``(x + 1, y + 1)``, as COCO has it. An outline
runs along the edges of pixels, so its vertices are integers from 0 to the image's width and height. A pixel lies in a
polygon when its centre does, by the even-odd rule.

Both directions work on runs of rows, so a mask is never decoded: time and memory grow with the length of its outline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidPromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Ring = NDArray[np.float64]
    """The ``(V, 2)`` vertices ``(x, y)`` of a closed line, the first not repeated."""

_CORNERS = 3
"""Vertices that enclose anything."""
_AT_ONCE = 1 << 20
"""Distances that are held in memory."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask.

    Attributes
    ----------
    outline : (V, 2) float64
        Vertices ``(x, y)`` in pixels, clockwise as one looks at the image; the first is not repeated.
    holes : tuple of (V, 2) float64
        The outlines of its holes, counter-clockwise.
    """

    outline: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outline, then the holes."""
        return (self.outline, *self.holes)


def to_polygons(mask: RunLengths, tolerance: float = 0.0) -> list[Polygon]:
    """Return the parts of a mask as polygons, from top to bottom.

    Pixels that share an edge are one part, pixels that share a corner alone are two. So no outline crosses itself; one
    may touch itself in a corner.

    Parameters
    ----------
    mask : RunLengths
    tolerance : float
        0 gives the polygons that make exactly this mask again. More drops vertices as long as the line moves by no more
        than this many pixels (Douglas and Peucker 1973, OpenCV's ``approxPolyDP``); an outline of which less than a
        triangle would be left stays as it is.

    Raises
    ------
    InvalidPromptError
        The tolerance is negative or no number.
    """
    if not 0 <= tolerance < math.inf:
        message = f"tolerance must be 0 or more pixels, got {tolerance}"
        raise InvalidPromptError(message)
    spans = _row_spans(mask)
    if not len(spans):
        return []
    corners, above, left = _corners(spans, mask.width)
    across, down = _mates(corners, above, left)
    starts, rings = _walk(corners, across, down)
    owners = _owners(corners, down, rings, [corners[k] for k in starts], spans, mask.height)
    simplified = [_simplified(corners[ring].astype(np.float64), tolerance) for ring in rings]
    parts = [k for k, owner in enumerate(owners) if owner == k]
    holes: dict[int, list[Ring]] = {k: [] for k in parts}
    for k, owner in enumerate(owners):
        if owner != k:
            holes[owner].append(simplified[k][::-1])
    return [Polygon(simplified[k], tuple(holes[k])) for k in parts]


def from_polygons(polygons: Iterable[Polygon | Sequence[Ring]], height: int, width: int) -> RunLengths:
    """Return the union of polygons as a mask.

    Parameters
    ----------
    polygons : iterable of Polygon or of lists of rings
        Rings ``(V, 2)`` of ``(x, y)`` in pixels. Within a polygon rings count by the even-odd rule, so a ring in a ring
        is a hole; what lies outside the image is left out.
    height, width : int
        Size of the image in pixels.
    """
    found = [_filled(p.rings if isinstance(p, Polygon) else p, height, width) for p in polygons]
    return _from_spans(np.concatenate([np.zeros((0, 2), np.int64), *found]), height, width)


def seamed(polygons: Sequence[Polygon]) -> Ring:
    """Return polygons as a single ring: holes and further parts hang on it by seams of no width.

    A seam is walked twice, there and back, so that by the even-odd rule the ring fills exactly what the polygons fill.
    It joins the nearest vertices, as the usual converters from COCO to YOLO do.

    Parameters
    ----------
    polygons : sequence of Polygon
        One or more.
    """
    rings = [ring for polygon in polygons for ring in polygon.rings]
    points = np.concatenate(rings)
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    first = np.searchsorted(owner, np.arange(len(rings)))
    gap, hook = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    joined = [(0, 0)]  # each ring with the vertex that its seam ends in
    hung: list[list[tuple[int, int]]] = [[] for _ in rings]
    rest = np.nonzero(owner)[0]
    while len(rest):  # Prim's tree: of what is left, the ring that is nearest to what hangs together is next
        newest = joined[-1][0]
        _look_from(points, rest, slice(int(first[newest]), int(first[newest]) + len(rings[newest])), gap, hook)
        nearest = int(rest[gap[rest].argmin()])
        ring, parent = int(owner[nearest]), int(owner[hook[nearest]])
        hung[parent].append((int(hook[nearest] - first[parent]), ring))
        joined.append((ring, int(nearest - first[ring])))
        rest = rest[owner[rest] != ring]
    walked: dict[int, Ring] = {}
    for k, begin in reversed(joined):  # what hangs on a ring was joined after it
        turned = np.roll(rings[k], -begin, axis=0)
        pieces, done = [], 0
        for at, child in sorted(((at - begin) % len(turned), child) for at, child in hung[k]):
            pieces += [turned[done : at + 1], walked[child], walked[child][:1]]
            done = at
        walked[k] = np.concatenate([*pieces, turned[done:]])
    return walked[0]


def _look_from(
    points: Ring, rest: NDArray[np.int64], ring: slice, gap: NDArray[np.float64], hook: NDArray[np.int64]
) -> None:
    """Note for the vertices ``rest`` where a ring is nearer than what they have found so far."""
    size = max(1, _AT_ONCE // (ring.stop - ring.start))
    for start in range(0, len(rest), size):
        some = rest[start : start + size]
        squares = ((points[some, None] - points[None, ring]) ** 2).sum(-1)
        at = squares.argmin(1)
        nearest = squares[np.arange(len(some)), at]
        closer = nearest < gap[some]
        gap[some[closer]], hook[some[closer]] = nearest[closer], ring.start + at[closer]


def _row_spans(mask: RunLengths) -> NDArray[np.int64]:
    """Return ``(R, 3)`` rows of ``(y, first, end)``: the foreground, cut at the ends of rows."""
    ends = np.cumsum(mask.counts)
    begin, end = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
    some = begin < end  # a run of no length may stand between two that belong together
    begin, end = begin[some], end[some]
    apart = begin[1:] != end[:-1]
    begin, end = begin[np.concatenate([[True], apart])[: len(begin)]], end[np.concatenate([apart, [True]])[: len(end)]]
    top, bottom = begin // mask.width, (end - 1) // mask.width
    many = bottom - top + 1
    first = np.cumsum(many) - many
    row = np.repeat(top - first, many) + np.arange(many.sum())
    left, right = np.zeros(len(row), np.int64), np.full(len(row), mask.width, np.int64)
    left[first], right[first + many - 1] = begin % mask.width, (end - 1) % mask.width + 1
    return np.stack([row, left, right], 1)


def _corners(spans: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the vertices of all outlines.

    A place at which two pixels of the mask touch by a corner alone is two vertices, one for each of them.

    Returns
    -------
    corners : (K, 2) int64
        ``(x, y)``, by row.
    above, left : (K,) bool
        Of two vertices in one place, whether the outline goes up, and to the left, from this one.
    """
    stride = width + 1
    opens, closes = spans[:, 0] * stride + spans[:, 1], spans[:, 0] * stride + spans[:, 2]
    # Where the mask changes along the row below a line of the grid, and along the row above it.
    below, over = np.concatenate([opens, closes]), np.concatenate([opens, closes]) + stride
    plain = np.setxor1d(below, over, assume_unique=True)
    falling = np.intersect1d(opens, closes + stride, assume_unique=True)  # mask at the upper left and the lower right
    rising = np.intersect1d(closes, opens + stride, assume_unique=True)  # at the upper right and the lower left
    place = np.concatenate([plain, falling, falling, rising, rising])
    sizes = [len(plain), len(falling), len(falling), len(rising), len(rising)]
    above = np.repeat([False, True, False, True, False], sizes)
    left = np.repeat([False, True, False, False, True], sizes)
    order = np.lexsort([~left, place])
    y, x = np.divmod(place[order], stride)
    return np.stack([x, y], 1), above[order], left[order]


def _mates(
    corners: NDArray[np.int64], above: NDArray[np.bool_], left: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each vertex the one at the other end of its horizontal, and of its vertical, edge.

    Along each line of the grid an outline is there or not, and changes at each vertex: the first belongs to the
    second, the third to the fourth.
    """
    x, y = corners.T
    mates = []
    for order in (np.lexsort([~left, x, y]), np.lexsort([~above, y, x])):
        mate = np.empty(len(corners), np.int64)
        mate[order[0::2]], mate[order[1::2]] = order[1::2], order[0::2]
        mates.append(mate)
    return mates[0], mates[1]


def _walk(
    corners: NDArray[np.int64], across: NDArray[np.int64], down: NDArray[np.int64]
) -> tuple[list[int], list[list[int]]]:
    """Return the outlines as lists of vertices, with the topmost, then leftmost, of each: it comes first."""
    over, under = across.tolist(), down.tolist()
    seen = bytearray(len(corners))
    starts, rings = [], []
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring, k = [], start
        while not seen[k]:
            other = over[k]
            seen[k] = seen[other] = 1
            ring += [k, other]
            k = under[other]
        starts.append(start)
        rings.append(ring)
    return starts, rings


def _owners(
    corners: NDArray[np.int64],
    down: NDArray[np.int64],
    rings: list[list[int]],
    starts: list[NDArray[np.int64]],
    spans: NDArray[np.int64],
    height: int,
) -> list[int]:
    """Return for each outline which one it is a hole of, or itself."""
    ring_of = np.empty(len(corners), np.int64)
    for k, ring in enumerate(rings):
        ring_of[ring] = k
    upper = np.nonzero(corners[:, 1] < corners[down, 1])[0]  # of each vertical edge
    upper = upper[np.lexsort([corners[upper, 1], corners[upper, 0]])]
    edges = corners[upper, 0] * (height + 1) + corners[upper, 1]
    width = int(spans[:, 2].max()) + 1
    opens = spans[:, 0] * width + spans[:, 1]
    first = np.array(starts)
    place = first[:, 1] * width + first[:, 0]
    # To the right of the first vertex of a part lies the part, and of a hole's nothing: the run on its left ends there.
    run = np.searchsorted(opens, place, "right") - 1
    part = (run >= 0) & (opens[run] == place)
    beside = np.searchsorted(edges, spans[run, 1] * (height + 1) + first[:, 1], "right") - 1
    owners: list[int] = []
    for k, (is_part, other) in enumerate(zip(part.tolist(), ring_of[upper[beside]].tolist(), strict=True)):
        owners.append(k if is_part else owners[other])  # what begins at the left of a hole was walked before it
    return owners


def _simplified(ring: Ring, tolerance: float) -> Ring:
    if not tolerance:
        return ring
    import cv2  # noqa: PLC0415 - the exact way needs numpy alone

    kept = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0].astype(np.float64)
    return kept if len(kept) >= _CORNERS else ring


def _filled(rings: Sequence[Ring], height: int, width: int) -> NDArray[np.int64]:
    """Return the ``(R, 2)`` flat indices, first and one past last, of the runs that rings fill by the even-odd rule."""
    begin = np.concatenate([np.zeros((0, 2)), *(np.asarray(ring, np.float64) for ring in rings)])
    end = np.concatenate([np.zeros((0, 2)), *(np.roll(np.asarray(ring, np.float64), -1, axis=0) for ring in rings)])
    swap = begin[:, 1] > end[:, 1]
    top, bottom = np.where(swap[:, None], end, begin), np.where(swap[:, None], begin, end)
    # The rows whose centre an edge crosses; one that ends on a centre crosses it at one end alone.
    low = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    high = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64)
    many = high - low
    edge = np.repeat(np.arange(len(many)), many)
    row = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many - low, many)
    slope = (bottom[edge, 0] - top[edge, 0]) / (bottom[edge, 1] - top[edge, 1])
    x = top[edge, 0] + (row + 0.5 - top[edge, 1]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    place = np.sort(row * (width + 1) + column).reshape(-1, 2)
    row, column = np.divmod(place, width + 1)
    return row * width + column


def _from_spans(spans: NDArray[np.int64], height: int, width: int) -> RunLengths:
    """Return the union of runs of flat indices."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(spans):
        return RunLengths.empty(height, width)
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[0], np.nonzero(spans[1:, 0] > reach[:-1])[0] + 1])
    edges = np.zeros(2 * len(first) + 2, np.int64)
    edges[1:-1:2], edges[2:-1:2] = spans[first, 0], reach[np.append(first[1:], len(reach)) - 1]
    edges[-1] = height * width
    counts = np.diff(edges)
    return RunLengths(height, width, counts[:-1] if counts[-1] == 0 else counts)
