"""A picture that knows where its file lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sam3_widget.core.image import Image


@dataclass(frozen=True, eq=False)
class LocatedImage(Image):
    """A picture of a file.

    Attributes
    ----------
    path : str
        Absolute.
    """

    path: str = ""


def located(source: object) -> Image:
    """Read a picture as :meth:`Image.read` does; one of a file remembers the file's path."""
    image = Image.read(source)
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "filename", "")
    if isinstance(image, LocatedImage) or not isinstance(name, (str, os.PathLike)) or not os.fspath(name):
        return image
    return LocatedImage(image.pixels, image.name, str(Path(os.fsdecode(name)).absolute()))


def path_of(image: Image) -> str:
    """Return the path of a picture's file, "" where it is not known."""
    return image.path if isinstance(image, LocatedImage) else ""
