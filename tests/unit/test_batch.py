"""Jobs on many images give what sessions give, in fewer passes."""

import numpy as np
import pytest
from PIL import Image as PILImage

from sam3_widget import Job, Session, segment_batch
from sam3_widget.errors import CancelledError, InvalidImageError, InvalidPromptError, ModelError, UnsupportedError
from sam3_widget.models.base import Capabilities
from tests.toy import ToyModel

RED, GREEN = (10, 10, 50, 50), (70, 10, 100, 50)


def picture(ground=30):
    image = np.full((120, 160, 3), ground, np.uint8)
    for (x1, y1, x2, y2), channel in ((RED, 0), (GREEN, 1)):
        image[y1:y2, x1:x2, channel] = 230
    return image


class Counting(ToyModel):
    def __init__(self):
        super().__init__()
        self.passes = []

    def encode_many(self, images, progress=lambda _: None):
        self.passes.append(("encode", len(images)))
        return super().encode_many(images, progress)

    def detect_many(self, embeddings, concepts, progress=lambda _: None):
        self.passes.append(("detect", len(concepts)))
        return super().detect_many(embeddings, concepts, progress)


def test_mixed_jobs_take_one_pass_a_batch_and_come_back_in_order():
    model, first, second = Counting(), picture(), picture(40)
    jobs = [
        Job(first, text="red"),
        Job(second, points=[(85, 30)]),
        Job(first, boxes=[RED, GREEN], box_labels=[1, 0]),
        Job(second, text="spot"),
    ]
    found = segment_batch(model, jobs)
    assert model.passes == [("encode", 2), ("detect", 3)]
    assert [len(f) for f in found] == [1, 1, 1, 2]
    assert found[0].labels == ["red"]
    assert found[0].boxes[0] == pytest.approx(RED, abs=3)
    assert found[0].presence == pytest.approx(0.9)
    assert found[1].masks[0, 30, 85]
    assert np.isnan(found[1].presence)
    assert found[2].masks[0, 30, 30]
    assert found[3].masks.shape == (2, 120, 160)
    assert found[3].logits.shape == (2, 60, 80)
    assert (found[3].semantic_mask == found[3].masks.any(0)).all()


def test_batches_are_bounded_and_progress_is_told():
    model, told = Counting(), []
    segment_batch(model, [Job(picture(k), text="red") for k in range(5)], batch_size=2, progress=told.append)
    assert model.passes == [("encode", 2), ("detect", 2)] * 2 + [("encode", 1), ("detect", 1)]
    assert told == [0, 0.4, 0.8, 1]


def test_progress_that_raises_stops_the_work():
    model = Counting()

    def stop(fraction):
        if fraction > 0:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        segment_batch(model, [Job(picture(k), text="red") for k in range(5)], batch_size=1, progress=stop)
    assert len(model.passes) == 2


def test_a_job_gives_what_a_session_gives():
    session = Session(picture(), ToyModel())
    session.set_text("spot")
    session.add_exemplar(RED, positive=False)
    found = segment_batch(ToyModel(), [Job(picture(), text="spot", boxes=[RED], box_labels=[0])])[0]
    assert (found.masks == session.masks).all()
    assert (found.scores == session.scores).all()
    assert found.labels == session.labels
    assert (found.semantic_mask == session.semantic_mask).all()


def test_text_with_one_point_means_that_instance():
    found = segment_batch(ToyModel(), [Job(picture(), text="spot", points=[(85, 30)])])[0]
    assert len(found) == 1
    assert found.masks[0, 30, 85]


