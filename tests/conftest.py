"""What every test shares: end-to-end tests run last, and a fixture can see whether its test failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the tests' small networks threads only wait for each other

import pytest
from huggingface_hub import constants
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator


E2E = Path(__file__).parent / "e2e"
HUB = constants.HF_HUB_CACHE
"""Where this disk keeps checkpoints."""

# A busy machine is no reason for a property to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _no_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Let ``"auto"`` find the built-in model only, whatever this disk holds."""
    with pytest.MonkeyPatch.context() as patch:
        empty = str(tmp_path_factory.mktemp("no-checkpoints"))
        patch.setenv("HF_HUB_CACHE", empty)
        patch.setattr(constants, "HF_HUB_CACHE", empty)
        yield


@pytest.fixture(scope="module")
def this_disk() -> Generator[None]:
    """Let a test of real weights look at what this disk holds after all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", HUB)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker(pytest.mark.e2e)
    # Last, because Playwright keeps an event loop running on this thread until the session ends, and
    # because the quick tests should fail first.
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed  # type: ignore[attr-defined]
    return report
