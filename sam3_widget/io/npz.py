"""Masks of pictures as numpy arrays in one file: every format's equal, without a loss."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject, annotated
from sam3_widget.saving.files import write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.io.annotations import Annotated


def write_npz(path: str | os.PathLike[str], sessions: Annotated) -> None:
    """Write the masks of pictures as arrays: N objects on K pictures.

    The file has ``file_name`` (K,) str, ``size`` (K, 2) int64 (height, width), and for each object ``image`` (N,) int64
    (which picture it is on), ``object_id`` (N,) int64, ``label`` (N,) str, ``score`` (N,) float64, ``attributes`` (N,)
    str (JSON), and ``counts`` int64 with ``start`` (N + 1,) int64: row-major run lengths of mask k, background first,
    in ``counts[start[k]:start[k + 1]]``.

    Parameters
    ----------
    path : path
        Replaced as a whole where it is there.
    sessions : Session, widget or AnnotatedImage, or an iterable or a mapping of them
        The keys of a mapping are the names of the pictures' files.

    Raises
    ------
    FormatError
        Two pictures have one name.
    """
    images = annotated(sessions)
    rows = [(k, found) for k, image in enumerate(images) for found in image.objects]
    counts = [found.mask.counts for _, found in rows]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        file_name=np.array([image.file_name for image in images], np.str_),
        size=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        image=np.array([k for k, _ in rows], np.int64),
        object_id=np.array([found.object_id for _, found in rows], np.int64),
        label=np.array([found.label for _, found in rows], np.str_),
        score=np.array([found.score for _, found in rows], np.float64),
        attributes=np.array([json.dumps(dict(found.attributes)) for _, found in rows], np.str_),
        counts=np.concatenate([*counts, np.zeros(0, np.int64)]).astype(np.int64),
        start=np.cumsum([0, *(len(c) for c in counts)]).astype(np.int64),
    )
    write_atomically(path, buffer.getvalue())


def read_npz(path: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Read what :func:`write_npz` wrote.

    Raises
    ------
    FormatError
        It is another file, or its arrays do not fit together.
    """
    data = Path(path).read_bytes()  # of a damaged file that it opened itself, numpy may leave a handle
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _images({name: arrays[name] for name in arrays.files})
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FormatError):
            raise
        message = f"{path} must be a file that write_npz wrote ({error!r})"
        raise FormatError(message) from error


def _images(arrays: Mapping[str, NDArray[Any]]) -> list[AnnotatedImage]:
    sizes = [(int(height), int(width)) for height, width in arrays["size"]]
    objects: list[list[AnnotatedObject]] = [[] for _ in sizes]
    counts, start = arrays["counts"].astype(np.int64), arrays["start"]
    names = ("image", "object_id", "label", "score", "attributes")
    for k, row in enumerate(zip(*(arrays[name].tolist() for name in names), strict=True)):
        index, object_id, label, score, attributes = row
        if not 0 <= index < len(sizes):
            message = f"mask {k} is of picture {index}, of {len(sizes)}"
            raise FormatError(message)
        height, width = sizes[index]
        runs = counts[start[k] : start[k + 1]]
        if (runs < 0).any() or (runs[1:] == 0).any() or runs.sum() != height * width:
            message = f"the runs of mask {k} do not fill {height} x {width} pixels"
            raise FormatError(message)
        mask = RunLengths(height, width, runs)
        objects[index].append(AnnotatedObject(int(object_id), str(label), mask, float(score), json.loads(attributes)))
    pairs = zip(arrays["file_name"].tolist(), sizes, objects, strict=True)
    return [AnnotatedImage(str(name), *size, tuple(found)) for name, size, found in pairs]
