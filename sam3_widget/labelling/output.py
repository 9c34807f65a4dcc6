"""The COCO file of a data set, written from its records one image at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_widget.io.annotations import UNLABELLED
from sam3_widget.saving.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, BinaryIO

    from sam3_widget.labelling.journal import Record


def write_output(target: Path, records: Callable[[], Iterable[Record]], classes: Iterable[str]) -> tuple[int, int]:
    """Write a COCO file, as a whole or not at all; no more than one image is in memory at a time.

    Parameters
    ----------
    target : Path
    records : callable
        Returns the images with their objects; called twice.
    classes : iterable of str
        The first categories; those of the objects follow.

    Returns
    -------
    images, objects : int
        How many there are in the file.
    """
    names = dict.fromkeys(classes)
    images = objects = 0
    with writing(target) as file:
        file.write(b'{"info": {"description": "masks of sam3_widget"}, "licenses": [], "images": [')
        for record in records():
            images += 1
            told = {"id": images, "file_name": name_in(target, record["file"])}
            _put(file, {**told, "width": record["width"], "height": record["height"]}, first=images == 1)
            names |= dict.fromkeys(found["label"] or UNLABELLED for found in record["objects"])
        numbers = {name: k for k, name in enumerate(names, 1)}
        file.write(b'], "annotations": [')
        for image_id, record in enumerate(records(), 1):
            for found in record["objects"]:
                objects += 1
                rest = {key: value for key, value in found.items() if key != "label"}
                category = numbers[found["label"] or UNLABELLED]
                _put(
                    file,
                    {"id": objects, "image_id": image_id, "category_id": category, **rest},
                    first=objects == 1,
                )
        told_names = [{"id": k, "name": name, "supercategory": ""} for name, k in numbers.items()]
        file.write(f'], "categories": {json.dumps(told_names)}}}'.encode())
    return images, objects


def name_in(target: Path, file: str) -> str:
    """Return what a COCO file calls an image: its path from the file's own folder where it lies below that."""
    path = Path(file).absolute()
    folder = target.absolute().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _put(file: BinaryIO, value: Mapping[str, Any], *, first: bool) -> None:
    file.write((("" if first else ",\n") + json.dumps(value)).encode())
