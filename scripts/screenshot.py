"""Make README's pictures: an image, a clip and a folder in real JupyterLab, after a few prompts."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import skimage
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.lab import Lab  # noqa: E402 - found through the path above
from tests.e2e.page import (  # noqa: E402
    BROWSER_ARGUMENTS,
    NotebookPage,
    WidgetView,
    find_chromium,
    write_notebook,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

NOTEBOOK = ROOT / "notebooks" / "01-quickstart.ipynb"
DOCS = ROOT / "docs"
WIDTH, HEIGHT = 1280, 860

# Prompts on the demo's picture.
CUP_BOX = [(172, 16), (410, 292)]
CUP_CLICKS = [(290, 150, "left"), (250, 215, "left"), (395, 35, "right"), (188, 240, "right"), (350, 270, "right")]
SPOON_BOX = [(325, 224), (408, 328)]


def draw(view: WidgetView, box: list[tuple[float, float]]) -> None:
    """Draw a box, and wait for the mask."""
    with view.change():
        view.drag_image(box)
    view.wait_ready()


def image_picture(lab: Lab, page: Page) -> None:
    """Take the picture of an image."""
    shutil.copy(NOTEBOOK, lab.notebooks)
    notebook = NotebookPage(lab, page, NOTEBOOK.name)
    notebook.open()
    page.evaluate("async () => { await window.jupyterapp.commands.execute('application:toggle-left-area'); }")
    demo = next(index for index in range(10) if "Sam3Widget.demo()" in notebook.cell(index).inner_text())
    notebook.run_cell(demo)
    view = notebook.widget(demo)
    draw(view, SPOON_BOX)
    # The key for this would leave its hint in the picture.
    with view.change():
        notebook.kernel.run("w.select(None)")
    draw(view, CUP_BOX)
    for x, y, button in CUP_CLICKS:
        with view.change():
            view.click_image(x, y, button=button)
        view.wait_ready()
    notebook.kernel.run('w.set_label(1, "spoon"); w.set_label(2, "cup"); w.min_area = 400')
    view.wait_revision(notebook.kernel.eval("w._shown.rev"))
    take(page, notebook, demo, "screenshot.png")
    notebook.close()


# Prompts on the first frame of the demo's clip.
CLIP_CELL = "from sam3_widget import Sam3VideoWidget\n\nw = Sam3VideoWidget.demo()\nw"
CLIP_PROMPTS = """
w.add_box((290, 192, 360, 272)); w.set_label(1, "spoon")
w.add_box((168, 20, 362, 256)); w.set_label(2, "cup")
w.add_point(265, 60, object_id=2); w.add_point(214, 225, object_id=2)
w.frame_idx = 30
job = w.propagate(wait=False)
"""


def clip_picture(lab: Lab, page: Page) -> None:
    """Take the picture of a clip."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT + 50})
    write_notebook(lab.notebooks / "clip.ipynb", [CLIP_CELL])
    notebook = NotebookPage(lab, page, "clip.ipynb")
    notebook.open()
    notebook.run_cell(0)
    view = notebook.widget(0)
    notebook.kernel.run(CLIP_PROMPTS)
    while notebook.kernel.eval("job.running"):
        page.wait_for_timeout(500)
    view.wait_revision(notebook.kernel.eval("w._shown.rev"))
    view.root.locator('[data-sam3w-frame="30"]').wait_for()
    view.wait_ready()
    take(page, notebook, 0, "video.png")
    notebook.close()


# Pictures that come with scikit-image; those of its wheel need no download.
FOLDER_CELL = """\
from sam3_widget import Sam3DatasetWidget

w = Sam3DatasetWidget("pictures", "labels.json", classes=["person", "animal", "thing"])
w"""
FOLDER_PICTURES = ("astronaut", "chelsea", "coffee", "coins", "hubble_deep_field", "ihc", "retina", "rocket")
FOLDER_PROMPTS = """
w.add_point(230, 160, label="person"); w.add_point(230, 380, object_id=1); w.accept()
w.go("coffee.png"); w.add_box((172, 16, 410, 292), label="thing"); w.skip()
w.go("rocket.jpg"); w.add_point(322, 180, label="thing"); w.add_point(322, 370, object_id=1)
w.reject("hubble_deep_field.jpg")
w.go("chelsea.png"); w.add_point(270, 170, label="animal")
"""


def folder_picture(lab: Lab, page: Page) -> None:
    """Take the picture of a folder of images."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT + 110})
    pictures = lab.notebooks / "pictures"
    pictures.mkdir()
    for name in FOLDER_PICTURES:
        shutil.copy(next((Path(skimage.__file__).parent / "data").glob(f"{name}.*")), pictures)
    write_notebook(lab.notebooks / "folder.ipynb", [FOLDER_CELL])
    notebook = NotebookPage(lab, page, "folder.ipynb")
    notebook.open()
    notebook.run_cell(0)
    view = notebook.widget(0)
    notebook.kernel.run(FOLDER_PROMPTS)
    view.wait_revision(notebook.kernel.eval("w._shown.rev"))
    view.root.locator('[data-sam3w-image="1"]').wait_for()
    view.wait_ready()
    page.wait_for_timeout(2000)  # the small pictures
    take(page, notebook, 0, "dataset.png")
    notebook.close()


def take(page: Page, notebook: NotebookPage, cell: int, name: str) -> None:
    """Take a picture of the page with a cell at its top."""
    page.mouse.move(0, 0)
    notebook.cell(cell).evaluate("cell => cell.scrollIntoView({block: 'start'})")
    page.screenshot(path=DOCS / name)
    print((DOCS / name).relative_to(ROOT))


def main() -> None:
    """Take the pictures."""
    DOCS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        image_picture(lab, page)
        clip_picture(lab, page)
        folder_picture(lab, page)
        browser.close()


if __name__ == "__main__":
    main()
