"""Masks as PNG files: a label map for each picture, or a black and white picture for each object."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject, annotated, chosen, encoded, files_of
from sam3_widget.io.label_map import MAX_16_BIT, draw, masks_of, present, read_png_values, to_mask_png, to_png
from sam3_widget.saving.files import below, read_json, write_into

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from sam3_widget.io.annotations import Annotated

_LIST = "objects.json"
_WHAT = "the list of a folder that write_png wrote"


def write_png(
    folder: str | os.PathLike[str],
    sessions: Annotated,
    *,
    layout: Literal["label_map", "per_instance"] = "label_map",
    overlaps: Literal["error", "smaller"] = "error",
) -> None:
    """Write the masks of pictures as PNG, and ``objects.json`` with names, sizes, labels and scores.

    Parameters
    ----------
    folder : path
        Made where it is missing; files of these names in it are replaced.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.
    layout : {"label_map", "per_instance"}
        ``"label_map"`` writes ``a.png`` for the picture ``a.jpg``: the value of a pixel is the ``object_id`` that it
        shows, 0 for none; a palette image up to the id 255, grey of 16 bits above. ``"per_instance"`` writes
        ``a_0001.png`` for object 1: 255 inside, 0 outside. It holds overlaps and empty masks.
    overlaps : {"error", "smaller"}
        What becomes of a pixel of two objects in a label map: ``"smaller"`` gives it to the object of the smaller area.

    Raises
    ------
    FormatError
        A label map cannot hold a mask: two overlap, one is empty, or an ``object_id`` is above 65535. Or two pictures
        would be one file.
    """
    chosen(layout, "layout", ("label_map", "per_instance"))
    chosen(overlaps, "overlaps", ("error", "smaller"))
    images = annotated(sessions)
    files: dict[str, bytes | str] = {}
    if layout == "label_map":
        files = encoded(images, lambda name: below(name, ".png"), lambda image: _label_map(image, overlaps))
    else:
        for image in images:
            for found in image.objects:
                name = _instance_name(image, found)
                if name in files:
                    message = f"two pictures would be written to {name}: give their names apart, {{file name: session}}"
                    raise FormatError(message)
                files[name] = to_mask_png(found.mask)
    listed = [_entry(image, layout) for image in images]
    write_into(folder, {**files, _LIST: json.dumps({"layout": layout, "images": listed}, indent=1)})


def read_png(
    folder: str | os.PathLike[str], *, layout: Literal["label_map", "per_instance"] = "label_map"
) -> list[AnnotatedImage]:
    """Read what :func:`write_png` wrote, or a folder of such files from elsewhere.

    Parameters
    ----------
    folder : path
    layout : {"label_map", "per_instance"}
        What files without ``objects.json`` beside them are; pictures are then called like their masks.

    Raises
    ------
    FormatError
        A file is missing, no picture of numbers, or of another size than the list says; or it holds other objects.
    """
    chosen(layout, "layout", ("label_map", "per_instance"))
    root = Path(folder)
    if (root / _LIST).is_file():
        return _listed(root)
    files = files_of(root, "*.png", "PNG file")
    if layout == "label_map":
        return [_unlisted(file, root) for file in files]
    groups: dict[str, dict[int, Path]] = {}
    for file in files:
        number = re.fullmatch(r"(.+)_(\d+)", file.stem)
        if number is None:
            message = f"{file} has no object_id at the end of its name, such as a_0001.png"
            raise FormatError(message)
        stem = file.relative_to(root).with_name(number[1] + ".png").as_posix()
        groups.setdefault(stem, {})[int(number[2])] = file
    return [_stacked(name, group) for name, group in groups.items()]


def _label_map(image: AnnotatedImage, overlaps: str) -> bytes:
    ids = [found.object_id for found in image.objects]
    if max(ids, default=0) > MAX_16_BIT:
        message = f"a label map holds object_ids up to {MAX_16_BIT}, got {max(ids)} of {image.file_name}"
        raise FormatError(message)
    return to_png(draw(image, ids, overlaps))


def _instance_name(image: AnnotatedImage, found: AnnotatedObject) -> str:
    return below(image.file_name, f"_{found.object_id:04d}.png")


def _entry(image: AnnotatedImage, layout: str) -> dict[str, Any]:
    objects = []
    for found in image.objects:
        one: dict[str, Any] = {"object_id": int(found.object_id), "label": found.label}
        if not math.isnan(found.score):
            one["score"] = float(found.score)
        if found.attributes:
            one["attributes"] = dict(found.attributes)
        if layout == "per_instance":
            one["mask"] = _instance_name(image, found)
        objects.append(one)
    entry: dict[str, Any] = {"file_name": image.file_name, "height": image.height, "width": image.width}
    if layout == "label_map":
        entry["mask"] = below(image.file_name, ".png")
    return {**entry, "objects": objects}


def _listed(root: Path) -> list[AnnotatedImage]:
    whole = read_json(root / _LIST, _WHAT)
    try:
        chosen(whole["layout"], f"layout in {root / _LIST}", ("label_map", "per_instance"))
        per_instance = whole["layout"] == "per_instance"
        return [_from_entry(root, entry, per_instance=per_instance) for entry in whole["images"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        message = f"{root / _LIST} must be {_WHAT} ({error!r})"
        raise FormatError(message) from error


def _from_entry(root: Path, entry: dict[str, Any], *, per_instance: bool) -> AnnotatedImage:
    name, size = str(entry["file_name"]), (int(entry["height"]), int(entry["width"]))
    rows = entry["objects"]
    if per_instance:
        masks = {int(row["object_id"]): _read_mask(_inside(root, row["mask"]), size) for row in rows}
    else:
        file = _inside(root, entry["mask"])
        masks = masks_of(read_png_values(file, size))
        ids = {int(row["object_id"]) for row in rows}
        if ids != masks.keys():
            message = f"{file} must show the objects {_ids(ids)} as {_LIST} says, got {_ids(masks)}"
            raise FormatError(message)
    return AnnotatedImage(name, *size, tuple(_object(row, masks.__getitem__) for row in rows))


def _object(row: dict[str, Any], mask_of: Callable[[int], RunLengths]) -> AnnotatedObject:
    object_id, score = int(row["object_id"]), row.get("score")
    return AnnotatedObject(
        object_id,
        str(row["label"]),
        mask_of(object_id),
        float("nan") if score is None else float(score),
        dict(row.get("attributes") or {}),
    )


def _inside(root: Path, name: object) -> Path:
    """Return a file that the list names, which must lie in the folder."""
    return root / below(str(name), ".png")


def _read_mask(file: Path, size: tuple[int, int] | None) -> RunLengths:
    values = read_png_values(file, size)
    found = present(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):  # noqa: PLR2004 - inside and outside
        message = f"{file} must be the mask of one object, with 0 outside and one other value inside, got {len(found)}"
        raise FormatError(message)
    return RunLengths.from_mask(values > 0)


def _unlisted(file: Path, root: Path) -> AnnotatedImage:
    values = read_png_values(file)
    name = file.name if file == root else file.relative_to(root).as_posix()
    objects = tuple(AnnotatedObject(k, "", mask) for k, mask in masks_of(values).items())
    height, width = values.shape
    return AnnotatedImage(name, height, width, objects)


def _stacked(name: str, files: dict[int, Path]) -> AnnotatedImage:
    masks: dict[int, RunLengths] = {}
    for object_id, file in sorted(files.items()):
        first = next(iter(masks.values()), None)
        masks[object_id] = _read_mask(file, None if first is None else (first.height, first.width))
    first = next(iter(masks.values()))
    objects = tuple(AnnotatedObject(object_id, "", mask) for object_id, mask in masks.items())
    return AnnotatedImage(name, first.height, first.width, objects)


def _ids(ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ids))) or "none"
