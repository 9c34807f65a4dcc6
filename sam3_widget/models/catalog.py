"""Names of models and how to load them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sam3_widget.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_widget.models.base import Model


def _builtin() -> Model:
    from sam3_widget.models.builtin import BuiltinModel  # noqa: PLC0415 - OpenCV loads with it

    return BuiltinModel()


LOADERS: dict[str, Callable[[], Model]] = {"builtin": _builtin}
"""Every name ``load_model`` knows, best first: ``"auto"`` takes the first."""


def load_model(name: str = "auto") -> Model:
    """Load a model by name; a second call returns the same one.

    Parameters
    ----------
    name : str
        ``"builtin"`` needs no download. ``"auto"`` takes the best model on this disk and never downloads one.

    Raises
    ------
    ModelError
        There is no model of that name.
    """
    if name == "auto":
        name = next(iter(LOADERS))
    if name not in LOADERS:
        message = f"there is no model {name!r}; expected one of: {', '.join(['auto', *LOADERS])}"
        raise ModelError(message)
    return _load(name)


@cache
def _load(name: str) -> Model:
    return LOADERS[name]()
