"""What the built-in model is good at, and the parts it is made of."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam3_widget.models.base import Embedding, InstancePrompts, no_progress
from sam3_widget.models.builtin import BuiltinModel
from sam3_widget.models.builtin.geometry import bound_by_box, obey_clicks, to_grid
from sam3_widget.models.builtin.regions import WORK_AREA, build_regions

Mask = NDArray[np.bool_]


def scene() -> tuple[NDArray[np.uint8], Mask]:
    """Return a red disc on a textured ground, and the disc."""
    rng = np.random.default_rng(5)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (300, 400, 3), np.uint8), (0, 0), 3)
    image = np.clip((ground.astype(np.float32) - 128) * 3 + (70, 120, 90), 0, 255).astype(np.uint8)
    disc = cv2.circle(np.zeros((300, 400), np.uint8), (180, 140), 70, 1, -1) > 0
    image[disc] = np.clip(image[disc] * 0.15 + (190, 20, 20), 0, 255).astype(np.uint8)
    return image, disc


def click(*points: tuple[float, float, bool]) -> InstancePrompts:
    return InstancePrompts(np.array([p[:2] for p in points], np.float32), np.array([p[2] for p in points], np.bool_))


def mask_of(logits: NDArray[np.float32], size: tuple[int, int], threshold: float = 0.0) -> Mask:
    return np.asarray(cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(size) > threshold)


def iou(first: Mask, second: Mask) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


def test_refine_disc_on_texture_is_found_by_one_click() -> None:
    image, disc = scene()
    model = BuiltinModel()
    answer = model.refine(model.encode(image), click((180, 140, True)))
    assert iou(mask_of(answer.logits[0], disc.shape), disc) > 0.9


def test_refine_negative_click_removes_the_wrong_part_and_keeps_the_rest() -> None:
    image, disc = scene()
    blob = cv2.circle(np.zeros(disc.shape, np.uint8), (285, 140), 30, 1, -1) > 0
    blob &= ~disc
    image[blob] = (30, 60, 220)
    model = BuiltinModel()
    wrong = np.where(disc | blob, np.float32(6), np.float32(-6))
    answer = model.refine(model.encode(image), click((180, 140, True), (285, 140, False)), wrong)
    mask = mask_of(answer.logits[0], disc.shape)
    assert np.count_nonzero(mask & blob) < 0.15 * np.count_nonzero(blob)
    assert iou(mask, disc) > 0.95


def test_refine_positive_click_adds_the_missing_part() -> None:
    image, disc = scene()
    half = disc.copy()
    half[:, 180:] = False
    model = BuiltinModel()
    start = np.where(half, np.float32(6), np.float32(-6))
    answer = model.refine(model.encode(image), click((150, 140, True), (215, 140, True)), start)
    assert iou(mask_of(answer.logits[0], disc.shape), disc) > 0.9


def test_refine_threshold_changes_the_mask_gradually() -> None:
    image, disc = scene()
    model = BuiltinModel()
    logits = model.refine(model.encode(image), click((180, 140, True))).logits[0]
    probabilities = np.arange(0.3, 0.71, 0.1)
    areas = [np.count_nonzero(mask_of(logits, disc.shape, float(np.log(p / (1 - p))))) for p in probabilities]
    steps = -np.diff(areas) / np.count_nonzero(disc)
    assert (steps > 0).all()
    assert (steps < 0.1).all()


def test_refine_candidates_are_distinct() -> None:
    image, disc = scene()
    model = BuiltinModel()
    masks = [
        mask_of(logits, disc.shape) for logits in model.refine(model.encode(image), click((180, 140, True))).logits
    ]
    overlaps = [iou(masks[i], masks[j]) for i in range(len(masks)) for j in range(i)]
    assert all(overlap < 0.95 for overlap in overlaps)


def test_refine_only_negative_click_gives_an_empty_mask() -> None:
    image, disc = scene()
    model = BuiltinModel()
    answer = model.refine(model.encode(image), click((180, 140, False)))
    assert not mask_of(answer.logits[0], disc.shape).any()


def test_refine_agreeing_click_changes_nothing() -> None:
    image, _ = scene()
    model = BuiltinModel()
    embedding = model.encode(image)
    first = model.refine(embedding, click((180, 140, True))).logits[0]
    second = model.refine(embedding, click((180, 140, True), (170, 130, True)), first).logits[0]
    np.testing.assert_array_equal(second > 0, first > 0)


def test_refine_score_after_a_correction_is_measured() -> None:
    image, disc = scene()
    model = BuiltinModel()
    embedding = model.encode(image)
    good = np.where(disc, np.float32(6), np.float32(-6))
    good[100:140, 150:190] = -6
    bad = np.where(np.indices(disc.shape)[1] < 100, np.float32(6), np.float32(-6))
    scores = [float(model.refine(embedding, click((170, 120, True)), start).scores[0]) for start in (good, bad)]
    assert scores[0] > scores[1]


@pytest.mark.parametrize("size", [(2, 200_000), (200_000, 2)])
def test_refine_box_in_a_thread_of_an_image_is_not_empty(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 40, np.uint8)
    height, width = size
    top, left, bottom, right = (int(v) for v in (height * 0.3, width * 0.3, height * 0.7 + 1, width * 0.7 + 1))
    image[top:bottom, left:right] = (200, 90, 30)
    model = BuiltinModel()
    prompts = InstancePrompts(box=np.array((left, top, right, bottom), np.float32))
    assert (model.refine(model.encode(image), prompts).logits[0] > 0).any()


def test_encode_leaves_the_random_numbers_of_opencv_alone() -> None:
    image, _ = scene()
    model = BuiltinModel()
    drawn = []
    for encode in (False, True):
        cv2.setRNGSeed(7)
        if encode:
            model.encode(image)
        drawn.append(cv2.randu(np.zeros(8, np.int32), 0, 1000))
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_refine_foreign_embedding_raises() -> None:
    with pytest.raises(TypeError, match="expected an embedding made by 'builtin', got Embedding"):
        BuiltinModel().refine(Embedding(4, 4, 0), click((1, 1, True)))


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (300, 400), (900, 2000)])
def test_build_regions_labels_are_dense_and_bounded(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    regions = build_regions(image, no_progress)
    assert regions.labels.size <= WORK_AREA * 1.02
    assert set(np.unique(regions.labels)) == set(range(regions.count))
    assert regions.area.sum() == regions.labels.size


@pytest.mark.parametrize(
    ("point", "size", "grid", "expected"),
    [
        ((0, 0), (10, 10), (10, 10), (0, 0)),
        ((9.9, 9.9), (10, 10), (10, 10), (9, 9)),
        ((0, 0), (10, 10), (5, 5), (0, 0)),
        ((2, 4), (10, 10), (5, 5), (0.75, 1.75)),
        ((9, 9), (10, 10), (5, 5), (4, 4)),
        ((12, -3), (10, 10), (10, 10), (9, 0)),
    ],
)
def test_to_grid_maps_pixel_centres(
    point: tuple[float, float], size: tuple[int, int], grid: tuple[int, int], expected: tuple[float, float]
) -> None:
    np.testing.assert_allclose(to_grid(np.array([point], np.float32), size, grid)[0], expected)


@pytest.mark.parametrize("start", [-8.0, 0.0, 8.0])
@pytest.mark.parametrize("apart", [1, 3, 12])
def test_obey_clicks_opposite_neighbours_keep_their_sides(start: float, apart: int) -> None:
    # 4 image pixels to a cell: clicks 12 pixels apart share no cell, nearer ones do, and then the later one wins.
    logits = np.full((30, 40), start, np.float32)
    points = np.array([(77.5, 60.5), (77.5 + apart, 60.5)], np.float32)
    result = obey_clicks(logits, points, np.array([True, False]), (120, 160))
    mask = mask_of(result, (120, 160))
    assert not mask[60, 77 + apart]
    if apart == 12:
        assert mask[60, 77]


def test_obey_clicks_satisfied_changes_nothing() -> None:
    logits = np.full((30, 40), 4.0, np.float32)
    result = obey_clicks(logits, np.array([(20, 20)], np.float32), np.array([True]), (120, 160))
    np.testing.assert_array_equal(result, logits)


@pytest.mark.parametrize("seed", range(20))
def test_bound_by_box_any_box_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(60, 900)), int(rng.integers(60, 900)))
    x1, x2 = np.sort(rng.uniform(0, size[1], 2))
    y1, y2 = np.sort(rng.uniform(0, size[0], 2))
    logits = rng.uniform(0, 8, (50, 60)).astype(np.float32)
    mask = mask_of(bound_by_box(logits, np.array((x1, y1, x2, y2), np.float32), size), size)
    inside = np.zeros(size, np.bool_)
    inside[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    assert not (mask & ~inside).any()
