"""A clip that comes frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidVideoError
from sam3_widget.video.frames import CACHE_BYTES, Frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Stream(Frames):
    """The frames of a live source so far; those that came last can be read again.

    Parameters
    ----------
    source : iterator
        The first frame is taken from it, and no other.
    cache_bytes : int
        How many bytes of frames are kept; the last one always is.

    Raises
    ------
    InvalidVideoError
        It ends before its first frame.
    """

    def __init__(self, source: Iterator[object], cache_bytes: int = CACHE_BYTES) -> None:
        first = next(source, None)
        if first is None:
            message = "the source ended before its first frame"
            raise InvalidVideoError(message)
        pixels = Image.read(first).pixels
        super().__init__(1, (pixels.shape[0], pixels.shape[1]), cache_bytes)
        self._kept(0, pixels)

    def append(self, frame: object) -> int:
        """Take the next frame, and return its index."""
        index = len(self)
        self._kept(index, Image.read(frame).pixels)
        self._count = index + 1
        return index

    def _decode(self, idx: int) -> NDArray[np.uint8]:
        message = f"frame {idx} of the stream is no longer held; the last {self.held_bytes} bytes of frames are"
        raise InvalidVideoError(message)


def is_stream(source: object) -> TypeGuard[Iterator[object]]:
    """Return whether a source gives its frames one by one."""
    return isinstance(source, Iterator) and not hasattr(source, "read")
