"""What every model promises that finds concepts, whatever its weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_widget.errors import CancelledError, InvalidPromptError, UnsupportedError
from tests.models.scenes import concept, picture, prompts
from tests.models.test_contract import assert_valid, embedding_of, model_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import ConceptPrompts, Detections

pytestmark = pytest.mark.parametrize("name", ["tiny-sam3", "builtin"])


def assert_detected(found: Detections, image: NDArray[np.uint8]) -> None:
    """Check the form of what a concept head offers."""
    count = len(found.scores)
    height, width = image.shape[:2]
    assert found.logits.shape == (count, *found.semantic.shape)
    assert found.boxes.shape == (count, 4)
    for array in (found.logits, found.scores, found.boxes, found.semantic):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert isinstance(found.presence, float)
    assert 0 <= found.presence <= 1
    assert ((found.scores >= 0) & (found.scores <= found.presence + 1e-6)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (width, height, width, height)).all()
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()


EXEMPLARS = {
    "exemplar": concept("", (30, 30, 130, 130, True)),
    "two": concept("", (30, 30, 130, 130, True), (190, 40, 270, 130, True)),
    "both signs": concept("", (30, 30, 130, 130, True), (120, 150, 200, 220, False)),
}
TEXTS = {
    "text": concept("red disc"),
    "text and exemplars": concept("disc", (30, 30, 130, 130, True), (120, 150, 200, 220, False)),
}
CONCEPTS = EXEMPLARS | TEXTS


@pytest.mark.parametrize("which", CONCEPTS)
def test_detect_answer_is_valid_and_the_same_again(name: str, which: str) -> None:
    model, embedding, asked = model_of(name), embedding_of(name, "shapes"), CONCEPTS[which]
    if which in TEXTS and not model.capabilities.text:
        with pytest.raises(UnsupportedError, match="does not take text"):
            model.detect(embedding, asked)
        return
    first, again = (model.detect(embedding, asked) for _ in range(2))
    assert_detected(first, picture("shapes"))
    np.testing.assert_allclose(first.logits, again.logits, atol=1e-3)
    np.testing.assert_allclose(first.scores, again.scores, atol=1e-4)


def test_detect_many_equals_detect_of_each(name: str) -> None:
    model, asked = model_of(name), list(EXEMPLARS.values())
    embeddings = [embedding_of(name, which) for which in ("shapes", "chelsea", "coffee")]
    fractions: list[float] = []
    for embedding, one, found in zip(
        embeddings, asked, model.detect_many(embeddings, asked, fractions.append), strict=True
    ):
        alone = model.detect(embedding, one)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-3)
        np.testing.assert_allclose(found.semantic, alone.semantic, atol=1e-2)
    assert fractions[-1] == 1


def test_detect_refines_from_its_logits(name: str) -> None:
    model, embedding = model_of(name), embedding_of(name, "shapes")
    logits = model.detect(embedding, EXEMPLARS["exemplar"]).logits[0]
    assert_valid(model.refine(embedding, prompts((80, 80, True)), logits), prompts((80, 80, True)), logits)


@pytest.mark.parametrize("asked", [concept(), concept(" "), concept("", (1, 1, 9, 9, False))])
def test_detect_nothing_meant_raises(name: str, asked: ConceptPrompts) -> None:
    model, embedding = model_of(name), embedding_of(name, "shapes")
    with pytest.raises(InvalidPromptError, match="expected a text, or at least one positive exemplar"):
        model.detect(embedding, asked)


def test_detect_reports_progress_and_can_be_cancelled(name: str) -> None:
    model, embedding = model_of(name), embedding_of(name, "shapes")
    fractions: list[float] = []
    expected = model.detect(embedding, EXEMPLARS["exemplar"], fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert fractions[-1] == 1

    def cancel(fraction: float) -> None:
        if fraction > 0:
            raise CancelledError

    with pytest.raises(CancelledError):
        model.detect(embedding, EXEMPLARS["two"], cancel)
    np.testing.assert_allclose(model.detect(embedding, EXEMPLARS["exemplar"]).scores, expected.scores, atol=1e-4)
