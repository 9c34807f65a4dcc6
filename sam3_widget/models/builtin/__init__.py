"""The built-in model: a small network whose weights ship with the package."""

import os
import sys

# GNU's OpenMP lets threads that wait for each other spin, for long. Where another process has one of the cores, as the
# browser that shows the widget may, each step of the network would wait for that to end; so they soon sleep instead.
# It is read when torch is loaded.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from sam3_widget.models.builtin.model import BuiltinModel

__all__ = ["BuiltinModel"]
