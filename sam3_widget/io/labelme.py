"""LabelMe's format: one JSON file for each picture, beside it."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image as PILImage

from sam3_widget.core.polygons import Polygon, from_polygons, to_polygons
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import (
    UNLABELLED,
    AnnotatedImage,
    AnnotatedObject,
    annotated,
    chosen,
    encoded,
    files_of,
)
from sam3_widget.saving.files import below, read_json, write_into

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_widget.io.annotations import Annotated

_VERSION = "5.4.1"
"""The first series in which LabelMe saves masks."""
_WHAT = "a LabelMe file with imagePath, imageHeight, imageWidth and shapes"
_OUTLINES = {"polygon", "oriented_rectangle", None}


def write_labelme(
    folder: str | os.PathLike[str],
    sessions: Annotated,
    *,
    segmentation: Literal["polygon", "mask"] = "polygon",
    holes: Literal["mask", "error"] = "mask",
    tolerance: float = 0.0,
) -> None:
    """Write the masks of pictures for LabelMe: ``a.json`` for the picture ``a.jpg``, to be put beside it.

    The shapes of one object have its ``object_id`` as their ``group_id``. An object without a label is called
    ``"object"``. Beyond the format a shape has the ``score`` and the ``attributes`` of its object, where there are any.

    Masks come back exactly. LabelMe's own export paints the line of a polygon as well, which makes masks of polygons
    wider by up to a pixel there; shapes of the kind ``mask`` (LabelMe 5.2 or newer) are exact there too.

    Parameters
    ----------
    folder : path
        Made where it is missing; files of these names in it are replaced.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.
    segmentation : {"polygon", "mask"}
        Polygons along the edges of pixels, one for each part of a mask, or masks.
    holes : {"mask", "error"}
        What becomes of masks with holes, which polygons of LabelMe cannot hold.
    tolerance : float
        How far simplified polygons may lie from the mask's edge, in pixels; 0 keeps them exact.

    Raises
    ------
    FormatError
        A mask is empty or cannot be held, or two pictures would be one file.
    """
    chosen(segmentation, "segmentation", ("polygon", "mask"))
    chosen(holes, "holes", ("mask", "error"))

    def encode(image: AnnotatedImage) -> str:
        shapes = [
            {**_shape_of(found), **shape}
            for found in image.objects
            for shape in _shapes(image, found, (segmentation, holes), tolerance)
        ]
        whole: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": Path(image.file_name).name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        return json.dumps(whole, ensure_ascii=False, indent=1)

    write_into(folder, encoded(annotated(sessions), lambda name: below(name, ".json"), encode))


def read_labelme(path: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Read LabelMe files: polygons, rectangles, circles and masks.

    Shapes of one label and one ``group_id`` are one object, whose ``object_id`` that is; any other shape is an object
    of its own. An outline encloses the pixels whose centres lie in it.

    Parameters
    ----------
    path : path
        A file, or a folder of them.

    Raises
    ------
    FormatError
        A file is no LabelMe file, or a shape has no area, such as a point or a line.
    """
    root = Path(path)
    return [_read(file, root) for file in files_of(root, "*.json", "LabelMe file")]


def _shape_of(found: AnnotatedObject) -> dict[str, Any]:
    """Return what all shapes of an object have."""
    shape: dict[str, Any] = {
        "label": found.label or UNLABELLED,
        "group_id": int(found.object_id),
        "description": "",
        "flags": {},
        "mask": None,
    }
    if not math.isnan(found.score):
        shape["score"] = float(found.score)
    return shape | ({"attributes": dict(found.attributes)} if found.attributes else {})


def _shapes(
    image: AnnotatedImage, found: AnnotatedObject, form: tuple[str, str], tolerance: float
) -> list[dict[str, Any]]:
    segmentation, holes = form
    if found.mask.bbox is None:
        message = f"the mask of {image.tell(found)} is empty, which LabelMe cannot hold: remove the object"
        raise FormatError(message)
    if segmentation == "polygon":
        parts = to_polygons(found.mask, tolerance)
        if not any(part.holes for part in parts):
            return [{"shape_type": "polygon", "points": part.outline.tolist()} for part in parts]
        if holes == "error":
            message = (
                f"the mask of {image.tell(found)} has holes, which polygons of LabelMe cannot hold: "
                'give holes="mask" or segmentation="mask", or set fill_holes in the session'
            )
            raise FormatError(message)
    x1, y1, x2, y2 = found.mask.bbox
    buffer = io.BytesIO()
    PILImage.fromarray(found.mask.window(x1, y1, x2, y2)).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return [{"shape_type": "mask", "points": [[x1, y1], [x2 - 1, y2 - 1]], "mask": text}]


