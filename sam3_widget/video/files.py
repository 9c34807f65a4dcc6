"""Clips in video files, decoded from the keyframe before the frame that is asked for."""

from __future__ import annotations

import itertools
import warnings
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.core.image import from_array
from sam3_widget.errors import InvalidVideoError, VideoWarning
from sam3_widget.video.decoder import EXPECTED, UNKNOWN, Decoder
from sam3_widget.video.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from av import VideoFrame
    from numpy.typing import NDArray

_PROBED = 16
"""How many frames must come as their packets' time stamps say before these are believed."""
_REORDERED = 32
"""How many places a frame may stand from its packet's, at the most: H.265 allows 16."""
_TRIED = 2
"""From how many keyframes a frame is decoded before it is given up."""


class VideoFile(Frames):
    """A clip in a file, whose video stream is decoded from a keyframe on when a frame is asked for.

    Frames that are passed on the way to another are kept as far as the cache reaches, so that to step back does not
    mean to decode all from the keyframe each time.
    """

    def __init__(self, path: Path, cache_bytes: int) -> None:
        self._decoder = Decoder(path)
        self._coming: Iterator[_Coming] = iter(())
        self._next: int | None = None
        self._told: set[int] = set()
        frames = self._decoder.frames()
        first = next(frames, None)
        came = [] if first is None else itertools.chain([first], frames)
        self._order, whole, is_counted = _ordered(self._decoder, came)
        if len(self._order.packets) < whole or not (is_counted or self._is_decodable(self._order.keys[-1:])):
            self._drop_damaged_end()
        count = len(self._order.packets)
        if first is None or not count:
            self._decoder.close()
            message = f"{str(path)!r} holds no frame that can be decoded; {EXPECTED}"
            raise InvalidVideoError(message)
        if count < whole:
            message = f"{count} of {whole} frames of {path.name!r} can be read: the file is cut off or damaged"
            warnings.warn(message, VideoWarning, stacklevel=4)
        height, width = _upright(first).shape[:2]
        times = _times(self._order.packets, self._decoder)
        super().__init__(count, (height, width), cache_bytes, name=path.name, times=times)

    def close(self) -> None:
        """Close the file, and let go of every frame."""
        super().close()
        with self._decoding:
            self._coming = iter(())
            self._decoder.close()

    def _decode(self, idx: int) -> NDArray[np.uint8]:
        reach = self._cache.limit // (self.height * self.width * 3)
        for coming in self._towards(idx):
            if coming.damage is not None and coming.damage not in self._told:
                self._told.add(coming.damage)
                where = f"{self.name!r} is damaged from frame {coming.damage} to the next keyframe"
                message = f"{where}: what could be decoded is shown"
                warnings.warn(message, VideoWarning, stacklevel=3)
            if coming.idx == idx:
                return _upright(coming.frame)
            if 0 < idx - coming.idx < reach and coming.idx not in self._cache:
                pixels = _upright(coming.frame)
                if pixels.shape[:2] == (self.height, self.width):
                    self._kept(coming.idx, pixels)
        message = f"frame {idx} of {self.name!r} cannot be decoded: the file is damaged there"
        raise InvalidVideoError(message)

    def _towards(self, idx: int) -> Iterator[_Coming]:
        """Decode frames up to this one, which comes last, or not at all where it cannot be decoded."""
        for _ in self._stands(idx):
            for coming in self._coming:
                self._next = coming.idx + 1
                if coming.idx > idx + _REORDERED:
                    break
                yield coming
                if coming.idx == idx:
                    return
            else:
                self._next = None

    def _stands(self, idx: int) -> Iterator[None]:
        """Stand where decoding towards a frame can begin: where that takes least, then further back."""
        keys = self._order.keys[: bisect_right(self._order.keys, idx)]
        if self._next is not None and (keys[-1] if keys else 0) <= self._next <= idx:
            yield
        found = False
        # One keyframe may not do: where streams are refreshed bit by bit, a frame is whole only some frames later.
        for key in keys[-1 : -1 - _TRIED : -1]:
            if self._stand(key):
                found = True
                yield
        if len(keys) <= _TRIED or not found:
            self._stand(None)
            yield

    def _stand(self, key: int | None) -> bool:
        """Stand at a frame that is a keyframe, or at the beginning; tell whether there was a way."""
        self._next = None
        found = (0, self._decoder.frames()) if key is None else self._decoder.frames_from(self._order.packets[key])
        if found is not None:
            # Frames before the first keyframe that still come after it need what was not decoded.
            self._coming = self._order.numbered(found[1], 0 if key is None else self._order.places.get(found[0], 0))
        return found is not None

    def _is_decodable(self, frames: Iterable[int]) -> bool:
        return all(any(coming.idx == idx for coming in self._towards(idx)) for idx in frames)

    def _drop_damaged_end(self) -> None:
        """Leave out what cannot be decoded from the last keyframe on; if that is all, the same before it."""
        while self._order.packets:
            last = self._order.keys[-1] if self._order.keys else 0
            self._stand(self._order.keys[-2] if len(self._order.keys) > 1 else None)
            sound = {one.idx for one in self._coming if one.idx >= last and not one.frame.is_corrupt}
            kept = [packet for idx, packet in enumerate(self._order.packets) if idx < last or idx in sound]
            self._order = _Order.of(kept, self._decoder)
            if sound:
                break
        self._next = None


