"""A folder of images in JupyterLab: label, decide, go on, filter; reload, restart, a second widget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_widget.io import read_coco
from tests.e2e.page import READY
from tests.e2e.scene import HEIGHT, PATIENCE, WIDTH, Scene, iou

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.page import NotebookPage

LENGTH = 6
STEP = 6
SQUARE = (8, 16, 30, 38)

# A square that lies further to the right in each image, in a colour of its own; one file is no image.
FOLDER = f"""
from pathlib import Path

import numpy as np
from PIL import Image
from sam3_widget import Sam3DatasetWidget

folder = Path(NAME)
folder.mkdir(exist_ok=True)
for k in range({LENGTH}):
    image = np.full(({HEIGHT}, {WIDTH}, 3), (40, 44, 52), np.uint8)
    image[{SQUARE[1]}:{SQUARE[3]}, {SQUARE[0]} + {STEP} * k:{SQUARE[2]} + {STEP} * k] = (230 - 20 * k, 200, 40 + 20 * k)
    Image.fromarray(image).save(folder / f"image-{{k}}.png")
"""

SHOWN = """
w = Sam3DatasetWidget(folder, folder / "labels.json", classes=["square", "disc"], model="builtin", opacity=1.0)
w
"""


def in_square(image_idx: int) -> tuple[float, float]:
    """Return the middle of an image's square."""
    return (SQUARE[0] + SQUARE[2]) / 2 + STEP * image_idx + 0.5, (SQUARE[1] + SQUARE[3]) / 2 + 0.5


def square(image_idx: int) -> np.ndarray:
    """Return the true mask of an image's square."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[SQUARE[1] : SQUARE[3], SQUARE[0] + STEP * image_idx : SQUARE[2] + STEP * image_idx] = True
    return mask


class Folder(Scene):
    """The widget ``w`` on a folder."""

    def __init__(self, notebook: NotebookPage, cell: int = 1) -> None:
        super().__init__(notebook, cell)
        self.part = self.view.root.get_by_test_id("sam3w-dataset")

    def wait_image(self, image_idx: int) -> None:
        """Wait until the canvas shows an image, and the kernel is there."""
        self.view.root.locator(f'[data-testid="sam3w-dataset"][data-sam3w-image="{image_idx}"]').wait_for()
        deadline = time.monotonic() + PATIENCE
        while self.eval("w.image_idx") != image_idx:
            assert time.monotonic() < deadline, f"the kernel does not know of image {image_idx}"
        self.settle()

    def press_to(self, key: str, image_idx: int) -> None:
        """Press a key that leads to an image."""
        self.view.press(key)
        self.wait_image(image_idx)

    def cell(self, image_idx: int) -> object:
        """Return the cell of the filmstrip."""
        return self.part.locator(f'[data-testid="sam3w-cell"][data-image-idx="{image_idx}"]')

    def assert_canvas_shows_image(self, image_idx: int) -> None:
        """Every pixel of the canvas is that of the image, but for masks."""
        assert self.eval("len(w.masks)") == 0
        drawn = self.view.image_pixels(HEIGHT, WIDTH)[..., :3]
        np.testing.assert_array_equal(drawn, self.notebook.kernel.array(f"np.array(Image.open(w.files[{image_idx}]))"))


@pytest.fixture
def open_folder(open_notebook, request) -> Callable[..., Folder]:
    def open_(*cells: str, shown: str = SHOWN) -> Folder:
        name = f"NAME = {request.node.name!r}\n"
        notebook = open_notebook(name + FOLDER, shown, *cells)
        notebook.run_cell(0)
        notebook.run_cell(1)
        return Folder(notebook)

    return open_


def accepted(folder: Folder) -> dict[str, list[str]]:
    """Return the labels in the file, by image, once all is written."""
    folder.run("w.flush()")
    file: Path = folder.notebook.lab.notebooks / str(folder.eval("str(folder / 'labels.json')"))
    return {one.file_name: [o.label for o in one.objects] for one in read_coco(file)}


def test_click_label_accept_and_the_next_image(open_folder):
    folder = open_folder()
    folder.view.press("1")
    folder.part.get_by_test_id("sam3w-class").first.and_(folder.view.page.locator('[aria-pressed="true"]')).wait_for()
    folder.click(in_square(0))
    assert iou(folder.masks[0], square(0)) > 0.95
    folder.press_to("e", 1)
    folder.assert_canvas_shows_image(1)
    folder.click(in_square(1))
    folder.press("2")
    folder.press_to("r", 2)
    folder.press_to("q", 3)
    folder.click(in_square(3))
    folder.press_to("e", 4)
    assert folder.eval("w.statuses") == ["accepted", "rejected", "skipped", "accepted", "open", "open"]
    assert folder.eval("w.counts") == {"square": 2, "disc": 0}
    assert accepted(folder) == {"image-0.png": ["square"], "image-3.png": ["square"]}
    for filter_, count in {"all": 6, "open": 2, "accepted": 2, "rejected": 1, "skipped": 1, "empty": 3}.items():
        chip = folder.part.get_by_test_id(f"sam3w-filter-{filter_}")
        chip.get_by_text(str(count), exact=True).wait_for()
    # What was there is there again, and can be taken back.
    folder.cell(0).click()
    folder.wait_image(0)
    folder.assert_canvas_shows_masks()
    folder.press("Control+z")
    assert len(folder.masks) == 0


def test_filter_leads_through_what_is_to_do(open_folder):
    folder = open_folder()
    folder.press_to("d", 1)
    folder.press_to("e", 2)
    folder.press_to("d", 3)
    folder.press_to("r", 4)
    folder.part.get_by_test_id("sam3w-filter-open").click()
    folder.press_to("a", 2)
    folder.press_to("a", 0)
    folder.press_to("d", 2)
    folder.press_to("d", 4)
    assert folder.part.get_by_test_id("sam3w-cell").count() == 4


def test_keys_in_a_row_lead_to_the_image_they_say(open_folder):
    folder = open_folder()
    folder.view.canvas.focus()
    for _ in range(LENGTH - 1):
        folder.view.page.keyboard.press("d")
    folder.wait_image(LENGTH - 1)
    folder.assert_canvas_shows_image(LENGTH - 1)
    for key in "aada":
        folder.view.page.keyboard.press(key)
    folder.wait_image(LENGTH - 3)
    folder.assert_canvas_shows_image(LENGTH - 3)
    folder.click(in_square(LENGTH - 3))
    assert iou(folder.masks[0], square(LENGTH - 3)) > 0.95


def test_kernel_leads_and_the_page_follows(open_folder):
    folder = open_folder()
    folder.run("w.go('image-4.png')")
    folder.wait_image(4)
    folder.assert_canvas_shows_image(4)
    folder.run(f"w.add_point({in_square(4)[0]}, {in_square(4)[1]}, label='disc'); w.accept()")
    folder.assert_canvas_shows_masks()
    folder.cell(4).and_(folder.view.page.locator('[data-status="accepted"]')).wait_for()


def test_reload_of_the_page_shows_the_same_image_and_its_news(open_folder):
    folder = open_folder()
    folder.press_to("e", 1)
    folder.click(in_square(1))
    masks = folder.masks
    folder.notebook.reload()
    again = Folder(folder.notebook)
    again.wait_image(1)
    np.testing.assert_array_equal(again.masks, masks)
    again.assert_canvas_shows_masks()
    again.cell(0).and_(again.view.page.locator('[data-status="accepted"]')).wait_for()
    again.press_to("e", 2)


def test_work_goes_on_after_the_kernel_was_restarted(open_folder):
    folder = open_folder()
    folder.click(in_square(0))
    folder.press("1")
    folder.press_to("e", 1)
    folder.click(in_square(1))
    masks = folder.masks
    folder.press_to("d", 2)
    notebook = folder.notebook
    notebook.page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel(); }"
    )
    notebook.wait_for_kernel()
    notebook.run_cell(0)
    notebook.run_cell(1)
    again = Folder(notebook)
    again.view.root.get_by_test_id("sam3w-live").get_by_text("Went on from labels.json: 1 of 6").wait_for()
    again.wait_image(2)
    again.press_to("a", 1)
    np.testing.assert_array_equal(again.masks, masks)
    again.assert_canvas_shows_masks()
    again.press("Control+z")
    assert len(again.masks) == 0
    assert accepted(again) == {"image-0.png": ["square"]}


def test_second_widget_on_one_file_is_refused_and_the_same_cell_takes_over(open_folder):
    folder = open_folder(SHOWN.replace("w", "other", 1).replace("\nw\n", "\n"))
    folder.click(in_square(0))
    folder.notebook.cell(2).locator(".jp-InputPrompt").click()
    folder.notebook.page.keyboard.press("Control+Enter")
    folder.notebook.cell(2).get_by_text("is being labelled by another widget").first.wait_for(timeout=READY)
    assert folder.eval("'other' in globals()") is False
    folder.press_to("e", 1)
    folder.notebook.run_cell(1)
    again = Folder(folder.notebook)
    again.wait_image(1)
    assert again.eval("w.statuses[0]") == "accepted"
    again.press_to("a", 0)
    again.assert_canvas_shows_masks()


def test_annotations_are_reviewed_with_the_lowest_score_first(open_folder):
    review = """