def _read(file: Path, root: Path) -> AnnotatedImage:
    whole = read_json(file, _WHAT)
    try:
        height, width = int(whole["imageHeight"]), int(whole["imageWidth"])
        name = PureWindowsPath(whole["imagePath"]).name  # both kinds of slashes are found in such files
        groups: dict[tuple[int | None, object], list[dict[str, Any]]] = {}
        for k, shape in enumerate(whole["shapes"]):
            group = shape.get("group_id")
            groups.setdefault((None, k) if group is None else (int(group), shape["label"]), []).append(shape)
        free = iter(sorted(set(range(1, 2 * len(groups) + 1)) - {group for group, _ in groups}))
        objects: list[AnnotatedObject] = []
        for (group, _), shapes in groups.items():
            taken = group is None or group < 1 or any(o.object_id == group for o in objects)
            object_id = next(free) if group is None or taken else group
            mask = from_polygons([p for s in shapes for p in _polygons(s, height, width)], height, width)
            score = shapes[0].get("score")
            objects.append(
                AnnotatedObject(
                    object_id,
                    str(shapes[0]["label"]),
                    mask,
                    float("nan") if score is None else float(score),
                    dict(shapes[0].get("attributes") or {}),
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        message = str(error) if isinstance(error, FormatError) else f"it must be {_WHAT} ({error!r})"
        message = f"{file}: {message}"
        raise FormatError(message) from error
    folder = Path() if file == root else file.relative_to(root).parent
    return AnnotatedImage((folder / name).as_posix(), height, width, tuple(objects))


def _polygons(shape: dict[str, Any], height: int, width: int) -> Sequence[Polygon]:
    kind, points = shape.get("shape_type"), np.array(shape["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():  # noqa: PLR2004 - x and y
        message = f"the points of a shape must be [[x, y], ...] in pixels, got {shape['points']!r:.80}"
        raise FormatError(message)
    needed = {"rectangle": 2, "circle": 2, "mask": 2}.get(str(kind), 3)
    if len(points) < needed or (needed == 2 and len(points) > needed):  # noqa: PLR2004 - corners, or centre and rim
        message = f"a {kind or 'polygon'} must have {needed}{' or more' * (needed > 2)} points, got {len(points)}"  # noqa: PLR2004
        raise FormatError(message)
    if kind in _OUTLINES:
        return [Polygon(points)]
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points.min(0), points.max(0)
        return [Polygon(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]))]
    if kind == "circle":
        return _circle(points[0], float(np.hypot(*(points[1] - points[0]))), height, width)
    if kind == "mask":
        return _crop(shape["mask"], points, height, width)
    message = f"a shape of the kind {kind!r} has no mask: expected polygon, rectangle, circle or mask"
    raise FormatError(message)


def _circle(centre: NDArray[np.float64], radius: float, height: int, width: int) -> list[Polygon]:
    ys, xs = np.arange(height) + 0.5 - centre[1], np.arange(width) + 0.5 - centre[0]
    rows, columns = np.nonzero(np.abs(ys) <= radius)[0], np.nonzero(np.abs(xs) <= radius)[0]
    if not len(rows) or not len(columns):
        return []
    inside = np.hypot(ys[rows, None], xs[None, columns]) <= radius
    return to_polygons(RunLengths.from_window(inside, int(columns[0]), int(rows[0]), height, width))


def _crop(text: str, points: NDArray[np.float64], height: int, width: int) -> list[Polygon]:
    with PILImage.open(io.BytesIO(base64.b64decode(text))) as picture:
        window = np.array(picture)
    (x1, y1), (x2, y2) = points.astype(np.int64).tolist()
    if window.shape != (y2 - y1 + 1, x2 - x1 + 1) or x1 < 0 or y1 < 0 or x2 >= width or y2 >= height:
        message = (
            f"a mask must cover its points, which must lie in the picture of {height} x {width} pixels: "
            f"got {window.shape} at ({x1}, {y1}), ({x2}, {y2})"
        )
        raise FormatError(message)
    return to_polygons(RunLengths.from_window(window > 0, x1, y1, height, width))
