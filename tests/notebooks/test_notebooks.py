from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.models.hub import put_in_cache
from tests.models.tiny import save_sam3

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A cache of the Hub in which SAM 3 has a few random weights, and nothing else is."""
    folder = save_sam3(tmp_path_factory.mktemp("checkpoint"))
    cache = tmp_path_factory.mktemp("hub")
    put_in_cache(cache, "facebook/sam3", folder)
    return cache


@pytest.fixture
def no_hub(tmp_path_factory):
    return tmp_path_factory.mktemp("empty-hub")


pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def test_notebook_runs_from_top_to_bottom(path, tmp_path, hub, no_hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(hub if "sam3" in path.stem else no_hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.execution_count for cell in code)


def test_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
