"""Pictures whose pixels are numbers of objects, and PNG files of them."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sam3_widget.io.annotations import AnnotatedImage

MAX_8_BIT, MAX_16_BIT = 255, 65535
_GREY = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L"}


def draw(image: AnnotatedImage, values: Sequence[int], overlaps: str) -> NDArray[np.uint16]:
    """Return the picture in which each object has its value, 0 where there is none.

    Parameters
    ----------
    image : AnnotatedImage
    values : sequence of int
        Of each object, 1 to 65535.
    overlaps : {"error", "smaller"}
        What becomes of a pixel of two objects; ``"smaller"`` gives it to the object of the smaller area.

    Returns
    -------
    (H, W) uint16

    Raises
    ------
    FormatError
        Two objects overlap, or nothing is left of one.
    """
    result = np.zeros((image.height, image.width), np.uint16)
    by_value = dict(zip(values, image.objects, strict=True))
    for value, found in sorted(by_value.items(), key=lambda item: -item[1].mask.area):
        if found.mask.bbox is None:
            message = f"the mask of {image.tell(found)} is empty, which a label map cannot hold: remove the object"
            raise FormatError(message)
        x1, y1, x2, y2 = found.mask.bbox
        window, part = found.mask.window(x1, y1, x2, y2), result[y1:y2, x1:x2]
        covered = part[window]
        if overlaps == "error" and covered.any():
            other = by_value[int(covered[covered > 0][0])]
            message = (
                f"{image.tell(other)} and object {found.object_id} overlap, and a label map holds one object for each "
                'pixel: write COCO, npz or a PNG for each instance, or give overlaps="smaller"'
            )
            raise FormatError(message)
        part[window] = value
    if overlaps != "error":
        left = set(present(result))
        lost = next((found for value, found in by_value.items() if value not in left), None)
        if lost is not None:
            message = f"{image.tell(lost)} is covered by smaller objects, and nothing of it is left in a label map"
            raise FormatError(message)
    return result


def to_png(values: NDArray[np.uint16]) -> bytes:
    """Return a picture of numbers as PNG: a palette image in the colours of DAVIS up to 255, grey of 16 bits above."""
    if values.max(initial=0) > MAX_8_BIT:
        return _png(PILImage.fromarray(values))
    picture = PILImage.fromarray(values.astype(np.uint8), "P")
    picture.putpalette(davis_palette().ravel().tolist())
    return _png(picture)


def to_mask_png(mask: RunLengths) -> bytes:
    """Return a mask as PNG: grey, 255 inside and 0 outside."""
    return _png(PILImage.fromarray(mask.to_mask().view(np.uint8) * np.uint8(MAX_8_BIT)))


def _png(picture: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def read_png_values(path: Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Return the numbers in a palette or grey picture.

    Parameters
    ----------
    path : path
    size : (height, width), optional
        That it must have.

    Returns
    -------
    (H, W) uint8, uint16, int32 or bool

    Raises
    ------
    FormatError
        It is no such picture, or of another size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            with PILImage.open(path) as picture:
                mode, values = picture.mode, np.array(picture)
    except FileNotFoundError:
        message = f"{path} is missing"
        raise FormatError(message) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        message = f"{path} cannot be read as a picture ({error})"
        raise FormatError(message) from error
    if mode not in _GREY:
        message = f"{path} must be a palette or grey picture whose values are objects, got {mode}"
        raise FormatError(message)
    if size is not None and values.shape != size:
        message = f"{path} must be of {size[0]} x {size[1]} pixels, got {values.shape[0]} x {values.shape[1]}"
        raise FormatError(message)
    return values


def present(values: NDArray[Any]) -> list[int]:
    """Return the different numbers in a picture, ascending."""
    if values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        return np.flatnonzero(np.bincount(values.ravel())).tolist()
    return [int(k) for k in np.unique(values)]


def masks_of(values: NDArray[Any]) -> dict[int, RunLengths]:
    """Return the mask of each number above 0."""
    return {k: RunLengths.from_mask(values == k) for k in present(values) if k > 0}


def davis_palette() -> NDArray[np.uint8]:
    """Return the ``(256, 3)`` colours of DAVIS and Pascal VOC: the bits of the index spread over the channels."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> channel) & 1) << (7 - bit)).astype(np.uint8)
        index >>= 3
    return palette
