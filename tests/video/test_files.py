import random
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import av
import numpy as np
import pytest
from PIL import Image as PILImage

from sam3_widget.errors import InvalidVideoError, VideoWarning
from sam3_widget.video.decoder import Decoder
from sam3_widget.video.files import VideoFile
from sam3_widget.video.frames import Frames
from tests.video.clips import (
    COUNT,
    FRAME_BYTES,
    HEIGHT,
    WIDTH,
    decoded,
    number,
    picture,
    write,
    write_jpegs,
    write_sound,
)

FAST = {"muxing": {"movflags": "faststart"}}
REFRESHED = {"x264-params": "intra-refresh=1:scenecut=0:keyint=12"}
OPEN = {"x264-params": "open-gop=1:scenecut=0"}
OPEN_HEVC = {"x265-params": "open-gop=1:keyint=12:min-keyint=12:bframes=4:pools=1:log-level=none"}
ENCODINGS = {
    "plain.mp4": ("libx264", {"b_frames": 3}),
    "open.mkv": ("libx264", {"b_frames": 3, "options": OPEN}),
    "refreshed.ts": ("libx264", {"options": REFRESHED}),
    "fragments.mp4": ("libx264", {"b_frames": 2, "muxing": {"movflags": "frag_keyframe+empty_moov"}}),
    "open.mp4": ("libx265", {"options": OPEN_HEVC}),
    "packed.avi": ("mpeg4", {"b_frames": 2}),
    "delayed.flv": ("libx264", {"b_frames": 3}),
    "guessed.avi": ("libx264", {"b_frames": 3}),  # an AVI tells no order of B-frames: the stamps of packets are wrong
    "unstamped.h264": ("libx264", {"b_frames": 3}),
    "unplaced.mpg": ("mpeg2video", {"b_frames": 2}),
    "alone.mkv": ("mjpeg", {"pixel_format": "yuvj420p"}),
    "stream.mjpeg": ("mjpeg", {"pixel_format": "yuvj420p"}),
    "web.webm": ("libvpx-vp9", {}),
    "once.gif": ("gif", {"pixel_format": "rgb8"}),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a function that writes a clip of the table once, and returns its path."""
    folder = tmp_path_factory.mktemp("clips")

    def written(name):
        codec, options = ENCODINGS[name]
        path = folder / name
        return path if path.exists() else write(path, codec, **options)

    return written


def shuffled(count, seed):
    return random.Random(seed).sample(range(count), count)  # noqa: S311 - no secret


@contextmanager
def stands(monkeypatch):
    """Count how often decoding begins anew."""
    calls = []
    stand = VideoFile._stand
    with monkeypatch.context() as patch:
        patch.setattr(VideoFile, "_stand", lambda self, key: calls.append(key) or stand(self, key))
        yield calls


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("cache_bytes", [0, 5 * FRAME_BYTES])
def test_read_in_any_order_is_what_plain_decoding_gives(clip, name, cache_bytes):
    expected = decoded(clip(name))
    frames = Frames.read(clip(name), cache_bytes)
    assert [number(pixels) for pixels in expected] == list(range(COUNT))
    assert (len(frames), frames.height, frames.width, frames.name) == (COUNT, HEIGHT, WIDTH, name)
    forth = list(range(COUNT))
    for order in (forth, forth[::-1], shuffled(COUNT, name)):
        for idx in order:
            np.testing.assert_array_equal(frames[idx], expected[idx], err_msg=f"frame {idx}")
    frames.close()


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name != "unstamped.h264"])
def test_times_of_a_steady_clip_are_frames_over_fps(clip, name):
    frames = Frames.read(clip(name))
    np.testing.assert_allclose(frames.times, np.arange(COUNT) / 25, atol=0.0011)
    assert frames.fps == pytest.approx(25, rel=0.001)


def test_times_are_not_made_up_where_there_are_none(clip):
    frames = Frames.read(clip("unstamped.h264"))
    assert frames.times is None
    assert frames.fps is None


@pytest.mark.parametrize("name", ["rate.mp4", "rate.mkv"])
def test_times_of_a_variable_rate_are_those_of_the_file(tmp_path, name):
    pts = [7 * idx + idx * idx for idx in range(30)]
    frames = Frames.read(write(tmp_path / name, "libx264", b_frames=3, pts=pts))
    np.testing.assert_allclose(frames.times, np.array(pts) / 1000, atol=0.0011)
    assert not frames.times.flags.writeable
    assert frames.fps == pytest.approx(29 / (pts[-1] / 1000), rel=0.001)
    assert [number(frames[idx]) for idx in (29, 3, 17, 0)] == [29, 3, 17, 0]


def edited(source, path, first, last):
    """Show a part of an MP4 of 25 frames per second by its edit list, and decode what comes before for nothing."""
    content = bytearray(source.read_bytes())
    at = content.index(b"elst") + 12
    _, start = struct.unpack(">II", content[at : at + 8])
    content[at : at + 8] = struct.pack(">II", 40 * (last - first), start + 512 * first)  # movie and media units
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("first", "last"), [(0, 33), (5, 40), (17, 40), (14, 34)])
def test_read_edited_clip_shows_what_the_edit_list_shows(clip, tmp_path, first, last):
    path = edited(clip("plain.mp4"), tmp_path / "edited.mp4", first, last)
    expected = decoded(path)
    frames = Frames.read(path, 0)
    assert [number(pixels) for pixels in expected] == list(range(first, last))
    for idx in shuffled(last - first, 1):
        np.testing.assert_array_equal(frames[idx], expected[idx])
    assert frames.times[1] == pytest.approx(0.04)


def test_read_leaves_out_frames_that_are_never_shown(tmp_path):
    source = write(tmp_path / "shown.webm", "libvpx", every=100)
    path = tmp_path / "hidden.webm"
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for idx, packet in enumerate(packet for packet in before.demux() if packet.size):
            content = bytearray(bytes(packet))
            content[0] &= 0xFF if idx != 30 else 0xEF  # the bit by which VP8 shows a frame
            copy = av.Packet(bytes(content))
            copy.stream, copy.pts, copy.dts, copy.is_keyframe = stream, packet.pts, packet.dts, packet.is_keyframe
            copy.time_base = packet.time_base
            after.mux(copy)
    expected = decoded(path)
    frames = Frames.read(path)
    assert len(frames) == len(expected) == COUNT - 1
    assert [number(frames[idx]) for idx in (29, 30, 38)] == [29, 31, 39]
    assert frames.times[30] == pytest.approx(31 / 25)


CORNERS = np.repeat(np.repeat(np.array([[0, 1], [2, 3]]), HEIGHT // 2, 0), WIDTH // 2, 1)
"""Four fields, told apart by brightness: 0 and 1 above, 2 and 3 below."""


@pytest.mark.parametrize(
    ("turn", "corners"),
    [
        ((0, False, False), [[0, 1], [2, 3]]),
        ((90, False, False), [[1, 3], [0, 2]]),
        ((180, False, False), [[3, 2], [1, 0]]),
        ((-90, False, False), [[2, 0], [3, 1]]),
        ((0, True, False), [[1, 0], [3, 2]]),
        ((0, False, True), [[2, 3], [0, 1]]),
        ((90, True, False), [[3, 1], [2, 0]]),
    ],
)
def test_read_turned_clip_is_upright(tmp_path, monkeypatch, turn, corners):
    monkeypatch.setattr(
        "tests.video.clips.picture", lambda _: np.repeat((40 + 55 * CORNERS)[..., None], 3, 2).astype("u1")
    )
    path = write(tmp_path / "turned.mp4", "mpeg4", prepare=lambda stream: stream.set_display_rotation(*turn))
    frames = Frames.read(path)
    lying = abs(turn[0]) == 90
    assert (frames.height, frames.width) == ((WIDTH, HEIGHT) if lying else (HEIGHT, WIDTH))
    assert frames[3].shape == (frames.height, frames.width, 3)
    assert frames[3].flags.c_contiguous
    seen = frames[3][frames.height // 4 :: frames.height // 2, frames.width // 4 :: frames.width // 2, 0]
    assert ((seen.astype(int) - 30) // 55).tolist() == corners


def test_read_jpegs_with_exif_orientation_is_upright(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 6
    frames = Frames.read(write_jpegs(tmp_path / "camera.avi", [picture(idx) for idx in range(4)], exif))
    assert (frames.height, frames.width) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(frames[2], np.rot90(picture(2), -1), atol=60)
    assert number(np.rot90(frames[2])) == 2


@pytest.mark.parametrize(("name", "step", "most"), [("open.mkv", 1, 1), ("open.mkv", 5, 4), ("unstamped.h264", 5, 1)])
def test_read_forwards_seeks_to_skip_whole_groups_of_frames_only(clip, monkeypatch, name, step, most):
    frames = Frames.read(clip(name))
    with stands(monkeypatch) as calls:
        for idx in range(0, COUNT, step):
            assert number(frames[idx]) == idx
    assert len(calls) <= most


@pytest.mark.parametrize(("held", "most"), [(COUNT, 4), (6, 8), (1, COUNT)])
def test_read_backwards_decodes_no_more_often_than_the_bound_forces(clip, monkeypatch, held, most):
    frames = Frames.read(clip("plain.mp4"), held * FRAME_BYTES)
    with stands(monkeypatch) as calls:
        for idx in reversed(range(COUNT)):
            assert number(frames[idx]) == idx
            assert frames.held_bytes <= held * FRAME_BYTES
    assert len(calls) <= most


def test_open_decodes_no_more_than_the_first_frames_and_the_last_keyframe(tmp_path, monkeypatch):
    path = write(tmp_path / "long.mp4", "mpeg4", pts=[40 * idx for idx in range(300)])
    seen = []
    plain = Decoder._decoded

    def counted(self, packets, first):
        for frame in plain(self, packets, first):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(Decoder, "_decoded", counted)
    assert len(Frames.read(path)) == 300
    assert len(seen) < 50


def test_read_from_several_threads_gives_each_its_frame(clip):
    frames = Frames.read(clip("plain.mp4"), 3 * FRAME_BYTES)
    orders = [shuffled(COUNT, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(lambda order: [number(frames[idx]) for idx in order], orders))
    assert seen == orders


def test_close_lets_go_of_the_file(clip):
    frames = Frames.read(clip("plain.mp4"))
    frames[3]
    frames.close()
    assert frames.held_bytes == 0
    with pytest.raises(InvalidVideoError, match="was closed"):
        frames[3]
    frames.close()


def cut(path, source, share):
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("name", ["fast.mp4", "cut.mkv", "cut.webm", "cut.avi"])
def test_read_clip_cut_off_is_as_long_as_what_can_be_read(tmp_path, name):
    codec, options = {
        "fast.mp4": ("libx264", {"b_frames": 3} | FAST),
        "cut.mkv": ("libx264", {"b_frames": 3}),
        "cut.webm": ("libvpx-vp9", {}),
        "cut.avi": ("mjpeg", {"pixel_format": "yuvj420p"}),
    }[name]
    path = cut(tmp_path / name, write(tmp_path / f"whole-{name}", codec, **options), 0.7)
    with pytest.warns(VideoWarning, match=r"^\d+ of \d+ frames of .* can be read: the file is cut off") as warned:
        frames = Frames.read(path)
    assert str(warned[0].message).startswith(f"{len(frames)} of ")
    assert warned[0].filename == __file__
    assert 5 < len(frames) < COUNT
    assert frames.times.shape == (len(frames),)
    numbers = [number(pixels) for pixels in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[:5] == list(range(5))


@pytest.mark.parametrize("name", ["fast.mp4", "zeros.mkv"])
def test_read_clip_without_data_in_its_end_is_as_long_as_what_can_be_read(tmp_path, name):
    path = write(tmp_path / name, "libx264", b_frames=3, **FAST if name == "fast.mp4" else {})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10] + bytes(len(content) - len(content) * 7 // 10))
    with pytest.warns(VideoWarning, match="cut off or damaged"):
        frames = Frames.read(path)
    numbers = [number(pixels) for pixels in frames]
    assert 5 < len(numbers) < COUNT
    assert numbers == list(range(len(numbers)))


def test_read_clip_damaged_inside_says_so_at_the_frame(clip, tmp_path):
    content = bytearray(clip("alone.mkv").read_bytes())
    with av.open(str(clip("alone.mkv"))) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    start = content.index(b"\xff\xd8\xff", places[25][0])
    content[start : start + places[25][1] - 2] = bytes(places[25][1] - 2)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    frames = Frames.read(path)
    with pytest.raises(InvalidVideoError, match=r"frame 25 of 'damaged.mkv' cannot be decoded"):
        frames[25]
    assert len(frames) == COUNT
    assert [number(frames[idx]) for idx in (24, 26, 39, 0)] == [24, 26, 39, 0]


def test_read_clip_with_a_gap_warns_of_what_follows_until_the_next_keyframe(clip, tmp_path):
    with av.open(str(clip("plain.mp4"))) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    content = bytearray(clip("plain.mp4").read_bytes())
    place, size = packets[28]
    content[place + 4 : place + size] = bytes(size - 4)
    path = tmp_path / "gap.mp4"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = Frames.read(path)
        lost = []
        for idx in range(COUNT):
            try:
                frames[idx]
            except InvalidVideoError:
                lost.append(idx)
    assert all(24 <= idx < 36 for idx in lost)
    assert [one.category for one in caught] == [VideoWarning]
    assert "is damaged from frame" in str(caught[0].message)
    assert number(frames[37]) == 37


def test_read_frame_of_another_size_is_refused(tmp_path):
    sizes = [picture(0), picture(1), picture(2)[:40], picture(3)]
    frames = Frames.read(write_jpegs(tmp_path / "sizes.avi", sizes))
    with pytest.raises(InvalidVideoError, match=r"frame 2 of 'sizes.avi' is 40 x 64 .* the first is 48 x 64"):
        frames[2]
    assert number(frames[3]) == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "cannot be read as a video"),
        ("junk.mp4", bytes(range(256)) * 50, "cannot be read as a video"),
        ("zeros.mkv", bytes(5000), "cannot be read as a video"),
        ("notes.txt", b"a clip of a truck\n" * 40, "has no video in it"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile http://127.0.0.1:9/clip.mp4\n", "Operation not permitted"),
    ],
)
def test_read_file_that_is_no_video_says_what_was_expected(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidVideoError) as raised:
        Frames.read(tmp_path / name)
    assert words in str(raised.value)
    assert name in str(raised.value)
    assert "expected a video file" in str(raised.value)


@pytest.mark.parametrize("cover", [None, picture(0)])
def test_read_sound_is_no_clip(tmp_path, cover):
    with pytest.raises(InvalidVideoError, match="has no video in it"):
        Frames.read(write_sound(tmp_path / "song.m4a", cover))


@pytest.mark.parametrize("name", ["one.png", "one.jpg", "one.webp"])
def test_read_file_of_one_image_says_to_give_a_list(tmp_path, name):
    PILImage.fromarray(picture(0)).save(tmp_path / name)
    with pytest.raises(InvalidVideoError, match="give a list of images"):
        Frames.read(tmp_path / name)


@pytest.mark.parametrize(("name", "kind"), [("moving.gif", "GIF"), ("moving.png", "PNG")])
def test_read_animation_composes_its_frames_in_any_order(tmp_path, name, kind):
    pictures = []
    for idx in range(12):  # files of these hold but what changes
        pixels = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        pixels[10:20, 4 * idx : 4 * idx + 6] = (255, 0, 0)
        pictures.append(PILImage.fromarray(pixels))
    times = [40 + 10 * idx for idx in range(12)]
    pictures[0].save(tmp_path / name, kind, save_all=True, append_images=pictures[1:], duration=times)
    frames = Frames.read(tmp_path / name, 0)
    for idx in shuffled(12, 3):
        np.testing.assert_allclose(frames[idx], np.asarray(pictures[idx]), atol=9)
    np.testing.assert_allclose(np.diff(frames.times) * 1000, times[:-1], atol=0.1)


def test_read_transparent_animation_is_on_white(tmp_path):
    clear = PILImage.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    red = PILImage.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 255))
    clear.save(tmp_path / "clear.png", save_all=True, append_images=[red], duration=40)
    frames = Frames.read(tmp_path / "clear.png")
    assert frames[0][5, 5].tolist() == [255, 255, 255]
    assert frames[1][5, 5].tolist() == [255, 0, 0]
