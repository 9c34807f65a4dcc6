"""Any picture a person has, as one thing: ``(H, W, 3)`` uint8 RGB, upright."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from sam3_widget.errors import InvalidImageError, InvalidPromptError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

EXPECTED = (
    "expected a path, the bytes of an image file, a PIL image, a numpy array (H, W), (H, W, 3) or (H, W, 4), "
    "or a torch tensor (H, W), (3, H, W) or (4, H, W)"
)
MAX_PIXELS = 2**30
SUFFIXES = frozenset({".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What the name of an image file in a folder ends with, in small letters."""
_CHANNELS = (1, 3, 4)
_WHITE = 255


@dataclass(frozen=True, eq=False)
class Image:
    """A picture as models and views take it.

    Attributes
    ----------
    pixels : (H, W, 3) uint8
        RGB, upright: EXIF orientation is applied.
    name : str
        The file's name, "" where there is none.
    path : str
        Where the file lies, absolute; "" where that is not known.
    """

    pixels: NDArray[np.uint8]
    name: str = ""
    path: str = ""

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @cached_property
    def key(self) -> str:
        """A hash of size and content: equal pictures have equal keys."""
        digest = hashlib.blake2b(repr(self.pixels.shape).encode(), digest_size=12)
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    @classmethod
    def read(cls, source: object) -> Image:
        """Read a picture from whatever a person has.

        Parameters
        ----------
        source : path, bytes, file object, PIL image, numpy array, torch tensor or Image
            Grey, RGB, RGBA (shown on white), palette and CMYK pictures; 8-bit, 16-bit, 32-bit, bool and float
            pixels. Floats within 0 to 1 are taken as that range; other ranges than 8 bits are stretched from
            their smallest to their largest finite value.

        Raises
        ------
        InvalidImageError
            It is not one picture.
        """
        if isinstance(source, Image):
            return source
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            if "://" in str(source):
                message = f"{source!r} is an address, not a file: download it first, then give its path or bytes"
                raise InvalidImageError(message)
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                message = f"the file {str(path)!r} {what}"
                raise InvalidImageError(message)
            return cls(_from_file(path, str(path)), path.name, str(path.absolute()))
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(_from_file(io.BytesIO(bytes(source)), f"{len(bytes(source))} bytes"))
        if isinstance(source, PILImage.Image):
            file = os.fsdecode(getattr(source, "filename", "") or "")
            return cls(_from_pil(source), Path(file).name, str(Path(file).absolute()) if file else "")
        if hasattr(source, "read"):
            return cls(_from_file(source, repr(source)))
        if type(source).__module__.partition(".")[0] == "torch":
            return cls(from_array(_from_tensor(source)))
        if isinstance(source, np.ndarray) or hasattr(source, "__array__"):
            return cls(from_array(np.asarray(source)))
        message = f"cannot read an image from {type(source).__name__}; {EXPECTED}"
        raise InvalidImageError(message)


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder in the natural order of their names, without hidden ones."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    return sorted(files, key=_natural)


def image_paths(images: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[Path]:
    """Return the paths of images, each once; of a folder those in it, as :func:`image_files` returns them.

    Raises
    ------
    InvalidPromptError
        It is no folder and no list of paths, or there are none.
    """
    expected = f"images must be a folder or a list of paths, got {images!r:.200}"
    place = ""
    if isinstance(images, (str, os.PathLike)):
        folder = Path(images)
        if not folder.is_dir():
            raise InvalidPromptError(expected)
        images, place = image_files(folder), f" in {folder}"
    try:
        paths = list(dict.fromkeys(Path(file) for file in images))
    except TypeError:
        raise InvalidPromptError(expected) from None
    if not paths:
        message = f"there are no images{place} to label"
        raise InvalidPromptError(message)
    return paths


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Return what names are sorted by: text without its case, and digits as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if idx % 2 else part for idx, part in enumerate(parts)], path.name


