"""Small video files whose frames show their own number."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image as PILImage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEIGHT, WIDTH, COUNT = 48, 64, 40
FRAME_BYTES = HEIGHT * WIDTH * 3
BITS = 6
BIT = 10
"""Width of the block of pixels that shows a bit, white for one."""


def picture(number: int) -> NDArray[np.uint8]:
    """A pattern that moves, so that codecs predict it, below the number's bits."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wave = 120 + 60 * np.sin((columns + 2 * number) / 7) * np.cos((rows - number) / 5)
    pixels = np.stack([wave, wave[::-1], np.full_like(wave, 90)], axis=-1).astype(np.uint8)
    for bit in range(BITS):
        pixels[:16, BIT * bit : BIT * (bit + 1)] = 235 if number >> bit & 1 else 20
    return pixels


def number(pixels: NDArray[np.uint8]) -> int:
    return sum(1 << bit for bit in range(BITS) if pixels[2:14, BIT * bit + 2 : BIT * (bit + 1) - 2].mean() > 128)


def write(
    path: Path, codec: str, *, pixel_format: str = "yuv420p", b_frames: int = 0, every: int = 12, **given
) -> Path:
    """Encode pictures.

    Parameters
    ----------
    every : int
        How often a keyframe comes.
    **given
        ``pts``: milliseconds of each frame, else there are 25 in a second. ``options`` of the codec, ``muxing`` of the
        container. ``prepare(stream)`` is called first.
    """
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    times = given.get("pts")
    with av.open(str(path), "w", options=given.get("muxing", {})) as container:
        stream = container.add_stream(codec, rate=25, options=given.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = every, b_frames
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        given.get("prepare", lambda _: None)(stream)
        for idx in range(len(times) if times else COUNT):
            frame = av.VideoFrame.from_ndarray(picture(idx))
            frame.pts = times[idx] if times else idx
            frame.time_base = Fraction(1, 1000) if times else Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_jpegs(path: Path, pictures: list[NDArray[np.uint8]], exif: PILImage.Exif | None = None) -> Path:
    """Put pictures into a video as they are, each of any size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for idx, pixels in enumerate(pictures):
            file = io.BytesIO()
            PILImage.fromarray(pixels).save(file, "JPEG", exif=exif or PILImage.Exif())
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, idx, idx, True
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    return path


def write_sound(path: Path, cover: NDArray[np.uint8] | None = None) -> Path:
    """Write a second of silence, with a picture on its cover."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        if cover is not None:
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            stream.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(cover)
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.rate, silence.pts = 16000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame, one after the other: what frames read in any order are compared with."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
