import io
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PILImage
from PIL import PngImagePlugin

from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidPromptError, InvalidVideoError
from sam3_widget.video.frames import Frames

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)


def folder(path, names):
    """Save a picture of a clip under each name."""
    path.mkdir(exist_ok=True)
    for idx, name in enumerate(names):
        PILImage.fromarray(COLOURS[idx]).save(path / name)
    return path


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_read_folder_is_in_natural_order_without_what_is_no_image(tmp_path):
    path = folder(tmp_path / "walk", ["Frame_1.png", "frame_2.PNG", "frame_10.png"])
    (path / "notes.txt").write_text("a walk")
    (path / ".frame_3.png").write_bytes(b"a hidden file")
    (path / "frame_4").mkdir()
    frames = Frames.read(path)
    assert (len(frames), frames.height, frames.width, frames.name) == (3, 4, 6, "walk")
    assert frames.times is None
    assert frames.fps is None
    for idx in (2, 0, 1):
        np.testing.assert_array_equal(frames[idx], COLOURS[idx])
    assert len(Frames.read(str(path))) == 3


def test_read_folder_decodes_a_file_when_its_frame_is_asked_for(tmp_path, monkeypatch):
    path = folder(tmp_path / "clip", [f"{idx}.png" for idx in range(5)])
    loaded = []
    load = PngImagePlugin.PngImageFile.load

    def counted(self):
        loaded.append(self)
        return load(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", counted)
    frames = Frames.read(path)
    assert not loaded
    frames[3]
    assert len({id(picture) for picture in loaded}) == 1


def test_read_files_that_lie_on_their_side_are_upright(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 6
    for idx in range(2):
        PILImage.fromarray(COLOURS[idx]).save(tmp_path / f"{idx}.png", exif=exif)
    (tmp_path / "2.png").write_bytes(encoded(np.rot90(COLOURS[2], -1)))
    frames = Frames.read(tmp_path)
    assert (frames.height, frames.width) == (6, 4)
    np.testing.assert_array_equal(frames[1], np.rot90(COLOURS[1], -1))
    np.testing.assert_array_equal(frames[2], np.rot90(COLOURS[2], -1))


def test_read_list_of_every_kind_of_picture(tmp_path):
    torch = pytest.importorskip("torch")
    path = folder(tmp_path, ["a.png"]) / "a.png"
    images = [
        path,
        str(path),
        encoded(COLOURS[0]),
        PILImage.fromarray(COLOURS[0]),
        COLOURS[0],
        Image.read(COLOURS[0]),
        torch.from_numpy(np.moveaxis(COLOURS[0], 2, 0).copy()),
        np.dstack([COLOURS[0], np.full((4, 6), 255, np.uint8)]),
        COLOURS[0] / np.float64(255),
    ]
    for source in (images, tuple(images)):
        frames = Frames.read(source)
        assert frames.name == ""
        assert len(frames) == len(images)
        for pixels in frames:
            np.testing.assert_array_equal(pixels, COLOURS[0])


def greys(values):
    """Return what one-pixel-high grey frames look like."""
    return [[row] for row in values]


@pytest.mark.parametrize(
    ("clip", "seen"),
    [
        (np.array([[[0, 9]], [[4, 4]]], np.uint8), [[0, 9], [4, 4]]),
        (np.array([[[False, True]], [[False, False]]]), [[0, 255], [0, 0]]),
        (np.array([[[0.0, 0.2]], [[0.1, 0.4]]], np.float32), [[0, 51], [26, 102]]),
        (np.array([[[0.0, 50.0]], [[100.0, 25.0]]]), [[0, 128], [255, 64]]),
        (np.array([[[-1.0, 0.0]], [[0.0, 1.0]]], np.float16), [[0, 128], [128, 255]]),
        (np.array([[[100, 300]], [[200, 500]]], np.uint16), [[0, 128], [64, 255]]),
        (np.array([[[0.0, np.nan]], [[np.inf, 1.0]]]), [[0, 0], [255, 255]]),
        (np.array([[[7, 7]], [[7, 7]]], np.int64), [[7, 7], [7, 7]]),
    ],
)
def test_read_array_is_stretched_by_the_range_of_the_whole_clip(clip, seen):
    for source in (clip, list(clip)):
        frames = Frames.read(source)
        grey = [pixels[..., 0].tolist() for pixels in frames]
        np.testing.assert_allclose(grey, greys(seen), atol=1)
        assert all((pixels == pixels[..., :1]).all() for pixels in frames)


def test_read_files_of_16_bits_are_stretched_by_the_range_of_the_whole_clip(tmp_path):
    for idx, level in enumerate((1000, 2000, 4000)):
        PILImage.fromarray(np.full((2, 2), level, np.uint16)).save(tmp_path / f"{idx}.png")
    assert [pixels[0, 0, 0] for pixels in Frames.read(tmp_path)] == pytest.approx([0, 85, 255], abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_read_array_with_opacity_is_on_white(dtype):
    whole = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    clip = np.zeros((2, 1, 2, 4), dtype)
    clip[0, 0, 0] = whole
    clip[1, 0, :, 3] = whole
    frames = Frames.read(clip)
    assert frames[0][0].tolist() == [[255] * 3] * 2
    assert frames[1][0].tolist() == [[0] * 3] * 2


def test_read_tensor_is_channels_first():
    torch = pytest.importorskip("torch")
    clip = torch.from_numpy(np.moveaxis(COLOURS, -1, 1).copy())
    for source in (clip, clip.to(torch.float32) / 255, clip.double() / 255):
        np.testing.assert_array_equal(Frames.read(source)[4], COLOURS[4])
    assert Frames.read(clip[:, 0])[1].shape == (4, 6, 3)
    assert Frames.read(clip.to(torch.bfloat16) / 255)[2] == pytest.approx(COLOURS[2], abs=1)


def test_read_array_of_8_bits_is_not_copied_nor_converted_at_once():
    class Counted(np.ndarray):
        reads = 0

        def __getitem__(self, idx):
            Counted.reads += 1
            return super().__getitem__(idx)

    frames = Frames.read(np.broadcast_to(COLOURS[0], (10**9, 4, 6, 3)).view(Counted))
    assert len(frames) == 10**9
    assert Counted.reads == 0
    np.testing.assert_array_equal(frames[10**9 - 1], COLOURS[0])


def test_read_frames_is_themselves():
    frames = Frames.read(COLOURS)
    assert Frames.read(frames) is frames


def test_frames_cannot_be_damaged():
    source = COLOURS.copy()
    frames = Frames.read(source)
    with pytest.raises(ValueError, match="read-only"):
        frames[0][0, 0] = 7
    assert frames[0].flags.c_contiguous
    assert frames[0].dtype == np.uint8
    assert source.flags.writeable


@pytest.mark.parametrize("idx", [-1, 5, 10**9, 1.0, "1", None, slice(0, 2)])
def test_frame_that_is_not_there_is_an_error(idx):
    with pytest.raises(InvalidPromptError, match="a whole number from 0 to 4"):
        Frames.read(COLOURS)[idx]


def test_close_forgets_every_frame():
    frames = Frames.read(COLOURS)
    frames[0]
    frames.close()
    with pytest.raises(InvalidVideoError, match="was closed"):
        frames[0]


@given(st.integers(0, 500), st.lists(st.integers(0, 4)))
def test_cache_holds_what_was_used_last_within_its_bound(cache_bytes, order):
    frames = Frames.read(COLOURS, cache_bytes)
    for idx in order:
        np.testing.assert_array_equal(frames[idx], COLOURS[idx])
        assert frames.held_bytes <= max(cache_bytes, COLOURS[0].nbytes)
    if order:
        assert frames.held_bytes >= COLOURS[0].nbytes
        assert frames[order[-1]] is frames[order[-1]]


def test_frame_in_the_cache_does_not_wait_for_one_that_is_decoded(monkeypatch):
    frames = Frames.read(COLOURS)
    first = frames[0]
    began, done = threading.Event(), threading.Event()
    decode = frames._decode

    def slow(idx):
        began.set()
        assert done.wait(60)
        return decode(idx)

    monkeypatch.setattr(frames, "_decode", slow)
    thread = threading.Thread(target=frames.__getitem__, args=(1,))
    thread.start()
    assert began.wait(60)
    assert frames[0] is first
    done.set()
    thread.join()


WIDE = np.zeros((4, 7, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "at least one frame"),
        (np.zeros((0, 4, 6, 3), np.uint8), "at least one frame"),
        (np.zeros((5, 0, 6, 3), np.uint8), "(T, H, W, 3)"),
        (np.zeros((4, 6), np.uint8), "(T, H, W, 3)"),
        (np.zeros((4, 6, 3), np.uint8), "a clip of one image is [image]"),
        (np.zeros((5, 3, 4, 6), np.uint8), "np.moveaxis(clip, 1, -1)"),
        (np.zeros((2, 5, 4, 6, 3), np.uint8), "(T, H, W, 3)"),
        (np.zeros((2, 4, 6), complex), "integers, floats or bools"),
        (np.full((2, 4, 6), np.nan), "finite"),
        ([COLOURS[0], WIDE], "frame 1 is 4 x 7 pixels (height x width), frame 0 is 4 x 6"),
        ([COLOURS[0], np.zeros((3, 4, 6))], "frame 1 must be (H, W)"),
        ([COLOURS[0], 17], "frame 1 is no image but int"),
        ([COLOURS[0], "nowhere.png"], "the file 'nowhere.png' cannot be read"),
        ([COLOURS[0], b"no picture"], "frame 1 cannot be read as an image"),
        (iter(COLOURS), "VideoSession.step(frame)"),
        ((frame for frame in COLOURS), "VideoSession.step(frame)"),
        (PILImage.fromarray(COLOURS[0]), "cannot read a clip from Image"),
        (io.BytesIO(b"video"), "cannot read a clip from BytesIO"),
        (b"video", "cannot read a clip from bytes"),
        (17, "cannot read a clip from int"),
        (None, "cannot read a clip from NoneType"),
        ("https://example.org/a.mp4", "download it first"),
        ("nowhere.mp4", "does not exist"),
    ],
)
def test_read_what_is_no_clip_says_what_was_expected(source, words):
    with pytest.raises(InvalidVideoError) as raised:
        Frames.read(source)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 4, 6), "a clip of one image is [image]"),
        ((5, 8, 6, 3), "tensor.permute(0, 3, 1, 2)"),
        ((4,), "(T, 3, H, W)"),
        ((), "(T, 3, H, W)"),
    ],
)
def test_read_tensor_that_is_no_clip_says_what_was_expected(shape, words):
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidVideoError) as raised:
        Frames.read(torch.zeros(shape))
    assert words in str(raised.value)