@dataclass(frozen=True, eq=False)
class _Coming:
    """A frame as it is decoded: which it is, and since which one the stream is damaged, if it is."""

    idx: int
    frame: VideoFrame
    damage: int | None


@dataclass(frozen=True, eq=False)
class _Order:
    """Which packets the frames of a clip come from.

    Attributes
    ----------
    packets : list of int
        The packet of each frame, in the order in which frames are shown.
    places : dict of int to int
        The frame of each packet; none where several frames come from one, and only counting tells them apart.
    keys : list of int
        Frames from which decoding can begin, ascending.
    """

    packets: list[int]
    places: dict[int, int]
    keys: list[int]

    @classmethod
    def of(cls, packets: list[int], decoder: Decoder) -> _Order:
        places = {packet: idx for idx, packet in enumerate(packets)}
        if len(places) < len(packets):
            return cls(packets, {}, [])
        can_seek = decoder.packets.is_key & (decoder.packets.pts != UNKNOWN)
        return cls(packets, places, np.flatnonzero(can_seek[packets]).tolist())

    def numbered(self, frames: Iterator[VideoFrame], first: int) -> Iterator[_Coming]:
        """Tell which frames come, without those before the first: these may need what was not decoded."""
        damage = due = None
        for count, frame in enumerate(frames):
            idx = self.places.get(_number(frame), -1) if self.places else count
            if idx < first:
                continue
            if frame.key_frame:
                damage = None
            elif damage is None and due is not None and due < idx:
                damage = due  # it does not come, and what comes may be built on it
            if damage is None and frame.is_corrupt:
                damage = idx
            due = max(due or 0, idx + 1)
            yield _Coming(idx, frame, damage)


def _ordered(decoder: Decoder, frames: Iterable[VideoFrame]) -> tuple[_Order, int, bool]:
    """Find which packets frames come from, by their time stamps if the first frames that come bear these out.

    Parameters
    ----------
    decoder : Decoder
    frames : iterable of VideoFrame
        All that come when the file is decoded; taken as far as needed.

    Returns
    -------
    order : _Order
    whole : int
        How many frames there would be, were nothing missing or damaged.
    is_counted : bool
        Whether every frame has come.
    """
    listed = decoder.packets
    shown = np.flatnonzero(listed.is_shown)
    stamps = listed.pts[shown]
    order = np.argsort(stamps, kind="stable")
    packets = shown[order].tolist()
    moved = np.abs(order - np.arange(len(order))).max(initial=0)
    is_plain = len(np.unique(stamps)) == len(stamps) and UNKNOWN not in stamps and moved <= _REORDERED
    numbers = (_number(frame) for frame in frames)
    came = list(itertools.islice(numbers, _PROBED))
    if is_plain and came == packets[: len(came)]:
        is_counted = len(came) < _PROBED
        return _Order.of(came if is_counted else packets, decoder), len(packets) + listed.lost, is_counted
    came += numbers
    return _Order.of(came, decoder), len(came) + max(listed.lost, decoder.failures), True


def _number(frame: VideoFrame) -> int:
    """Return the number of a frame's packet."""
    return -1 if frame.pts is None else frame.pts


def _times(packets: list[int], decoder: Decoder) -> NDArray[np.float64] | None:
    """Return seconds from the first frame to each, (T,) float64, or None where packets do not tell."""
    stamps = np.sort(decoder.packets.pts[packets])  # where these are guesses, they may be of neighbouring frames
    if not decoder.unit or UNKNOWN in stamps:
        return None
    times: NDArray[np.float64] = (stamps - stamps[0]) * decoder.unit
    times.setflags(write=False)
    return times


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return a frame as it is to be seen: ``(H, W, 3)`` uint8 RGB, turned and mirrored as the file says."""
    if any(component.is_alpha for component in frame.format.components):
        pixels = from_array(frame.to_ndarray(format="rgba"))
    else:
        pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    side_data: Any
    try:
        side_data = frame.side_data
    except ValueError:  # PyAV knows no name for some of it, as for the EXIF of motion JPEG
        return np.rot90(pixels, round(frame.rotation / 90))
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # Of rows (a, b, u), (c, d, v), (x, y, w): a pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