from sam3_widget.io import AnnotatedImage, AnnotatedObject, write_coco
from sam3_widget.core.runs import RunLengths
made = []
for k, score in enumerate([0.9, 0.3, 0.8, 0.2, 0.7, 0.6]):
    mask = np.zeros((72, 96), bool)
    mask[16:30, 8 + 6 * k:20 + 6 * k] = True
    found = AnnotatedObject(1, "square", RunLengths.from_mask(mask), score)
    made.append(AnnotatedImage(f"image-{k}.png", 72, 96, (found,)))
write_coco(folder / "found.json", made)
"""
    shown = review + SHOWN.replace("opacity=1.0", 'opacity=1.0, annotations=folder / "found.json"')
    folder = open_folder(shown=shown)
    folder.wait_image(3)
    folder.assert_canvas_shows_masks()
    folder.press_to("e", 1)
    # The next one is as it was found; this one is better with a click.
    folder.run("w.select(1)")
    folder.click((SQUARE[2] - 2 + STEP, SQUARE[3] - 2))
    assert iou(folder.masks[0], square(1)) > 0.9
    folder.press_to("e", 5)
    assert accepted(folder) == {"image-1.png": ["square"], "image-3.png": ["square"]}


def test_thresholds_are_asked_of_the_rest(open_folder):
    folder = open_folder()
    folder.run("w.go(1); w.go(0); w.mask_threshold = 0.7")
    folder.part.get_by_role("button", name="Apply to the rest").click()
    folder.view.root.get_by_text("mask threshold 0.7").first.wait_for()
    folder.press_to("d", 1)
    assert folder.eval("w.mask_threshold") == 0.7


def test_file_that_is_no_image_says_so_and_is_passed_over(open_folder):
    broken = '(folder / "image-1.png").write_bytes(b"no image")\n'
    folder = open_folder(shown=broken + SHOWN)
    folder.cell(1).click()
    folder.view.root.get_by_text("is not an image file that can be read").first.wait_for()
    folder.wait_image(0)
    folder.press_to("d", 2)
    folder.press_to("a", 0)
    folder.click(in_square(0))
    assert iou(folder.masks[0], square(0)) > 0.95
