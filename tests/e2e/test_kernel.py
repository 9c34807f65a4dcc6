from __future__ import annotations

from tests.e2e import scene
from tests.e2e.page import WidgetView
from tests.e2e.scene import CELL, IN_BACKGROUND, IN_DISC, IN_SQUARE, Scene

# As blocking as `time.sleep`, but over the moment the test says so. It speaks on the widget's comm first: what a
# kernel says from a cell must not draw the answers to that cell's shell, where they would wait for its end.
BUSY = """
import threading, time
w.add_point(72.5, 36.5)
w.select(None)
release = threading.Event()
until = time.monotonic() + 30
while not release.is_set() and time.monotonic() < until:
    time.sleep(0.01)
"""

FAILING = """
from sam3_widget import load_model
from sam3_widget.errors import ModelError

model = load_model("builtin")
working = model.refine
def refine(*args, **options):
    raise ModelError("the decoder is out of order")
model.refine = refine
w = Sam3Widget(image, model=model, opacity=1.0)
w
"""

SLOW = """
import time
from sam3_widget.models.builtin import BuiltinModel

class Slow(BuiltinModel):
    hold = True
    def encode(self, image, progress):
        for k in range(3000):
            progress(min(k, 900) / 1000)
            if not self.hold:
                break
            time.sleep(0.01)
        return super().encode(image)

model = Slow()
w = Sam3Widget(image, model=model, opacity=1.0)
w
"""


def test_click_while_a_cell_runs_gets_its_mask_before_the_cell_ends(open_notebook):
    notebook = open_notebook(CELL, BUSY)
    notebook.run_cell(0)
    Scene(notebook)
    notebook.run_cell(1, wait=False)
    notebook.page.wait_for_function(
        "cell => cell.querySelector('.jp-InputPrompt').textContent.includes('[*]')",
        arg=notebook.cell(1).element_handle(),
    )
    shown = Scene(notebook, while_busy=True)
    shown.settle()
    shown.click(IN_SQUARE)
    assert scene.iou(shown.masks[1], scene.square()) > 0.9
    shown.click(IN_BACKGROUND, button="right")
    assert [len(shown.masks), shown.eval("len(w.points)")] == [2, 3]
    shown.assert_canvas_shows_masks()
    assert notebook.is_running(1)
    shown.run("release.set()")
    notebook.wait_cell(1)


def test_error_of_the_model_is_shown_and_recovered_from(open_notebook):
    notebook = open_notebook(CELL, FAILING)
    notebook.run_all()
    shown = Scene(notebook, 1)
    with shown.view.change():
        shown.view.click_image(*IN_SQUARE)
    shown.view.root.get_by_text("the decoder is out of order").first.wait_for()
    assert not shown.masks.any()
    shown.run("model.refine = working")
    shown.click(IN_DISC)
    assert shown.masks.any()
    shown.assert_canvas_shows_masks()


def test_encoding_shows_progress_can_be_cancelled_and_the_next_click_goes_on(open_notebook):
    notebook = open_notebook(CELL, SLOW)
    notebook.run_cell(0)
    notebook.run_cell(1)
    root = notebook.cell(1).locator("[data-sam3w-state]").first
    root.get_by_text("Encoding").wait_for()
    view = WidgetView(notebook.page, root)
    view.click_image(*IN_SQUARE)
    root.get_by_role("button", name="Cancel").click()
    root.get_by_text("cancelled").first.wait_for()
    notebook.kernel.run("model.hold = False")
    shown = Scene(notebook, 1)
    assert not shown.masks.any()
    shown.click((20.5, 28.5))
    assert scene.iou(shown.masks[0], scene.square()) > 0.9
    assert shown.eval("len(w.points)") == 2
    shown.assert_canvas_shows_masks()


def test_refused_command_is_shown_and_changes_nothing(open_notebook):
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    shown = Scene(notebook)
    shown.click(IN_SQUARE)
    shown.run("w.set_locked(w.object_ids[0], True)")
    before = shown.masks
    shown.view.click_image(*IN_DISC)
    shown.view.root.get_by_text("locked").first.wait_for()
    shown.settle()
    assert (shown.masks == before).all()
    assert shown.eval("len(w.points)") == 1
    shown.assert_canvas_shows_masks()
