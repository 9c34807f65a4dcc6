"""What the built-in model is good at, and the parts it is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from skimage import data

from sam3_widget.errors import UnsupportedError
from sam3_widget.models.base import ConceptPrompts, Detections, Embedding, InstancePrompts
from sam3_widget.models.builtin import BuiltinModel, exemplars
from sam3_widget.models.builtin.exemplars import tiles
from sam3_widget.models.builtin.geometry import bound_by_box, keep_settled, obey_clicks, to_grid
from sam3_widget.models.builtin.guide import Guide
from sam3_widget.models.builtin.model import WEIGHTS
from sam3_widget.models.builtin.network import STRIDE
from sam3_widget.models.builtin.runtime import INPUT_AREA, PICTURE_AREA, input_size, reduce

Mask = NDArray[np.bool_]
ROOT = Path(__file__).parents[2]


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


def test_refine_box_around_something_else_than_the_mask_starts_over() -> None:
    image, disc = scene()
    model = BuiltinModel()
    embedding = model.encode(image)
    wrong = np.full(disc.shape, -6, np.float32)
    wrong[130:150, 170:190] = 6
    box = np.array((108, 68, 252, 212), np.float32)
    answer = model.refine(embedding, InstancePrompts(box=box), wrong)
    assert iou(mask_of(answer.logits[0], disc.shape), disc) > 0.9
    # A mask that fills the box is what the next click starts from.
    half = np.where(disc, np.float32(6), np.float32(-6))
    half[:100] = -6
    said = InstancePrompts(np.array([(180, 160)], np.float32), np.array([True]), box)
    kept = model.refine(embedding, said, half).logits[0]
    fresh = model.refine(embedding, said).logits[0]
    assert np.abs(kept - fresh).max() > 0.5


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
    image, _ = scene()
    coffee = data.coffee()
    for picture, at in ((image, (180, 140)), (coffee, (300, 200)), (coffee, (330, 120))):
        model = BuiltinModel()
        answer = model.refine(model.encode(picture), click((*at, True)))
        masks = [mask_of(logits, picture.shape[:2]) for logits in answer.logits]
        assert len(masks) > 1 or picture is image
        assert all(iou(masks[i], masks[j]) < 0.95 for i in range(len(masks)) for j in range(i))


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


def test_refine_score_tells_a_good_mask_from_a_bad_one() -> None:
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


def test_weights_are_small_and_in_half_precision() -> None:
    assert WEIGHTS.stat().st_size <= 12_000_000
    with safe_open(WEIGHTS, "np") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {np.dtype(np.float16)}  # noqa: SIM118


def test_refine_in_another_process_gives_the_same_mask() -> None:
    program = """
