from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD, NEW = 1_000_000_000, 1_000_000_100


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(file: Path, time: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    os.utime(file, (time, time))


@pytest.fixture
def checkout(tmp_path):
    for name in ("js/src/index.ts", "js/src/deep/er.ts", "js/package.json"):
        write(tmp_path / name, OLD)
    for name in ("widget.js", "widget.css"):
        write(tmp_path / "sam3_widget" / "static" / name, NEW)
    return tmp_path


def test_bundle_is_current_when_newer_than_every_source(hook, checkout):
    assert hook.bundle_is_current(checkout)


@pytest.mark.parametrize("source", ["js/src/index.ts", "js/src/deep/er.ts", "js/package.json", "js/src/new.css"])
def test_bundle_is_stale_when_a_source_is_newer(hook, checkout, source):
    write(checkout / source, NEW + 1)
    assert not hook.bundle_is_current(checkout)


@pytest.mark.parametrize("name", ["widget.js", "widget.css"])
def test_bundle_is_stale_when_a_file_is_missing(hook, checkout, name):
    (checkout / "sam3_widget" / "static" / name).unlink()
    assert not hook.bundle_is_current(checkout)


def test_bundle_of_a_source_distribution_is_taken_as_it_is(hook, checkout):
    write(checkout / "js" / "src" / "index.ts", NEW + 1)
    write(checkout / "PKG-INFO", OLD)
    assert hook.bundle_is_current(checkout)
