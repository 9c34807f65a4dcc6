from __future__ import annotations

import math

import pytest

from sam3_widget.video.timeline import Mark, flagged


def marks(scores, areas=None, source="forward", start=0):
    areas = areas or [1000] * len(scores)
    pairs = enumerate(zip(scores, areas, strict=True), start)
    return {k: Mark(source, score, area, "", (k,)) for k, (score, area) in pairs}


def flags(given):
    return {k: mark.flag for k, mark in flagged(given).items() if mark.flag}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], {}),
        ([0.9], {}),
        ([0.9, 0.9, 0.75, 0.72], {}),
        ([0.9, 0.9, 0.6, 0.9], {2: "score"}),
        ([0.9, 0.9, 0.5, 0.4, 0.5, 0.9], {2: "score"}),
        ([0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55], {}),
        ([0.9, math.nan, 0.5], {2: "score"}),
    ],
)
def test_first_frame_of_a_drop_is_flagged(scores, expected):
    assert flags(marks(scores)) == expected


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([1000, 1400, 1900], {}),
        ([1000, 1500, 1500], {1: "area"}),
        ([1000, 600], {1: "area"}),
        ([1000, 0, 0, 900], {1: "area", 3: "area"}),
        ([40, 90], {}),
        ([1000, None], {}),
    ],
)
def test_area_that_jumps_is_flagged(areas, expected):
    assert flags(marks([0.9] * len(areas), areas)) == expected


def test_what_a_person_said_is_not_flagged():
    given = marks([0.9, 0.9]) | marks([0.2], [10], "prompt", start=2)
    assert flags(given) == {}


def test_gap_begins_anew():
    assert flags(marks([0.9, 0.9]) | marks([0.4, 0.4], start=7)) == {}


def test_unflagged_marks_stay_the_same_objects():
    given = marks([0.9, 0.9, 0.4])
    result = flagged(given)
    assert result[1] is given[1]
    assert flagged(result)[2] is result[2]
