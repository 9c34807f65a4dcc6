"""Masks as run lengths: what sessions keep, and what travels to the browser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.errors import ProtocolError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIMIT = 2**31 - 1
_BITS = 7
_MORE = 0x80


@dataclass(frozen=True, eq=False)
class RunLengths:
    """A binary mask of a whole image as alternating run lengths in row-major order.

    Attributes
    ----------
    height, width : int
        Size of the image in pixels.
    counts : (R,) int64
        Lengths of background, foreground, background, ... runs; the first may be 0. They sum to
        ``height * width``.
    """

    height: int
    width: int
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, height: int, width: int) -> RunLengths:
        """Return a mask without a single foreground pixel."""
        return cls(height, width, np.array([height * width], np.int64))

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> RunLengths:
        """Encode an ``(H, W)`` bool mask."""
        rows, cols = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if not len(rows):
            return cls.empty(*mask.shape)
        top, left = int(rows[0]), int(cols[0])
        return cls.from_window(mask[top : rows[-1] + 1, left : cols[-1] + 1], left, top, *mask.shape)

    @classmethod
    def from_window(cls, window: NDArray[np.bool_], x: int, y: int, height: int, width: int) -> RunLengths:
        """Encode a bool mask that covers a part of the image, background elsewhere.

        Parameters
        ----------
        window : (h, w) bool
        x, y : int
            Where the window's first pixel lies in the image.
        height, width : int
            Size of the image in pixels.
        """
        rows, cols = window.shape
        padded = np.zeros((rows, cols + 1), np.bool_)  # a column of background ends every run with its row
        padded[:, :-1] = window
        flat = padded.ravel()
        change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat.size and flat[0]:
            change = np.concatenate([[0], change])
        row, col = np.divmod(change, cols + 1)
        place = (row + y) * width + col + x
        begin, end = place[0::2], place[1::2]
        joined = np.nonzero(begin[1:] == end[:-1])[0]  # a run that goes on in the next row
        begin, end = np.delete(begin, joined + 1), np.delete(end, joined)
        edges = np.empty(2 * len(begin) + 2, np.int64)
        edges[0], edges[-1] = 0, height * width
        edges[1:-1:2], edges[2:-1:2] = begin, end
        counts = np.diff(edges)
        return cls(height, width, counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts)

    def equals(self, other: RunLengths | None) -> bool:
        """Whether it is the same mask, of an image of the same size."""
        if self is other or other is None:
            return self is other
        same_size = (self.height, self.width) == (other.height, other.width)
        return same_size and np.array_equal(self.counts, other.counts)

    @cached_property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(self.counts[1::2].sum())

    @cached_property
    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and one-past-last flat index of each foreground run."""
        ends = np.cumsum(self.counts)
        return ends[: len(ends) // 2 * 2 : 2], ends[1::2]

    @cached_property
    def bbox(self) -> tuple[int, int, int, int] | None:
        """The tight ``(x1, y1, x2, y2)`` in pixels, ends exclusive; None for an empty mask."""
        begin, end = self._spans
        if not len(begin):
            return None
        top, bottom = int(begin[0] // self.width), int((end[-1] - 1) // self.width)
        if (begin // self.width != (end - 1) // self.width).any():  # a run over the end of a row has both edges
            return 0, top, self.width, bottom + 1
        left, right = int((begin % self.width).min()), int(((end - 1) % self.width).max()) + 1
        return left, top, right, bottom + 1

    def window(self, x1: int, y1: int, x2: int, y2: int) -> NDArray[np.bool_]:
        """Decode the part ``[y1:y2, x1:x2]`` as an ``(y2 - y1, x2 - x1)`` bool mask."""
        begin, end = self._spans
        low, high = y1 * self.width, y2 * self.width
        first, last = np.searchsorted(end, low, "right"), np.searchsorted(begin, high, "left")
        steps = np.zeros(high - low + 1, np.int8)
        steps[np.maximum(begin[first:last] - low, 0)] += 1
        steps[np.minimum(end[first:last] - low, high - low)] -= 1
        rows = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(y2 - y1, self.width)
        return rows[:, x1:x2]

    def to_mask(self) -> NDArray[np.bool_]:
        """Decode the ``(H, W)`` bool mask."""
        return self.window(0, 0, self.width, self.height)

    def sampled(self, height: int, width: int) -> NDArray[np.bool_]:
        """Decode the mask at ``(height, width)``, each pixel what lies at its centre, without decoding it in full."""
        result = np.zeros((height, width), np.bool_)
        if self.bbox is None:
            return result
        x1, y1, x2, y2 = self.bbox
        rows = (np.arange(height) * 2 + 1) * self.height // (2 * height)
        columns = (np.arange(width) * 2 + 1) * self.width // (2 * width)
        top, bottom = np.searchsorted(rows, [y1, y2])
        left, right = np.searchsorted(columns, [x1, x2])
        places = rows[top:bottom, None] * self.width + columns[None, left:right]
        result[top:bottom, left:right] = np.searchsorted(np.cumsum(self.counts), places, "right") % 2 == 1
        return result

    def to_bytes(self) -> bytes:
        """Encode for the wire: varints of height, width and runs, each run as its change over the last but one.

        Neighbouring rows of a mask have nearly the same runs, so most take one byte: the idea of COCO's
        compressed run lengths (pycocotools, ``rleToString``), here in row-major order and plain LEB128.
        """
        if self.height * self.width > _LIMIT:
            message = f"a mask on the wire has at most {_LIMIT} pixels, got {self.height} x {self.width}"
            raise ProtocolError(message)
        delta = self.counts.copy()
        delta[2:] -= self.counts[:-2]
        delta[2:] = np.where(delta[2:] >= 0, 2 * delta[2:], -2 * delta[2:] - 1)
        return _varints(np.concatenate([[self.height, self.width], delta]))

    @classmethod
    def from_bytes(cls, data: bytes) -> RunLengths:
        """Decode what :meth:`to_bytes` made.

        Raises
        ------
        ProtocolError
            The data is truncated, or its runs do not fill the image.
        """
        values = _from_varints(data)
        if len(values) < 3:  # noqa: PLR2004 - height, width, one run
            message = "a mask must hold height, width and at least one run"
            raise ProtocolError(message)
        height, width = int(values[0]), int(values[1])
        counts = values[2:].copy()
        coded = counts[2:]
        counts[2:] = np.where(coded % 2 == 0, coded // 2, -(coded + 1) // 2)
        counts[0::2], counts[1::2] = np.cumsum(counts[0::2]), np.cumsum(counts[1::2])
        if (counts < 0).any() or (counts[1:] == 0).any() or counts.sum() != height * width:
            message = f"the runs of a mask must be positive and sum to {height} x {width} pixels, got {counts.sum()}"
            raise ProtocolError(message)
        return cls(height, width, counts)


def _varints(values: NDArray[np.int64]) -> bytes:
    """Encode non-negative integers below 2^35 as LEB128."""
    size = np.ones(len(values), np.int64)
    for k in range(1, 5):
        size += values >= 1 << (_BITS * k)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    out = np.zeros(int(size.sum()), np.uint8)
    for k in range(int(size.max())):
        has = size > k
        part = (values[has] >> (_BITS * k)) & (_MORE - 1)
        out[start[has] + k] = part | np.where(size[has] > k + 1, _MORE, 0)
    return out.tobytes()


def _from_varints(data: bytes) -> NDArray[np.int64]:
    raw = np.frombuffer(data, np.uint8)
    last = np.nonzero(raw < _MORE)[0]
    if not len(raw) or not len(last) or last[-1] != len(raw) - 1:
        message = "a mask is cut off in the middle of a number"
        raise ProtocolError(message)
    start = np.concatenate([[0], last[:-1] + 1])
    size = last - start + 1
    if size.max() > 5:  # noqa: PLR2004 - bytes of the largest number
        message = "a mask holds a number of more than five bytes"
        raise ProtocolError(message)
    values = np.zeros(len(last), np.int64)
    for k in range(int(size.max())):
        has = size > k
        values[has] |= (raw[start[has] + k].astype(np.int64) & (_MORE - 1)) << (_BITS * k)
    return values
