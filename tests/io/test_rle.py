"""COCO's run lengths, byte for byte as pycocotools makes them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.rle import from_coco_rle, to_coco_rle

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def disc() -> np.ndarray:
    ys, xs = np.mgrid[:300, :400]
    return np.hypot(xs - 180, ys - 120) < 77


@given(MASKS)
def test_rle_is_that_of_pycocotools_and_comes_back(mask):
    ours = to_coco_rle(RunLengths.from_mask(mask))
    theirs = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    np.testing.assert_array_equal(from_coco_rle(ours).to_mask(), mask)
    np.testing.assert_array_equal(from_coco_rle(theirs).to_mask(), mask)


@pytest.mark.parametrize("mask", [disc(), ~disc(), np.zeros((3, 5), bool), np.ones((3, 5), bool)])
def test_rle_of_large_empty_and_full_masks(mask):
    ours = to_coco_rle(RunLengths.from_mask(mask))
    assert ours["counts"] == coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(from_coco_rle(ours).to_mask(), mask)


def test_uncompressed_counts_are_read():
    mask = from_coco_rle({"size": [2, 3], "counts": [1, 2, 3]}).to_mask()
    np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        (None, "must be .*size.*counts.* as COCO has it, got None"),
        ({"size": [2, 3]}, "as COCO has it"),
        ({"size": [2], "counts": [6]}, "as COCO has it"),
        ({"size": [2, 3], "counts": "\x01"}, "as COCO has it"),
        ({"size": [2, 3], "counts": "P"}, "as COCO has it"),
        ({"size": [2, 3], "counts": [5]}, "must sum to 2 x 3 pixels, got 5"),
        ({"size": [2, 3], "counts": [7, -1]}, "must sum to 2 x 3"),
        ({"size": [0, 3], "counts": []}, "must be 1 or more, got 0 x 3"),
    ],
)
def test_malformed_rle_raises(rle, message):
    with pytest.raises(FormatError, match=message):
        from_coco_rle(rle)


def test_runs_of_no_length_are_read():
    mask = from_coco_rle({"size": [2, 3], "counts": [1, 1, 0, 1, 0, 0, 2, 1]}).to_mask()
    np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 0, 1]])


def test_a_hundred_megapixels_are_not_decoded():
    side = 10_000
    counts = np.full(601, side)
    counts[1::2] = 300
    counts[2::2] = side - 300
    counts[0], counts[-1] = 5_000 * side + 4_000, side * side - 5_000 * side - 4_000 - counts[1:-1].sum()
    mask = RunLengths(side, side, counts)
    tracemalloc.start()
    back = from_coco_rle(to_coco_rle(mask))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(back.counts, counts)
    assert peak < 60e6, "of a mask of 100 MB"
