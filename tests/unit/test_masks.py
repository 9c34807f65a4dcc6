import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_widget.core import masks
from sam3_widget.core.masks import Hygiene
from sam3_widget.core.prompts import Stroke
from sam3_widget.core.runs import RunLengths

torch = pytest.importorskip("torch", reason="the reference interpolation is torch's")

NONE = np.zeros((0, 2), np.int64)


def stroke(path, radius, *, positive=True):
    return Stroke(tuple(path), radius, positive, object_id=1, stroke_id=1)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([-1.0, 0.0, 1.0]),
    st.integers(0, 2**31),
)
def test_threshold_equals_that_of_torch_interpolation(h, w, height, width, level, seed):
    logits = np.random.default_rng(seed).normal(size=(h, w)).astype(np.float32)
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], (height, width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    part, (x1, y1, x2, y2) = masks.threshold(logits, level, height, width)
    placed = np.zeros((height, width), bool)
    placed[y1:y2, x1:x2] = part
    decided = np.abs(whole - level) > 1e-5  # what is nearer is a matter of rounding
    np.testing.assert_array_equal(placed[decided], whole[decided] > level)


def test_logit_of_half_is_zero_and_rises():
    assert masks.logit(0.5) == 0
    assert masks.logit(0.7) == pytest.approx(-masks.logit(0.3))
    assert masks.logit(0.9) > masks.logit(0.6) > 0


def test_compose_stroke_paints_exactly_its_disc():
    runs = masks.compose(None, (60, 80), strokes=[stroke([(40, 30)], 10)])
    ys, xs = np.mgrid[:60, :80] + 0.5
    distance = np.hypot(xs - 40, ys - 30)
    assert runs.to_mask()[distance < 9].all()
    assert not runs.to_mask()[distance > 11].any()


def test_compose_strokes_apply_in_order():
    add, take = stroke([(10, 10), (60, 10)], 6), stroke([(30, 10)], 4, positive=False)
    assert not masks.compose(None, (20, 80), strokes=[add, take]).to_mask()[10, 30]
    assert masks.compose(None, (20, 80), strokes=[take, add]).to_mask()[10, 30]


def test_compose_stroke_off_the_image_is_cut():
    runs = masks.compose(None, (20, 30), strokes=[stroke([(29, 10), (90, 10)], 3)])
    assert runs.to_mask()[10, 29]
    assert masks.compose(None, (20, 30), strokes=[stroke([(200, 200)], 3)]).area == 0


def test_compose_exact_mask_is_kept_to_the_pixel():
    mask = np.random.default_rng(0).random((37, 53)) < 0.4
    assert (masks.compose(RunLengths.from_mask(mask), (37, 53)).to_mask() == mask).all()


def test_compose_does_not_paint_into_what_it_was_given():
    runs = RunLengths.from_mask(np.ones((20, 20), bool))
    masks.compose(runs, (20, 20), strokes=[stroke([(10, 10)], 5, positive=False)])
    assert runs.to_mask().all()


def picture():
    mask = np.zeros((40, 60), bool)
    mask[5:35, 5:35] = True
    mask[10:13, 10:13] = False  # a hole of 9
    mask[20:26, 20:26] = False  # a hole of 36
    mask[2:4, 50:52] = True  # an island of 4
    mask[20:25, 50:55] = True  # an island of 25
    return mask


@pytest.mark.parametrize(
    ("hygiene", "inside", "outside", "pixels"),
    [
        (Hygiene(), NONE, NONE, 884),
        (Hygiene(fill_holes=8), NONE, NONE, 884),
        (Hygiene(fill_holes=9), NONE, NONE, 893),
        (Hygiene(fill_holes=36), NONE, NONE, 929),
        (Hygiene(fill_holes=36), NONE, np.array([[11, 11]]), 920),
        (Hygiene(min_area=4), NONE, NONE, 884),
        (Hygiene(min_area=5), NONE, NONE, 880),
        (Hygiene(min_area=26), NONE, NONE, 855),
        (Hygiene(min_area=26), np.array([[51, 3]]), NONE, 859),
        (Hygiene(min_area=26), np.array([[-4, 900]]), NONE, 855),
        (Hygiene(min_area=10_000), NONE, NONE, 884),
        (Hygiene(fill_holes=36, min_area=26), NONE, NONE, 900),
    ],
)
def test_clean(hygiene, inside, outside, pixels):
    assert masks.clean(picture(), hygiene, inside, outside).sum() == pixels


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_clean_what_surrounds_the_mask_is_no_hole(margin):
    mask = np.ones((10, 10), bool)
    mask[4:6, 0:3] = False
    mask[8, 8] = False
    cleaned = masks.clean(np.pad(mask, margin), Hygiene(fill_holes=1000), NONE, NONE)
    assert cleaned.sum() == 94


def test_compose_hygiene_keeps_what_prompts_speak_for():
    mask = RunLengths.from_mask(picture())
    kept = masks.compose(mask, (40, 60), hygiene=Hygiene(min_area=26), keep=(((50.5, 2.5),), ()))
    assert kept.to_mask()[2:4, 50:52].all()
    assert not kept.to_mask()[20:25, 50:55].any()


def test_prior_from_mask_gives_the_mask_back():
    ys, xs = np.mgrid[:900, :1400]
    mask = np.hypot(xs - 700, ys - 400) < 300
    prior = masks.prior_from_mask(RunLengths.from_mask(mask))
    assert prior.dtype == np.float32
    assert max(prior.shape) == 512
    again = masks.compose(prior, (900, 1400)).to_mask()
    assert (again & mask).sum() / (again | mask).sum() > 0.99


def test_paint_logits_decides_under_the_stroke_only():
    before = np.zeros((30, 40), np.float32)
    after = masks.paint_logits(before, [stroke([(200, 150)], 50)], 300, 400)
    assert after[15, 20] == masks.SURE
    assert after[0, 0] == 0
    assert not before.any()
