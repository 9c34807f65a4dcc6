"""COCO's format for instances: one JSON file for a whole data set."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sam3_widget.core.polygons import from_polygons, to_polygons
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import UNLABELLED, AnnotatedImage, AnnotatedObject, chosen, data_set
from sam3_widget.io.rle import from_coco_rle, to_coco_rle
from sam3_widget.saving.files import read_json, write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.io.annotations import Annotated

_WHAT = "COCO instances with images, annotations and categories"
_FEWEST = 6
"""Numbers of a triangle."""


def write_coco(
    path: str | os.PathLike[str],
    sessions: Annotated,
    *,
    segmentation: Literal["rle", "polygon"] = "rle",
    holes: Literal["rle", "error"] = "rle",
    tolerance: float = 0.0,
    classes: Iterable[str] | None = None,
) -> None:
    """Write the masks of pictures as COCO instances.

    Masks come back exactly, as run lengths and as polygons, here and in pycocotools. An object without a label is of
    the category ``"object"``. Beyond the format an annotation has its ``object_id`` and, where there are any, its
    ``score`` and ``attributes``.

    Parameters
    ----------
    path : path
        Replaced as a whole where it is there.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.
    segmentation : {"rle", "polygon"}
        Compressed run lengths, or polygons along the edges of pixels, one for each part of a mask.
    holes : {"rle", "error"}
        What becomes of masks that polygons of COCO cannot hold, those with holes and empty ones, where ``segmentation``
        is ``"polygon"``: run lengths for them alone, or an error.
    tolerance : float
        How far simplified polygons may lie from the mask's edge, in pixels; 0 keeps them exact. ``area`` and ``bbox``
        are the mask's.
    classes : iterable of str, optional
        The categories in their order; None takes those on offer in the sessions, then those of the objects.

    Raises
    ------
    FormatError
        A mask cannot be held, a label is not among ``classes``, or two pictures have one name.
    """
    chosen(segmentation, "segmentation", ("rle", "polygon"))
    chosen(holes, "holes", ("rle", "error"))
    images, names = data_set(sessions, classes)
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, 1):
        for found in image.objects:
            shape = to_coco_rle(found.mask) if segmentation == "rle" else _polygons(image, found, holes, tolerance)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": names.index(found.label or UNLABELLED) + 1,
                "segmentation": shape,
                "area": found.mask.area,
                "bbox": to_xywh(found.mask),
                "iscrowd": int(bool(found.attributes.get("iscrowd"))),
                "object_id": int(found.object_id),
            }
            if not math.isnan(found.score):
                annotation["score"] = float(found.score)
            extra = {key: value for key, value in found.attributes.items() if key != "iscrowd"}
            annotations.append(annotation | ({"attributes": extra} if extra else {}))
    whole = {
        "info": {"description": "masks of sam3_widget"},
        "licenses": [],
        "images": [
            {"id": k, "file_name": image.file_name, "width": image.width, "height": image.height}
            for k, image in enumerate(images, 1)
        ],
        "categories": [{"id": k, "name": name, "supercategory": ""} for k, name in enumerate(names, 1)],
        "annotations": annotations,
    }
    write_atomically(path, json.dumps(whole))


def read_coco(path: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Read COCO instances: polygons and run lengths, compressed or not.

    Polygons are filled where the centre of a pixel lies in them. pycocotools rounds the vertices of polygons that do
    not run along the edges of pixels, so that its masks of those may differ along the edge.

    Returns
    -------
    list of AnnotatedImage
        In the file's order. An object has the ``object_id`` of its annotation or else its ``id``; a crowd has the
        attribute ``iscrowd``.

    Raises
    ------
    FormatError
        The file is no COCO, a mask is not of its picture's size, or an annotation has a category or a picture that the
        file does not list.
    """
    whole = read_json(path, _WHAT)
    try:
        names = {int(c["id"]): str(c["name"]) for c in whole["categories"]}
        sizes = {int(i["id"]): (str(i["file_name"]), int(i["height"]), int(i["width"])) for i in whole["images"]}
        objects: dict[int, list[AnnotatedObject]] = {image_id: [] for image_id in sizes}
        for annotation in whole["annotations"]:
            image_id, category_id = int(annotation["image_id"]), int(annotation["category_id"])
            where = f"annotation {annotation['id']} of {path}"
            if image_id not in sizes:
                message = f"{where} is of the picture {image_id}, which the file does not list"
                raise FormatError(message)
            if category_id not in names:
                message = f"{where} is of the category {category_id}, but the file has {_listed(names)}"
                raise FormatError(message)
            crowd = {"iscrowd": 1} if annotation.get("iscrowd") else {}
            score = annotation.get("score")
            objects[image_id].append(
                AnnotatedObject(
                    int(annotation.get("object_id", annotation["id"])),
                    names[category_id],
                    _mask(annotation["segmentation"], *sizes[image_id][1:], where),
                    float("nan") if score is None else float(score),
                    dict(annotation.get("attributes") or {}) | crowd,
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        message = f"{path} must be {_WHAT} ({error!r})"
        raise FormatError(message) from error
    return [AnnotatedImage(*size, tuple(objects[image_id])) for image_id, size in sizes.items()]


def to_xywh(mask: RunLengths) -> list[int]:
    """Return COCO's box: left, top, width, height; zeros for an empty mask."""
    x1, y1, x2, y2 = mask.bbox or (0, 0, 0, 0)
    return [x1, y1, x2 - x1, y2 - y1]


def _polygons(image: AnnotatedImage, found: AnnotatedObject, holes: str, tolerance: float) -> object:
    parts = to_polygons(found.mask, tolerance)
    if parts and not any(part.holes for part in parts):
        return [part.outline.ravel().tolist() for part in parts]
    if holes == "rle":
        return to_coco_rle(found.mask)
    what = "has holes" if parts else "is empty"
    message = (
        f"the mask of {image.tell(found)} {what}, which polygons of COCO cannot hold: "
        'give holes="rle" or segmentation="rle", or set fill_holes in the session'
    )
    raise FormatError(message)


def _mask(segmentation: object, height: int, width: int, where: str) -> RunLengths:
    if isinstance(segmentation, dict):
        mask = from_coco_rle(segmentation)
        if (mask.height, mask.width) != (height, width):
            message = f"{where} has a mask of {mask.height} x {mask.width} pixels, its picture {height} x {width}"
            raise FormatError(message)
        return mask
    if not isinstance(segmentation, list):
        message = f"{where} must have polygons or run lengths as its segmentation, got {segmentation!r:.80}"
        raise FormatError(message)
    rings = []
    for numbers in segmentation:
        ring = np.array(numbers, np.float64)
        if ring.ndim != 1 or len(ring) < _FEWEST or len(ring) % 2 or not np.isfinite(ring).all():
            message = f"{where} must have polygons [x1, y1, x2, y2, x3, y3, ...], got {numbers!r:.80}"
            raise FormatError(message)
        rings.append([ring.reshape(-1, 2)])
    return from_polygons(rings, height, width)


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(f"{k} ({name})" for k, name in names.items()) or "none"
