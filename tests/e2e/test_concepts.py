from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.e2e.scene import HEIGHT, PATIENCE, WIDTH, Scene

if TYPE_CHECKING:
    from playwright.sync_api import Locator

# Discs: x, y, radius, channel. The model of the tests finds bright spots by colour and scores them by size.
DISCS = [(16, 20, 9, 0), (44, 20, 8, 0), (74, 20, 7, 0), (24, 52, 6, 1), (62, 52, 9, 1)]
RED, GREEN = DISCS[:3], DISCS[3:]

SPOTS = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import numpy as np
from sam3_widget import Sam3Widget
from tests.toy import ToyModel

image = np.zeros(({HEIGHT}, {WIDTH}, 3), np.uint8)
ys, xs = np.mgrid[:{HEIGHT}, :{WIDTH}] + 0.5
for x, y, radius, channel in {DISCS}:
    image[np.hypot(xs - x, ys - y) < radius, channel] = 230
model = ToyModel()
w = Sam3Widget(image, model=model, opacity=1.0)
w
"""


class Spots(Scene):
    """The widget, with its bar of concepts."""

    def find(self, testid: str) -> Locator:
        """Return the parts of the view with this test id."""
        return self.view.root.get_by_test_id(f"sam3w-{testid}")

    def name(self, text: str) -> None:
        """Type words into the field, and wait until everything of them is found."""
        with self.view.change():
            self.view.press("/")
            self.view.page.keyboard.type(text)
            self.view.page.keyboard.press("Enter")
        self.settle()

    def settle(self) -> None:
        """Wait until the model looks for nothing either."""
        deadline = time.monotonic() + PATIENCE
        while self.eval("any(c.pending for c in w._live.state.concepts)"):
            assert time.monotonic() < deadline, "the model did not find an answer"
            self.view.page.wait_for_timeout(10)
        super().settle()

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Words and count of each chip."""
        names = self.find("concept-name")
        return [
            (names.nth(k).locator(".sam3w-concept-text").inner_text(), self.find("concept-count").nth(k).inner_text())
            for k in range(names.count())
        ]

    @property
    def questions(self) -> list[int]:
        """How often the model was asked to find, to refine and to encode."""
        return self.eval("[len(model.detected), len(model.asked), model.encoded]")

    def assert_canvas_shows_masks(self) -> None:
        """Without an active concept no exemplar is drawn above the masks."""
        self.run("w.select_concept(None)")
        super().assert_canvas_shows_masks()


@pytest.fixture
def shown(open_notebook):
    notebook = open_notebook(SPOTS)
    notebook.run_cell(0)
    return Spots(notebook)


def around(disc: tuple[int, int, int, int], margin: int = 2) -> list[tuple[float, float]]:
    """Return two corners of a box around a disc."""
    x, y, radius, _ = disc
    return [(x - radius - margin, y - radius - margin), (x + radius + margin, y + radius + margin)]


def assert_masks_are(masks: np.ndarray, discs: list[tuple[int, int, int, int]]) -> None:
    """Each mask covers the middle of one of these discs, and no other disc's."""
    middles = {(x, y) for x, y, *_ in DISCS}
    covered = [{(x, y) for x, y in middles if mask[y, x]} for mask in masks]
    assert sorted(covered, key=sorted) == sorted(({(x, y)} for x, y, *_ in discs), key=sorted)


def test_named_things_become_chips_and_masks(shown):
    shown.name("red, green")
    assert shown.chips == [("red", "3"), ("green", "2")]
    assert shown.eval("[[c.text, len(c)] for c in w.concepts]") == [["red", 3], ["green", 2]]
    assert_masks_are(shown.masks, DISCS)
    assert shown.eval("w.labels") == ["red", "red", "red", "green", "green"]
    assert shown.questions == [2, 0, 1]
    assert shown.find("live").inner_text() == "2 found for green"
    shown.assert_canvas_shows_masks()


def test_undo_takes_a_concept_with_its_masks_and_redo_asks_no_model(shown):
    shown.name("red")
    masks = shown.masks
    shown.press("Control+z")
    assert [shown.chips, len(shown.masks)] == [[], 0]
    shown.assert_canvas_shows_masks()
    shown.press("Control+Shift+Z")
    assert shown.chips == [("red", "3")]
    np.testing.assert_array_equal(shown.masks, masks)
    assert shown.questions == [1, 0, 1]
    shown.assert_canvas_shows_masks()


def test_threshold_slider_filters_without_asking_the_model_in_one_step(shown):
    shown.name("red")
    masks, asked = shown.masks, shown.questions
    slider = shown.find("score-threshold")
    box = slider.bounding_box()
    mouse = shown.notebook.page.mouse
    middle = box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] / 2, middle)
    mouse.down()
    with shown.view.change():
        mouse.move(box["x"] + 0.8 * box["width"], middle, steps=8)
    mouse.up()
    shown.settle()
    threshold = shown.eval("w.concepts[0].score_threshold")
    assert 0.75 < threshold < 0.85
    assert float(slider.input_value()) == pytest.approx(threshold)
    assert shown.chips == [("red", "2")]
    assert_masks_are(shown.masks, RED[:2])
    shown.assert_canvas_shows_masks()
    shown.press("Control+z")
    np.testing.assert_array_equal(shown.masks, masks)
    assert shown.eval("w.concepts[0].score_threshold") == 0.5
    assert shown.questions == asked


