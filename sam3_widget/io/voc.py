"""Pascal VOC's format for segmentation: label maps of objects and of classes, and an XML file for each picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import (
    UNLABELLED,
    AnnotatedImage,
    AnnotatedObject,
    chosen,
    data_set,
    encoded,
    files_of,
)
from sam3_widget.io.label_map import davis_palette, draw, masks_of, read_png_values, to_png
from sam3_widget.saving.files import below, write_into

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from sam3_widget.io.annotations import Annotated

_XML, _OBJECTS, _CLASSES, _LIST = "Annotations", "SegmentationObject", "SegmentationClass", "labelmap.txt"
_VOID = 255
"""Value of the pixels that belong to nothing: VOC draws the borders of objects in it."""


def write_voc(
    folder: str | os.PathLike[str],
    sessions: Annotated,
    *,
    overlaps: Literal["error", "smaller"] = "error",
    classes: Iterable[str] | None = None,
) -> None:
    """Write the masks of pictures as Pascal VOC.

    For the picture ``a.jpg`` there are ``Annotations/a.xml`` with the boxes and the classes,
    ``SegmentationObject/a.png`` whose value k is the k-th object of the XML file, and ``SegmentationClass/a.png`` whose
    value is the class; ``labelmap.txt`` has the classes from 0, ``background``, on, with their colours, as CVAT writes
    it. An object without a label is of the class ``"object"``. Ids, scores and attributes are not held: objects come
    back as 1, 2, ...

    Parameters
    ----------
    folder : path
        Made where it is missing; files of these names in it are replaced.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.
    overlaps : {"error", "smaller"}
        What becomes of a pixel of two objects: ``"smaller"`` gives it to the object of the smaller area.
    classes : iterable of str, optional
        The classes in their order, without the background; None takes those on offer in the sessions, then those of
        the objects.

    Raises
    ------
    FormatError
        Two masks overlap, one is empty, there are more than 254 objects in a picture or classes, a label is not among
        ``classes`` or no text for XML, or two pictures would be one file.
    """
    chosen(overlaps, "overlaps", ("error", "smaller"))
    images, names = data_set(sessions, classes)
    most = max([len(names), *(len(image.objects) for image in images)])
    if most >= _VOID:
        message = f"Pascal VOC holds {_VOID - 1} objects in a picture and {_VOID - 1} classes, got {most}"
        raise FormatError(message)
    colours = davis_palette()[: len(names) + 1].tolist()
    listed = [f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(["background", *names], colours, strict=True)]
    drawn = {image.file_name: draw(image, range(1, len(image.objects) + 1), overlaps) for image in images}

    def of_classes(image: AnnotatedImage) -> bytes:
        values = [0, *(names.index(found.label or UNLABELLED) + 1 for found in image.objects)]
        return to_png(np.array(values, np.uint16)[drawn[image.file_name]])

    files = {
        **encoded(images, lambda name: f"{_OBJECTS}/{below(name, '.png')}", lambda i: to_png(drawn[i.file_name])),
        **encoded(images, lambda name: f"{_CLASSES}/{below(name, '.png')}", of_classes),
        **encoded(images, lambda name: f"{_XML}/{below(name, '.xml')}", _described),
    }
    write_into(folder, {**files, _LIST: "# label:color_rgb:parts:actions\n" + "".join(listed)})


def read_voc(folder: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Read a Pascal VOC folder: every picture with an XML file and a label map of its objects.

    Pixels of the value 255 are of no object. An XML file without a label map, as there are in VOC for detection alone,
    is passed over where the file says that the picture is not segmented.

    Raises
    ------
    FormatError
        A file is damaged or missing, sizes disagree, or a label map has an object that its XML file does not list.
    """
    root = Path(folder)
    found = [_read(file, root) for file in files_of(root / _XML, "*.xml", "XML file")]
    return [image for image in found if image is not None]


def _described(image: AnnotatedImage) -> bytes:
    root = ET.Element("annotation")
    name = Path(image.file_name)
    _put(root, folder=name.parent.name, filename=name.name)
    _put(ET.SubElement(root, "size"), width=image.width, height=image.height, depth=3)
    _put(root, segmented=1)
    for found in image.objects:
        label = found.label or UNLABELLED
        if not label.isprintable():
            message = f"{image.tell(found)}: a label in XML must be one line of text"
            raise FormatError(message)
        node = ET.SubElement(root, "object")
        _put(node, name=label, pose="Unspecified", truncated=0, difficult=0)
        x1, y1, x2, y2 = found.mask.bbox or (0, 0, 0, 0)
        # VOC counts pixels from 1, and its boxes end with the last one inside.
        _put(ET.SubElement(node, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _put(node: ET.Element, **values: object) -> None:
    for name, value in values.items():
        ET.SubElement(node, name).text = str(value)


def _read(file: Path, root: Path) -> AnnotatedImage | None:
    try:
        tree = ET.parse(file).getroot()  # noqa: S314 - the expat of Python 3.11 limits expansion
        height, width = int(_text(tree, "size/height")), int(_text(tree, "size/width"))
        name, names = _text(tree, "filename"), [_text(node, "name") for node in tree.findall("object")]
    except (ET.ParseError, ValueError) as error:
        message = f"{file} must be a Pascal VOC annotation with filename, size and the names of objects ({error})"
        raise FormatError(message) from error
    below_root = file.relative_to(root / _XML)
    values_file = root / _OBJECTS / below_root.with_suffix(".png")
    if not values_file.is_file() and (tree.findtext("segmented") or "0").strip() == "0":
        return None
    masks = masks_of(read_png_values(values_file, (height, width)))
    masks.pop(_VOID, None)
    if max(masks, default=0) > len(names):
        message = f"{values_file} shows the object {max(masks)}, but {file} lists {len(names)}"
        raise FormatError(message)
    return AnnotatedImage((below_root.parent / name).as_posix(), height, width, _objects(names, masks, height, width))


def _objects(
    names: Sequence[str], masks: dict[int, RunLengths], height: int, width: int
) -> tuple[AnnotatedObject, ...]:
    each = enumerate(names, 1)
    return tuple(AnnotatedObject(k, name, masks.get(k, RunLengths.empty(height, width))) for k, name in each)


def _text(node: ET.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None or not text.strip():
        message = f"{path} is missing"
        raise ValueError(message)
    return text.strip()
