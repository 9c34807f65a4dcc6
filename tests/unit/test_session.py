import numpy as np
import pytest

import sam3_widget
from sam3_widget import Session, load_model
from sam3_widget.errors import InvalidImageError, ModelError
from tests.toy import ToyModel

IMAGE = np.full((120, 160, 3), 128, np.uint8)


@pytest.fixture
def session():
    return Session(IMAGE, model=ToyModel())


def test_verbs_return_the_instance_with_its_mask(session):
    cup = session.add_point(40, 60)
    assert cup.object_id == 1
    assert cup.mask.shape == (120, 160)
    assert cup.mask.dtype == np.bool_
    assert cup.mask[60, 40]
    assert cup.score == pytest.approx(0.9)
    assert cup.candidate_scores == pytest.approx((0.9, 0.8, 0.7))
    assert cup.area == cup.mask.sum()
    x1, y1, x2, y2 = cup.box
    assert cup.mask[int(y1) : int(y2), int(x1) : int(x2)].sum() == cup.area
    saucer = session.add_box((80, 40, 120, 90))
    assert saucer.object_id == 2
    assert saucer.prompt_box.xyxy == (80, 40, 120, 90)
    again = session.add_point(45, 60, positive=False, object_id=cup.object_id)
    assert again.object_id == 1
    assert not again.mask[60, 45]


def test_arrays_have_the_shapes_and_types_of_the_conventions(session):
    session.add_point(40, 60)
    session.add_box((80, 40, 120, 90))
    session.set_label(2, "saucer")
    assert (session.masks.shape, session.masks.dtype) == ((2, 120, 160), np.bool_)
    assert (session.boxes.shape, session.boxes.dtype) == ((2, 4), np.float32)
    assert (session.scores.shape, session.scores.dtype) == ((2,), np.float32)
    assert session.object_ids.tolist() == [1, 2]
    assert session.labels == ["", "saucer"]
    assert session.classes == ("saucer",)
    assert (session.label_map.shape, session.label_map.dtype) == ((120, 160), np.int32)
    assert (session.logits.shape, session.logits.dtype) == ((2, 60, 80), np.float32)
    assert [(p.x, p.y, p.positive) for p in session.points] == [(40, 60, True)]
    assert [b.xyxy for b in session.box_prompts] == [(80, 40, 120, 90)]
    assert [c.name for c in session.history] == ["add_point", "add_box", "set_label"]


def test_arrays_of_an_empty_session(session):
    assert session.masks.shape == (0, 120, 160)
    assert session.boxes.shape == (0, 4)
    assert session.scores.shape == (0,)
    assert session.logits.shape == (0, 0, 0)
    assert not session.label_map.any()
    assert session.instances == ()


def test_label_map_shows_the_smaller_mask_above(session):
    session.add_box((10, 10, 100, 100))
    session.add_box((30, 30, 50, 50))
    assert session.label_map[40, 40] == 2
    assert session.label_map[20, 20] == 1
    assert session.label_map[110, 150] == 0


def test_imported_and_answered_masks_live_side_by_side(session):
    session.add_point(40, 60)
    mask = np.zeros((120, 160), np.uint8)
    mask[5:25, 100:140] = 255
    imported = session.set_mask(mask)
    assert (imported.mask == mask.astype(bool)).all()
    assert np.isnan(imported.score)
    assert session.logits.shape == (2, 60, 80)
    assert (session.logits[1][3:12, 52:68] > 0).all()


def test_every_verb_can_be_undone(session):
    session.add_point(40, 60)
    session.add_point(60, 60, object_id=1)
    session.move_point(session.points[1], 70, 60)
    assert session.masks[0][60, 70]
    session.flip_point(session.points[1].point_id)
    assert not session.masks[0][60, 70]
    session.remove_point(session.points[1])
    session.add_box((20, 20, 90, 90), object_id=1)
    session.remove_box(1)
    session.add_stroke([(100, 20), (140, 20)], 4, object_id=1)
    session.remove_stroke(session.instance(1).strokes[0])
    session.choose_candidate(1, 0)
    session.set_visible(1, visible=False)
    session.set_locked(1, locked=True)
    session.set_locked(1, locked=False)
    session.mask_threshold = 0.6
    session.fill_holes = 5
    session.min_area = 6
    session.remove_object(1)
    session.reset()
    steps = len(session.history)
    assert steps == 16
    while session.undo():
        steps -= 1
    assert steps == 0
    assert not session.undo()
    assert session.masks.shape[0] == 0
    assert session.redo()
    assert session.masks[0][60, 40]


def test_settings_act_at_once(session):
    session.add_point(40, 60)
    area = session.masks.sum()
    session.mask_threshold = 0.99
    assert session.masks.sum() < area
    session.undo()
    assert session.masks.sum() == area


def test_select_is_not_a_step(session):
    session.add_point(40, 60)
    session.add_point(90, 60)
    session.select(1)
    assert session.selected == 1
    assert len(session.history) == 2
    session.select(None)
    assert session.selected is None


def test_on_change_calls_until_stopped(session):
    calls = []
    stop = session.on_change(lambda: calls.append(len(session.instances)))
    session.add_point(40, 60)
    assert calls[0] == 1
    stop()
    seen = len(calls)
    session.reset()
    assert len(calls) == seen


def test_session_wants_an_image():
    with pytest.raises(InvalidImageError, match="expected a path"):
        Session(3, model=ToyModel())


def test_load_model_is_shared_and_unknown_names_are_told():
    assert load_model("builtin") is load_model("auto")
    with pytest.raises(ModelError, match="expected one of: auto, builtin"):
        load_model("sam9")


def test_unknown_public_name_is_an_attribute_error():
    assert set(sam3_widget.__all__) <= set(dir(sam3_widget))
    with pytest.raises(AttributeError, match="no attribute 'Sam4Widget'"):
        sam3_widget.Sam4Widget  # noqa: B018