def test_nothing_found_is_an_empty_result_of_the_right_shapes():
    found = segment_batch(ToyModel(), [Job(picture(), text="blue")])[0]
    shapes = found.masks.shape, found.boxes.shape, found.scores.shape, found.logits.shape
    assert shapes == ((0, 120, 160), (0, 4), (0,), (0, 60, 80))
    assert segment_batch(ToyModel(), []) == []


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        ({}, InvalidPromptError, "job 1: expected text, a positive box, or points"),
        ({"text": ""}, InvalidPromptError, "job 1: text must be a phrase"),
        ({"boxes": [RED], "box_labels": [0]}, InvalidPromptError, "job 1: expected text"),
        ({"boxes": [RED], "box_labels": [1, 0]}, InvalidPromptError, "one label for each row, 1, got 2"),
        ({"boxes": RED}, InvalidPromptError, "boxes must be rows"),
        ({"boxes": [(5, 5, 500, 50)]}, InvalidPromptError, "inside the image"),
        ({"points": [(1, 2, 3)]}, InvalidPromptError, r"points must be rows of \(x, y\)"),
        ({"points": [(5, 5)], "point_labels": [0]}, InvalidPromptError, "nothing to take away from"),
        ({"points": [(5, 5)], "boxes": [RED, GREEN]}, InvalidPromptError, "one box at most"),
        ({"points": [(5, 5)], "boxes": [RED], "box_labels": [0]}, InvalidPromptError, "and that includes"),
        ({"text": "red", "points": [(5, 5), (6, 6)]}, InvalidPromptError, "one positive click"),
        ({"text": "red", "score_threshold": 2}, InvalidPromptError, "score_threshold"),
        ({"text": "red", "image": "missing.png"}, InvalidImageError, "job 1: the file"),
        ({"text": "red", "score_threshold": 0.01}, InvalidPromptError, "0.05 <= value"),
        ({"boxes": [], "points": []}, InvalidPromptError, "job 1: expected text"),
        ({"boxes": [RED], "box_labels": [[1], [1, 0]]}, InvalidPromptError, "job 1: box_labels"),
    ],
)
def test_malformed_job_is_named_before_any_is_run(job, error, words):
    model = Counting()
    with pytest.raises(error, match=words):
        segment_batch(model, [Job(picture(), text="red"), Job(**{"image": picture(), **job})])
    assert model.passes == []


@pytest.mark.parametrize(
    ("able", "job", "words"),
    [
        ({}, {"text": "red"}, "text"),
        ({"text": True}, {"text": "red", "boxes": [RED]}, "exemplars"),
        ({"text": True}, {"points": [(5, 5)], "boxes": [RED]}, "boxes"),
        ({"points": False}, {"points": [(5, 5)]}, "points"),
    ],
)
def test_what_the_model_does_not_take_is_refused(able, job, words):
    with pytest.raises(UnsupportedError, match=words):
        segment_batch(ToyModel(Capabilities(**able)), [Job(picture(), **job)])


@pytest.mark.parametrize(
    ("model", "jobs", "error", "words"),
    [
        (ToyModel(), Job(picture(), text="red"), InvalidPromptError, "put it in a list"),
        (ToyModel(), [{"text": "red"}], InvalidPromptError, "job 0: expected a Job, got dict"),
        ("sam3", [Job(picture(), text="red")], ModelError, "from load_model"),
    ],
)
def test_what_is_no_job_or_model_is_refused(model, jobs, error, words):
    with pytest.raises(error, match=words):
        segment_batch(model, jobs)


def test_a_model_that_fails_names_the_jobs():
    model = ToyModel()
    model.fails = RuntimeError("out of memory")
    with pytest.raises(ModelError, match=r"job 0, 1: .*out of memory"):
        segment_batch(model, [Job(picture(), text="red"), Job(picture(40), text="red")])


def test_images_of_paths_are_read_when_their_batch_comes(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for k, file in enumerate(files):
        PILImage.fromarray(picture(k)).save(file)
    model = Counting()
    found = segment_batch(model, [Job(file, text="red") for file in files], batch_size=1)
    assert [len(f) for f in found] == [1, 1, 1]

    def replace_the_last(fraction):
        PILImage.fromarray(picture(90)).save(files[2])

    with pytest.raises(InvalidImageError, match=r"job 2: .*2\.png has changed"):
        segment_batch(model, [Job(file, text="red") for file in files], batch_size=1, progress=replace_the_last)


def test_a_click_on_a_live_session_and_a_verb_in_progress_do_not_wait_for_the_batch():
    model = ToyModel()
    session = Session(picture(7), model)
    segment_batch(model, [Job(picture(), text="red")], progress=lambda _: session.add_point(20, 20))
    assert len(session.instances) == 2
