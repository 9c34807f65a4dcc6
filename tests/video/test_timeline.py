from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_widget import VideoSession
from sam3_widget.models.base import Capabilities
from sam3_widget.video.timeline import Mark, Timeline, flag_of
from tests.toy import ToyModel


def marks(scores, areas=None, source="forward", start=0):
    areas = areas or [1000] * len(scores)
    pairs = enumerate(zip(scores, areas, strict=True), start)
    return {k: Mark(source, score, area, "", (k,)) for k, (score, area) in pairs}


def flags(given):
    return {k: flag_of(given, k) for k in given if flag_of(given, k)}


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


CLIP = np.zeros((12, 60, 80, 3), np.uint8)
EVERYTHING = Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True, video=True)


@pytest.fixture
def video():
    return VideoSession(CLIP, ToyModel(EVERYTHING))


ACTS = {
    "box": lambda video, k: video.add_box((8, 10, 20, 22), frame_idx=k),
    "click": lambda video, k: (
        video.objects and video.add_point(30, 30, object_id=video.objects[0].object_id, frame_idx=k)
    ),
    "propagate": lambda video, _: video.propagate(direction="both"),
    "remove": lambda video, _: video.objects and video.remove_object(video.objects[-1].object_id),
    "undo": lambda video, _: video.undo(),
    "redo": lambda video, _: video.redo(),
    "clean": lambda video, k: setattr(video, "min_area", 10 * k),
}


@given(acts=st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 11)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_kept_up_to_date_is_the_same_as_made_anew(acts):
    video = VideoSession(CLIP, ToyModel(EVERYTHING))
    kept, told = Timeline(video._live), {}
    for act, frame_idx in acts:
        ACTS[act](video, frame_idx)
        with video._live.lock:
            changed, removed = kept.update()
        for object_id in removed:
            told.pop(object_id, None)
        for object_id, news in changed.items():
            told.setdefault(object_id, {}).update(news)
        fresh = Timeline(video._live)
        with video._live.lock:
            fresh.update()
        assert summary(told) == summary(kept.marks) == summary(fresh.marks)


def summary(marks):
    told = {
        k: {f: (m.source, str(m.score), m.area, m.flag) for f, m in sorted(by_frame.items()) if m}
        for k, by_frame in marks.items()
    }
    return {k: by_frame for k, by_frame in told.items() if by_frame}


def test_answer_that_arrives_later_is_told(video):
    model = video.model
    timeline = Timeline(video._live)
    model.gate.clear()
    video._live.frame(2).run("add_box", {"box": (8, 10, 20, 22)}, wait=False)
    with video._live.lock:
        changed, _ = timeline.update()
    assert changed[1][2].area is None
    model.gate.set()
    video._live.settle()
    with video._live.lock:
        changed, _ = timeline.update()
    assert changed[1][2].area == 144
    with video._live.lock:
        assert timeline.update() == ({}, [])