def test_read_folder_of_different_sizes_names_the_first_that_differs(tmp_path):
    path = folder(tmp_path, ["1.png", "2.png", "10.png"])
    PILImage.fromarray(WIDE).save(path / "3.png")
    PILImage.fromarray(WIDE).save(path / "4.png")
    with pytest.raises(InvalidVideoError, match=r"3\.png' is 4 x 7 pixels \(height x width\), .*1\.png' is 4 x 6"):
        Frames.read(path)


def test_read_folder_without_images_says_so(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InvalidVideoError, match="holds no image files"):
        Frames.read(tmp_path)


def test_read_folder_with_a_file_that_is_none_names_it(tmp_path):
    path = folder(tmp_path, ["1.png", "2.png"])
    (path / "3.png").write_bytes(b"no picture")
    with pytest.raises(InvalidVideoError, match=r"3\.png' cannot be read as an image"):
        Frames.read(path)


def test_read_folder_with_a_file_cut_off_is_an_error_at_its_frame(tmp_path):
    path = folder(tmp_path, ["1.png", "2.png"])
    content = (path / "2.png").read_bytes()
    (path / "2.png").write_bytes(content[: len(content) // 2])
    frames = Frames.read(path)
    np.testing.assert_array_equal(frames[0], COLOURS[0])
    with pytest.raises(InvalidVideoError, match=r"2\.png' cannot be read as an image"):
        frames[1]
