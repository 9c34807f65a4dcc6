"""What every model promises, whatever it is made of."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage import data

from sam3_widget.errors import CancelledError, InvalidPromptError
from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.builtin import BuiltinModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sam3_widget.models.base import Candidates, Embedding, Model

MODELS: dict[str, Callable[[], Model]] = {"builtin": BuiltinModel}
PHOTOGRAPHS = ("astronaut", "coffee", "coins", "chelsea")

pytestmark = pytest.mark.parametrize("name", MODELS)


@cache
def model_of(name: str) -> Model:
    return MODELS[name]()


def shapes() -> NDArray[np.uint8]:
    """Two discs and a square on a graded ground."""
    ground = np.linspace(60, 120, 320)[None, :, None] * np.ones((240, 1, 3))
    image = ground.astype(np.uint8)
    cv2.circle(image, (80, 80), 45, (200, 40, 40), -1)
    cv2.circle(image, (230, 90), 35, (40, 160, 60), -1)
    cv2.rectangle(image, (120, 150), (200, 220), (230, 220, 90), -1)
    return image


@cache
def picture(which: str) -> NDArray[np.uint8]:
    if which == "shapes":
        return shapes()
    image = getattr(data, which)()
    return np.ascontiguousarray(np.dstack([image] * 3) if image.ndim == 2 else image)


@cache
def embedding_of(name: str, which: str) -> Embedding:
    return model_of(name).encode(picture(which))


def prompts(
    *clicks: tuple[float, float, bool], box: tuple[float, float, float, float] | None = None
) -> InstancePrompts:
    return InstancePrompts(
        np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2),
        np.array([click[2] for click in clicks], np.bool_),
        None if box is None else np.array(box, np.float32),
    )


def mask_of(logits: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width) > 0)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


def assert_valid(candidates: Candidates, given: InstancePrompts, image: NDArray[np.uint8]) -> None:
    """Check the form of an answer, and that every mask in it obeys the clicks."""
    count = len(candidates.scores)
    assert 1 <= count <= (3 if given.ambiguous else 1)
    assert candidates.logits.shape[0] == count
    assert candidates.logits.ndim == 3
    assert candidates.logits.dtype == np.float32
    assert candidates.scores.dtype == np.float32
    assert np.isfinite(candidates.logits).all()
    assert ((candidates.scores >= 0) & (candidates.scores <= 1)).all()
    assert (np.diff(candidates.scores) <= 0).all()
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
        assert_valid(answer, given_prompts, image)
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
    assert_valid(answer, given_prompts, image)


@pytest.mark.parametrize("corner", [(0, 0), (319.9, 0), (0, 239.9), (319.9, 239.9)])
@pytest.mark.parametrize("label", [True, False])
def test_refine_click_in_corner_obeys(name: str, corner: tuple[float, float], *, label: bool) -> None:
    image = picture("shapes")
    given_prompts = prompts((160, 120, not label), (*corner, label))
    assert_valid(model_of(name).refine(embedding_of(name, "shapes"), given_prompts), given_prompts, image)


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
    assert_valid(answer, given_prompts, image)
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
    assert_valid(answer, prompts(), image)
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


def test_refine_two_fresh_models_agree(name: str) -> None:
    answers = []
    for _ in range(2):
        model = MODELS[name]()
        embedding = model.encode(picture("chelsea"))
        first = model.refine(embedding, prompts((220, 130, True)))
        second = model.refine(embedding, prompts((220, 130, True), (60, 200, False)), first.logits[0])
        answers.append((first, second))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (1, 50), (20, 3000), (3000, 20), (64, 64)])
@pytest.mark.parametrize("noisy", [True, False])
def test_refine_odd_image_answers(name: str, size: tuple[int, int], *, noisy: bool) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8) if noisy else np.full((*size, 3), 90, np.uint8)
    embedding = model_of(name).encode(image)
    assert (embedding.height, embedding.width) == size
    given_prompts = prompts((width / 2, height / 2, True))
    first = model_of(name).refine(embedding, given_prompts)
    assert_valid(first, given_prompts, image)
    if width * height > 1:
        more = prompts((width / 2, height / 2, True), (0, 0, False))
        assert_valid(model_of(name).refine(embedding, more, first.logits[0]), more, image)


def test_refine_large_image_finds_object(name: str) -> None:
    image = np.full((3000, 4000, 3), 70, np.uint8)
    cv2.circle(image, (2500, 1300), 700, (190, 150, 40), -1)
    truth = cv2.circle(np.zeros(image.shape[:2], np.uint8), (2500, 1300), 700, 1, -1) > 0
    embedding = model_of(name).encode(image)
    given_prompts = prompts((2500, 1300, True))
    answer = model_of(name).refine(embedding, given_prompts)
    assert_valid(answer, given_prompts, image)
    assert iou(mask_of(answer.logits[0], image), truth) > 0.9
    box = (1799.0, 601.0, 3203.0, 2002.0)
    boxed = mask_of(model_of(name).refine(embedding, prompts(box=box)).logits[0], image)
    rows, columns = np.nonzero(boxed)
    assert (columns.min() >= 1799, columns.max() < 3203, rows.min() >= 601, rows.max() < 2002) == (True,) * 4
    assert iou(boxed, truth) > 0.9


def test_refine_nothing_given_raises(name: str) -> None:
    with pytest.raises(InvalidPromptError, match="expected at least one point, a box or previous logits"):
        model_of(name).refine(embedding_of(name, "shapes"), prompts())


def test_encode_reports_progress_up_to_one(name: str) -> None:
    fractions: list[float] = []
    model_of(name).encode(picture("shapes"), fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1


def test_encode_cancelled_in_progress_stops(name: str) -> None:
    def cancel(fraction: float) -> None:
        if fraction > 0:
            raise CancelledError

    with pytest.raises(CancelledError):
        model_of(name).encode(picture("shapes"), cancel)


def test_encode_leaves_the_image_alone(name: str) -> None:
    image = shapes()
    model_of(name).encode(image)
    np.testing.assert_array_equal(image, shapes())


def test_encode_bounds_its_memory_honestly(name: str) -> None:
    assert embedding_of(name, "shapes").nbytes > 10_000
