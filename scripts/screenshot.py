"""Make README's picture: the quickstart notebook in real JupyterLab, after a few clicks."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.lab import Lab  # noqa: E402 - found through the path above
from tests.e2e.page import BROWSER_ARGUMENTS, NotebookPage, WidgetView, find_chromium  # noqa: E402

NOTEBOOK = ROOT / "notebooks" / "01-quickstart.ipynb"
PICTURE = ROOT / "docs" / "screenshot.png"
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


def main() -> None:
    """Take the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab, sync_playwright() as playwright:
        shutil.copy(NOTEBOOK, lab.notebooks)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
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
        page.mouse.move(0, 0)
        notebook.cell(demo).evaluate("cell => cell.scrollIntoView({block: 'start'})")
        page.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
