"""What every model promises that was made to segment: it obeys clicks and boxes, and keeps what it is given."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_widget.models.builtin import BuiltinModel
from tests.models.scenes import PHOTOGRAPHS, iou, mask_of, picture, prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sam3_widget.models.base import Candidates, Embedding, InstancePrompts, Model

TRAINED: dict[str, Callable[[], Model]] = {"builtin": BuiltinModel}

pytestmark = pytest.mark.parametrize("name", TRAINED)


@cache
def model_of(name: str) -> Model:
    return TRAINED[name]()


@cache
def embedding_of(name: str, which: str) -> Embedding:
    return model_of(name).encode(picture(which))


def assert_obeys(candidates: Candidates, given: InstancePrompts, image: NDArray[np.uint8]) -> None:
    """Check that every mask has its clicks on the right side."""
    assert len(candidates.logits) > 0
    for logits in candidates.logits:
        mask = mask_of(logits, image)
        for (x, y), label in zip(given.points, given.labels, strict=True):
            assert mask[int(y), int(x)] == label, (x, y, label)


@pytest.mark.parametrize("which", ["shapes", *PHOTOGRAPHS])
def test_refine_sequence_of_clicks_obeys_all_of_them(name: str, which: str) -> None:
    image = picture(which)
    embedding = embedding_of(name, which)
    rng = np.random.default_rng(3)
    height, width = image.shape[:2]
    clicks: list[tuple[float, float, bool]] = [(width * 0.4, height * 0.4, True)]
    previous = None
    for _ in range(8):
        given_prompts = prompts(*clicks)
        answer = model_of(name).refine(embedding, given_prompts, previous)
        assert_obeys(answer, given_prompts, image)
        previous = answer.logits[0]
        clicks.append((rng.uniform(0, width - 1), rng.uniform(0, height - 1), bool(rng.integers(2))))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    clicks=st.lists(
        st.tuples(st.integers(0, 39), st.integers(0, 29), st.booleans()),
        min_size=1,
        max_size=6,
        unique_by=lambda click: click[:2],
    ),
    start=st.booleans(),
)
def test_refine_any_clicks_apart_obeys_them(name: str, clicks: list[tuple[int, int, bool]], *, start: bool) -> None:
    # A raster of 8 pixels keeps opposite clicks apart at any sensible working resolution.
    image = picture("shapes")
    embedding = embedding_of(name, "shapes")
    given_prompts = prompts(*((8 * x + 3.5, 8 * y + 3.5, label) for x, y, label in clicks))
    previous = model_of(name).refine(embedding, prompts((80, 80, True))).logits[0] if start else None
    answer = model_of(name).refine(embedding, given_prompts, previous)
    assert_obeys(answer, given_prompts, image)


@pytest.mark.parametrize("corner", [(0, 0), (319.9, 0), (0, 239.9), (319.9, 239.9)])
@pytest.mark.parametrize("label", [True, False])
def test_refine_click_in_corner_obeys(name: str, corner: tuple[float, float], *, label: bool) -> None:
    image = picture("shapes")
    given_prompts = prompts((160, 120, not label), (*corner, label))
    assert_obeys(model_of(name).refine(embedding_of(name, "shapes"), given_prompts), given_prompts, image)


@pytest.mark.parametrize("which", ["shapes", *PHOTOGRAPHS])
@pytest.mark.parametrize("relative", [(0.1, 0.12, 0.47, 0.61), (0.303, 0.207, 0.9991, 0.93), (0.0, 0.0, 0.5, 1.0)])
def test_refine_box_bounds_mask(name: str, which: str, relative: tuple[float, float, float, float]) -> None:
    image = picture(which)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.array(relative) * (width, height, width, height)
    answer = model_of(name).refine(embedding_of(name, which), prompts(box=(x1, y1, x2, y2)))
    rows, columns = np.nonzero(mask_of(answer.logits[0], image))
    assert len(rows) > 0
    assert columns.min() >= np.floor(x1)
    assert rows.min() >= np.floor(y1)
    assert columns.max() < np.ceil(x2)
    assert rows.max() < np.ceil(y2)


def test_refine_box_around_object_finds_it(name: str) -> None:
    image = picture("shapes")
    answer = model_of(name).refine(embedding_of(name, "shapes"), prompts(box=(30, 30, 130, 130)))
    disc = cv2.circle(np.zeros(image.shape[:2], np.uint8), (80, 80), 45, 1, -1) > 0
    assert iou(mask_of(answer.logits[0], image), disc) > 0.9


def test_refine_box_and_clicks_obeys_both(name: str) -> None:
    image = picture("coffee")
    given_prompts = prompts((300, 200, True), (200, 160, False), box=(150, 100, 450, 330))
    answer = model_of(name).refine(embedding_of(name, "coffee"), given_prompts)
    assert_obeys(answer, given_prompts, image)
    rows, columns = np.nonzero(mask_of(answer.logits[0], image))
    assert (columns.min() >= 150, columns.max() < 450, rows.min() >= 100, rows.max() < 330) == (True,) * 4


def test_refine_previous_alone_keeps_its_mask(name: str) -> None:
    image = picture("coffee")
    first = model_of(name).refine(embedding_of(name, "coffee"), prompts((300, 200, True))).logits[0]
    answer = model_of(name).refine(embedding_of(name, "coffee"), prompts(), first)
    assert len(answer.scores) == 1
    assert iou(mask_of(answer.logits[0], image), mask_of(first, image)) >= 0.95


@pytest.mark.parametrize("size", [(400, 600), (256, 256), (120, 180)])
@pytest.mark.parametrize("height_of_logits", [0.5, 20.0, np.inf])
def test_refine_imported_mask_alone_keeps_it(name: str, size: tuple[int, int], height_of_logits: float) -> None:
    image = picture("coffee")
    ellipse = cv2.ellipse(np.zeros(image.shape[:2], np.uint8), (320, 190), (140, 90), 20, 0, 360, 1, -1)
    mask = cv2.resize(ellipse, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    logits = np.where(mask, np.float32(height_of_logits), np.float32(-height_of_logits))
    answer = model_of(name).refine(embedding_of(name, "coffee"), prompts(), logits)
    assert iou(mask_of(answer.logits[0], image), ellipse > 0) >= 0.95


def test_refine_corrective_click_keeps_what_is_far(name: str) -> None:
    image = picture("shapes")
    truth = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(truth, (80, 80), 45, 1, -1)
    logits = np.where(truth, np.float32(6), np.float32(-6))
    answer = model_of(name).refine(embedding_of(name, "shapes"), prompts((230, 90, True)), logits)
    mask = mask_of(answer.logits[0], image)
    left = np.s_[:, :150]
    assert mask[90, 230]
    assert iou(mask[left], truth[left] > 0) >= 0.97


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (1, 50), (20, 3000), (3000, 20), (64, 64)])
@pytest.mark.parametrize("noisy", [True, False])
def test_refine_odd_image_obeys(name: str, size: tuple[int, int], *, noisy: bool) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8) if noisy else np.full((*size, 3), 90, np.uint8)
    embedding = model_of(name).encode(image)
    given_prompts = prompts((width / 2, height / 2, True))
    first = model_of(name).refine(embedding, given_prompts)
    assert_obeys(first, given_prompts, image)
    if width * height > 1:
        more = prompts((width / 2, height / 2, True), (0, 0, False))
        assert_obeys(model_of(name).refine(embedding, more, first.logits[0]), more, image)


def test_refine_large_image_finds_object(name: str) -> None:
    image = np.full((3000, 4000, 3), 70, np.uint8)
    cv2.circle(image, (2500, 1300), 700, (190, 150, 40), -1)
    truth = cv2.circle(np.zeros(image.shape[:2], np.uint8), (2500, 1300), 700, 1, -1) > 0
    embedding = model_of(name).encode(image)
    given_prompts = prompts((2500, 1300, True))
    answer = model_of(name).refine(embedding, given_prompts)
    assert_obeys(answer, given_prompts, image)
    assert iou(mask_of(answer.logits[0], image), truth) > 0.9
    box = (1799.0, 601.0, 3203.0, 2002.0)
    boxed = mask_of(model_of(name).refine(embedding, prompts(box=box)).logits[0], image)
    rows, columns = np.nonzero(boxed)
    assert (columns.min() >= 1799, columns.max() < 3203, rows.min() >= 601, rows.max() < 2002) == (True,) * 4
    assert iou(boxed, truth) > 0.9
