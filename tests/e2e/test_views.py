from __future__ import annotations

import base64
import io
import time

import numpy as np
from PIL import Image

from tests.e2e import scene
from tests.e2e.scene import CELL, IN_DISC, IN_SQUARE, PATIENCE, Scene


def test_two_views_of_one_widget_stay_in_step(open_notebook):
    notebook = open_notebook(CELL, "w")
    notebook.run_all()
    first, second = Scene(notebook, 0), Scene(notebook, 1)
    first.click(IN_SQUARE)
    second.assert_canvas_shows_masks()
    assert len(second.masks) == 1
    second.press("Control+z")
    first.assert_canvas_shows_masks()
    assert len(first.masks) == 0


def test_reload_of_the_page_shows_the_same_state(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    before = Scene(notebook)
    before.click(IN_SQUARE)
    masks = before.masks
    notebook.reload()
    after = Scene(notebook)
    np.testing.assert_array_equal(after.masks, masks)
    after.assert_canvas_shows_masks()
    after.click(IN_DISC)
    assert after.eval("len(w.points)") == 2
    after.assert_canvas_shows_masks()


def test_second_tab_shows_and_changes_the_same_widget(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    here = Scene(notebook)
    here.click(IN_SQUARE)
    notebook.save()
    there = Scene(open_notebook(name=notebook.name))
    there.assert_canvas_shows_masks()
    there.press("Control+z")
    assert len(there.masks) == 0
    here.assert_canvas_shows_masks()


def decoded(picture: str) -> np.ndarray:
    """Return the pixels of a picture in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


def is_masked(picture: np.ndarray) -> bool:
    """Return whether a mask lies over the square, which is yellow in the image."""
    return bool(np.abs(picture[24, 18].astype(int) - (230, 200, 40)).max() > 30)


def test_saved_notebook_holds_a_still_that_the_live_view_hides(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    shown = Scene(notebook)
    images = notebook.cell(0).locator('.jp-RenderedImage[data-mime-type="image/jpeg"] img')
    images.wait_for(state="attached")
    assert images.count() == 1
    shown.click(IN_SQUARE)
    deadline = time.monotonic() + PATIENCE
    while not is_masked(decoded(images.get_attribute("src").partition(",")[2])):
        assert time.monotonic() < deadline, "the still does not show the mask"
        notebook.page.wait_for_timeout(20)
    assert not images.is_visible()
    outputs = notebook.save()["cells"][0]["outputs"]
    (still,) = [output["data"]["image/jpeg"] for output in outputs if "image/jpeg" in output["data"]]
    picture = decoded("".join(still))
    assert picture.shape == (scene.HEIGHT, scene.WIDTH, 3)
    assert is_masked(picture)
    assert np.abs(picture[66, 90].astype(int) - (40, 44, 52)).max() < 30


def test_theme_switch_reaches_the_widget(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    shown = Scene(notebook)
    shown.click(IN_SQUARE)
    light = brightness(shown)
    notebook.set_theme("JupyterLab Dark")
    try:
        dark = brightness(shown)
    finally:
        notebook.set_theme("JupyterLab Light")
    assert light > 0.6
    assert dark < 0.4
    shown.assert_canvas_shows_masks()


def brightness(shown: Scene) -> float:
    """Return the median brightness, 0 to 1, of what lies around the canvas."""
    pixels = np.asarray(shown.view.screenshot()).mean(-1) / 255
    root, canvas = shown.view.root.bounding_box(), shown.view.canvas.bounding_box()
    around = np.ones(pixels.shape, bool)
    top, left = int(canvas["y"] - root["y"]), int(canvas["x"] - root["x"])
    around[top : top + int(canvas["height"]) + 1, left : left + int(canvas["width"]) + 1] = False
    return float(np.median(pixels[around]))


def test_copied_python_makes_the_same_masks(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    shown = Scene(notebook)
    shown.click(IN_SQUARE)
    shown.run("w.select(None)")
    shown.click(IN_DISC)
    notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.view.root.get_by_test_id("sam3w-script").click()
    shown.view.root.get_by_text("Copied: the Python that makes these masks").first.wait_for()
    script = notebook.page.evaluate("() => navigator.clipboard.readText()")
    assert "add_point" in script
    notebook.kernel.run(f"exec({script!r})")
    assert notebook.kernel.eval("bool((s.masks == w.masks).all()) and s.masks.shape == w.masks.shape")
