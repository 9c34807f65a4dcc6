"""Clips of pictures that can each be read alone: folders of files, lists of images, arrays."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from sam3_widget.core.image import SUFFIXES, Image, from_array, image_files
from sam3_widget.errors import InvalidVideoError
from sam3_widget.video.frames import EXPECTED, Frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_CHANNELS = (1, 3, 4)
_RGBA = 4
_PLANE = 2
_SHORT = 2
_WHITE = 255.0
_ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)
_DAMAGED = (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError)


class Stills(Frames):
    """A clip whose every frame is a picture of its own.

    Parameters
    ----------
    pictures : sequence of pictures, (T, ...) numpy array or torch tensor
    size : tuple of int
        Height and width of every picture in pixels.
    deep : iterable of int
        Which pictures have pixels of other types than 8 bits. These are all read once, to find their range.
    """

    def __init__(
        self,
        pictures: Any,  # noqa: ANN401 - whatever gives pictures by number
        size: tuple[int, int],
        deep: Iterable[int],
        cache_bytes: int,
        name: str = "",
    ) -> None:
        super().__init__(len(pictures), size, cache_bytes, name=name)
        self._pictures = pictures
        self._range = _Range.of(self._planes(idx) for idx in deep)

    @classmethod
    def from_folder(cls, path: Path, cache_bytes: int) -> Stills:
        """Read the image files of a folder, by the natural order of their names."""
        files = image_files(path)
        if not files:
            message = f"the folder {str(path)!r} holds no image files ({', '.join(sorted(SUFFIXES))}); {EXPECTED}"
            raise InvalidVideoError(message)
        return cls.from_images(files, cache_bytes, path.resolve().name)

    @classmethod
    def from_images(cls, images: Sequence[Any], cache_bytes: int, name: str = "") -> Stills:
        """Read pictures of one size: paths, bytes of files, PIL images, arrays, tensors or Images."""
        headers = [_header(image, _called(image, idx)) for idx, image in enumerate(images)]
        if not headers:
            message = f"a clip must have at least one frame, got none; {EXPECTED}"
            raise InvalidVideoError(message)
        height, width = headers[0].size
        for idx, header in enumerate(headers):
            if header.size != (height, width):
                message = (
                    f"{_called(images[idx], idx)} is {header.size[0]} x {header.size[1]} pixels (height x width), "
                    f"{_called(images[0], 0)} is {height} x {width}: the frames of a clip must have one size"
                )
                raise InvalidVideoError(message)
        return cls(
            images, (height, width), [idx for idx, header in enumerate(headers) if header.deep], cache_bytes, name
        )

    @classmethod
    def from_array(cls, array: Any, cache_bytes: int) -> Stills:  # noqa: ANN401 - numpy, torch or like them
        """Read a ``(T, H, W)`` or ``(T, H, W, C)`` array, or a ``(T, H, W)`` or ``(T, C, H, W)`` tensor."""
        shape, tensor = tuple(array.shape), is_tensor(array)
        one_image = len(shape) == 1 + _PLANE and shape[0 if tensor else -1] in _CHANNELS
        size = None if one_image else _size(shape[1:], tensor=tensor)
        if size is None or not shape[0]:
            hint = ""
            if one_image:
                hint = "; a clip of one image is [image]"
            elif tensor and shape[-1:] and shape[-1] in _CHANNELS:
                hint = "; for channels last use tensor.permute(0, 3, 1, 2)"
            elif not tensor and len(shape) == 2 + _PLANE and shape[1] in _CHANNELS:
                hint = "; for channels first use np.moveaxis(clip, 1, -1)"
            kind, forms = (
                ("tensor", "(T, 3, H, W) or (T, 4, H, W)") if tensor else ("array", "(T, H, W, 3) or (T, H, W, 4)")
            )
            message = f"a clip's {kind} must be (T, H, W), {forms}, with at least one frame, got {shape}{hint}"
            raise InvalidVideoError(message)
        return cls(array, size, range(shape[0]) if _is_deep(array) else (), cache_bytes)

    def close(self) -> None:
        """Let go of the pictures too."""
        super().close()
        self._pictures = ()

    def _decode(self, idx: int) -> NDArray[np.uint8]:
        planes = self._planes(idx)
        return from_array(self._range.to_unit(planes) if self._range and _is_deep(planes) else planes)

    def _planes(self, idx: int) -> NDArray[Any]:
        """Return a picture as an upright ``(H, W)`` or ``(H, W, C)`` array of the type it came with."""
        item = self._pictures[idx]
        if isinstance(item, Image):
            return item.pixels
        if is_tensor(item):
            tensor = item.detach().cpu()
            array: NDArray[Any] = (tensor.float() if tensor.dtype.is_floating_point else tensor).numpy()
            return array if array.ndim == _PLANE else np.moveaxis(array, 0, -1)
        if is_array(item):
            return np.asarray(item)
        with _opened(item, _called(item, idx)) as picture:
            if _is_deep(picture):
                return np.asarray(ImageOps.exif_transpose(picture))
            return Image.read(picture).pixels


@dataclass(frozen=True)
class _Header:
    """What is known of a picture before its pixels are read: height and width, and whether these are not of 8 bits."""

    size: tuple[int, int]
    deep: bool


@dataclass(frozen=True)
class _Range:
    """What the pixels of a whole clip lie between, where they are not of 8 bits.

    Attributes
    ----------
    low, high : float
        What becomes black, and what becomes white.
    opaque : float
        The opacity that hides what is behind.
    """

    low: float
    high: float
    opaque: float

    @classmethod
    def of(cls, frames: Iterable[NDArray[Any]]) -> _Range | None:
        """Look at each frame once, and hold one at a time; None where there is none."""
        low, high, alpha = np.inf, -np.inf, 0.0
        types = set()
        for planes in frames:
            if planes.dtype.kind not in "iuf":
                message = f"a clip must hold integers, floats or bools, got {planes.dtype}"
                raise InvalidVideoError(message)
            types.add(planes.dtype)
            colours, alphas = (part[np.isfinite(part)] for part in _split(planes))
            if colours.size:
                low, high = min(low, float(colours.min())), max(high, float(colours.max()))
            if alphas.size:
                alpha = max(alpha, float(alphas.max()))
        if not types:
            return None
        if low > high:
            message = "a clip must hold finite numbers, got none"
            raise InvalidVideoError(message)
        # The rules of one image (core.image), asked of the whole clip.
        floats = all(dtype.kind == "f" for dtype in types)
        if floats and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low == high and 0 <= low <= _WHITE:
            low, high = 0.0, _WHITE
        if alpha <= _WHITE:
            return cls(low, high, 1.0 if floats and alpha <= 1 else _WHITE)
        return cls(low, high, max([alpha, *(np.iinfo(t).max for t in types if t.kind != "f" and t.itemsize == _SHORT)]))

    def to_unit(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        """Return a frame as floats from 0 to 1, a range which the conversion to 8 bits takes as it is."""
        colours, alphas = _split(planes)
        colours = (colours.astype(np.float64) - self.low) / (self.high - self.low or 1.0)
        unit = np.concatenate([colours, alphas / self.opaque], axis=-1)
        whole: NDArray[np.float64] = np.nan_to_num(unit, nan=0.0)
        return whole.clip(0, 1).astype(np.float32)


def is_tensor(source: object) -> bool:
    """Tell whether this is a torch tensor, without torch."""
    return type(source).__module__.partition(".")[0] == "torch"


def is_array(source: object) -> bool:
    """Tell whether this is a numpy array, a torch tensor, or like one."""
    return hasattr(source, "__array__") and hasattr(source, "shape") and hasattr(source, "dtype")


def _is_deep(picture: Any) -> bool:  # noqa: ANN401 - an array, a tensor or a PIL image
    """Tell whether pixels are of another type than 8 bits."""
    if isinstance(picture, PILImage.Image):
        return picture.mode in {"I", "F"} or picture.mode.startswith("I;16")
    return str(picture.dtype).removeprefix("torch.") not in {"uint8", "bool"}


def _split(planes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return colours ``(H, W, 1 or 3)`` and opacities ``(H, W, 0 or 1)``."""
    planes = planes[..., None] if planes.ndim == _PLANE else planes
    colours = planes.shape[-1] - (planes.shape[-1] == _RGBA)
    return planes[..., :colours], planes[..., colours:]