def _from_file(file: Any, name: str) -> NDArray[np.uint8]:  # noqa: ANN401 - whatever PIL opens
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            with PILImage.open(file) as picture:
                return _from_pil(picture)
    except UnidentifiedImageError:
        message = f"{name} is not an image file that can be read"
    except PILImage.DecompressionBombError:
        message = f"{name} has more pixels than Pillow reads safely; raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    except (OSError, SyntaxError, ValueError) as error:
        message = f"{name} cannot be read as an image, it may be cut off or damaged ({error})"
    raise InvalidImageError(message)


def _from_pil(picture: PILImage.Image) -> NDArray[np.uint8]:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        return from_array(np.asarray(picture))
    if picture.mode in {"LA", "PA", "La", "RGBa", "RGBA"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return from_array(np.asarray(picture))
    return np.array(picture.convert("RGB"))


def _from_tensor(tensor: Any) -> NDArray[Any]:  # noqa: ANN401 - torch may not be installed
    tensor = tensor.detach().cpu()
    if tensor.dtype.is_floating_point:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.numpy()
    if array.ndim == 2:  # noqa: PLR2004 - grey
        return array
    if array.ndim == 3 and array.shape[0] in _CHANNELS:  # noqa: PLR2004 - channels first
        return np.moveaxis(array, 0, -1)
    message = (
        f"a torch tensor must be one image (H, W), (3, H, W) or (4, H, W), got {tuple(array.shape)}; "
        "for channels last use tensor.permute(2, 0, 1), for a batch take one image of it"
    )
    raise InvalidImageError(message)


def from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` array as ``(H, W, 3)`` uint8."""
    grey = array.ndim == 2  # noqa: PLR2004 - no channels
    if not grey and (array.ndim != 3 or array.shape[2] not in _CHANNELS):  # noqa: PLR2004
        hint = ""
        if array.ndim == 3 and array.shape[0] in _CHANNELS:  # noqa: PLR2004
            hint = "; for channels first use np.moveaxis(image, 0, -1)"
        elif array.ndim == 4:  # noqa: PLR2004 - a batch
            hint = "; for a batch take one image of it"
        message = f"an image array must be (H, W), (H, W, 3) or (H, W, 4), got {array.shape}{hint}"
        raise InvalidImageError(message)
    if not array.size or array.shape[0] * array.shape[1] > MAX_PIXELS:
        message = f"an image must have from 1 to {MAX_PIXELS} pixels, got {array.shape}"
        raise InvalidImageError(message)
    colour = array if grey else array[..., :3]
    pixels = _to_8_bits(colour)
    if not grey and array.shape[2] == 4:  # noqa: PLR2004 - RGBA
        alpha = _alpha(array[..., 3:]).astype(np.uint32)
        pixels = ((pixels * alpha + _WHITE * (_WHITE - alpha) + _WHITE // 2) // _WHITE).astype(np.uint8)
    if grey or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(pixels)


def _alpha(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Map opacities to 0 to 255: whole is 1 for bools and floats up to 1, 255 up to that, else the type's largest."""
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return _to_8_bits(values)
    highest = float(values.max())
    integer = values.dtype.kind in "iu"
    whole = float(_WHITE)
    if not integer and highest <= 1:
        whole = 1.0
    elif highest > _WHITE:
        whole = float(np.iinfo(values.dtype).max) if integer and values.dtype.itemsize <= 2 else highest  # noqa: PLR2004
    return np.round(np.clip(values.astype(np.float64) / whole, 0, 1) * _WHITE).astype(np.uint8)


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Map pixel values to 0 to 255."""
    if values.dtype == np.uint8:
        return values.copy()
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(_WHITE)
    if values.dtype.kind not in "iuf":
        message = f"an image array must hold integers, floats or bools, got {values.dtype}"
        raise InvalidImageError(message)
    wide = values.astype(np.float32)
    finite = np.isfinite(wide)
    if not finite.any():
        message = "an image array must hold finite numbers, got none"
        raise InvalidImageError(message)
    low, high = float(wide[finite].min()), float(wide[finite].max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high and 0 <= low <= _WHITE:  # nothing to stretch: a uniform picture keeps its grey
        low, high = 0.0, float(_WHITE)
    scaled = (np.nan_to_num(wide, nan=low, posinf=high, neginf=low) - low) * (_WHITE / (high - low or 1.0))
    return np.round(scaled).astype(np.uint8)
