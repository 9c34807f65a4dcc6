"""What the browser needs of an image: a preview of the whole, and tiles of what is zoomed into."""

from __future__ import annotations

import math
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from sam3_widget.core.image import Image
from sam3_widget.core.prompts import integer
from sam3_widget.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PREVIEW_SIDE = 2048
TILE_SIZE = 512
LOSSLESS_PIXELS = 1 << 20
THUMB_SIZE = (160, 120)
"""Most pixels of the picture in a cell of the filmstrip, width and height."""
_PREVIEWS = 8
_JPEG_QUALITY = 92
_THUMB_QUALITY = 80


@dataclass(frozen=True)
class Encoded:
    """An encoded picture and its MIME type."""

    data: bytes
    mime: str


def described(image: Image) -> dict[str, Any]:
    """Return what a picture is called and how large it is."""
    return {"key": image.key, "name": image.name, "width": image.width, "height": image.height}


def preview(
    pixels: NDArray[np.uint8], about: Mapping[str, Any], side: int = PREVIEW_SIDE, lossless: int = LOSSLESS_PIXELS
) -> tuple[dict[str, Any], bytes]:
    """Return the description of a picture and the encoded preview of it.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
        RGB.
    about : mapping
        As from :func:`described`.
    side : int
        Most pixels a side of the preview.
    lossless : int
        Most pixels of a preview that is encoded as it is.
    """
    whole_height, whole_width = pixels.shape[:2]
    scale = min(1.0, side / max(whole_width, whole_height))
    width, height = max(1, round(whole_width * scale)), max(1, round(whole_height * scale))
    encoded = encode(_resize(pixels, width, height), lossless)
    info = {
        **about,
        "preview_width": width,
        "preview_height": height,
        "mime": encoded.mime,
        "tile_size": TILE_SIZE,
        "levels": levels(whole_width, whole_height, side),
    }
    return info, encoded.data


class Previews:
    """Previews of the images that a person is at and may go to, each drawn once; any thread may ask."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[dict[str, Any], bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, image: Image) -> tuple[dict[str, Any], bytes]:
        """Return what :func:`preview` returns of an image."""
        key = (image.path, image.key)
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = preview(image.pixels, described(image))
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > _PREVIEWS:
                self._kept.popitem(last=False)
        return found


def levels(width: int, height: int, side: int = PREVIEW_SIDE) -> int:
    """Return how many levels of tiles a picture has: those finer than its preview of so many pixels a side."""
    return max(0, math.ceil(math.log2(max(width, height) / side)))


def tile(
    image: Image, key: str, request: Mapping[str, Any], side: int = PREVIEW_SIDE
) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Return one tile of one level of an image, as a payload with its buffer.

    Parameters
    ----------
    image : Image
    key : str
        What the front end knows it by.
    request : mapping
        ``key`` of the image, ``level`` (scale ``1 / 2**level``), and ``x``, ``y`` of the tile in tiles.
    side : int
        Of the preview, in pixels.

    Raises
    ------
    ProtocolError
        The image is another one by now, or there is no such tile.
    """
    level, x, y = (integer(request.get(name), name) for name in ("level", "x", "y"))
    there = 0 <= level < levels(image.width, image.height, side) and request.get("key") == key
    extent = TILE_SIZE << level if there else 0
    left, top = x * extent, y * extent
    if not (there and 0 <= left < image.width and 0 <= top < image.height):
        message = f"there is no tile ({x}, {y}) of level {level} of this image"
        raise ProtocolError(message)
    part = image.pixels[top : top + extent, left : left + extent]
    width, height = -(-part.shape[1] >> level), -(-part.shape[0] >> level)
    encoded = encode(_resize(part, width, height))
    told = {"key": key, "level": level, "x": x, "y": y, "mime": encoded.mime}
    return told, (encoded.data,)


def thumbnail(path: Path, size: tuple[int, int] = THUMB_SIZE) -> tuple[dict[str, Any], bytes]:
    """Return an image file as a small JPEG: its ``mime``, ``width`` and ``height``, and the file.

    A large JPEG is decoded at a fraction of its size.

    Parameters
    ----------
    path : Path
    size : (width, height)
        Most pixels of it.

    Raises
    ------
    InvalidImageError
        The file cannot be read as an image.
    """
    pixels = _draft(path, size)
    if pixels is None:
        pixels = Image.read(path).pixels
    scale = min(1.0, size[0] / pixels.shape[1], size[1] / pixels.shape[0])
    small = _resize(pixels, max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return {"mime": "image/jpeg", "width": small.shape[1], "height": small.shape[0]}, jpeg(small, _THUMB_QUALITY)


def _draft(path: Path, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Read an RGB JPEG at the smallest of the sizes that its decoder offers and that is large enough; no other file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            with PILImage.open(path, formats=["JPEG"]) as picture:
                picture.draft("RGB", size)
                return np.asarray(ImageOps.exif_transpose(picture)) if picture.mode == "RGB" else None
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError):
        return None


def encode(pixels: NDArray[np.uint8], lossless: int = LOSSLESS_PIXELS) -> Encoded:
    """Encode ``(h, w, 3)`` RGB: PNG up to so many pixels, so that every pixel stays what it is, JPEG above."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if bgr.shape[0] * bgr.shape[1] <= lossless:
        return Encoded(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes(), "image/png")
    return Encoded(jpeg(pixels), "image/jpeg")


def jpeg(pixels: NDArray[np.uint8], quality: int = _JPEG_QUALITY) -> bytes:
    """Encode ``(h, w, 3)`` RGB as JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if (width, height) == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
