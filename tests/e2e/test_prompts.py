from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.e2e import scene
from tests.e2e.scene import CELL, IN_BACKGROUND, IN_DISC, IN_SQUARE, Scene


@pytest.fixture
def shown(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    return Scene(notebook)


def test_click_gives_a_mask_that_canvas_and_kernel_agree_on(shown):
    shown.assert_canvas_shows_masks()
    assert shown.masks.shape == (0, scene.HEIGHT, scene.WIDTH)
    shown.click(IN_SQUARE)
    (mask,) = shown.masks
    assert scene.iou(mask, scene.square()) > 0.9
    x, y, positive = shown.eval("[w.points[0].x, w.points[0].y, w.points[0].positive]")
    assert (x, y) == pytest.approx(IN_SQUARE, abs=0.5 / shown.view.transform.scale + 0.01)
    assert positive is True
    shown.assert_canvas_shows_masks()


def test_two_objects_are_drawn_each_in_its_own_colour(shown):
    shown.click(IN_SQUARE)
    shown.press("m")
    shown.click(IN_DISC)
    assert len(shown.masks) == 2
    assert len(set(shown.eval("[i.color for i in w._live.state.instances]"))) == 2
    shown.assert_canvas_shows_masks()


def test_dragged_box_gives_the_object_inside(shown):
    x1, y1, x2, y2 = scene.SQUARE
    with shown.view.change():
        shown.view.drag_image([(x1 - 3, y1 - 3), (x2 + 3, y2 + 3)])
    shown.settle()
    (box,) = shown.eval("[b.xyxy for b in w.box_prompts]")
    assert box == pytest.approx((x1 - 3, y1 - 3, x2 + 3, y2 + 3), abs=0.3)
    assert scene.iou(shown.masks[0], scene.square()) > 0.9
    shown.assert_canvas_shows_masks()


@pytest.mark.parametrize("how", [{"button": "right"}, {"modifiers": ["Shift"]}], ids=["right", "shift"])
def test_negative_click_excludes_its_place(shown, how):
    shown.run("w.set_mask((image != image[0, 0]).any(-1))")
    assert shown.masks[0, 36, 72]
    shown.click(IN_DISC, **how)
    assert shown.eval("[[p.positive] for p in w.points]") == [[False]]
    (mask,) = shown.masks
    assert not mask[36, 72]
    assert mask[36, 28]
    shown.assert_canvas_shows_masks()


def test_right_click_opens_no_context_menu(shown):
    shown.click(IN_SQUARE)
    shown.click(IN_BACKGROUND, button="right")
    assert shown.notebook.page.locator(".lm-Menu").count() == 0


def test_undo_and_redo_keys_walk_the_history_exactly(shown):
    shown.click(IN_SQUARE)
    one = shown.masks
    shown.click(IN_DISC)
    two = shown.masks
    assert two.shape == one.shape
    assert (two != one).any()
    shown.press("Control+z")
    np.testing.assert_array_equal(shown.masks, one)
    shown.assert_canvas_shows_masks()
    shown.press("Control+z")
    assert len(shown.masks) == 0
    shown.assert_canvas_shows_masks()
    shown.press("Control+Shift+Z", "Control+y")
    np.testing.assert_array_equal(shown.masks, two)
    shown.assert_canvas_shows_masks()


def test_brush_stroke_is_painted_exactly(shown):
    shown.view.press("s")
    with shown.view.change():
        shown.view.drag_image([(20, 16), (40, 30), (60, 20)])
    shown.settle()
    (mask,) = shown.masks
    kernel = shown.notebook.kernel
    path = kernel.array("np.array(w.instances[0].strokes[0].path)")
    radius = kernel.eval("w.instances[0].strokes[0].radius")
    np.testing.assert_allclose(path[0], (20, 16), atol=0.2)
    np.testing.assert_allclose(path[-1], (60, 20), atol=0.2)
    distance = distance_to(path)
    assert mask[distance < radius - 1].all()
    assert not mask[distance > radius + 1].any()
    shown.assert_canvas_shows_masks()


def distance_to(path: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel's centre from a polyline."""
    ys, xs = np.mgrid[: scene.HEIGHT, : scene.WIDTH] + 0.5
    pixels = np.stack([xs, ys], -1)
    result = np.full(xs.shape, np.inf)
    for start, end in itertools.pairwise(path):
        along = end - start
        share = np.clip((pixels - start) @ along / max(along @ along, 1e-9), 0, 1)
        result = np.minimum(result, np.linalg.norm(pixels - start - share[..., None] * along, axis=-1))
    return result


def test_keyboard_alone_reaches_clicks_undoes_and_leaves(shown):
    keyboard = shown.notebook.page.keyboard
    inside = "element => element.contains(document.activeElement)"
    for _ in range(60):
        if shown.view.root.evaluate("element => document.activeElement === element"):
            break
        keyboard.press("Tab")
    assert shown.view.root.evaluate(inside), "Tab does not reach the widget"
    keyboard.press("ArrowLeft")
    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft"):
        keyboard.press(key)
    with shown.view.change():
        keyboard.press("Enter")
    shown.settle()
    (mask,) = shown.masks
    assert scene.iou(mask, scene.square()) > 0.9
    with shown.view.change():
        keyboard.press("Control+z")
    shown.settle()
    assert len(shown.masks) == 0
    keyboard.press("Escape")
    for _ in range(30):
        keyboard.press("Tab")
        if not shown.view.root.evaluate(inside):
            break
    assert not shown.view.root.evaluate(inside), "Tab does not leave the widget"


def test_tap_clicks(shown):
    with shown.view.change():
        shown.view.tap_image(*IN_SQUARE)
    shown.settle()
    assert scene.iou(shown.masks[0], scene.square()) > 0.9
    shown.assert_canvas_shows_masks()


def test_page_follows_what_python_does(shown):
    shown.run("added = w.add_point(28.5, 36.5)")
    shown.assert_canvas_shows_masks()
    assert len(shown.masks) == 1
    shown.run("w.set_mask(np.tri(72, 96, dtype=bool), object_id=added.object_id)")
    np.testing.assert_array_equal(shown.masks[0], np.tri(72, 96, dtype=bool))
    shown.assert_canvas_shows_masks()
    shown.run("w.reset()")
    assert len(shown.masks) == 0
    shown.assert_canvas_shows_masks()
