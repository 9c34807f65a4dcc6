"""The files of a checkpoint: which ones hold the weights, and whether they are whole."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from sam3_widget.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEADER = struct.Struct("<Q")
"""A safetensors file begins with the length of its header, which is JSON."""
LFS = b"version https://git-lfs"
"""What stands in place of a large file where git was not told to fetch it."""


def weight_files(folder: Path, remedy: str) -> Iterator[Path]:
    """Yield the files that hold a checkpoint's weights: one, or the shards that its index names.

    Parameters
    ----------
    folder : Path
    remedy : str
        What to do where one is missing, as the end of a sentence.

    Raises
    ------
    WeightsError
        One is missing.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).exists() or not index.is_file():
        names = {WEIGHTS}
    else:
        names = set(read_json(index).get("weight_map", {}).values())
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        message = f"{folder} lacks {', '.join(missing)}: {remedy}"
        raise WeightsError(message)
    yield from (folder / name for name in sorted(names))


def check_size(file: Path, remedy: str) -> int:
    """Return the size of a safetensors file in bytes, once it is as long as its header says.

    Raises
    ------
    WeightsError
        It is shorter or longer, or no such file at all.
    """
    size = file.stat().st_size
    whole = _length(file)
    if whole is None:
        message = f"{file.resolve()} is not a safetensors file, or damaged: delete it, then {remedy}"
        raise WeightsError(message)
    if size != whole:
        message = (
            f"{file.resolve()} has {size:,} bytes instead of {whole:,}, as when a download is cut off: "
            f"delete it, then {remedy}"
        )
        raise WeightsError(message)
    return size


def _length(file: Path) -> int | None:
    """Return how many bytes a safetensors file has when it is whole, or None when that cannot be told.

    The layout: length of the header (8 bytes), header (JSON with the offsets of each tensor), tensors.
    """
    with file.open("rb") as opened:
        start = opened.read(HEADER.size)
        if start == LFS[: HEADER.size]:
            message = f"{file} is a pointer that git left in place of the weights: run git lfs pull in {file.parent}"
            raise WeightsError(message)
        try:
            (length,) = HEADER.unpack(start)
            header = json.loads(opened.read(min(length, file.stat().st_size)))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return int(HEADER.size + length + max(ends))
        except (ValueError, TypeError, KeyError, AttributeError, struct.error):
            return None


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    WeightsError
        It holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{file} is damaged: expected JSON ({error}); delete it and load again"
        raise WeightsError(message) from error
    if not isinstance(content, dict):
        message = f"{file} is damaged: expected a JSON object; delete it and load again"
        raise WeightsError(message)
    return content
