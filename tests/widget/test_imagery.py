import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from sam3_widget.errors import InvalidImageError
from sam3_widget.widget import imagery

ORIENTATION = 0x0112
RED, BLUE = (220, 30, 30), (30, 30, 220)


def halves(width, height):
    """A picture whose left half is red and whose right half is blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return PILImage.fromarray(pixels)


def drawn(path, **options):
    """Return the pixels of a thumbnail, and what is told of it."""
    told, data = imagery.thumbnail(path, **options)
    picture = PILImage.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    assert told == {"mime": "image/jpeg", "width": picture.width, "height": picture.height}
    return np.asarray(picture).astype(int), told


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((400, 300), (160, 120)),
        ((1600, 300), (160, 30)),
        ((300, 1600), (22, 120)),
        ((160, 120), (160, 120)),
        ((80, 60), (80, 60)),
        ((9000, 2), (160, 1)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_thumbnail_keeps_its_shape_within_its_bounds(tmp_path, size, expected, suffix):
    halves(*size).save(tmp_path / f"a.{suffix}")
    _, told = drawn(tmp_path / f"a.{suffix}")
    assert (told["width"], told["height"]) == expected


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_thumbnail_shows_the_picture(tmp_path, suffix):
    halves(640, 480).save(tmp_path / f"a.{suffix}")
    pixels, _ = drawn(tmp_path / f"a.{suffix}")
    assert np.abs(pixels[:, :70] - RED).mean() < 12
    assert np.abs(pixels[:, 90:] - BLUE).mean() < 12


@pytest.mark.parametrize(("orientation", "first", "last"), [(1, RED, BLUE), (3, BLUE, RED), (6, RED, BLUE)])
@pytest.mark.parametrize("size", [(2000, 1500), (100, 76)])
def test_thumbnail_of_a_jpeg_is_upright(tmp_path, orientation, first, last, size):
    exif = PILImage.Exif()
    exif[ORIENTATION] = orientation
    halves(*size).save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels, told = drawn(tmp_path / "a.jpg")
    turned = orientation == 6
    assert (told["width"] < told["height"]) == turned
    assert told["width"] <= 160
    assert told["height"] <= 120
    rows = pixels if turned else pixels.transpose(1, 0, 2)
    third = len(rows) // 3
    assert np.abs(rows[:third] - first).mean() < 12
    assert np.abs(rows[-third:] - last).mean() < 12


def test_thumbnail_of_16_bits_is_stretched(tmp_path):
    ramp = np.tile(np.linspace(1000, 3000, 320).astype(np.uint16), (240, 1))
    PILImage.fromarray(ramp).save(tmp_path / "a.png")
    pixels, _ = drawn(tmp_path / "a.png")
    assert pixels[:, 0].mean() < 8
    assert pixels[:, -1].mean() > 247


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_thumbnail_of_a_jpeg_without_rgb(tmp_path, mode):
    halves(640, 480).convert(mode).save(tmp_path / "a.jpg", quality=95)
    pixels, told = drawn(tmp_path / "a.jpg")
    assert (told["width"], told["height"]) == (160, 120)
    expected = np.asarray(halves(640, 480).convert(mode).convert("RGB")).astype(int)
    assert np.abs(pixels[60, 10] - expected[60, 10]).max() < 12
    assert np.abs(pixels[60, 150] - expected[60, 630]).max() < 12


def test_thumbnail_of_a_transparent_picture_lies_on_white(tmp_path):
    PILImage.new("RGBA", (80, 60), (0, 0, 0, 0)).save(tmp_path / "a.png")
    pixels, _ = drawn(tmp_path / "a.png")
    assert pixels.min() > 250


def test_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    halves(4000, 3000).save(tmp_path / "a.jpg")
    seen = []
    resize = cv2.resize
    monkeypatch.setattr(
        imagery.cv2, "resize", lambda pixels, *a, **k: (seen.append(pixels.shape), resize(pixels, *a, **k))[1]
    )
    _, told = drawn(tmp_path / "a.jpg")
    assert seen == [(375, 500, 3)]
    assert (told["width"], told["height"]) == (160, 120)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_thumbnail_of_a_huge_picture(tmp_path, monkeypatch, suffix):
    """Of one with more pixels than Pillow warns of: what Pillow calls a bomb is told as an error."""
    halves(500, 400).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 150_000)
    _, told = drawn(tmp_path / f"a.{suffix}")
    assert (told["width"], told["height"]) == (150, 120)
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(InvalidImageError, match="MAX_IMAGE_PIXELS"):
        imagery.thumbnail(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_thumbnail_of_a_broken_file_is_refused(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    PILImage.fromarray(rng.integers(0, 255, (240, 320, 3), np.uint8)).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InvalidImageError, match="a." + suffix):
        imagery.thumbnail(tmp_path / f"a.{suffix}")


def test_thumbnail_of_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidImageError, match="does not exist"):
        imagery.thumbnail(tmp_path / "a.jpg")
