"""Masks as what other libraries work with: supervision, pandas and FiftyOne, where they are installed."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import UNLABELLED, annotated, data_set
from sam3_widget.io.rle import to_coco_rle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sam3_widget.arrays import Arrays
    from sam3_widget.io.annotations import Annotated, AnnotatedImage


def to_supervision(session: Arrays | AnnotatedImage, *, classes: Iterable[str] | None = None) -> Any:  # noqa: ANN401
    """Return the masks of a picture as ``supervision.Detections``.

    Parameters
    ----------
    session : Session, widget or AnnotatedImage
    classes : iterable of str, optional
        Class names in the order of ``class_id``; None takes those on offer in the session, then those of the objects.

    Returns
    -------
    supervision.Detections
        ``xyxy``, ``mask``, ``confidence`` (NaN where no model made the mask), ``class_id``, and in ``data``
        ``class_name`` and ``object_id``.

    Raises
    ------
    ImportError
        supervision is not installed.
    FormatError
        A label is not among ``classes``.
    """
    supervision = _imported("supervision")
    (image,), names = data_set([session], classes)
    labels = [found.label or UNLABELLED for found in image.objects]
    masks = np.zeros((len(labels), image.height, image.width), np.bool_)
    for row, found in zip(masks, image.objects, strict=True):
        row[:] = found.mask.to_mask()
    return supervision.Detections(
        xyxy=np.array([o.mask.bbox or (0, 0, 0, 0) for o in image.objects], np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.array([o.score for o in image.objects], np.float32),
        class_id=np.array([names.index(label) for label in labels], np.int64),
        data={
            "class_name": np.array(labels, np.str_),
            "object_id": np.array([o.object_id for o in image.objects], np.int64),
        },
    )


def to_dataframe(sessions: Annotated) -> Any:  # noqa: ANN401 - a pandas.DataFrame, which may not be installed
    """Return a table of the objects of pictures, a row each.

    Parameters
    ----------
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.

    Returns
    -------
    pandas.DataFrame
        ``file_name``, ``height``, ``width``, ``object_id``, ``label``, ``score``, ``area`` in pixels, the tight box
        ``x1``, ``y1``, ``x2``, ``y2`` (ends exclusive), ``rle`` (COCO's compressed counts, a str), and a column for
        each attribute, ``attributes.name``.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    pandas = _imported("pandas")
    columns = ["file_name", "height", "width", "object_id", "label", "score", "area", "x1", "y1", "x2", "y2", "rle"]
    rows = [
        {
            **dict(zip(columns, (image.file_name, image.height, image.width), strict=False)),
            "object_id": found.object_id,
            "label": found.label,
            "score": found.score,
            "area": found.mask.area,
            **dict(zip(("x1", "y1", "x2", "y2"), found.mask.bbox or (0, 0, 0, 0), strict=True)),
            "rle": to_coco_rle(found.mask)["counts"],
            **{f"attributes.{name}": value for name, value in found.attributes.items()},
        }
        for image in annotated(sessions)
        for found in image.objects
    ]
    extra = dict.fromkeys(name for row in rows for name in row if name not in columns)
    return pandas.DataFrame(rows, columns=[*columns, *extra])


def to_fiftyone(session: Arrays | AnnotatedImage) -> Any:  # noqa: ANN401 - FiftyOne may not be installed
    """Return the masks of a picture as ``fiftyone.Detections``, for a field of a sample.

    Parameters
    ----------
    session : Session, widget or AnnotatedImage

    Returns
    -------
    fiftyone.Detections
        Each with ``label``, ``bounding_box`` (left, top, width, height, as parts of the picture's size), ``mask`` (of
        the box), ``confidence`` where there is one, ``index`` (the ``object_id``), and its attributes.

    Raises
    ------
    ImportError
        FiftyOne is not installed.
    FormatError
        A mask is empty: FiftyOne's lie in boxes.
    """
    fiftyone = _imported("fiftyone")
    (image,) = annotated([session])
    detections = []
    for found in image.objects:
        if found.mask.bbox is None:
            message = f"the mask of {image.tell(found)} is empty, which FiftyOne cannot hold: remove the object"
            raise FormatError(message)
        x1, y1, x2, y2 = found.mask.bbox
        box = [x1 / image.width, y1 / image.height, (x2 - x1) / image.width, (y2 - y1) / image.height]
        detections.append(
            fiftyone.Detection(
                **dict(found.attributes)
                | {
                    "label": found.label or UNLABELLED,
                    "bounding_box": box,
                    "mask": found.mask.window(x1, y1, x2, y2).copy(),
                    "confidence": None if math.isnan(found.score) else float(found.score),
                    "index": found.object_id,
                }
            )
        )
    return fiftyone.Detections(detections=detections)


def _imported(name: str) -> Any:  # noqa: ANN401 - a package that may not be installed
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and itself misses something
            raise
        message = f"this needs {name}: pip install {name}"
        raise ImportError(message) from None
