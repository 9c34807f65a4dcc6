"""Masks become polygons along the edges of their pixels, and the polygons become the same masks."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from sam3_widget.core.polygons import Polygon, from_polygons, seamed, to_polygons
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import InvalidPromptError

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 16), st.integers(1, 16)))


def runs(*rows: str) -> RunLengths:
    return RunLengths.from_mask(np.array([[c == "#" for c in row] for row in rows]))


def turning(ring: np.ndarray) -> float:
    """Twice the enclosed area, positive where the ring is clockwise as one looks at the image."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def parts_of(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=4)[0] - 1


def holes_of(mask: np.ndarray) -> int:
    around = np.pad(~mask, 1, constant_values=True)
    return cv2.connectedComponents(around.view(np.uint8), connectivity=8)[0] - 2


@given(MASKS)
def test_polygons_make_the_same_mask_again(mask):
    ours = RunLengths.from_mask(mask)
    polygons = to_polygons(ours)
    back = from_polygons(polygons, *mask.shape)
    np.testing.assert_array_equal(back.to_mask(), mask)
    assert back.counts.tolist() == ours.counts.tolist(), "in the one form that run lengths have"


@given(MASKS)
def test_each_polygon_is_one_part_with_its_holes(mask):
    polygons = to_polygons(RunLengths.from_mask(mask))
    assert len(polygons) == parts_of(mask)
    assert sum(len(p.holes) for p in polygons) == holes_of(mask)
    for polygon in polygons:
        assert turning(polygon.outline) > 0
        assert all(turning(hole) < 0 for hole in polygon.holes)
        part = from_polygons([polygon], *mask.shape).to_mask()
        assert (parts_of(part), holes_of(part)) == (1, len(polygon.holes))
        assert not (part & ~mask).any()
        for ring in polygon.rings:
            steps = np.abs(np.roll(ring, -1, axis=0) - ring)
            assert ((steps > 0).sum(1) == 1).all(), "edges run along those of pixels, and each vertex is a corner"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(MASKS)
def test_polygons_without_holes_are_filled_by_pycocotools_alike(mask):
    polygons = to_polygons(RunLengths.from_mask(mask))
    if not polygons:
        return
    filled = [from_polygons([[p.outline]], *mask.shape).to_mask() for p in polygons]
    theirs = coco.decode(coco.frPyObjects([p.outline.ravel().tolist() for p in polygons], *mask.shape))
    np.testing.assert_array_equal(theirs.astype(bool), np.stack(filled, -1))


@given(MASKS)
def test_seams_keep_the_mask_in_a_single_ring(mask):
    polygons = to_polygons(RunLengths.from_mask(mask))
    if polygons:
        ring = seamed(polygons)
        np.testing.assert_array_equal(from_polygons([[ring]], *mask.shape).to_mask(), mask)
        rings = sum(len(p.rings) for p in polygons)
        assert len(ring) == sum(len(r) for p in polygons for r in p.rings) + 2 * (rings - 1)


def test_seams_join_the_nearest_vertices():
    ring = seamed(to_polygons(runs("##...##..#", "##...##..#")))
    assert ring.tolist() == [
        [0, 0],
        [2, 0],
        [5, 0],
        [7, 0],
        [9, 0],
        [10, 0],
        [10, 2],
        [9, 2],
        [9, 0],
        [7, 0],
        [7, 2],
        [5, 2],
        [5, 0],
        [2, 0],
        [2, 2],
        [0, 2],
    ]


@pytest.mark.parametrize(
    ("mask", "outlines"),
    [
        (runs("....", "...."), []),
        (runs("####", "####"), [[[0, 0], [4, 0], [4, 2], [0, 2]]]),
        (runs("...", ".#.", "..."), [[[1, 1], [2, 1], [2, 2], [1, 2]]]),
        (runs("...", "..#"), [[[2, 1], [3, 1], [3, 2], [2, 2]]]),
        (runs("#.", ".#"), [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [2, 1], [2, 2], [1, 2]]]),
        (runs(".#", "#."), [[[1, 0], [2, 0], [2, 1], [1, 1]], [[0, 1], [1, 1], [1, 2], [0, 2]]]),
        (runs("#.", "##"), [[[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]]]),
    ],
)
def test_outline_of_small_masks(mask, outlines):
    polygons = to_polygons(mask)
    assert [p.outline.tolist() for p in polygons] == outlines
    assert all(p.holes == () for p in polygons)


