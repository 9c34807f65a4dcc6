"""What the tests of models share."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Let torch compute on one thread: models this small take up to ten times as long on threads that wait."""
    if importlib.util.find_spec("torch") is not None:
        import torch  # noqa: PLC0415 - the built-in model is tested without it, too

        torch.set_num_threads(1)