def _called(image: object, idx: int) -> str:
    """Return what messages call a picture."""
    return f"the file {str(image)!r}" if isinstance(image, (str, os.PathLike)) else f"frame {idx}"


def _header(image: Any, called: str) -> _Header:  # noqa: ANN401 - any picture
    if isinstance(image, Image):
        return _Header((image.height, image.width), deep=False)
    if is_array(image):
        size = _size(tuple(image.shape), tensor=is_tensor(image))
        if size is None:
            form = "(H, W), (3, H, W) or (4, H, W)" if is_tensor(image) else "(H, W), (H, W, 3) or (H, W, 4)"
            message = f"{called} must be {form}, got {tuple(image.shape)}"
            raise InvalidVideoError(message)
        return _Header(size, _is_deep(image))
    with _opened(image, called) as picture:
        # The base class's method: a PNG's own decodes the picture to look for what may stand behind it.
        lying = PILImage.Image.getexif(picture).get(_ORIENTATION) in _LYING
        return _Header((picture.width, picture.height) if lying else (picture.height, picture.width), _is_deep(picture))


def _size(shape: tuple[int, ...], *, tensor: bool) -> tuple[int, int] | None:
    """Return height and width of an image of this shape, channels last but in a tensor; None if it is none."""
    plane, channels = (shape[-_PLANE:], shape[:-_PLANE]) if tensor else (shape[:_PLANE], shape[_PLANE:])
    if len(plane) < _PLANE or 0 in plane or len(channels) > 1 or (channels and channels[0] not in _CHANNELS):
        return None
    return int(plane[0]), int(plane[1])


@contextmanager
def _opened(image: Any, called: str) -> Iterator[PILImage.Image]:  # noqa: ANN401 - a path, bytes or a PIL image
    """Open a picture; what fails while it is open is told as this picture's."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        image = io.BytesIO(image)
    elif not isinstance(image, (str, os.PathLike, PILImage.Image)):
        message = f"{called} is no image but {type(image).__name__}; {EXPECTED}"
        raise InvalidVideoError(message)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            if isinstance(image, PILImage.Image):
                yield image  # whoever opened it closes it
            else:
                with PILImage.open(image) as picture:
                    yield picture
    except _DAMAGED as error:
        message = f"{called} cannot be read as an image ({error})"
        raise InvalidVideoError(message) from error
