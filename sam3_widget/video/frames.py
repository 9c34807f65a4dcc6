"""Any clip a person has, as one thing: frames of ``(H, W, 3)`` uint8 RGB, each read when it is asked for."""

from __future__ import annotations

import mmap
import operator
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.errors import InvalidPromptError, InvalidVideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPECTED = (
    "expected the path of a video file, a folder of image files, a list of images, a numpy array (T, H, W), "
    "(T, H, W, 3) or (T, H, W, 4), or a torch tensor (T, H, W), (T, 3, H, W) or (T, 4, H, W)"
)
CACHE_BYTES = 256 << 20


class Frames(ABC):
    """A clip as sessions and views take it; several threads may read from it.

    Attributes
    ----------
    name : str
        Name of the file or folder, "" where there is none.
    height, width : int
        Size of every frame in pixels, upright.
    times : (T,) float64 or None
        Seconds from the first frame to each; None where the source does not say.
    fps : float or None
        Frames per second, on average; None where the source does not say.
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        cache_bytes: int,
        *,
        name: str = "",
        times: NDArray[np.float64] | None = None,
    ) -> None:
        self.name = name
        self.height, self.width = size
        self.times = times
        self.fps = float((count - 1) / times[-1]) if times is not None and times[-1] > 0 else None
        self._count = count
        self._cache = _Cache(cache_bytes)
        self._decoding = Lock()
        self._closed = False

    @classmethod
    def read(cls, source: object, cache_bytes: int = CACHE_BYTES) -> Frames:
        """Open a clip, whatever a person has it as.

        Parameters
        ----------
        source : path, sequence of images, numpy array, torch tensor or Frames
            A path is of a video file, or of a folder of image files, which are taken in the natural order of
            their names: ``frame_2`` before ``frame_10``. In a sequence an image is whatever ``Image.read`` takes but
            an open file. What is in memory must not change while its clip is in use. Pixels of other types than
            8 bits are stretched as ``Image.read`` does, but by the range of the whole clip, so that its brightness
            does not flicker. Frames are returned as they are.
        cache_bytes : int
            How many bytes of decoded frames are kept; the last one always is.

        Raises
        ------
        InvalidVideoError
            It is not one clip, with frames of one size.

        Warns
        -----
        VideoWarning
            A part of a file is missing or damaged: the clip is what can be read.
        """
        if isinstance(source, Frames):
            return source
        if isinstance(source, (str, os.PathLike)):
            return _from_path(source, cache_bytes)
        from sam3_widget.video.stills import Stills, is_array  # noqa: PLC0415 - it builds on this module

        if is_array(source):
            return Stills.from_array(source, cache_bytes)
        if isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray, memoryview)):
            return Stills.from_images(source, cache_bytes)
        if isinstance(source, Iterator) and not hasattr(source, "read"):
            kind = type(source).__name__
            message = f"a {kind} gives frames that are not there yet: use VideoSession.step(frame) for each, or a list"
            raise InvalidVideoError(message)
        message = f"cannot read a clip from {type(source).__name__}; {EXPECTED}"
        raise InvalidVideoError(message)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, idx: int) -> NDArray[np.uint8]:
        """Return a frame, ``(H, W, 3)`` uint8 RGB, contiguous and read-only.

        Raises
        ------
        InvalidPromptError
            There is no such frame; frames count from 0.
        InvalidVideoError
            The frame cannot be decoded, or has another size than the first, or the clip was closed.

        Warns
        -----
        VideoWarning
            The frame is damaged: it is what could be decoded of it.
        """
        idx = self._checked(idx)
        frame = self._cache.get(idx)
        if frame is None:
            with self._decoding:
                frame = self._cache.get(idx)  # another thread may have decoded it while this one waited
                if frame is None:
                    self._check_open()
                    frame = self._kept(idx, self._decode(idx))
        return frame

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[idx] for idx in range(len(self)))

    @property
    def held_bytes(self) -> int:
        """How many bytes of decoded frames are kept now."""
        return self._cache.held_bytes

    def close(self) -> None:
        """Let go of the source and of every frame; nothing can be read from here on."""
        with self._decoding:
            self._closed = True
            self._cache.clear()

    @abstractmethod
    def _decode(self, idx: int) -> NDArray[np.uint8]:
        """Return a frame that is not in the cache; called by one thread at a time."""

    def _kept(self, idx: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Keep a decoded frame and return it as callers get it."""
        if pixels.shape[:2] != (self.height, self.width):
            size = f"{pixels.shape[0]} x {pixels.shape[1]}"
            message = (
                f"frame {idx} of {self.name!r} is {size} pixels (height x width), the first is {self.height} x "
                f"{self.width}: the frames of a clip must have one size"
            )
            raise InvalidVideoError(message)
        pixels = _paged(pixels)
        pixels.setflags(write=False)
        self._cache.put(idx, pixels)
        return pixels

    def _checked(self, idx: int) -> int:
        self._check_open()
        try:
            number = operator.index(idx)
        except TypeError:
            number = -1
        if not 0 <= number < self._count:
            message = f"a frame of this clip is a whole number from 0 to {self._count - 1}, got {idx!r}"
            raise InvalidPromptError(message)
        return number

    def _check_open(self) -> None:
        if self._closed:
            message = f"the clip {self.name!r} was closed: read it again"
            raise InvalidVideoError(message)


class _Cache:
    """Frames by number, up to a bound of bytes: those used last."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held_bytes = 0
        self._frames: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, idx: int) -> bool:
        return idx in self._frames

    def get(self, idx: int) -> NDArray[np.uint8] | None:
        with self._lock:
            frame = self._frames.get(idx)
            if frame is not None:
                self._frames.move_to_end(idx)
            return frame

    def put(self, idx: int, frame: NDArray[np.uint8]) -> None:
        with self._lock:
            before = self._frames.pop(idx, None)
            self._frames[idx] = frame
            self.held_bytes += frame.nbytes - (0 if before is None else before.nbytes)
            while self.held_bytes > self.limit and len(self._frames) > 1:
                self.held_bytes -= self._frames.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self.held_bytes = 0


def _paged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy in pages of its own, which the system gets back when the copy goes.

    On the heap, small masks that stay would settle in the gaps of frames that went, and it would grow with the clip.
    """
    pages = np.frombuffer(mmap.mmap(-1, pixels.nbytes), np.uint8).reshape(pixels.shape)
    pages[...] = pixels
    return pages


def _from_path(source: str | os.PathLike[str], cache_bytes: int) -> Frames:
    if "://" in str(source):
        message = f"{str(source)!r} is an address, not a file: download it first, then give its path"
        raise InvalidVideoError(message)
    path = Path(source)
    if path.is_dir():
        from sam3_widget.video.stills import Stills  # noqa: PLC0415 - it builds on this module

        return Stills.from_folder(path, cache_bytes)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        message = f"the file {str(path)!r} {what}; {EXPECTED}"
        raise InvalidVideoError(message)
    from sam3_widget.video.files import VideoFile  # noqa: PLC0415 - it builds on this module, and loads FFmpeg

    return VideoFile(path, cache_bytes)
