"""What every model promises, whatever it is made of and whatever its weights are."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_widget.errors import CancelledError, InvalidPromptError, UnsupportedError
from sam3_widget.models.base import Embedding, Model
from sam3_widget.models.builtin import BuiltinModel
from tests.models.scenes import concept, mask_of, picture, prompts, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sam3_widget.models.base import Candidates, InstancePrompts


def tiny_sam3() -> Model:
    from sam3_widget.models.sam3.model import Sam3  # noqa: PLC0415 - torch and transformers load with it
    from tests.models import tiny  # noqa: PLC0415

    return Sam3(tiny.tiny_sam3(), tiny.tiny_tokenizer(), device="cpu")


def tiny_family(kind: str) -> Model:
    from sam3_widget.models.sam.family import SamFamily  # noqa: PLC0415 - torch and transformers load with it
    from tests.models import tiny_family  # noqa: PLC0415

    return SamFamily(tiny_family.tiny_family(kind), name=kind, device="cpu")


MODELS: dict[str, Callable[[], Model]] = {
    "builtin": BuiltinModel,
    "tiny-sam3": tiny_sam3,
    **{f"tiny-{kind}": partial(tiny_family, kind) for kind in ("sam", "sam_hq", "sam2")},
}

pytestmark = pytest.mark.parametrize("name", MODELS)


@cache
def model_of(name: str) -> Model:
    if name != "builtin":
        pytest.importorskip("transformers")
    return MODELS[name]()


@cache
def embedding_of(name: str, which: str) -> Embedding:
    return model_of(name).encode(picture(which))


def assert_valid(candidates: Candidates, given: InstancePrompts, previous: NDArray[np.float32] | None = None) -> None:
    """Check the form of an answer."""
    count = len(candidates.scores)
    assert 1 <= count <= (3 if given.ambiguous and previous is None else 1)
    assert candidates.logits.ndim == 3
    assert candidates.logits.shape[0] == count
    assert candidates.logits.dtype == candidates.scores.dtype == np.float32
    assert candidates.logits.flags.c_contiguous
    assert np.isfinite(candidates.logits).all()
    assert ((candidates.scores >= 0) & (candidates.scores <= 1)).all()
    assert (np.diff(candidates.scores) <= 0).all()


QUESTIONS = {
    "click": prompts((80, 80, True)),
    "negative click": prompts((80, 80, False)),
    "clicks": prompts((80, 80, True), (10, 10, False), (319.9, 239.9, True)),
    "box": prompts(box=(30, 30, 130, 130)),
    "box and clicks": prompts((80, 80, True), (40, 40, False), box=(30, 30, 130, 130)),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_refine_answer_is_valid_and_the_same_again(name: str, question: InstancePrompts) -> None:
    first, again = (model_of(name).refine(embedding_of(name, "shapes"), question) for _ in range(2))
    assert_valid(first, question)
    np.testing.assert_allclose(first.logits, again.logits, atol=1e-4)
    np.testing.assert_allclose(first.scores, again.scores, atol=1e-4)


def test_refine_click_alone_offers_candidates_and_a_correction_one(name: str) -> None:
    model, embedding = model_of(name), embedding_of(name, "coffee")  # the spoon, the cup, or all of it
    first = model.refine(embedding, prompts((300, 200, True)))
    assert len(first.scores) > 1
    assert len(model.refine(embedding, prompts((80, 80, True), (10, 10, False)), first.logits[0]).scores) == 1


@pytest.mark.parametrize("size", [(400, 600), (256, 256), (120, 180), (5, 3), (1, 1)])
@pytest.mark.parametrize("high", [0.5, 20.0, np.inf])
def test_refine_previous_of_any_resolution_is_taken(name: str, size: tuple[int, int], high: float) -> None:
    left = np.where(np.arange(size[1]) < size[1] / 2, np.float32(high), np.float32(-high))
    previous = np.tile(left, (size[0], 1))
    for question in (prompts(), prompts((80, 80, True)), prompts(box=(30, 30, 130, 130))):
        answer = model_of(name).refine(embedding_of(name, "shapes"), question, previous)
        assert_valid(answer, question, previous)


def test_refine_does_not_change_what_it_is_given(name: str) -> None:
    given = prompts((80, 80, True), (10, 10, False), box=(5, 5, 130, 130))
    previous = np.random.default_rng(0).normal(0, 40, (64, 64)).astype(np.float32)
    before = previous.copy()
    model_of(name).refine(embedding_of(name, "shapes"), given, previous)
    np.testing.assert_array_equal(previous, before)
    np.testing.assert_array_equal(given.points, [[80, 80], [10, 10]])
    np.testing.assert_array_equal(given.box, [5, 5, 130, 130])


def test_refine_many_equals_refine_of_each(name: str) -> None:
    model, embedding = model_of(name), embedding_of(name, "shapes")
    previous = model.refine(embedding, prompts((80, 80, True))).logits[0]
    questions = [(question, prior) for question in QUESTIONS.values() for prior in (None, previous)]
    together = model.refine_many(embedding, questions)
    assert len(together) == len(questions)
    for question, answer in zip(questions, together, strict=True):
        assert_valid(answer, *question)
        alone = model.refine(embedding, *question)
        np.testing.assert_allclose(answer.logits, alone.logits, atol=1e-3)
        np.testing.assert_allclose(answer.scores, alone.scores, atol=1e-3)


def test_refine_two_fresh_models_agree(name: str) -> None:
    answers = []
    for _ in range(2):
        model = MODELS[name]()
        embedding = model.encode(picture("chelsea"))
        first = model.refine(embedding, prompts((220, 130, True)))
        second = model.refine(embedding, prompts((220, 130, True), (60, 200, False)), first.logits[0])
        answers.append((first, second))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (1, 50), (20, 3000), (3000, 20), (64, 64)])
@pytest.mark.parametrize("noisy", [True, False])
def test_refine_odd_image_answers(name: str, size: tuple[int, int], *, noisy: bool) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8) if noisy else np.full((*size, 3), 90, np.uint8)
    embedding = model_of(name).encode(image)
    assert (embedding.height, embedding.width) == size
    question = prompts((width / 2, height / 2, True))
    first = model_of(name).refine(embedding, question)
    assert_valid(first, question)
    assert mask_of(first.logits[0], image).shape == size
    more = prompts((width / 2, height / 2, True), (0, 0, False))
    assert_valid(model_of(name).refine(embedding, more, first.logits[0]), more, first.logits[0])


def test_refine_nothing_given_raises(name: str) -> None:
    with pytest.raises(InvalidPromptError, match="expected at least one point, a box or previous logits"):
        model_of(name).refine(embedding_of(name, "shapes"), prompts())


def test_refine_embedding_of_another_model_raises(name: str) -> None:
    with pytest.raises(TypeError, match=f"expected an embedding made by '{model_of(name).name}', got Embedding"):
        model_of(name).refine(Embedding(240, 320, 0), prompts((80, 80, True)))


def test_encode_reports_progress_up_to_one(name: str) -> None:
    fractions: list[float] = []
    model_of(name).encode(picture("shapes"), fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1


def test_encode_cancelled_in_progress_stops_and_can_be_repeated(name: str) -> None:
    def cancel(fraction: float) -> None:
        if fraction > 0:
            raise CancelledError

    with pytest.raises(CancelledError):
        model_of(name).encode(picture("shapes"), cancel)
    question = prompts((80, 80, True))
    answer = model_of(name).refine(model_of(name).encode(picture("shapes")), question)
    expected = model_of(name).refine(embedding_of(name, "shapes"), question)
    np.testing.assert_allclose(answer.logits, expected.logits, atol=1e-4)


def test_encode_leaves_the_image_alone(name: str) -> None:
    image = shapes()
    model_of(name).encode(image)
    np.testing.assert_array_equal(image, shapes())


def test_encode_readonly_image_is_taken(name: str) -> None:
    image = shapes()
    image.flags.writeable = False
    assert model_of(name).encode(image).height == 240


def test_encode_many_equals_encode_of_each(name: str) -> None:
    model, images = model_of(name), [picture("shapes"), picture("chelsea")]
    fractions: list[float] = []
    for image, embedding in zip(images, model.encode_many(images, fractions.append), strict=True):
        question = prompts((image.shape[1] / 2, image.shape[0] / 2, True))
        expected = model.refine(model.encode(image), question)
        np.testing.assert_allclose(model.refine(embedding, question).logits, expected.logits, atol=1e-3)
    assert fractions[-1] == 1


def test_embedding_bounds_its_memory_honestly_and_trims(name: str) -> None:
    model = model_of(name)
    embedding = model.encode(picture("shapes"))
    assert embedding.nbytes > 10_000
    first = model.refine(embedding, prompts((80, 80, True)))
    used = embedding.nbytes
    embedding.trim()
    assert 0 < embedding.nbytes <= used
    np.testing.assert_allclose(model.refine(embedding, prompts((80, 80, True))).logits, first.logits, atol=1e-4)


def test_concepts_are_refused_where_it_cannot(name: str) -> None:
    model = model_of(name)
    if model.capabilities.text or model.capabilities.exemplars:
        assert type(model).detect_many is not Model.detect_many
        return
    with pytest.raises(UnsupportedError, match="does not take concepts; load a model like SAM 3"):
        model.detect(embedding_of(name, "shapes"), concept("disc"))
