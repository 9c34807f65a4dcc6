"""The built-in model: a small network whose weights ship with the package."""

from sam3_widget.models.builtin.model import BuiltinModel

__all__ = ["BuiltinModel"]
