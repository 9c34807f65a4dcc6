"""What people do with SAM 3, on the real checkpoint, where it is on this disk."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_widget import Session
from sam3_widget.models.base import ConceptPrompts
from tests.models.scenes import iou, mask_of, picture, prompts

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def model(this_disk):
    pytest.importorskip("transformers")
    from sam3_widget.models.sam3.model import Sam3  # noqa: PLC0415 - torch and transformers load with it
    from sam3_widget.models.weights.checkpoint import find_cached  # noqa: PLC0415

    checkpoint = find_cached("facebook/sam3")
    if checkpoint is None:
        pytest.skip("facebook/sam3 is not in the Hub's cache on this disk")
    return Sam3.from_folder(checkpoint.folder)


@pytest.fixture(scope="module")
def coffee(model):
    return model.encode(picture("coffee"))


@pytest.fixture(scope="module")
def cup(model, coffee):
    """Return the logits, the mask and the box of what the text finds."""
    found = model.detect(coffee, ConceptPrompts("cup"))
    return found.logits[0], mask_of(found.logits[0], picture("coffee")), found.boxes[0]


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def inside(mask):
    """Return a pixel well inside a mask."""
    rows, columns = np.nonzero(mask)
    return float(np.median(columns)), float(np.median(rows))


def test_text_finds_what_is_there(model, coffee, cup):
    found = model.detect(coffee, ConceptPrompts("cup"))
    assert found.presence > 0.5
    assert 1 <= np.count_nonzero(found.scores > 0.5) <= 3
    _, mask, box = cup
    assert 0.02 < mask.mean() < 0.6
    np.testing.assert_allclose(box_of(mask), box, atol=12)
    semantic = mask_of(found.semantic, picture("coffee"))
    assert iou(semantic, mask) > 0.6


def test_text_does_not_find_what_is_not_there(model, coffee):
    found = model.detect(coffee, ConceptPrompts("elephant"))
    assert not (found.scores > 0.5).any()


def test_click_on_what_the_text_found_keeps_it(model, coffee, cup):
    logits, mask, _ = cup
    x, y = inside(mask)
    answer = model.refine(coffee, prompts((x, y, True)), logits)
    assert iou(mask_of(answer.logits[0], picture("coffee")), mask) > 0.7


def test_click_alone_offers_the_object(model, coffee, cup):
    _, mask, _ = cup
    x, y = inside(mask)
    answer = model.refine(coffee, prompts((x, y, True)))
    masks = [mask_of(logits, picture("coffee")) for logits in answer.logits]
    assert len(masks) == 3
    assert all(offered[int(y), int(x)] for offered in masks)
    assert max(iou(offered, mask) for offered in masks) > 0.5


def test_box_of_what_the_text_found_finds_it(model, coffee, cup):
    _, mask, box = cup
    answer = model.refine(coffee, prompts(box=tuple(box)))
    assert iou(mask_of(answer.logits[0], picture("coffee")), mask) > 0.7
    assert answer.scores[0] > 0.5


def test_negative_click_takes_its_place_away(model, coffee, cup):
    _, mask, box = cup
    x, y = inside(mask)
    before = model.refine(coffee, prompts(box=tuple(box)))
    after = model.refine(coffee, prompts((x, y, False), box=tuple(box)), before.logits[0])
    assert not mask_of(after.logits[0], picture("coffee"))[int(y), int(x)]


def test_exemplar_finds_the_others(model):
    embedding = model.encode(picture("coins"))
    named = model.detect(embedding, ConceptPrompts("coin"))
    count = np.count_nonzero(named.scores > 0.5)
    assert 15 <= count <= 30
    shown = model.detect(embedding, ConceptPrompts("", named.boxes[:1], np.array([True])))
    assert np.count_nonzero(shown.scores > 0.5) > count / 2


def test_everyday_uses_of_a_session(model):
    session = Session(picture("coins"), model)
    session.set_text("coin")
    everything = {i.object_id: i for i in session.instances}
    first, second = list(everything)[:2]
    session.add_exemplar(everything[first].box, positive=False)  # disambiguation, and filtering one by one
    session.add_exemplar_point(*inside(everything[second].mask), positive=False)
    assert not {first, second} & set(session.object_ids.tolist())
    kept = session.object_ids.tolist()
    assert len(kept) > len(everything) / 2
    refined = session.add_point(*inside(everything[kept[0]].mask), object_id=kept[0])
    assert iou(refined.mask, everything[kept[0]].mask) > 0.7
    session.set_text("coin", at=inside(everything[kept[1]].mask))  # precision
    alone = [i for i in session.instances if not i.points]
    assert len(alone) == 1
    assert iou(alone[0].mask, everything[kept[1]].mask) > 0.7
