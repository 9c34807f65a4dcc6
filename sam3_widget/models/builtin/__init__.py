"""The built-in model: classical, deterministic, and ready without a download."""

from sam3_widget.models.builtin.model import BuiltinModel

__all__ = ["BuiltinModel"]
