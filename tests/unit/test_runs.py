import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import ProtocolError

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(masks)
def test_runs_mask_round_trip(mask):
    runs = RunLengths.from_mask(mask)
    assert (runs.to_mask() == mask).all()
    assert runs.area == mask.sum()
    assert runs.counts.sum() == mask.size
    assert (runs.counts[1:] > 0).all()


@given(masks)
def test_runs_bytes_round_trip(mask):
    runs = RunLengths.from_mask(mask)
    again = RunLengths.from_bytes(runs.to_bytes())
    assert (again.height, again.width) == mask.shape
    assert again.counts.tolist() == runs.counts.tolist()


@given(masks)
def test_runs_bbox_is_tight(mask):
    ys, xs = np.nonzero(mask)
    expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None
    assert RunLengths.from_mask(mask).bbox == expected


@given(masks, st.data())
def test_runs_window_is_the_slice(mask, data):
    height, width = mask.shape
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    assert (RunLengths.from_mask(mask).window(x1, y1, x2, y2) == mask[y1:y2, x1:x2]).all()


@given(masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_runs_from_window_places_it(mask, left, top, right, bottom):
    whole = np.pad(mask, ((top, bottom), (left, right)))
    runs = RunLengths.from_window(mask, left, top, *whole.shape)
    assert (runs.to_mask() == whole).all()


@given(st.binary(max_size=40))
def test_runs_from_any_bytes_is_a_mask_or_an_error(data):
    try:
        runs = RunLengths.from_bytes(data)
    except ProtocolError:
        return
    assert runs.counts.sum() == runs.height * runs.width
    assert RunLengths.from_bytes(runs.to_bytes()).counts.tolist() == runs.counts.tolist()


def test_runs_of_an_ordinary_mask_on_12_megapixels_take_8_kilobytes_at_most():
    ys, xs = np.ogrid[:3000, :4000]
    blob = np.hypot((xs - 2000) / 1.4, ys - 1500) < 1100 + 90 * np.sin(np.arctan2(ys - 1500, xs - 2000) * 9)
    assert len(RunLengths.from_mask(blob).to_bytes()) <= 8192


def test_runs_too_many_pixels_for_the_wire_is_an_error():
    with pytest.raises(ProtocolError, match="at most"):
        RunLengths.empty(50_000, 50_000).to_bytes()
