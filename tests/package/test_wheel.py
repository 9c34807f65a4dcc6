from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = {"sam3_widget/static/widget.js", "sam3_widget/static/widget.css"}
MODEL = {f"sam3_widget/models/builtin/{name}" for name in ("weights.safetensors", "MODEL_CARD.md")}


def build(source: Path, out: Path, kind: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PATH": path} if path is not None else {})}
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def no_node(tmp_path_factory):
    """Return a PATH with a Python and nothing else on it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").symlink_to(sys.executable)
    assert shutil.which("npm", path=str(folder)) is None
    return str(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    done = build(ROOT, out, "wheel")
    assert done.returncode == 0, done.stdout + done.stderr
    return only(out, "*.whl")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    done = build(ROOT, out, "sdist")
    assert done.returncode == 0, done.stdout + done.stderr
    return only(out, "*.tar.gz")


@pytest.fixture
def unpacked(sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    return only(tmp_path, "sam3_widget-*")


def test_wheel_holds_bundle_model_types_and_license(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert {*BUNDLE, *MODEL, "sam3_widget/py.typed"} <= sizes.keys()
    assert all(sizes[name] > 0 for name in (*BUNDLE, *MODEL))
    assert any(name.endswith("licenses/LICENSE") for name in sizes)


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tracked = {
        str(file.relative_to(ROOT)) for file in (ROOT / "sam3_widget").rglob("*.py") if "__pycache__" not in file.parts
    }
    assert tracked <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sam3_widget"}
    assert not [name for name in names if "__pycache__" in name]


def test_wheel_installed_clean_finds_its_bundle_and_segments(wheel, tmp_path):
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel],
        check=True,
    )
    code = """
import sys, numpy, sam3_widget
assert sam3_widget.__file__.startswith(sys.argv[1]), sam3_widget.__file__
widget = sam3_widget.Sam3Widget(numpy.zeros((32, 48, 3), numpy.uint8), model="builtin")
assert "render" in widget._esm, widget._esm[:200]
assert "sam3w" in widget._css, widget._css[:200]
image = numpy.full((64, 64, 3), 20, numpy.uint8)
image[16:48, 16:48] = (230, 200, 40)
session = sam3_widget.Session(image, model=sam3_widget.load_model("builtin"))
session.add_point(32, 32)
assert session.masks.shape == (1, 64, 64) and session.masks[0, 32, 32]
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, target],
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_sdist_makes_the_same_wheel_without_node(wheel, unpacked, no_node, tmp_path):
    done = build(unpacked, tmp_path / "out", "wheel", path=no_node)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(only(tmp_path / "out", "*.whl")) as again, zipfile.ZipFile(wheel) as first:
        assert set(again.namelist()) == set(first.namelist())
        for name in BUNDLE:
            assert again.read(name) == first.read(name)


def test_build_without_bundle_and_without_node_says_what_to_install(unpacked, no_node, tmp_path):
    shutil.rmtree(unpacked / "sam3_widget" / "static")
    done = build(unpacked, tmp_path / "out", "wheel", path=no_node)
    assert done.returncode != 0
    assert "Node.js or npm is not on PATH" in done.stdout + done.stderr


def test_build_without_bundle_and_without_sources_says_so(unpacked, no_node, tmp_path):
    shutil.rmtree(unpacked / "sam3_widget" / "static")
    shutil.rmtree(unpacked / "js")
    done = build(unpacked, tmp_path / "out", "wheel", path=no_node)
    assert done.returncode != 0
    assert "so are its sources" in done.stdout + done.stderr
