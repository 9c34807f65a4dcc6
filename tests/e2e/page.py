"""One notebook in JupyterLab as a person sees it, and the widgets on it."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import nbformat
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.e2e.lab import Kernel, Lab

Modifier = Literal["Alt", "Control", "ControlOrMeta", "Meta", "Shift"]

# The notebook in front: others may be open behind it.
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
READY = 30_000
ANSWER = 15_000

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str:
    """Return the path of Chromium or Chrome.

    Raises
    ------
    RuntimeError
        If neither is on PATH.
    """
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise RuntimeError("Chromium or Chrome is needed on PATH, and neither is there; `make test` installs it on Debian")


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)


@dataclass(frozen=True)
class Transform:
    """Image pixels to CSS pixels of the canvas: ``canvas = scale * image + (dx, dy)``."""

    scale: float
    dx: float
    dy: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the image lies on the canvas."""
        return self.scale * x + self.dx, self.scale * y + self.dy


class WidgetView:
    """One view of a widget.

    Parameters
    ----------
    page : Page
    root : Locator
        The element that carries ``data-sam3w-state``.
    """

    def __init__(self, page: Page, root: Locator) -> None:
        self.page = page
        self.root = root
        self.canvas = root.locator("canvas[data-sam3w-transform]")

    def wait_ready(self) -> None:
        """Wait until the view has its first snapshot and has drawn it."""
        self.root.and_(self.page.locator('[data-sam3w-state="ready"]')).wait_for(timeout=READY)

    @property
    def revision(self) -> int:
        """Revision of the state that is drawn."""
        return int(self.root.get_attribute("data-sam3w-revision") or -1)

    def wait_revision(self, revision: int) -> None:
        """Wait until this revision, or a later one, is drawn."""
        # Looked up anew each time: JupyterLab may replace the element while it restores a page.
        deadline = time.monotonic() + ANSWER / 1000
        while self.revision < revision:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page shows revision {self.revision}, and {revision} did not come")
            self.page.wait_for_timeout(10)

    def wait_change(self, since: int) -> None:
        """Wait until something later than this revision is drawn."""
        self.wait_revision(since + 1)

    @contextmanager
    def change(self) -> Iterator[None]:
        """Wait, on leaving, until something later than the present revision is drawn."""
        before = self.revision
        yield
        self.wait_change(before)

    @property
    def transform(self) -> Transform:
        """The canvas's present transform."""
        text = self.canvas.get_attribute("data-sam3w-transform")
        assert text is not None
        return Transform(*(float(part) for part in text.split()))

    def on_page(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the image lies on the page."""
        self.canvas.scroll_into_view_if_needed()
        box = self.canvas.bounding_box()
        assert box is not None
        left, top = self.transform(x, y)
        return box["x"] + left, box["y"] + top

    def click_image(
        self, x: float, y: float, button: Literal["left", "right"] = "left", modifiers: Sequence[Modifier] = ()
    ) -> None:
        """Click on a point of the image."""
        place = self.on_page(x, y)
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*place, button=button)
        for key in reversed(modifiers):
            self.page.keyboard.up(key)

    def tap_image(self, x: float, y: float) -> None:
        """Touch a point of the image with a finger."""
        self.page.touchscreen.tap(*self.on_page(x, y))

    def drag_image(
        self, path: Sequence[tuple[float, float]], steps: int = 4, button: Literal["left", "right"] = "left"
    ) -> None:
        """Press at the first point of the image, move through the others, and let go at the last."""
        places = [self.on_page(*point) for point in path]
        self.page.mouse.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.page.mouse.move(*place, steps=steps)
        self.page.mouse.up(button=button)

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer to a point of the image."""
        self.page.mouse.move(*self.on_page(x, y))

    def press(self, key: str) -> None:
        """Press a key with the canvas focused."""
        self.canvas.focus()
        self.page.keyboard.press(key)

    def canvas_pixels(self) -> np.ndarray:
        """Return what the canvas holds, ``(h, w, 4)`` uint8 RGBA in device pixels."""
        encoded = self.canvas.evaluate(
            """canvas => new Promise((resolve) => requestAnimationFrame(() => {
                const copy = document.createElement("canvas");
                copy.width = canvas.width;
                copy.height = canvas.height;
                const context = copy.getContext("2d", {willReadFrequently: true});
                context.drawImage(canvas, 0, 0);
                const {data} = context.getImageData(0, 0, copy.width, copy.height);
                let text = "";
                for (let i = 0; i < data.length; i += 32768)
                    text += String.fromCharCode.apply(null, data.subarray(i, i + 32768));
                resolve([copy.height, copy.width, btoa(text)]);
            }))"""
        )
        height, width, data = encoded
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def image_pixels(self, height: int, width: int) -> np.ndarray:
        """Return the colour drawn at the centre of each pixel of the image, ``(height, width, 4)`` uint8 RGBA.

        Raises
        ------
        AssertionError
            If part of the image lies outside the canvas.
        """
        pixels = self.canvas_pixels()
        ratio = self.canvas.evaluate("canvas => canvas.width / canvas.getBoundingClientRect().width")
        transform = self.transform
        columns = (transform.scale * (np.arange(width) + 0.5) + transform.dx) * ratio
        rows = (transform.scale * (np.arange(height) + 0.5) + transform.dy) * ratio
        assert columns.min() >= 0, transform
        assert rows.min() >= 0, transform
        return pixels[np.floor(rows).astype(int)[:, None], np.floor(columns).astype(int)[None, :]]

    def screenshot(self, path: Path | None = None) -> Image.Image:
        """Return a picture of the view, and save it where a path is given."""
        data = self.root.screenshot(**({"path": str(path)} if path else {}))
        return Image.open(io.BytesIO(data)).convert("RGB")


class NotebookPage:
    """One notebook in one browser tab with JupyterLab in it.

    Parameters
    ----------
    lab : Lab
    page : Page
        Empty, or one that :meth:`open` has loaded JupyterLab into before.
    name : str
        The notebook's file name under the server's root.
    """

    def __init__(self, lab: Lab, page: Page, name: str) -> None:
        self.lab = lab
        self.page = page
        self.name = name

    def open(self) -> None:
        """Open the notebook and wait until its kernel can be used."""
        if not self.page.evaluate("() => 'jupyterapp' in window"):
            # A workspace of its own: no other tab's documents are restored in it, and a reload restores this one's.
            self.page.goto(f"{self.lab.url}/lab/workspaces/{uuid.uuid4().hex}?token={self.lab.token}")
            self.page.wait_for_function("() => 'jupyterapp' in window")
            self.page.evaluate("async () => { await window.jupyterapp.restored; }")
        self.page.evaluate(
            "async path => { await window.jupyterapp.commands.execute('docmanager:open', {path}); }", self.name
        )
        self.wait_for_kernel()

    def reload(self) -> None:
        """Save the notebook, as a person must to keep its outputs, and load the page anew."""
        self.save()
        self.page.reload()
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the notebook is open and its kernel can be used."""
        self.page.wait_for_function(
            "name => window.jupyterapp?.shell.currentWidget?.context?.path === name", arg=self.name, timeout=READY
        )
        # The indicator says idle before there is a connection, and what is run then is lost.
        self.page.evaluate(
            """async () => {
                const {context} = window.jupyterapp.shell.currentWidget;
                await context.ready;
                await context.sessionContext.ready;
                await context.sessionContext.session.kernel.info;
            }"""
        )
        self.page.locator(f'{PANEL} .jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=READY)
        # A client made later would wait for its first answer behind a running cell.
        assert self.kernel

    def close(self) -> None:
        """Close the notebook, without a question about unsaved changes; the tab stays."""
        self.page.evaluate(
            """name => {
                for (const widget of [...window.jupyterapp.shell.widgets("main")])
                    if (widget.context?.path === name) widget.dispose();
            }""",
            self.name,
        )

    @property
    def kernel(self) -> Kernel:
        """A client of this notebook's kernel."""
        return self.lab.kernel(self.name)

    def cell(self, index: int) -> Locator:
        """Return a cell by its place."""
        return self.page.locator(f"{PANEL} .jp-Notebook .jp-Cell").nth(index)

    def run_cell(self, index: int, *, wait: bool = True) -> None:
        """Run one cell as Ctrl+Enter does, and wait until it has run.

        Raises
        ------
        AssertionError
            If the cell raises.
        """
        cell = self.cell(index)
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.wait_cell(index)

    def wait_cell(self, index: int) -> None:
        """Wait until a cell has run, and fail with its traceback if it raised."""
        cell = self.cell(index)
        handle = cell.element_handle()
        self.page.wait_for_function(
            r"cell => /^\[\d+\]:?$/.test(cell.querySelector('.jp-InputPrompt').textContent.trim())",
            arg=handle,
            timeout=READY,
        )
        errors = [output for output in self.outputs(index) if output["output_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])

    def is_running(self, index: int) -> bool:
        """Whether a cell is running or waits for its turn."""
        return self.cell(index).locator(".jp-InputPrompt").inner_text().strip().startswith("[*]")

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return a cell's outputs as nbformat has them."""
        found: list[dict[str, Any]] = self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.outputs.toJSON()", index
        )
        return found

    def run_all(self) -> None:
        """Run every cell in turn."""
        for index in range(self.page.locator(f"{PANEL} .jp-Notebook .jp-Cell").count()):
            self.run_cell(index)

    def widget(self, cell: int) -> WidgetView:
        """Return the view in a cell's output, once it is ready."""
        view = WidgetView(self.page, self.cell(cell).locator("[data-sam3w-state]").first)
        view.wait_ready()
        return view

    def save(self) -> dict[str, Any]:
        """Save the notebook as Ctrl+S does, and return the file's content."""
        with self.page.expect_response(
            lambda response: "/api/contents/" in response.url and response.request.method == "PUT"
        ):
            # From the toolbar: the keyboard may belong to a widget just now.
            self.page.locator(f'{PANEL} [data-jp-item-name="save"] jp-button').click()
        content: dict[str, Any] = json.loads((self.lab.notebooks / self.name).read_text())
        return content

    def set_theme(self, name: Literal["JupyterLab Light", "JupyterLab Dark"]) -> None:
        """Switch the theme, and wait until it is there."""
        self.page.evaluate(
            "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}); }", name
        )
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached", timeout=READY)
