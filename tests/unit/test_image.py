import io

import numpy as np
import pytest
from PIL import Image as PILImage

from sam3_widget.core.image import Image
from sam3_widget.errors import InvalidImageError


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 200


def clear_red():
    rgba = np.dstack([RED, np.full((4, 6), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    return rgba


@pytest.mark.parametrize(
    ("source", "pixel"),
    [
        (RED, (200, 0, 0)),
        (np.full((4, 6), 90, np.uint8), (90, 90, 90)),
        (np.full((4, 6, 1), 90, np.uint8), (90, 90, 90)),
        (clear_red(), (200, 0, 0)),
        (RED.astype(np.float32) / 255, (200, 0, 0)),
        (RED.astype(np.float64), (255, 0, 0)),
        (np.array([[0, 1000], [500, 250]], np.uint16), (64, 64, 64)),
        (np.array([[-1, 1], [0, 0.5]], np.float32), (191, 191, 191)),
        (np.array([[0, 2], [np.nan, 1]], np.float32), (128, 128, 128)),
        (np.array([[0, 0], [0, 1]], bool), (255, 255, 255)),
        (np.array([[-5, 5], [0, 5]], np.int32), (255, 255, 255)),
        (PILImage.fromarray(RED), (200, 0, 0)),
        (PILImage.fromarray(RED).quantize(), (200, 0, 0)),
        (PILImage.fromarray(RED).convert("CMYK"), (200, 0, 0)),
        (PILImage.fromarray(RED).convert("L"), (60, 60, 60)),
        (PILImage.fromarray(RED).convert("1"), None),
        (PILImage.fromarray(clear_red()), (200, 0, 0)),
        (encoded(PILImage.fromarray(RED)), (200, 0, 0)),
        (io.BytesIO(encoded(PILImage.fromarray(RED), "WEBP", lossless=True)), (200, 0, 0)),
        (encoded(PILImage.fromarray(np.array([[0, 60000], [1, 30000]], np.uint16))), (128, 128, 128)),
    ],
)
def test_read_every_kind_of_picture(source, pixel):
    image = Image.read(source)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (image.height, image.width, 3)
    if pixel is not None:
        assert image.pixels[-1, -1].tolist() == pytest.approx(list(pixel), abs=1)


def test_read_transparent_is_white():
    assert tuple(Image.read(clear_red()).pixels[0, 0]) == (255, 255, 255)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, np.uint8])
def test_read_opaque_of_any_type_keeps_its_grey(dtype):
    opaque = np.dstack([np.full((2, 2, 3), 128), np.full((2, 2), 255)]).astype(dtype)
    assert Image.read(opaque).pixels[0, 0].tolist() == [128, 128, 128]


def test_read_half_transparent_is_mixed():
    pixels = Image.read(np.full((1, 1, 4), 128, np.uint8)).pixels
    assert pixels[0, 0].tolist() == pytest.approx([191, 191, 191], abs=1)


def test_read_exif_orientation_is_applied():
    exif = PILImage.Exif()
    exif[0x0112] = 6
    upright = Image.read(encoded(PILImage.fromarray(RED), "JPEG", exif=exif))
    assert (upright.height, upright.width) == (6, 4)


def test_read_path_keeps_the_name(tmp_path):
    path = tmp_path / "truck.png"
    PILImage.fromarray(RED).save(path)
    assert Image.read(path).name == "truck.png"
    assert Image.read(str(path)).width == 6


def test_read_torch_tensor_is_channels_first():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.moveaxis(RED, 2, 0).copy())
    assert (Image.read(tensor).pixels == RED).all()
    assert Image.read(tensor.to(torch.bfloat16) / 255).pixels[0, 0, 0] in {199, 200, 201}
    with pytest.raises(InvalidImageError, match="permute"):
        Image.read(torch.zeros(6, 7, 3))


def test_read_does_not_share_memory_with_the_array():
    array = RED.copy()
    image = Image.read(array)
    array[:] = 0
    assert image.pixels[0, 0, 0] == 200


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((3, 20, 30)), "np.moveaxis"),
        (np.zeros((2, 20, 30, 3)), "batch"),
        (np.zeros(7), "(H, W)"),
        (np.zeros((0, 4, 3)), "from 1 to"),
        (np.array([["a"]]), "integers, floats or bools"),
        (np.full((2, 2), np.nan), "finite"),
        (np.zeros((2, 2), complex), "integers, floats or bools"),
        (b"not a picture", "not an image file"),
        (b"", "not an image file"),
        (encoded(PILImage.fromarray(RED), "BMP")[:40], "damaged"),
        ("nowhere.png", "does not exist"),
        (".", "is a folder"),
        ("https://example.org/a.png", "download it first"),
        (17, "cannot read an image from int"),
        (None, "cannot read an image from NoneType"),
    ],
)
def test_read_what_is_no_image_says_what_was_expected(source, words):
    with pytest.raises(InvalidImageError) as raised:
        Image.read(source)
    assert words in str(raised.value)


def test_key_is_of_the_content():
    assert Image.read(RED).key == Image.read(RED.copy()).key
    assert Image.read(RED).key != Image.read(RED.reshape(6, 4, 3)).key
    assert Image.read(RED).key != Image.read(RED + 1).key
