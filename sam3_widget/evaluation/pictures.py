"""Masks in any form that they come in, and which pictures belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sam3_widget.arrays import Arrays
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

Masks: TypeAlias = (
    "Arrays | AnnotatedImage | NDArray[Any] | Iterable[Arrays | AnnotatedImage | NDArray[Any]] "
    "| Mapping[str, Arrays | AnnotatedImage | NDArray[Any]]"
)
"""Masks of one picture: a session, a widget, an annotated image or an ``(N, H, W)`` array; or of several."""

_EXPECTED = "expected a session, a widget, an AnnotatedImage or an (N, H, W) bool array, or several of them"


def pictures(given: object, what: str) -> list[AnnotatedImage]:
    """Return masks in any form as annotated images."""
    if isinstance(given, Mapping):
        return [_picture(one, what, str(name)) for name, one in given.items()]
    if isinstance(given, (Arrays, AnnotatedImage)) or hasattr(given, "__array__"):
        return [_picture(given, what)]
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        message = f"{what}: {_EXPECTED}, got {given!r:.200}"
        raise FormatError(message)
    return [_picture(one, what) for one in given]


def _picture(one: object, what: str, name: str = "") -> AnnotatedImage:
    if isinstance(one, Arrays):
        return AnnotatedImage.of(one, name or None)
    if isinstance(one, AnnotatedImage):
        return AnnotatedImage(name or one.file_name, one.height, one.width, one.objects)
    array: NDArray[Any] = np.asarray(one)
    if array.ndim != 3 or (array.dtype != np.bool_ and not np.isin(array, (0, 1, 255)).all()):  # noqa: PLR2004
        message = f"{what}: {_EXPECTED}, got {type(one).__name__} {array.shape} {array.dtype}"
        raise FormatError(message)
    masks = [RunLengths.from_mask(mask.astype(np.bool_)) for mask in array]
    objects = tuple(AnnotatedObject(k, "", mask) for k, mask in enumerate(masks, 1))
    return AnnotatedImage(name, int(array.shape[1]), int(array.shape[2]), objects)


def paired(pred: list[AnnotatedImage], truth: list[AnnotatedImage]) -> list[tuple[AnnotatedImage, AnnotatedImage]]:
    """Return the pictures that belong together."""
    by_name = {image.file_name: image for image in pred}
    if len(pred) == len(truth) == 1 or not all(image.file_name for image in (*pred, *truth)):
        if len(pred) != len(truth):
            message = f"pred and truth must be of as many pictures, got {len(pred)} and {len(truth)}"
            raise FormatError(message)
        pairs = list(zip(pred, truth, strict=True))
    else:
        names = [image.file_name for image in truth]
        odd = sorted(by_name.keys() ^ set(names))
        if odd or len(by_name) != len(pred) or len(set(names)) != len(names):
            message = f"pred and truth must be of the same pictures, each once; {', '.join(odd[:5]) or 'a name'} is not"
            raise FormatError(message)
        pairs = [(by_name[image.file_name], image) for image in truth]
    for p, t in pairs:
        same_size(t, p.height, p.width, "what was predicted")
    return pairs


def same_size(truth: AnnotatedImage, height: int, width: int, what: str) -> None:
    """Check that a picture and its truth are of one size."""
    if (truth.height, truth.width) != (height, width):
        name = truth.file_name or "a picture"
        message = f"the truth of {name} is of {truth.height} x {truth.width} pixels, {what} of {height} x {width}"
        raise FormatError(message)
