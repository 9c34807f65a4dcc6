"""From prompts in pixels to what the decoders of the SAM family take."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.sam.clicks import batch_clicks, fit_prior, keep_points, to_candidates


def click(*points, box=None):
    return InstancePrompts(
        np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        np.array([point[2] for point in points], np.bool_),
        None if box is None else np.array(box, np.float32),
    )


SCALE = np.array([2.0, 4.0], np.float32)


def batches(*questions, **settings):
    return list(batch_clicks(questions, scale=SCALE, mask_size=(8, 8), **settings))


def test_batch_clicks_middle_of_a_pixel_is_its_index():
    # The middle of the pixel (3, 5) of the image lies at (7, 22) in the square: on the edge of two pixels there.
    (batch,) = batches((click((3.5, 5.5, True), (0, 0, False)), None))
    assert batch.points is not None
    assert batch.labels is not None
    np.testing.assert_array_equal(batch.points, [[[[6.5, 21.5], [-0.5, -0.5]]]])
    np.testing.assert_array_equal(batch.labels, [[[1, 0]]])
    assert batch.boxes is batch.masks is None


def test_batch_clicks_box_alone_has_no_points():
    (batch,) = batches((click(box=(1, 2, 3, 4)), None))
    assert batch.points is batch.labels is None
    assert batch.boxes is not None
    np.testing.assert_array_equal(batch.boxes, [[[1.5, 7.5, 5.5, 15.5]]])
    assert not batch.multimask


def test_batch_clicks_mask_alone_has_the_point_that_is_none():
    (batch,) = batches((click(), np.full((8, 8), 3, np.float32)))
    assert batch.labels is not None
    assert batch.masks is not None
    assert batch.labels.tolist() == [[[-1]]]
    assert batch.masks.shape == (1, 1, 8, 8)


def test_batch_clicks_nothing_given_raises():
    with pytest.raises(InvalidPromptError, match="expected at least one point, a box or previous logits"):
        batches((click((1, 1, True)), None), (click(), None))


@pytest.mark.parametrize(
    ("prompts", "previous", "several"),
    [
        (click((1, 1, True)), None, True),
        (click((1, 1, True)), np.zeros((8, 8), np.float32), False),
        (click((1, 1, False)), None, False),
        (click((1, 1, True), (2, 2, True)), None, False),
        (click((1, 1, True), box=(0, 0, 2, 2)), None, False),
    ],
)
def test_batch_clicks_several_candidates_for_one_positive_click(prompts, previous, several):
    (batch,) = batches((prompts, previous))
    assert batch.multimask is several


def test_batch_clicks_answers_each_question_once_in_even_batches():
    rng = np.random.default_rng(1)
    questions = []
    for _ in range(40):
        count = rng.integers(0, 3)
        box = (0, 0, 5, 5) if rng.integers(2) else None
        previous = np.zeros((8, 8), np.float32) if count == 0 or rng.integers(2) else None
        questions.append((click(*((float(rng.integers(9)), 1.0, True) for _ in range(count)), box=box), previous))
    found = batches(*questions, most=4)
    assert sorted(index for batch in found for index in batch.order) == list(range(40))
    assert max(len(batch.order) for batch in found) == 4
    for batch in found:
        for row, index in enumerate(batch.order):
            prompts, previous = questions[index]
            assert (batch.boxes is None) == (prompts.box is None)
            assert (batch.masks is None) == (previous is None)
            if len(prompts.points):
                np.testing.assert_array_equal(batch.points[row, 0], prompts.points * SCALE - 0.5)


def test_keep_points_keeps_the_first_and_the_last():
    prompts = click(*((float(index), 0.0, index % 2 == 0) for index in range(20)))
    kept = keep_points(prompts, 5)
    assert kept.points[:, 0].tolist() == [0, 1, 2, 18, 19]
    assert kept.labels.tolist() == [True, False, True, True, False]
    assert keep_points(prompts, 20) is keep_points(prompts, None) is prompts


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (40, 64), (1, 1)])
@pytest.mark.parametrize("high", [3.0, 500.0, np.inf])
def test_fit_prior_bounds_any_logits(size, high):
    left = np.where(np.arange(size[1]) < max(1, size[1] // 2), high, -high).astype(np.float32)
    prior = fit_prior(np.tile(left, (size[0], 1)), (8, 8))
    assert prior.shape == (8, 8)
    assert prior.dtype == torch.float32
    assert prior.abs().max() <= 32 + 1e-4
    assert prior[4, 0] == pytest.approx(min(high, 32))
    assert size[1] == 1 or prior[4, 7] == pytest.approx(-min(high, 32))
    np.testing.assert_allclose(fit_prior(np.full(size, np.nan, np.float32), (8, 8)), -32, rtol=1e-6)


def test_to_candidates_sorts_and_bounds():
    logits = torch.arange(3.0)[:, None, None].expand(3, 2, 4).bfloat16()
    found = to_candidates(logits, torch.tensor([0.5, 1.25, -0.25]))
    assert found.scores.tolist() == [1, 0.5, 0]
    assert found.logits[:, 0, 0].tolist() == [1, 0, 2]
    assert found.logits.dtype == found.scores.dtype == np.float32