def test_right_dragged_exemplar_removes_what_is_mostly_inside(shown):
    shown.name("red")
    shown.view.press("c")
    with shown.view.change():
        shown.view.drag_image(around(RED[1]), button="right")
    shown.settle()
    (box,) = shown.eval("[e.box for e in w.concepts[0].exemplars]")
    assert box == pytest.approx([v for corner in around(RED[1]) for v in corner], abs=0.3)
    assert shown.eval("[e.positive for e in w.concepts[0].exemplars]") == [False]
    assert_masks_are(shown.masks, [RED[0], RED[2]])
    assert share_of_edge(shown, box, "#e0352b") > 0.95
    # Chosen by its sign in the bar, flipped by a key: it includes now.
    shown.find("exemplar").click()
    shown.press("t")
    assert shown.eval("[e.positive for e in w.concepts[0].exemplars]") == [True]
    assert_masks_are(shown.masks, RED)
    assert share_of_edge(shown, box, "#1fa34a") > 0.95
    shown.press("Delete")
    assert shown.eval("len(w.concepts[0].exemplars)") == 0
    shown.assert_canvas_shows_masks()


def share_of_edge(shown: Spots, box: list[float], colour: str) -> float:
    """Return how much of the lower edge of a box is drawn in a colour: all of it where the line is solid."""
    ratio = shown.view.canvas.evaluate("canvas => canvas.width / canvas.getBoundingClientRect().width")
    (left, _), (right, bottom) = (np.multiply(shown.view.transform(*corner), ratio) for corner in (box[:2], box[2:]))
    line = shown.view.canvas_pixels()[int(bottom) - 3 : int(bottom) + 4, int(left) + 6 : int(right) - 6, :3]
    return float((line == np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)).all(-1).any(0).mean())


def test_click_in_concept_mode_finds_all_like_it_and_a_right_click_takes_one_away(shown):
    shown.view.press("c")
    shown.click(RED[0][:2])
    assert shown.chips == [("like the examples", "5")]
    assert_masks_are(shown.masks, DISCS)
    assert shown.eval("[w.concepts[0].text, len(w.points)]") == ["", 0]
    shown.click(GREEN[0][:2], button="right")
    assert [e["positive"] for e in exemplars(shown)] == [True, False]
    assert_masks_are(shown.masks, [*RED, GREEN[1]])
    shown.assert_canvas_shows_masks()


def exemplars(shown: Spots) -> list[dict[str, object]]:
    """Return the exemplars of the first concept."""
    return shown.eval("[{'positive': e.positive, 'point': e.point} for e in w.concepts[0].exemplars]")


def test_click_on_a_detection_selects_it_and_the_next_refines_it_alone(shown):
    shown.name("red")
    before = shown.masks
    x, y, *_ = RED[1]
    shown.click((x, y))
    assert shown.eval("[w.selected, len(w.points)]") == [2, 0]
    shown.click((x, y), button="right")
    assert shown.eval("[[p.object_id, p.positive] for p in w.points]") == [[2, False]]
    after = shown.masks
    assert not after[1][y, x]
    assert before[1][y, x]
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert shown.eval("w.instances[1].concept_id") == shown.eval("w.concepts[0].concept_id")
    shown.assert_canvas_shows_masks()


def test_click_on_another_detection_of_the_concept_selects_that_one(shown):
    shown.name("red")
    masks = shown.masks
    shown.click(RED[1][:2])
    shown.click(RED[2][:2])
    shown.find("notice").get_by_text("Selected red 3: click where it is wrong").wait_for()
    assert shown.eval("[w.selected, len(w.points)]") == [3, 0]
    np.testing.assert_array_equal(shown.masks, masks)
    shown.assert_canvas_shows_masks()


def test_chip_under_the_pointer_dims_what_others_found_until_it_leaves(shown):
    shown.name("red, green")
    page = shown.notebook.page
    plain = [colour_at(shown, disc) for disc in (RED[0], GREEN[0])]
    shown.find("concept-name").nth(0).hover()
    page.wait_for_timeout(100)
    dimmed = [colour_at(shown, disc) for disc in (RED[0], GREEN[0])]
    assert dimmed[0] == plain[0]
    assert dimmed[1] != plain[1]
    page.mouse.move(0, 0)
    page.wait_for_timeout(100)
    shown.assert_canvas_shows_masks()


