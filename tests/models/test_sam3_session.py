"""SAM 3 behind a session: one pass of the encoder for an image, whatever is said about it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from sam3_widget import Job, Session, segment_batch
from sam3_widget.models.sam3.model import Sam3
from tests.models.tiny import tiny_sam3, tiny_tokenizer


class Counted:
    """SAM 3 with the passes of its parts counted."""

    def __init__(self):
        video = tiny_sam3()
        self.passes = dict.fromkeys(("encoder", "text", "detector", "decoder"), 0)
        parts = {
            "encoder": video.detector_model.vision_encoder.backbone,
            "text": video.detector_model.text_encoder,
            "detector": video.detector_model.detr_decoder,
            "decoder": video.tracker_model.mask_decoder,
        }
        for name, part in parts.items():
            part.register_forward_hook(lambda *_, name=name: self.count(name))
        self.model = Sam3(video, tiny_tokenizer(), device="cpu")

    def count(self, name):
        self.passes[name] += 1

    def since(self, before):
        return {name: count - before[name] for name, count in self.passes.items() if count > before[name]}


@pytest.fixture
def counted():
    return Counted()


def test_one_pass_of_the_encoder_for_text_clicks_new_text_and_thresholds(counted):
    session = Session(data.coffee(), counted.model)
    concept = session.set_text("cup")
    assert len(concept) > 0
    first = concept.object_ids[0]
    for x, y, positive in ((300, 200, True), (320, 180, True), (20, 20, False)):
        session.add_point(x, y, positive=positive, object_id=first)
    session.set_text("spoon")
    session.score_threshold = 0.3
    session.mask_threshold = 0.4
    assert counted.passes == {"encoder": 1, "text": 2, "detector": 2, "decoder": 3}


def test_undo_thresholds_and_an_image_seen_before_run_nothing(counted):
    session = Session(data.coffee(), counted.model)
    session.set_text("cup")
    masks = session.masks
    session.set_text("spoon")
    session.add_exemplar((200, 100, 380, 290), positive=False)
    before = dict(counted.passes)
    session.undo()
    session.undo()
    assert (session.masks == masks).all()
    session.score_threshold = 0.2
    session.score_threshold = 0.9
    session.redo()
    assert counted.since(before) == {}
    other = Session(data.coffee(), counted.model)
    other.set_text("cup")
    assert counted.since(before) == {"detector": 1}
    assert (other.masks == masks).all()


def test_a_click_on_a_detection_is_the_decoder_on_its_logits(counted):
    session = Session(data.coffee(), counted.model)
    object_id = session.set_text("cup").object_ids[0]
    found = session.instance(object_id)
    prior = session.logits[session.object_ids.tolist().index(object_id)]
    refined = session.add_point(300, 200, object_id=object_id)
    live = session._live
    embedding = live.engine._embeddings[live.image.key]
    prompts, previous = live.question_of(("object", object_id), live.state.instance(object_id).answer)
    assert previous.shape == prior.shape
    expected = counted.model.refine(embedding, prompts, prior)
    state = live.state.instance(object_id)
    assert np.abs(state.answer.logits[0] - expected.logits[0]).max() < 0.02  # kept in half precision
    assert len(refined.candidate_scores) == 1
    session.undo()
    assert (session.instance(object_id).mask == found.mask).all()


def test_a_negative_exemplar_is_obeyed(counted):
    session = Session(data.coffee(), counted.model)
    session.set_text("cup")
    box = session.boxes[0]
    inside = [i.object_id for i in session.instances if share_inside(i.mask, box) > 0.6]
    assert inside
    session.add_exemplar(box, positive=False)
    assert all(share_inside(i.mask, box) <= 0.6 for i in session.instances)


def share_inside(mask, box):
    x1, y1, x2, y2 = np.asarray(box).astype(int)
    return mask[y1:y2, x1:x2].sum() / max(1, mask.sum())


def test_batch_of_mixed_jobs_is_one_pass_of_encoder_and_detector_and_gives_what_sessions_give(counted):
    coffee, cat = data.coffee(), data.chelsea()
    jobs = [
        Job(coffee, text="cup"),
        Job(cat, text="whisker", boxes=[(50, 50, 200, 200)], box_labels=[0]),
        Job(cat, points=[(200, 150), (20, 20)], point_labels=[1, 0]),
    ]
    found = segment_batch(counted.model, jobs)
    assert {name: counted.passes[name] for name in ("encoder", "detector", "decoder")} == {
        "encoder": 1,
        "detector": 1,
        "decoder": 1,
    }
    session = Session(coffee, counted.model)
    session.set_text("cup")
    assert len(session.instances) == len(found[0]) > 0
    assert (session.masks != found[0].masks).mean() < 0.001
    assert session.scores == pytest.approx(found[0].scores, abs=1e-3)
    clicked = Session(cat, counted.model)
    clicked._live.run("set_points", {"points": [(200, 150, True, 1), (20, 20, False, 1)]})
    assert (clicked.masks[0] != found[2].masks[0]).mean() < 0.001
