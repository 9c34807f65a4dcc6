"""A picture with unmistakable objects, a widget on it, and the question whether page and kernel agree."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.e2e.page import NotebookPage, WidgetView

HEIGHT, WIDTH = 72, 96
SQUARE = (12, 20, 44, 52)  # x1, y1, x2, y2
DISC = (72, 36, 14)  # x, y, radius

# Opaque masks, so that each pixel of the canvas either is a mask's colour or is not.
CELL = f"""
import numpy as np
from sam3_widget import Sam3Widget

image = np.full(({HEIGHT}, {WIDTH}, 3), (40, 44, 52), np.uint8)
image[{SQUARE[1]}:{SQUARE[3]}, {SQUARE[0]}:{SQUARE[2]}] = (230, 200, 40)
ys, xs = np.mgrid[:{HEIGHT}, :{WIDTH}]
image[np.hypot(xs + 0.5 - {DISC[0]}, ys + 0.5 - {DISC[1]}) < {DISC[2]}] = (40, 120, 230)
w = Sam3Widget(image, model="builtin", opacity=1.0, classes=["square", "disc"])
w
"""

IN_SQUARE = (28.5, 36.5)
IN_DISC = (72.5, 36.5)
IN_BACKGROUND = (52.5, 8.5)
PATIENCE = 15.0


def square() -> np.ndarray:
    """Return the true mask of the square."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[SQUARE[1] : SQUARE[3], SQUARE[0] : SQUARE[2]] = True
    return mask


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two masks that are not both empty."""
    return (first & second).sum() / (first | second).sum()


class Scene:
    """The widget ``w`` of a notebook, in the page and in the kernel.

    Parameters
    ----------
    notebook : NotebookPage
    cell : int
        The cell that shows it.
    while_busy : bool
        Ask the kernel even while a cell is running.
    """

    shown = "w"
    """What the canvas shows, in the kernel: an image's session, or that of a frame."""

    def __init__(self, notebook: NotebookPage, cell: int = 0, *, while_busy: bool = False) -> None:
        self.notebook = notebook
        self.view: WidgetView = notebook.widget(cell)
        self.while_busy = while_busy

    @property
    def masks(self) -> np.ndarray:
        """The live masks, ``(N, H, W)``, of what the canvas shows."""
        return self.notebook.kernel.array(f"{self.shown}.masks", while_busy=self.while_busy)

    def run(self, code: str) -> None:
        """Run statements in the kernel, and wait until the page shows what they did."""
        self.notebook.kernel.run(code, while_busy=self.while_busy)
        self.settle()

    def eval(self, expression: str) -> object:
        """Return the value of an expression in the kernel."""
        return self.notebook.kernel.eval(expression, while_busy=self.while_busy)

    def settle(self) -> None:
        """Wait until no answer of the model is outstanding and the page shows the kernel's last word."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            revision, pending = self.notebook.kernel.eval(
                "[w._shown.rev, any(i.pending for i in w._picture.state.instances)]", while_busy=self.while_busy
            )
            if not pending:
                self.view.wait_revision(revision)
                return
        raise TimeoutError(f"the model did not answer within {PATIENCE} s")

    def click(self, place: tuple[float, float], **how: object) -> None:
        """Click, and wait for the mask."""
        with self.view.change():
            self.view.click_image(*place, **how)
        self.settle()

    def press(self, *keys: str) -> None:
        """Press keys that each change something."""
        for key in keys:
            with self.view.change():
                self.view.press(key)
        self.settle()

    def assert_canvas_shows_masks(self) -> None:
        """Every pixel of the canvas has the colour of the mask over it in the kernel, and of no other."""
        # Without a selection nothing is drawn above the masks: no markers, no rim.
        self.run("w.select(None)")
        label_map = self.notebook.kernel.array(f"{self.shown}.label_map", while_busy=self.while_busy)
        colours = self.eval("[[i.object_id, i.color] for i in w._picture.state.instances if i.visible]")
        drawn = self.view.image_pixels(HEIGHT, WIDTH)[..., :3]
        union = np.zeros((HEIGHT, WIDTH), bool)
        for object_id, colour in colours:
            shown = (drawn == np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)).all(-1)
            np.testing.assert_array_equal(shown, label_map == object_id)
            union |= shown
        np.testing.assert_array_equal(union, label_map > 0)
