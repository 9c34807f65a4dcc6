"""YOLO's format for segmentation, that of Ultralytics: a text file for each picture, and ``data.yaml``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image as PILImage

from sam3_widget.core.polygons import from_polygons, seamed, to_polygons
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import (
    UNLABELLED,
    AnnotatedImage,
    AnnotatedObject,
    chosen,
    data_set,
    encoded,
)
from sam3_widget.saving.files import below, write_into

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from sam3_widget.io.annotations import Annotated

_YAML, _IMAGES, _LABELS = "data.yaml", "images", "labels"
_FEWEST = 7
"""Words of a line: the class and a triangle."""
_ORIENTATION, _TURNED = 0x0112, {5, 6, 7, 8}
"""The tag of EXIF that says how a picture is to be turned, and its values by which height and width change places."""


def write_yolo(
    folder: str | os.PathLike[str],
    sessions: Annotated,
    *,
    several: Literal["error", "seams"] = "error",
    tolerance: float = 0.0,
    classes: Iterable[str] | None = None,
) -> None:
    """Write the masks of pictures for YOLO: ``labels/a.txt`` for the picture ``images/a.jpg``, and ``data.yaml``.

    A line is a class and one polygon along the edges of pixels, divided by the picture's width and height. An object
    without a label is of the class ``"object"``. ``data.yaml`` says that all pictures are for training and for
    validation, and that they lie in ``images``, where they have to be put. Ids, scores and attributes are not held.

    Parameters
    ----------
    folder : path
        Made where it is missing; files of these names in it are replaced.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.
    several : {"error", "seams"}
        What becomes of a mask with holes or of several parts, since a line holds one polygon. ``"seams"`` joins them
        by lines of no width, walked there and back, as the usual converters from COCO do: the mask comes back exactly
        here. Programs that fill polygons with OpenCV (Ultralytics, supervision) paint their lines as well: masks are
        wider there by a pixel at the right and the lower edge, and have the seams in them.
    tolerance : float
        How far simplified polygons may lie from the mask's edge, in pixels; 0 keeps them exact.
    classes : iterable of str, optional
        The classes in their order; None takes those on offer in the sessions, then those of the objects.

    Raises
    ------
    FormatError
        A mask has holes or several parts, or is empty; a label is not among ``classes``; or two pictures would be one
        file.
    """
    chosen(several, "several", ("error", "seams"))
    images, names = data_set(sessions, classes)

    def encode(image: AnnotatedImage) -> str:
        lines = [
            f"{names.index(found.label or UNLABELLED)} {_numbers(image, found, several, tolerance)}\n"
            for found in image.objects
        ]
        return "".join(lines)

    files = encoded(images, lambda name: f"{_LABELS}/{below(name, '.txt')}", encode)
    # A JSON string is a YAML string, whatever is in it.
    listed = "".join(f"  {k}: {json.dumps(name)}\n" for k, name in enumerate(names)) if names else " {}\n"
    start = "" if not names else "\n"
    text = f"path: .\ntrain: {_IMAGES}\nval: {_IMAGES}\nnames:{start}{listed}"
    write_into(folder, {**files, _YAML: text})


def read_yolo(
    folder: str | os.PathLike[str],
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    classes: Iterable[str] | None = None,
) -> list[AnnotatedImage]:
    """Read polygons of YOLO: ``labels`` below a folder, with the names of the classes in ``data.yaml``.

    Text files do not say how large their pictures are: these lie in ``images``, or their sizes are given. A picture
    without a text file has no objects. The objects of a picture have the ids 1, 2, ... in the order of their lines; a
    line may cross itself, and encloses by the even-odd rule.

    Parameters
    ----------
    folder : path
    sizes : mapping, optional
        ``{file name: (height, width)}`` in pixels of all pictures, in place of ``images``.
    classes : iterable of str, optional
        Names of the classes in their order, in place of ``data.yaml``.

    Raises
    ------
    FormatError
        A line is no polygon or has an unknown class, or a text file has no picture.
    ImportError
        ``data.yaml`` is to be read, and PyYAML is not installed.
    """
    root = Path(folder)
    names = _names(root / _YAML) if classes is None else dict(enumerate(classes))
    known = _sizes(root / _IMAGES) if sizes is None else sizes
    pictures: dict[str, str] = {}
    for name in known:
        stem = below(name, "")
        if stem in pictures:
            message = f"the pictures {pictures[stem]} and {name} would share {stem}.txt"
            raise FormatError(message)
        pictures[stem] = name
    texts = sorted((root / _LABELS).rglob("*.txt"))
    if not texts and not known:
        message = f"{str(root)!r} holds no pictures in {_IMAGES} and no text files in {_LABELS}"
        raise FormatError(message)
    lines: dict[str, list[AnnotatedObject]] = {}
    for file in texts:
        stem = file.relative_to(root / _LABELS).with_suffix("").as_posix()
        if stem not in pictures:
            where = f"below {root / _IMAGES}" if sizes is None else "in sizes"
            message = f"{file} has no picture {where}: its size is needed, put it there or give sizes"
            raise FormatError(message)
        lines[pictures[stem]] = _objects(file, names, known[pictures[stem]])
    return [AnnotatedImage(name, *size, tuple(lines.get(name, ()))) for name, size in known.items()]


def _numbers(image: AnnotatedImage, found: AnnotatedObject, several: str, tolerance: float) -> str:
    parts = to_polygons(found.mask, tolerance)
    if not parts:
        message = f"the mask of {image.tell(found)} is empty, which YOLO cannot hold: remove the object"
        raise FormatError(message)
    holes = any(part.holes for part in parts)
    if several == "error" and (holes or len(parts) > 1):
        what = "holes" if holes else f"{len(parts)} parts"
        message = (
            f"the mask of {image.tell(found)} has {what}, and a line of YOLO holds one polygon: give "
            'several="seams", set fill_holes or min_area in the session, or write COCO with segmentation="rle"'
        )
        raise FormatError(message)
    ring = seamed(parts) / (image.width, image.height)
    return " ".join(f"{number:.9g}" for number in ring.ravel().tolist())


def _names(file: Path) -> dict[int, str]:
    """Return the names of the classes by their numbers."""
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - an extra, for this file alone
    except ImportError:
        message = f"reading {file.name} needs PyYAML: pip install pyyaml, or give classes"
        raise ImportError(message) from None
    try:
        whole: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = whole["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(k): str(name) for k, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        message = f"{file} must be the data.yaml of a YOLO data set, with names ({error!r})"
        raise FormatError(message) from error


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return ``(height, width)`` of every picture in a folder, upright."""
    found: dict[str, tuple[int, int]] = {}
    PILImage.init()
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in PILImage.EXTENSION or not file.is_file():
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
                with PILImage.open(file) as picture:
                    width, height = picture.size
                    turned = picture.getexif().get(_ORIENTATION) in _TURNED
        except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
            message = f"{file} cannot be read as a picture ({error})"
            raise FormatError(message) from error
        found[PurePosixPath(file.relative_to(folder)).as_posix()] = (width, height) if turned else (height, width)
    return found


