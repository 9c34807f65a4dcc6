"""What the tests of models share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Let torch compute on one thread: models this small take up to ten times as long on threads that wait."""
    torch.set_num_threads(1)