def test_a_part_in_a_hole_is_a_part_of_its_own():
    whole = runs("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######")
    outer, inner = to_polygons(whole)
    assert [len(outer.holes), len(inner.holes)] == [1, 1]
    assert inner.outline.tolist() == [[2, 2], [5, 2], [5, 5], [2, 5]]
    assert sorted(inner.holes[0].tolist()) == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_a_hole_that_leaks_through_a_corner_is_no_hole():
    (polygon,) = to_polygons(runs("###", "#.#", "##."))
    assert polygon.holes == ()
    assert polygon.outline.tolist().count([2, 2]) == 2


def test_runs_of_no_length_change_nothing():
    odd = RunLengths(2, 4, np.array([0, 0, 1, 1, 0, 1, 5]))
    assert [p.outline.tolist() for p in to_polygons(odd)] == [[[1, 0], [3, 0], [3, 1], [1, 1]]]


def test_pixels_are_inside_when_their_centres_are():
    triangle = np.array([(0, 0), (4, 0), (0, 4)])
    expected = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(from_polygons([[triangle]], 4, 4).to_mask(), expected)
    shifted = triangle + 0.01
    np.testing.assert_array_equal(from_polygons([[shifted]], 4, 4).to_mask().sum(), 10)


@given(arrays.arrays(np.int64, st.tuples(st.integers(3, 8), st.just(2)), elements=st.integers(-80, 240)))
def test_any_ring_is_filled_by_the_even_odd_rule(ring):
    ring = ring / 10
    filled = from_polygons([[ring]], 12, 15).to_mask()
    ys, xs = np.mgrid[:12, :15] + 0.5
    inside = np.zeros((12, 15), bool)
    near = np.zeros((12, 15), bool)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        crosses = (y1 >= ys) != (y2 >= ys)
        at = x1 + (ys - y1) / np.where(y2 == y1, 1, y2 - y1) * (x2 - x1)
        inside ^= crosses & (at <= xs)
        near |= crosses & (np.abs(at - xs) < 1e-9)
    np.testing.assert_array_equal(filled[~near], inside[~near])


def test_polygons_over_each_other_are_one_and_rings_in_a_polygon_are_holes():
    big, small = (np.array([(a, a), (b, a), (b, b), (a, b)]) for a, b in ((0, 6), (2, 4)))
    assert from_polygons([[big], [small]], 6, 6).area == 36
    assert from_polygons([[big, small]], 6, 6).area == 32
    assert from_polygons([Polygon(big, (small,))], 6, 6).area == 32
    assert from_polygons([[big + 3]], 6, 6).bbox == (3, 3, 6, 6)
    assert from_polygons([[big + 30]], 6, 6).area == 0
    assert from_polygons([], 6, 6).area == 0


def test_tolerance_drops_vertices_and_stays_near():
    ys, xs = np.mgrid[:200, :200]
    mask = RunLengths.from_mask(np.hypot(xs - 100, ys - 90) < 70)
    (exact,), (rough,) = to_polygons(mask), to_polygons(mask, tolerance=1.5)
    assert len(rough.outline) < len(exact.outline) / 5
    back = from_polygons([rough], 200, 200)
    assert np.count_nonzero(back.to_mask() ^ mask.to_mask()) < 0.03 * mask.area
    (pixel,) = to_polygons(runs("...", ".#.", "..."), tolerance=50)
    assert len(pixel.outline) == 4, "what would vanish stays as it is"


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_tolerance_that_is_no_distance_raises(tolerance):
    with pytest.raises(InvalidPromptError, match="tolerance must be 0 or more pixels, got"):
        to_polygons(runs("#"), tolerance)


def test_a_hundred_megapixels_take_the_memory_of_their_outline():
    side, radius = 10_000, 4_000
    half = np.sqrt(np.maximum(0, radius**2 - (np.arange(side) + 0.5 - side / 2) ** 2)).astype(np.int64)
    begin = np.arange(side) * side + side // 2 - half
    hole = 1_000 * (np.abs(np.arange(side) - side // 2) < 1_000) * (half > 1_000)
    edges = np.stack([begin, begin + half - hole, begin + half + hole, begin + 2 * half], 1)[half > 0]
    edges = np.concatenate([row if row[1] < row[2] else row[[0, 3]] for row in edges])
    mask = RunLengths(side, side, np.diff(np.concatenate([[0], edges, [side * side]])))
    tracemalloc.start()
    (polygon,) = to_polygons(mask)
    back = from_polygons([polygon], side, side)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "of a mask of 100 MB"
    assert len(polygon.holes) == 1
    np.testing.assert_array_equal(back.counts, mask.counts)
    (full,) = to_polygons(RunLengths(side, side, np.array([0, side * side])))
    assert full.outline.tolist() == [[0, 0], [side, 0], [side, side], [0, side]]
