from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sam3_widget

PACKAGE = Path(sam3_widget.__file__).parent

# Imports go down only: a layer may import the ones after it, never the ones before it.
LAYERS = (
    "widget",
    "dataset",
    "labelling",
    "evaluation",
    "io",
    "video",
    "session",
    "saving",
    "arrays",
    "results",
    "live",
    "batch",
    "jobs",
    "engine",
    "models",
    "core",
    "errors",
)
ONLY_ABOVE_CORE = {"torch", "transformers", "IPython", "ipywidgets", "anywidget", "traitlets", "jupyterlab", "comm"}


def modules() -> list[Path]:
    """Every module but the package's own, which names all layers, lazily."""
    return sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


def layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "sam3_widget" and len(parts) > 1 else None


def imported(file: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file, type checking included."""
    package = ".".join(("sam3_widget", *file.relative_to(PACKAGE).parent.parts))
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def blocking(*names: str) -> str:
    """Return code after which importing one of these raises ImportError, as if it were not installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({names!r}));"


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_module_imports_only_layers_below_its_own(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LAYERS, f"a new layer {own!r}: give it its place in LAYERS"
    upward = {name for name in imported(file) if layer(name) in LAYERS[: LAYERS.index(own)]}
    assert not upward


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda file: file.name)
def test_core_names_neither_torch_nor_jupyter(file):
    assert not {name for name in imported(file) if name.split(".")[0] in ONLY_ABOVE_CORE}


def test_import_loads_nothing_heavy():
    heavy = {"torch", "transformers", "ipywidgets", "anywidget", "IPython", "cv2", "skimage", "scipy"}
    done = run("import sam3_widget, sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "sam3_widget" in loaded
    assert not heavy & loaded


def test_public_names_all_resolve():
    assert "Sam3Widget" in sam3_widget.__all__
    for name in sam3_widget.__all__:
        assert getattr(sam3_widget, name) is not None
        assert name in dir(sam3_widget)


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda file: file.name)
def test_core_module_imports_without_torch(file):
    done = run(f"{blocking('torch')} import {dotted(file)}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "file",
    [file for file in sorted((PACKAGE / "core").rglob("*.py")) if file.name != "masks.py"],
    ids=lambda file: file.name,
)
def test_core_module_but_masks_imports_without_opencv(file):
    done = run(f"{blocking('cv2')} import {dotted(file)}")
    assert done.returncode == 0, done.stderr


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
