"""What the browser needs of an image: a preview of the whole, and tiles of what is zoomed into."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2

from sam3_widget.core.prompts import integer
from sam3_widget.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sam3_widget.core.image import Image

PREVIEW_SIDE = 2048
TILE_SIZE = 512
_LOSSLESS_PIXELS = 1 << 20
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Encoded:
    """An encoded picture and its MIME type."""

    data: bytes
    mime: str


def preview(image: Image) -> tuple[dict[str, Any], bytes]:
    """Return the description of an image and the encoded preview of it, at most 2048 pixels a side."""
    scale = min(1.0, PREVIEW_SIDE / max(image.width, image.height))
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = _resize(image.pixels, width, height)
    encoded = encode(small)
    info = {
        "key": image.key,
        "name": image.name,
        "width": image.width,
        "height": image.height,
        "preview_width": width,
        "preview_height": height,
        "mime": encoded.mime,
        "tile_size": TILE_SIZE,
        "levels": levels(image),
    }
    return info, encoded.data


def levels(image: Image) -> int:
    """Return how many levels of tiles an image has: those finer than its preview."""
    return max(0, math.ceil(math.log2(max(image.width, image.height) / PREVIEW_SIDE)))


def tile(image: Image, request: Mapping[str, Any]) -> Encoded:
    """Return one tile of one level of an image.

    Parameters
    ----------
    image : Image
    request : mapping
        ``key`` of the image, ``level`` (scale ``1 / 2**level``), and ``x``, ``y`` of the tile in tiles.

    Raises
    ------
    ProtocolError
        The image is another one by now, or there is no such tile.
    """
    level, x, y = (integer(request.get(name), name) for name in ("level", "x", "y"))
    there = 0 <= level < levels(image) and request.get("key") == image.key
    side = TILE_SIZE << level if there else 0
    left, top = x * side, y * side
    if not (there and 0 <= left < image.width and 0 <= top < image.height):
        message = f"there is no tile ({x}, {y}) of level {level} of this image"
        raise ProtocolError(message)
    part = image.pixels[top : top + side, left : left + side]
    width, height = -(-part.shape[1] >> level), -(-part.shape[0] >> level)
    return encode(_resize(part, width, height))


def encode(pixels: NDArray[np.uint8]) -> Encoded:
    """Encode ``(h, w, 3)`` RGB: PNG up to a megapixel, so that every pixel stays what it is, JPEG above."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if bgr.shape[0] * bgr.shape[1] <= _LOSSLESS_PIXELS:
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