def colour_at(shown: Spots, disc: tuple[int, int, int, int]) -> list[int]:
    """Return the colour that the canvas shows in the middle of a disc."""
    ratio = shown.view.canvas.evaluate("canvas => canvas.width / canvas.getBoundingClientRect().width")
    x, y = np.multiply(shown.view.transform(disc[0] + 2, disc[1] + 2), ratio)
    return shown.view.canvas_pixels()[int(y), int(x)].tolist()


def test_right_click_on_a_detection_refines_that_one_with_nothing_selected(shown):
    shown.name("red")
    shown.click(RED[2][:2], button="right")
    assert shown.eval("[[p.object_id, p.positive] for p in w.points]") == [[3, False]]
    shown.assert_canvas_shows_masks()


def test_right_drag_in_object_mode_says_why_it_does_nothing(shown):
    shown.name("red")
    masks, revision = shown.masks, shown.view.revision
    shown.view.drag_image(around(RED[0]), button="right")
    shown.view.root.get_by_text("A box of one object can only include").first.wait_for()
    shown.settle()
    assert shown.view.revision == revision
    np.testing.assert_array_equal(shown.masks, masks)


def test_words_are_edited_in_the_chip_and_a_concept_deleted(shown):
    shown.name("red, green")
    shown.find("concept-name").nth(0).dblclick()
    shown.find("concept-edit").fill("blue")
    with shown.view.change():
        shown.find("concept-edit").press("Enter")
    shown.settle()
    assert shown.chips == [("blue", "0"), ("green", "2")]
    shown.find("phase").get_by_text("“blue”").wait_for()
    assert_masks_are(shown.masks, GREEN)
    with shown.view.change():
        shown.find("concept-remove").nth(1).click()
    shown.settle()
    assert [shown.chips, len(shown.masks)] == [[("blue", "0")], 0]
    shown.assert_canvas_shows_masks()


def test_detection_is_told_of_can_be_cancelled_and_clicks_go_on(shown):
    shown.run("model.detect_gate.clear()")
    shown.find("find").fill("red")
    shown.find("find").press("Enter")
    shown.find("phase").get_by_text("Looking for “red”").wait_for()
    shown.view.root.get_by_role("button", name="Cancel").click()
    shown.find("concept-name").and_(shown.view.root.locator('[aria-label*="cancelled"]')).wait_for()
    shown.run("model.detect_gate.set()")
    shown.click(RED[0][:2])
    assert len(shown.masks) == 1
    shown.assert_canvas_shows_masks()


def test_escape_cancels_the_search_and_the_mark_asks_again(shown):
    shown.run("model.detect_gate.clear()")
    shown.find("find").fill("red")
    shown.find("find").press("Enter")
    shown.find("phase").get_by_text("Looking for “red”").wait_for()
    shown.find("find").press("Escape")
    shown.view.press("Escape")
    shown.find("phase").get_by_text("“red”: cancelled", exact=True).wait_for()
    shown.run("model.detect_gate.set()")
    shown.find("concept-name").locator(".sam3w-mark").click()
    shown.find("concept-count").get_by_text("3", exact=True).wait_for()
    assert_masks_are(shown.masks, RED)
    shown.assert_canvas_shows_masks()


def test_reload_shows_the_same_concepts(shown):
    shown.name("red, green")
    shown.run("w.add_exemplar((70, 10, 84, 32), positive=False, concept=1)")
    masks = shown.masks
    shown.notebook.reload()
    after = Spots(shown.notebook)
    assert after.chips == [("red", "2"), ("green", "2")]
    assert after.find("exemplar").count() == 1
    np.testing.assert_array_equal(after.masks, masks)
    after.assert_canvas_shows_masks()


def test_model_without_words_says_which_could(open_notebook):
    points_only = SPOTS.replace("ToyModel()", "ToyModel(Capabilities(points=True))")
    notebook = open_notebook("from sam3_widget.models.base import Capabilities\n" + points_only)
    notebook.run_cell(0)
    shown = Spots(notebook)
    field = shown.find("find")
    assert field.is_disabled()
    assert field.get_attribute("placeholder") == 'Finding things by name takes SAM 3: load_model("sam3")'
    shown.view.press("c")
    shown.find("notice").get_by_text("Finding things by example takes SAM 3 or the built-in model").wait_for()
    assert shown.find("mode-object").get_attribute("aria-pressed") == "true"


COINS = """
from skimage import data
from sam3_widget import Sam3Widget

w = Sam3Widget(data.coins(), model="builtin")
w
"""


def test_builtin_model_finds_what_looks_like_an_exemplar(open_notebook):
    notebook = open_notebook(COINS)
    notebook.run_cell(0)
    shown = Spots(notebook)
    field = shown.find("find")
    assert field.is_disabled()
    assert field.get_attribute("placeholder").startswith("Finding things by name takes SAM 3")
    shown.view.press("c")
    with shown.view.change():
        shown.view.drag_image(((178, 103), (228, 146)))
    shown.settle()
    assert 22 <= len(shown.masks) <= 26
    assert not np.logical_and.reduce(shown.masks[:2]).any()
