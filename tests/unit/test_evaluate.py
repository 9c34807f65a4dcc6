"""Measures of masks, against the programs that define them, and clicks against a model whose answers are known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.morphology import dilation, disk

from sam3_widget import Session
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.evaluation import boundary_f, clicks_to, evaluate
from sam3_widget.evaluation.overlap import iou
from sam3_widget.io import AnnotatedImage, AnnotatedObject
from sam3_widget.io.rle import to_coco_rle
from tests.toy import ToyModel

HEIGHT, WIDTH = 60, 80
PAIRS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: st.tuples(arrays.arrays(np.bool_, shape), arrays.arrays(np.bool_, shape))
)


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def image(*objects: tuple[np.ndarray, str, float], name: str = "", crowds: tuple[int, ...] = ()) -> AnnotatedImage:
    found = [
        AnnotatedObject(k, label, RunLengths.from_mask(mask), score, {"iscrowd": 1} if k in crowds else {})
        for k, (mask, label, score) in enumerate(objects, 1)
    ]
    return AnnotatedImage(name, HEIGHT, WIDTH, tuple(found))


# IoU and matches


@given(PAIRS)
def test_iou_is_that_of_the_pixels(pair):
    first, second = pair
    union = np.count_nonzero(first | second)
    expected = np.count_nonzero(first & second) / union if union else 0.0
    assert iou(RunLengths.from_mask(first), RunLengths.from_mask(second)) == pytest.approx(expected, abs=1e-12)


def test_objects_are_matched_one_to_one_by_the_largest_iou():
    truth = np.stack([box(0, 0, 10, 10), box(10, 0, 20, 10), box(50, 30, 60, 40)])
    pred = np.stack([box(0, 0, 14, 10), box(9, 0, 20, 10), box(70, 50, 80, 60)])
    result = evaluate(pred, truth)
    assert [(m.truth_id, m.pred_id) for m in result.matches] == [(1, 1), (2, 2), (3, None)]
    assert [m.iou for m in result.matches] == pytest.approx([10 / 14, 10 / 11, 0])
    assert result.unmatched == 1
    assert result.iou == pytest.approx((10 / 14 + 10 / 11) / 3)
    assert result.matches[2].boundary_f == 0


def test_the_same_masks_are_perfect_and_others_are_not():
    truth = np.stack([box(3, 4, 30, 40), box(40, 4, 70, 50)])
    same = evaluate(truth, truth)
    assert (same.iou, same.boundary_f, same.ap, same.ap50, same.ap75, same.unmatched) == (1, 1, 1, 1, 1, 0)
    none = evaluate(np.zeros((0, HEIGHT, WIDTH), bool), truth)
    assert (none.iou, none.boundary_f, none.ap, none.unmatched) == (0, 0, 0, 0)
    empty = evaluate(truth, np.zeros((0, HEIGHT, WIDTH), bool))
    assert empty.unmatched == 2
    assert np.isnan([empty.iou, empty.boundary_f, empty.ap]).all()


def test_sessions_images_and_arrays_are_compared_alike():
    session = Session(np.full((HEIGHT, WIDTH, 3), 128, np.uint8), ToyModel())
    session.set_mask(box(3, 4, 30, 40))
    session.set_label(1, "cup")
    truth = np.stack([box(3, 4, 30, 36)])
    expected = 32 / 36
    for pred in (session, [session], AnnotatedImage.of(session), session.masks, {"a.jpg": session}):
        for true in (truth, [truth], truth.astype(np.uint8) * 255):
            assert evaluate(pred, true).iou == pytest.approx(expected)
    assert evaluate(session, truth).ap == pytest.approx(0.8), "one side without labels: all are of one class"


def test_pictures_belong_together_by_name_or_else_by_place():
    first = image((box(0, 0, 9, 9), "", 1.0), name="a")
    second = image((box(20, 20, 29, 29), "", 1.0), name="b")
    assert evaluate([second, first], [first, second]).iou == 1
    assert [m.file_name for m in evaluate([second, first], [first, second]).matches] == ["a", "b"]
    nameless = [replace(first, file_name=""), second]
    assert evaluate(nameless, [first, second]).iou == 1
    assert evaluate(nameless[::-1], [first, second]).iou == 0
    assert evaluate({"b": second, "a": first}, {"a": first, "b": second}).iou == 1
    assert evaluate(first, replace(first, file_name="other")).iou == 1, "of one picture the name does not matter"


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (None, np.zeros((1, 2, 2), bool), r"pred: expected a session, .* got None"),
        (np.zeros((1, 2, 2), bool), [3], r"truth: expected .* got int \(\) int64"),
        (
            np.zeros((2, 2), bool),
            np.zeros((1, 2, 2), bool),
            r"pred: .* \(N, H, W\) bool array, .* got ndarray \(2, 2\)",
        ),
        (np.full((1, 2, 2), 7), np.zeros((1, 2, 2), bool), "pred: .* got ndarray"),
        ("a", np.zeros((1, 2, 2), bool), "pred: expected"),
        (np.zeros((1, 2, 3), bool), np.zeros((1, 2, 2), bool), "is of 2 x 2 pixels, what was predicted of 2 x 3"),
        ([], np.zeros((1, 2, 2), bool), "must be of as many pictures, got 0 and 1"),
        (
            [image(name="a"), image(name="b")],
            [image(name="a"), image(name="c")],
            "same pictures, each once; b, c is not",
        ),
        ([image(name="a"), image(name="a")], [image(name="a")], "same pictures, each once; a name is not"),
    ],
)
def test_what_cannot_be_compared_raises(pred, truth, message):
    with pytest.raises(FormatError, match=message):
        evaluate(pred, truth)


# Boundaries


def davis(pred: np.ndarray, truth: np.ndarray) -> float:
    """The measure as the DAVIS evaluation code has it, pixel by pixel, on whole pictures."""

    def boundary(seg: np.ndarray) -> np.ndarray:
        right, below, both = np.zeros_like(seg), np.zeros_like(seg), np.zeros_like(seg)
        right[:, :-1], below[:-1], both[:-1, :-1] = seg[:, 1:], seg[1:], seg[1:, 1:]
        found = (seg ^ right) | (seg ^ below) | (seg ^ both)
        found[-1], found[:, -1], found[-1, -1] = seg[-1] ^ right[-1], seg[:, -1] ^ below[:, -1], False
        return found

    reach = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    ours, theirs = boundary(pred), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    near = [dilation(b.astype(np.uint8), disk(reach)).astype(bool) for b in (ours, theirs)]
    precision, recall = (ours & near[1]).sum() / ours.sum(), (theirs & near[0]).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(25))
def test_boundary_f_is_that_of_davis(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 300, 2)
    ys, xs = np.mgrid[:height, :width]
    masks = []
    for _ in range(2):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(3, 80)
        masks.append((np.hypot(xs - x, ys - y) < r) ^ (rng.random((height, width)) < rng.choice([0, 0.002])))
    ours = boundary_f(*(RunLengths.from_mask(mask) for mask in masks))
    assert ours == pytest.approx(davis(*masks), abs=1e-12)


def test_boundary_f_of_empty_and_full_masks():
    empty, full = RunLengths.empty(HEIGHT, WIDTH), RunLengths.from_mask(np.ones((HEIGHT, WIDTH), bool))
    some = RunLengths.from_mask(box(3, 4, 9, 9))
    assert boundary_f(empty, empty) == boundary_f(full, full) == boundary_f(empty, full) == 1
    assert boundary_f(some, empty) == boundary_f(empty, some) == 0


# Average precision


def by_cocoeval(pred: list[AnnotatedImage], truth: list[AnnotatedImage]) -> tuple[dict[str, float], np.ndarray]:
    labels = sorted({o.label for i in truth for o in i.objects})
    known = {label: k for k, label in enumerate(labels, 1)}

    def annotations(images: list[AnnotatedImage]) -> list[dict]:
        return [
            {
                "id": number * 1000 + o.object_id,
                "image_id": number,
                "category_id": known[o.label],
                "segmentation": to_coco_rle(o.mask),
                "area": o.mask.area,
                "bbox": coco_mask.toBbox(to_coco_rle(o.mask)).tolist(),
                "iscrowd": int(bool(o.attributes)),
                "score": o.score,
            }
            for number, i in enumerate(images, 1)
            for o in i.objects
            if o.label in known
        ]

    sets = []
    for images in (truth, pred):
        one = COCO()
        one.dataset = {
            "images": [{"id": k, "height": HEIGHT, "width": WIDTH} for k, _ in enumerate(images, 1)],
            "categories": [{"id": k, "name": label} for label, k in known.items()],
            "annotations": annotations(images),
        }
        one.createIndex()
        one.anns = one.anns or {}
        one.imgToAnns = one.imgToAnns or defaultdict(list)
        sets.append(one)
    run = COCOeval(*sets, "segm")
    run.evaluate()
    run.accumulate()
    run.summarize()
    precision = run.eval["precision"][:, :, :, 0, 2]
    each = {label: precision[:, :, k] for k, label in enumerate(labels)}
    return {k: float(p[p > -1].mean()) if (p > -1).any() else float("nan") for k, p in each.items()}, run.stats[:3]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_that_of_cocoeval(seed):
    rng = np.random.default_rng(seed)
    pred, truth = [], []
    for _ in range(int(rng.integers(1, 5))):
        true, found = [], []
        for _ in range(int(rng.integers(2, 9))):
            x, y, w, h = rng.integers([0, 0, 4, 4], [WIDTH - 5, HEIGHT - 5, 30, 30])
            label = str(rng.choice(["cup", "dog", "cat"]))
            true.append((box(x, y, x + w, y + h), label, 1.0))
            for _ in range(int(rng.integers(0, 4)) or len(true) == 1):
                a, b, c, d = rng.integers(-3, 4, 4)
                moved = box(max(0, x + a), max(0, y + b), max(1, x + w + c), max(1, y + h + d))
                other = label if rng.random() < 0.8 else "cup"
                found.append((moved, other, float(rng.choice([0.2, 0.5, 0.5, 0.9, rng.random()]))))
        crowds = tuple(k for k in range(1, len(true) + 1) if rng.random() < 0.2)
        truth.append(image(*true, crowds=crowds))
        pred.append(image(*found))
    assert any(i.objects for i in pred), "a case without predictions tests nothing: take another seed"
    ours = evaluate(pred, truth)
    by_label, stats = by_cocoeval(pred, truth)
    assert ours.ap_by_label.keys() == by_label.keys()
    for label, expected in by_label.items():
        assert ours.ap_by_label[label] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert [ours.ap, ours.ap50, ours.ap75] == pytest.approx(stats.tolist(), abs=1e-9)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("order", [1, -1])
def test_of_objects_that_overlap_alike_the_one_that_cocoeval_takes_is_taken(order):
    both = [(box(0, 0, 10, 10), "cup", 1.0), (box(0, 5, 10, 15), "cup", 1.0)][::order]
    truth = [image(*both)]
    pred = [image((box(0, 0, 10, 15), "cup", 0.9), (box(0, 6, 10, 15), "cup", 0.8))]
    _, stats = by_cocoeval(pred, truth)
    assert evaluate(pred, truth).ap == pytest.approx(stats[0], abs=1e-9)


def test_average_precision_counts_a_hundred_predictions():
    mask = box(3, 4, 30, 40)
    wrong = [(box(50, 50, 52, 52), "cup", 0.9)] * 100
    truth = image((mask, "cup", 1.0))
    assert evaluate(image(*wrong[1:], (mask, "cup", 0.5)), truth).ap == pytest.approx(0.01)
    assert evaluate(image(*wrong, (mask, "cup", 0.5)), truth).ap == 0


def test_a_crowd_is_no_object_to_be_found():
    truth = image((box(0, 0, 40, 40), "cup", 1.0), (box(50, 10, 60, 20), "cup", 1.0), crowds=(1,))
    pred = image((box(50, 10, 60, 20), "cup", 0.5), (box(5, 5, 9, 9), "cup", 0.9))
    result = evaluate(pred, truth)
    assert [m.truth_id for m in result.matches] == [2]
    assert result.ap == pytest.approx(1)


# Clicks


def test_clicks_are_counted_until_the_target_is_reached():
    size = (120, 160)
    ys, xs = np.mgrid[: size[0], : size[1]]
    disc = np.hypot(xs - 80, ys - 60) < 12  # what the model answers to a click in its middle
    wide = np.zeros(size, bool)
    wide[40:80, 20:140] = True
    pixels = np.full((*size, 3), 128, np.uint8)
    seen: list[float] = []
    result = clicks_to(ToyModel(), [pixels], np.stack([disc, wide]), max_clicks=4, progress=seen.append)
    first, second = result.runs
    assert (first.object_id, second.object_id) == (1, 2)
    assert first.needed(0.85) == first.needed(0.9) == 1
    assert len(first.ious) == 1, "it ends when the highest target is reached"
    assert len(second.ious) == 4
    assert second.needed(0.9) is None
    assert list(second.ious) == sorted(second.ious)
    assert result.noc == {0.85: 2.5, 0.90: 2.5}
    assert result.never == {0.85: 0.5, 0.90: 0.5}
    assert seen == [0.5, 1.0]


def test_clicks_go_to_the_middle_of_the_largest_error():
    size = (120, 160)
    truth = np.zeros((1, *size), bool)
    truth[0, 50:71, 20:61] = True
    truth[0, 50:71, 100:131] = True
    model = ToyModel()
    clicks_to(model, [np.full((*size, 3), 128, np.uint8)], truth, max_clicks=2)
    points = model.asked[-1][0].points.tolist()
    assert points[0][1] == 60.5
    assert 30 <= points[0][0] <= 51
    assert model.asked[-1][0].labels.tolist()[0] is True


class Stubborn(ToyModel):
    """Takes the whole picture for the object, whatever it is told."""

    def refine(self, embedding, prompts, previous=None):
        found = super().refine(embedding, prompts, previous)
        return replace(found, logits=np.full_like(found.logits, 8))


def test_no_pixel_is_clicked_twice():
    model = Stubborn()
    truth = np.stack([box(2, 2, 9, 9)])
    result = clicks_to(model, [np.zeros((HEIGHT, WIDTH, 3), np.uint8)], truth, max_clicks=5)
    points = model.asked[-1][0].points.tolist()
    assert len({tuple(point) for point in points}) == len(points) == 5
    assert model.asked[-1][0].labels.tolist() == [True, False, False, False, False]
    assert result.runs[0].ious == pytest.approx([49 / (HEIGHT * WIDTH)] * 5)


@pytest.mark.parametrize(
    ("images", "truth", "options", "message"),
    [
        ([], np.ones((1, 8, 8), bool), {}, "images and truth must be as many, got 0 and 1"),
        ([np.zeros((8, 8))], np.zeros((1, 8, 8), bool), {}, "the true mask of object 1 of the picture is empty"),
        ([np.zeros((8, 8))], np.zeros((0, 8, 8), bool), {}, "truth holds no object to click on"),
        ([np.zeros((8, 9))], np.ones((1, 8, 8), bool), {}, "of a picture is of 8 x 8 pixels, its picture of 8 x 9"),
        ([np.zeros((8, 8))], np.ones((1, 8, 8), bool), {"targets": ()}, "targets must be above 0"),
        ([np.zeros((8, 8))], np.ones((1, 8, 8), bool), {"targets": (85,)}, r"at most 1, .* got \(85,\) and 20"),
        ([np.zeros((8, 8))], np.ones((1, 8, 8), bool), {"max_clicks": 0}, "max_clicks 1 or more"),
    ],
)
def test_clicks_on_what_does_not_fit_raise(images, truth, options, message):
    with pytest.raises(FormatError, match=message):
        clicks_to(ToyModel(), images, truth, **options)
