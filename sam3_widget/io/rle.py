"""COCO's run-length encoding: column-major counts, as a list of integers or compressed into a string.

The same bytes as pycocotools makes (``rleEncode``, ``rleToString`` in cocoapi's ``maskApi.c``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_BITS, _LOW, _MORE, _SIGN = 5, 0x1F, 0x20, 0x10
_FIRST = 48  # of the characters: "0"
_LAST = _FIRST + 0x3F


def to_coco_rle(mask: RunLengths) -> dict[str, Any]:
    """Return a mask as COCO's compressed run lengths: ``{"size": [height, width], "counts": str}``."""
    x1, y1, x2, y2 = mask.bbox or (0, 0, 0, 0)
    turned = RunLengths.from_window(mask.window(x1, y1, x2, y2).T, y1, x1, mask.width, mask.height)
    return {"size": [mask.height, mask.width], "counts": _compress(turned.counts)}


def from_coco_rle(rle: object) -> RunLengths:
    """Return the mask of COCO's run lengths, compressed or not.

    Parameters
    ----------
    rle : mapping
        ``{"size": [height, width], "counts": str, bytes or list of int}``.

    Raises
    ------
    FormatError
        It is malformed, or its runs do not fill the image.
    """
    height, width, counts = _parts(rle)
    if (counts < 0).any() or counts.sum() != height * width:
        message = f"the counts of a run-length mask must sum to {height} x {width} pixels, got {counts.sum()}"
        raise FormatError(message)
    if (counts[1:] == 0).any():
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return RunLengths.from_mask(flat.reshape(width, height).T)
    turned = RunLengths(width, height, counts)
    y1, x1, y2, x2 = turned.bbox or (0, 0, 0, 0)
    return RunLengths.from_window(turned.window(y1, x1, y2, x2).T, x1, y1, height, width)


def _parts(rle: object) -> tuple[int, int, NDArray[np.int64]]:
    try:
        given: Mapping[str, Any] = dict(rle)  # type: ignore[call-overload]
        height, width = (int(side) for side in given["size"])
        counts = given["counts"]
        if isinstance(counts, (str, bytes)):
            runs = _decompress(counts.encode("ascii") if isinstance(counts, str) else counts)
        else:
            runs = np.array([int(count) for count in counts], np.int64)
    except (TypeError, ValueError, KeyError, UnicodeEncodeError):
        message = (
            f'a run-length mask must be {{"size": [height, width], "counts": ...}} as COCO has it, got {rle!r:.200}'
        )
        raise FormatError(message) from None
    if height < 1 or width < 1:
        message = f"the size of a run-length mask must be 1 or more, got {height} x {width}"
        raise FormatError(message)
    return height, width, runs


def _compress(counts: NDArray[np.int64]) -> str:
    """Write each count, from the third on as its difference to the last but one, in groups of five bits."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    text = bytearray()
    for value in values.tolist():
        rest, more = value, True
        while more:
            group = rest & _LOW
            rest >>= _BITS
            more = rest != -1 if group & _SIGN else rest != 0
            text.append(_FIRST + (group | _MORE if more else group))
    return text.decode("ascii")


def _decompress(text: bytes) -> NDArray[np.int64]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        if not _FIRST <= character <= _LAST:
            raise ValueError
        group = character - _FIRST
        value |= (group & _LOW) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)  # noqa: PLR2004 - the first three are plain
        value = shift = 0
    if shift:
        raise ValueError
    return np.array(counts, np.int64)
