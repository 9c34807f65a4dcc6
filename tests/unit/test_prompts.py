import numpy as np
import pytest

from sam3_widget.core import prompts
from sam3_widget.errors import InvalidPromptError


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        (np.array([0, 0, 100, 50], np.float32), (0, 0, 100, 50)),
        ([0.5, 1, 9.5, 4], (0.5, 1, 9.5, 4)),
        ((40, 10, 18, 20), "x1 < x2 and y1 < y2, got (40, 10, 18, 20)"),
        ((1, 2, 1, 4), "x1 < x2"),
        ((1, 2, 3), "(x1, y1, x2, y2) in pixels"),
        ("1234", "(x1, y1, x2, y2) in pixels"),
        (7, "(x1, y1, x2, y2) in pixels"),
        ((-1, 2, 3, 4), "inside the image, 0 <= x <= 100 and 0 <= y <= 50"),
        ((1, 2, 101, 4), "inside the image"),
        ((1, 2, float("nan"), 4), "finite"),
        ((1, 2, "3", 4), "must be a number"),
    ],
)
def test_corners(box, expected):
    if isinstance(expected, str):
        with pytest.raises(InvalidPromptError) as raised:
            prompts.corners(box, 100, 50)
        assert expected in str(raised.value)
    else:
        assert prompts.corners(box, 100, 50) == expected


@pytest.mark.parametrize(
    ("x", "y", "good"),
    [
        (0, 0, True),
        (99.9, 49.9, True),
        (np.float32(3), np.int64(4), True),
        (100, 10, False),
        (10, 50, False),
        (-0.1, 10, False),
        (float("inf"), 1, False),
        (True, 1, False),
        (None, 1, False),
    ],
)
def test_position(x, y, good):
    if good:
        assert prompts.position(x, y, 100, 50) == (float(x), float(y))
    else:
        with pytest.raises(InvalidPromptError):
            prompts.position(x, y, 100, 50)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (0, False),
        (1, True),
        (np.True_, True),
        (np.int8(0), False),
        (2, None),
        ("yes", None),
        (None, None),
    ],
)
def test_flag(value, expected):
    if expected is None:
        with pytest.raises(InvalidPromptError, match="True or False"):
            prompts.flag(value, "positive")
    else:
        assert prompts.flag(value, "positive") is expected


@pytest.mark.parametrize("path", [[], [(1,)], [(1, 2, 3)], "abc", None, [1, 2], [(1, "a")], [(1, 1e9)]])
def test_polyline_malformed_is_an_error(path):
    with pytest.raises(InvalidPromptError):
        prompts.polyline(path, 100, 50)


def test_stroke_covers_what_is_within_its_radius():
    stroke = prompts.Stroke(((10, 10), (30, 10)), 5, positive=True, object_id=1, stroke_id=1)
    assert stroke.covers(20, 14.9)
    assert stroke.covers(6, 10)
    assert not stroke.covers(3, 10)
    assert stroke.covers(20, 16.4)
    assert not stroke.covers(20, 16.6)
    assert prompts.Stroke(((4, 4),), 2, positive=True, object_id=1, stroke_id=1).covers(5, 5)
