"""A clip in JupyterLab: prompt, propagate, scrub, correct, cancel, undo."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.e2e.scene import HEIGHT, PATIENCE, WIDTH, Scene, iou

if TYPE_CHECKING:
    from tests.e2e.page import NotebookPage

LENGTH = 12
STEP = 3
SQUARE = (10, 24, 34, 48)

# A yellow square that moves to the right before a still, dark ground; a blue disc stays where it is.
CELL = f"""
import numpy as np
from sam3_widget import Sam3VideoWidget

clip = np.full(({LENGTH}, {HEIGHT}, {WIDTH}, 3), (40, 44, 52), np.uint8)
ys, xs = np.mgrid[:{HEIGHT}, :{WIDTH}]
clip[:, np.hypot(xs - 80.5, ys - 12.5) < 9] = (40, 120, 230)
for k in range({LENGTH}):
    clip[k, {SQUARE[1]}:{SQUARE[3]}, {SQUARE[0]} + {STEP} * k:{SQUARE[2]} + {STEP} * k] = (230, 200, 40)
w = Sam3VideoWidget(clip, model="builtin", opacity=1.0)
w
"""


def square(frame_idx: int) -> np.ndarray:
    """Return where the square is on a frame."""
    x1, y1, x2, y2 = SQUARE
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y1:y2, x1 + STEP * frame_idx : x2 + STEP * frame_idx] = True
    return mask


class VideoScene(Scene):
    """The widget ``w`` on a clip."""

    shown = "w.session.frame(w.frame_idx)"

    def __init__(self, notebook: NotebookPage, cell: int = 0) -> None:
        super().__init__(notebook, cell)
        self.timeline = self.view.root.get_by_test_id("sam3w-timeline")

    def wait_frame(self, frame_idx: int) -> None:
        """Wait until the canvas shows a frame, and the kernel's word on it."""
        self.view.root.locator(f'[data-testid="sam3w-timeline"][data-sam3w-frame="{frame_idx}"]').wait_for()
        deadline = time.monotonic() + PATIENCE
        while self.eval("w.frame_idx") != frame_idx:
            assert time.monotonic() < deadline, f"the kernel does not know of frame {frame_idx}"
        self.settle()

    def wait_idle(self) -> None:
        """Wait until nothing is propagated any more, and the page knows it."""
        self.view.wait_ready()
        assert self.eval("w._live.job is None or not w._live.job.running")

    def known(self) -> list[int]:
        """Return the frames on which the first object is known."""
        return self.eval("[k for k in w.masks if 1 in w.masks[k]]")  # type: ignore[return-value]

    def go(self, frame_idx: int) -> None:
        """Press on the ruler where a frame is."""
        box = self.timeline.get_by_test_id("sam3w-ruler").bounding_box()
        assert box is not None
        x = box["x"] + (frame_idx + 0.5) / LENGTH * box["width"]
        self.notebook.page.mouse.click(x, box["y"] + box["height"] / 2)
        self.wait_frame(frame_idx)

    def draw_box(self) -> None:
        """Draw a box around the square on the first frame."""
        x1, y1, x2, y2 = SQUARE
        with self.view.change():
            self.view.drag_image([(x1 - 2, y1 - 2), (x2 + 2, y2 + 2)])
        self.settle()


@pytest.fixture
def clip(open_notebook) -> VideoScene:
    notebook = open_notebook(CELL)
    notebook.run_cell(0)
    return VideoScene(notebook)


def test_prompt_propagate_scrub(clip):
    clip.draw_box()
    clip.view.press("g")
    clip.wait_idle()
    assert clip.known() == list(range(LENGTH))
    for frame_idx in (0, 5, 11):
        clip.go(frame_idx)
        assert iou(clip.masks[0], square(frame_idx)) > 0.9, frame_idx
        clip.assert_canvas_shows_masks()


def test_correction_on_a_later_frame_and_undo(clip):
    clip.draw_box()
    clip.view.press("g")
    clip.wait_idle()
    clip.go(6)
    before = clip.masks[0]
    clip.run("w.select(1)")
    clip.view.press("p")
    clip.click((80.5, 12.5))
    assert clip.known() == list(range(7))
    assert clip.masks[0][12, 80]
    clip.go(3)
    clip.view.press("Control+z")
    clip.wait_frame(6)  # where the click was
    assert clip.known() == list(range(LENGTH))
    np.testing.assert_array_equal(clip.masks[0], before)
    clip.assert_canvas_shows_masks()


def test_keys_step_and_play_through_the_clip(clip):
    clip.view.press(".")
    clip.wait_frame(1)
    clip.view.press("End")
    clip.wait_frame(LENGTH - 1)
    clip.view.press(",")
    clip.wait_frame(LENGTH - 2)
    clip.view.press("Home")
    clip.wait_frame(0)
    clip.view.press("k")
    clip.wait_frame(LENGTH - 1)
    assert clip.timeline.get_by_test_id("sam3w-play").get_attribute("aria-label") == "Play"


def test_range_limits_what_is_propagated(clip):
    clip.draw_box()
    clip.go(4)
    clip.view.press("Shift+O")
    clip.view.press("g")
    clip.wait_idle()
    assert clip.known() == [0, 1, 2, 3, 4]


def test_cancel_keeps_what_is_finished(clip):
    clip.draw_box()
    clip.run(
        "import threading\n"
        "gate = threading.Event()\n"
        "tracker = type(w.model.tracker(w._live.frames.__getitem__))\n"
        "step = tracker.step\n"
        "tracker.step = lambda self, k: (k < 4 or gate.wait(30)) and step(self, k)\n"
    )
    clip.view.press("g")
    clip.timeline.locator('[data-sam3w-known="4"]').wait_for()
    clip.view.root.get_by_test_id("sam3w-cancel").click()
    clip.run("gate.set()")
    clip.wait_idle()
    assert clip.known() == [0, 1, 2, 3, 4]
    assert clip.view.root.get_by_test_id("sam3w-error").is_hidden()
    clip.run("tracker.step = step")
    clip.view.press("g")
    clip.wait_idle()
    assert clip.known() == list(range(LENGTH))


def test_reload_shows_the_frame_and_its_masks(clip):
    clip.draw_box()
    clip.view.press("g")
    clip.wait_idle()
    clip.go(7)
    masks = clip.masks
    clip.notebook.reload()
    after = VideoScene(clip.notebook)
    after.wait_frame(7)
    np.testing.assert_array_equal(after.masks, masks)
    after.assert_canvas_shows_masks()


def test_two_views_show_the_same_frame(open_notebook):
    notebook = open_notebook(CELL, "w")
    notebook.run_all()
    first, second = VideoScene(notebook, 0), VideoScene(notebook, 1)
    first.draw_box()
    first.go(5)
    second.wait_frame(5)
    second.run("w.frame_idx = 2")
    first.wait_frame(2)
    first.assert_canvas_shows_masks()
