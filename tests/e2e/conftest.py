"""JupyterLab and Chromium, started once; a notebook and a page of its own for each test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.lab import Lab
from tests.e2e.page import BROWSER_ARGUMENTS, NotebookPage, find_chromium, write_notebook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

RESULTS = Path(__file__).parents[2] / "test-results"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    # Shared, so that JupyterLab's own scripts come from the browser's cache.
    shared = browser.new_context(viewport={"width": 1400, "height": 1000}, has_touch=True)
    shared.set_default_timeout(15_000)
    yield shared
    shared.close()


class Tab:
    """A browser tab, with what its console said."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.messages: list[str] = []
        self.page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.messages.append(f"uncaught: {error}"))

    def close(self) -> None:
        self.page.close(run_before_unload=False)


@pytest.fixture(scope="session")
def spare_tabs(context: BrowserContext) -> Iterator[list[Tab]]:
    """Tabs with JupyterLab loaded, for the next test: loading it takes longer than most tests."""
    tabs: list[Tab] = []
    yield tabs
    for tab in tabs:
        tab.close()


@pytest.fixture
def open_notebook(
    lab: Lab, context: BrowserContext, spare_tabs: list[Tab], request: pytest.FixtureRequest
) -> Iterator[Callable[..., NotebookPage]]:
    """Return a function that opens a notebook of the given cells, or one that is there, in a tab of its own."""
    opened: list[tuple[Tab, NotebookPage]] = []
    own_name = re.sub(r"\W+", "-", request.node.name).strip("-") + ".ipynb"

    def open_(*cells: str, name: str | None = None) -> NotebookPage:
        if name is None:
            name = own_name
            write_notebook(lab.notebooks / name, cells)
            lab.give_kernel(name)
        tab = spare_tabs.pop() if spare_tabs else Tab(context)
        tab.messages.clear()
        notebook = NotebookPage(lab, tab.page, name)
        opened.append((tab, notebook))
        tab.page.bring_to_front()
        notebook.open()
        return notebook

    yield open_
    failed = getattr(request.node, "failed", False)
    for number, (tab, notebook) in enumerate(opened):
        if failed:
            RESULTS.mkdir(exist_ok=True)
            tab.page.screenshot(path=RESULTS / f"{Path(notebook.name).stem}-{number}.png")
            print("\n".join(tab.messages))  # noqa: T201 - pytest shows it with the failure
            tab.close()
        else:
            notebook.close()
            spare_tabs.append(tab)
    for name in {notebook.name for _, notebook in opened}:
        lab.shut_down(name)
