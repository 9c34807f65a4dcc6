"""The video stream of a file, by PyAV (FFmpeg): its packets, and the frames that are decoded from one of them on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.errors import InvalidVideoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer
    from numpy.typing import NDArray

EXPECTED = "expected a video file that FFmpeg decodes, for example .mp4, .mov, .mkv, .webm, .avi or .gif"
UNKNOWN = -(2**63)
"""Stands for a time that a packet does not tell."""
_TEXTS = {"tty", "bin", "xbin", "idf", "adf"}
"""Formats in which FFmpeg shows a text as a video."""
_THREADS = 4
_SLACK = 0.25
"""By how many seconds a container may overstate its duration."""
_VP8_SHOWN = 0x10


@dataclass(frozen=True, eq=False)
class Packets:
    """What a file says of its N video packets, in the order in which they stand in it.

    Attributes
    ----------
    place, size : (N,) int64
        Where in the file each begins, -1 where that is not told, and its bytes.
    pts, dts : (N,) int64
        When each is to be shown and decoded, in units of the stream; `UNKNOWN` where that is not told.
    is_key, is_shown : (N,) bool
        Whether decoding can begin with it, and whether a frame is to come of it.
    lost : int
        How many more frames the file should have, or had.
    """

    place: NDArray[np.int64]
    size: NDArray[np.int64]
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    lost: int


class Decoder:
    """The first video stream of a file, decoded from its beginning or from a keyframe on.

    A packet is known by its number in the file, and hands it to its frame as time stamp: the stamps in files may be
    absent, appear twice, or be guessed differently after a seek.

    Attributes
    ----------
    packets : Packets
    unit : float
        Seconds of the unit of time; 0 where there is none.
    failures : int
        How many packets could not be decoded until now.

    Raises
    ------
    InvalidVideoError
        The file holds no video that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failures = 0
        self._container, self._stream = self._opened()
        self.unit = float(self._stream.time_base or 0)
        self.packets = self._listed()
        keys = np.flatnonzero(self.packets.is_key & (self.packets.place >= 0))
        marks = np.stack([self.packets.place[keys], self.packets.size[keys]], axis=1)
        marks, first, times = np.unique(marks, axis=0, return_index=True, return_counts=True)
        # An edit list may show a part of a file twice: such packets do not tell where a seek has led.
        once = times == 1
        self._keys = dict(zip(map(tuple, marks[once].tolist()), keys[first[once]].tolist(), strict=True))

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Decode from the beginning; the ``pts`` of a frame is the number of its packet."""
        self._container.close()
        self._container, self._stream = self._opened()
        return self._decoded(self._container.demux(self._stream), 0)

    def frames_from(self, key: int) -> tuple[int, Iterator[VideoFrame]] | None:
        """Decode from a keyframe, or from one before it where the format seeks there.

        Parameters
        ----------
        key : int
            The number of a packet.

        Returns
        -------
        (int, iterator of frames) or None
            With which packet it begins; None where there is no way to get there.
        """
        import av  # noqa: PLC0415 - loads FFmpeg

        for stamp in (int(self.packets.pts[key]), int(self.packets.dts[key])):
            if stamp == UNKNOWN:
                continue
            try:
                self._container.seek(stamp, stream=self._stream)
                packets = self._container.demux(self._stream)
                packet = next((packet for packet in packets if packet.is_keyframe), None)
            except av.FFmpegError:
                continue
            if packet is None:
                continue
            number = self._keys.get((-1 if packet.pos is None else packet.pos, packet.size), key + 1)
            if number <= key:
                return number, self._decoded(itertools.chain([packet], packets), number)
        return None

    def _opened(self) -> tuple[InputContainer, VideoStream]:
        import av  # noqa: PLC0415 - loads FFmpeg
        from av.stream import Disposition  # noqa: PLC0415

        name = str(self._path)
        try:
            # Without "file:" a name with a colon is taken for an address. A playlist must not fetch what it lists.
            container = av.open(
                f"file:{name}", "r", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
            )
        except av.FFmpegError as error:
            message = f"{name!r} cannot be read as a video, it may be cut off or damaged ({error.strerror}); {EXPECTED}"
            raise InvalidVideoError(message) from error
        kind = container.format.name
        # The cover of a song is a video stream, too.
        streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
        if kind == "image2" or kind.endswith("_pipe"):
            problem = "is one image, or an animation that this FFmpeg does not read: give a list of images"
        elif not streams or kind in _TEXTS:
            problem = "has no video in it"
        elif not streams[0].codec_context:
            problem = "is coded in a way that this FFmpeg cannot decode"
        else:
            streams[0].thread_type = "AUTO"
            streams[0].codec_context.thread_count = _THREADS
            return container, streams[0]
        container.close()
        message = f"{name!r} {problem}; {EXPECTED}"
        raise InvalidVideoError(message)

    def _listed(self) -> Packets:
        """Read through the file without decoding it."""
        import av  # noqa: PLC0415 - loads FFmpeg

        container, stream = self._container, self._stream
        # In an MP4 the list of frames stands apart from them. Elsewhere it may have other entries than frames.
        told = len(getattr(stream, "index_entries", ())) if "mp4" in container.format.name else 0
        units = [float(one.time_base or 0) for one in container.streams]
        rows: list[tuple[int, ...]] = []
        end, lost = 0.0, 0
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * units[packet.stream_index])
                if packet.stream_index != stream.index:
                    continue
                if not packet.size:
                    told -= packet.pts is not None  # an empty sample of an MP4, not the end of the stream
                    continue
                lost += packet.is_corrupt
                hidden = stream.codec_context.name == "vp8" and not bytes(packet)[0] & _VP8_SHOWN
                shown = not (packet.is_corrupt or packet.is_discard or hidden)
                stamps = [UNKNOWN if stamp is None else stamp for stamp in (packet.pts, packet.dts)]
                place = -1 if packet.pos is None else packet.pos
                rows.append((place, packet.size, *stamps, packet.is_keyframe, shown))
        except av.FFmpegError:
            lost += 1  # at the least
        lost += max(told - len(rows), 0)
        if not lost and container.duration is not None and stream.average_rate:
            rate = float(stream.average_rate)
            left = (container.duration + (container.start_time or 0)) / av.time_base - end
            lost = round(left * rate) if left > _SLACK + 2 / rate else 0
        places, sizes, pts, dts, is_key, is_shown = np.array(rows, np.int64).reshape(-1, 6).T.copy()
        return Packets(places, sizes, pts, dts, is_key > 0, is_shown > 0, lost)

    def _decoded(self, packets: Iterator[Packet[VideoStream]], number: int) -> Iterator[VideoFrame]:
        """Decode packets, of which the first has this number, for as long as they are those that were listed."""
        import av  # noqa: PLC0415 - loads FFmpeg

        stream, sizes = self._stream, self.packets.size
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packet = None
            if packet is not None and not packet.size:
                continue
            if packet is not None and (number == len(sizes) or packet.size != sizes[number]):
                packet = None
            if packet is not None:
                packet.pts = number
                number += 1
                if packet.is_corrupt:
                    continue
            try:
                yield from stream.decode(packet)
            except av.FFmpegError:
                self.failures += 1
            if packet is None:
                return