def _objects(file: Path, names: Mapping[int, str], size: tuple[int, int]) -> list[AnnotatedObject]:
    height, width = size
    objects: list[AnnotatedObject] = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            category, numbers = int(words[0]), np.array([float(word) for word in words[1:]])
        except ValueError:
            message = f"line {number} of {file} must be a class and numbers, got {line!r:.80}"
            raise FormatError(message) from None
        if category not in names:
            listed = ", ".join(f"{k} ({name})" for k, name in names.items()) or "none"
            message = f"line {number} of {file} has the class {category}, but there are {listed}"
            raise FormatError(message)
        if len(words) < _FEWEST or len(words) % 2 == 0 or not np.isfinite(numbers).all():
            box = ": this is a box, not a polygon" if len(words) == 5 else ""  # noqa: PLR2004 - class, x, y, w, h
            message = f"line {number} of {file} must be a class and x1 y1 x2 y2 x3 y3 ...{box}, got {line!r:.80}"
            raise FormatError(message)
        if (numbers < 0).any() or (numbers > 1).any():
            message = f"line {number} of {file} must have parts of width and height, 0 to 1, got {line!r:.80}"
            raise FormatError(message)
        mask = from_polygons([[numbers.reshape(-1, 2) * (width, height)]], height, width)
        objects.append(AnnotatedObject(len(objects) + 1, names[category], mask))
    return objects