import sys, numpy as np
from tests.models.test_builtin import click, scene
from sam3_widget.models.builtin import BuiltinModel
model = BuiltinModel()
sys.stdout.buffer.write(model.refine(model.encode(scene()[0]), click((180, 140, True))).logits.tobytes())
"""
    once, again = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT).stdout
        for _ in range(2)
    )
    assert len(once) > 0
    assert once == again


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (300, 400), (900, 2000), (20, 3000), (2, 200_000)])
def test_input_and_picture_sizes_are_bounded(size: tuple[int, int]) -> None:
    rows, columns = input_size(*size)
    assert (rows % STRIDE, columns % STRIDE) == (0, 0)
    assert rows * columns <= 1.25 * INPUT_AREA
    picture = reduce(np.zeros((*size, 3), np.uint8))
    assert picture.shape[0] * picture.shape[1] <= 1.01 * PICTURE_AREA


def test_sharpen_puts_the_contour_on_the_edge_of_the_picture() -> None:
    picture = np.full((600, 800, 3), 60, np.uint8)
    truth = cv2.ellipse(np.zeros((600, 800), np.uint8), (410, 290), (171, 133), 20, 0, 360, 1, -1) > 0
    picture[truth] = (200, 160, 90)
    coarse = cv2.resize(cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 12), (200, 150)) * 8 - 4
    blurred = cv2.resize(coarse, (800, 600)) > 0
    sharp = Guide(picture, (150, 200)).sharpen(coarse) > 0
    assert iou(sharp, truth) > max(0.985, iou(blurred, truth))


def test_refine_follows_edges_on_twelve_megapixels() -> None:
    image = np.full((3000, 4000, 3), (90, 120, 80), np.uint8)
    truth = cv2.ellipse(np.zeros((3000, 4000), np.uint8), (2100, 1450), (900, 640), 15, 0, 360, 1, -1) > 0
    image[truth] = (190, 70, 50)
    model = BuiltinModel()
    answer = model.refine(model.encode(image), click((2100, 1450, True)))
    wrong = mask_of(answer.logits[0], truth.shape) ^ truth
    # Not further from the true edge than 8 of 4000 pixels.
    edge = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)) > 0
    assert np.count_nonzero(wrong & ~edge) < 0.002 * np.count_nonzero(truth)


def test_keep_settled_keeps_what_no_click_touches() -> None:
    before = np.full((40, 60), -6.0, np.float32)
    before[5:15, 5:15] = 6.0
    new = np.full((40, 60), -6.0, np.float32)
    new[20:35, 40:55] = 5.0  # asked for by the click; that the square is gone is not
    kept = keep_settled(new, before, np.array([(47, 27)], np.float32), np.array([True]), (40, 60))
    np.testing.assert_array_equal(kept > 0, (before > 0) | (new > 0))
    unsure = before / 6
    loose = keep_settled(new, unsure, np.array([(47, 27)], np.float32), np.array([True]), (40, 60))
    np.testing.assert_array_equal(loose, new)


def find(image: NDArray[np.uint8], *boxes: tuple[float, float, float, float, bool]) -> Detections:
    """Return what one model finds for exemplars (x1, y1, x2, y2, positive)."""
    model = BuiltinModel()
    concept = ConceptPrompts(
        "", np.array([box[:4] for box in boxes], np.float32), np.array([box[4] for box in boxes], np.bool_)
    )
    return model.detect(model.encode(image), concept)


def test_detect_finds_the_coins() -> None:
    coins = np.dstack([data.coins()] * 3)
    found = find(coins, (178, 103, 228, 146, True))
    masks = [mask_of(logits, coins.shape[:2]) for logits in found.logits[found.scores >= 0.5]]
    assert 22 <= len(masks) <= 26
    assert all(500 < np.count_nonzero(mask) < 5000 for mask in masks)


def discs_and_squares() -> tuple[NDArray[np.uint8], list[tuple[int, int]], list[tuple[int, int]]]:
    """Return red discs and blue squares on a grey ground, and the middles of each."""
    rng = np.random.default_rng(2)
    image = np.clip(rng.normal(128, 6, (360, 480, 3)), 0, 255).astype(np.uint8)
    discs, squares = [], []
    for n, (x, y) in enumerate((x, y) for y in (60, 180, 300) for x in (60, 180, 300, 420)):
        if n % 2:
            cv2.rectangle(image, (x - 24, y - 24), (x + 24, y + 24), (40, 60, 190), -1)
            squares.append((x, y))
        else:
            cv2.circle(image, (x, y), 28, (200, 40, 30), -1)
            discs.append((x, y))
    return image, discs, squares


def hits(found: Detections, middles: list[tuple[int, int]], size: tuple[int, int]) -> int:
    """Return in how many of the middles something was found."""
    masks = [mask_of(logits, size) for logits in found.logits[found.scores >= 0.5]]
    return sum(any(mask[y, x] for mask in masks) for x, y in middles)


def test_detect_negative_exemplar_takes_lookalikes_out() -> None:
    image, discs, squares = discs_and_squares()
    size = (image.shape[0], image.shape[1])
    (x, y), (a, b) = discs[0], squares[0]
    right, wrong = (x - 30, y - 30, x + 30, y + 30, True), (a - 26, b - 26, a + 26, b + 26)
    both = find(image, right, (*wrong, True))
    assert hits(both, discs, size) == len(discs)
    assert hits(both, squares, size) == len(squares)
    without = find(image, right, (*wrong, False))
    assert hits(without, discs, size) == len(discs)
    assert hits(without, squares, size) == 0


@pytest.mark.parametrize("box", [(0, 0, 480, 360), (479, 100, 480, 104), (-20, -20, 5, 5), (100, 100, 100.2, 100.2)])
def test_detect_any_box_is_an_exemplar(box: tuple[float, float, float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "MOST_PLACES", 50)  # what the network sees there matters little, and takes a while
    image, _, _ = discs_and_squares()
    found = find(image, (*box, True))
    assert np.isfinite(found.scores).all()
    assert np.isfinite(found.logits).all()


def test_detect_boxes_are_around_the_masks() -> None:
    image, discs, _ = discs_and_squares()
    x, y = discs[0]
    found = find(image, (x - 30, y - 30, x + 30, y + 30, True))
    assert len(found.boxes) >= len(discs)
    for box, logits in zip(found.boxes, found.logits, strict=True):
        rows, columns = np.nonzero(mask_of(logits, (image.shape[0], image.shape[1])))
        np.testing.assert_allclose(box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=4)


def test_detect_small_things_are_looked_at_enlarged() -> None:
    assert tiles(400, 600, 60, 1.0) == [(0, 0, 600, 400)]
    parts = tiles(400, 600, 12, 1.0)
    assert len(parts) > 4
    covered = np.zeros((400, 600), np.bool_)
    for x1, y1, x2, y2 in parts:
        assert 0 <= x1 < x2 <= 600
        assert 0 <= y1 < y2 <= 400
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert len(tiles(4000, 4000, 3, 0.1)) <= 25


def test_detect_keeps_enlarged_views_until_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "MOST_PLACES", 100)  # those at the discs suffice
    image = np.full((300, 400, 3), 60, np.uint8)
    for x in range(20, 400, 40):
        cv2.circle(image, (x, 150), 6, (220, 200, 60), -1)
    model = BuiltinModel()
    embedding = model.encode(image)
    asked = ConceptPrompts("", np.array([(13, 143, 27, 157)], np.float32), np.array([True]))
    model.refine(embedding, click((20, 150, True)))
    before = embedding.nbytes
    first = model.detect(embedding, asked)
    assert embedding.nbytes > before
    embedding.trim()
    assert embedding.nbytes <= before
    np.testing.assert_array_equal(model.detect(embedding, asked).scores, first.scores)
    assert len(first.scores) >= 8
    smaller = ConceptPrompts("", np.array([(14, 144, 26, 156)], np.float32), np.array([True]))
    fresh = model.encode(image)
    for each in (embedding, fresh):
        model.detect(each, smaller)
    assert embedding.nbytes == fresh.nbytes, "views of another size are still held"


def test_detect_text_raises_and_says_what_has_it() -> None:
    model = BuiltinModel()
    with pytest.raises(UnsupportedError, match=r"does not take text; draw a box .* or load a model like SAM 3"):
        model.detect(model.encode(scene()[0]), ConceptPrompts("disc"))


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
