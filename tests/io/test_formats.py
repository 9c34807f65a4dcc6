"""What every format of pictures owes: masks come back to the pixel, or an error says why they cannot."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from sam3_widget import Session, io
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.video.session import VideoSession
from tests.io.pictures import APART, HEIGHT, KINDS, WHOLE, WIDTH, assert_same, noise, picture
from tests.toy import ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = dict.fromkeys(("a.jpg", "b/c.png", "noise.png"), (HEIGHT, WIDTH))
EVERYTHING = tuple(KINDS)
# Writer, reader, which masks it holds, and whether ids and scores come back.
FORMATS: dict[str, tuple[Callable[..., None], Callable[..., list[io.AnnotatedImage]], tuple[str, ...], bool]] = {
    "coco rle": (io.write_coco, io.read_coco, EVERYTHING, True),
    "coco polygon": (partial(io.write_coco, segmentation="polygon"), io.read_coco, EVERYTHING, True),
    "yolo": (io.write_yolo, partial(io.read_yolo, sizes=SIZES), WHOLE, False),
    "yolo seams": (
        partial(io.write_yolo, several="seams"),
        partial(io.read_yolo, sizes=SIZES),
        (*APART, "full"),
        False,
    ),
    "png": (io.write_png, io.read_png, APART, True),
    "png per instance": (partial(io.write_png, layout="per_instance"), io.read_png, EVERYTHING, True),
    "labelme": (io.write_labelme, io.read_labelme, (*APART, "full"), True),
    "labelme masks": (partial(io.write_labelme, segmentation="mask"), io.read_labelme, (*APART, "full"), True),
    "voc": (io.write_voc, io.read_voc, APART, False),
    "npz": (io.write_npz, io.read_npz, EVERYTHING, True),
}
NAMELESS = {"png", "png per instance", "npz"}
"""Formats that know objects without a label."""
ONE_FILE = {"coco rle", "coco polygon", "npz"}
"""Formats in which a picture's name is a word, not a place."""
ALL = pytest.mark.parametrize("name", FORMATS)


@ALL
def test_masks_come_back_to_the_pixel(name, tmp_path: Path):
    write, read, holds, whole = FORMATS[name]
    images = [picture(holds), picture(holds[:2], "b/c.png", ["cat"])]
    write(tmp_path / "out", images)
    back = sorted(read(tmp_path / "out"), key=lambda i: i.file_name)
    assert_same(images, [i for i in back if i.objects], scores=whole, ids=whole)


@pytest.mark.parametrize("name", [name for name in FORMATS if "hole" in FORMATS[name][2]])
@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_random_masks_come_back_where_holes_and_parts_do(name, seed, tmp_path: Path):
    write, read, _, whole = FORMATS[name]
    image = noise(seed)
    write(tmp_path / "out", image)
    assert_same([image], [i for i in read(tmp_path / "out") if i.objects], scores=whole, ids=whole)


@ALL
def test_a_picture_without_objects_comes_back(name, tmp_path: Path):
    write, read, *_ = FORMATS[name]
    write(tmp_path / "out", {"a.jpg": picture(()), "b/c.png": picture(["box"])})
    back = {i.file_name: i for i in read(tmp_path / "out")}
    assert back["a.jpg"].objects == ()
    assert len(back["b/c.png"].objects) == 1


@ALL
def test_a_session_goes_out_and_comes_back_to_be_refined(name, tmp_path: Path):
    write, read, *_ = FORMATS[name]
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    session = Session(pixels, ToyModel(), classes=["cat", "dog"])
    session.set_mask(KINDS["corner"])
    session.set_mask(KINDS["box"])
    session.set_label(2, "dog")
    write(tmp_path / "out", {"a.jpg": session})
    (found,) = [i for i in read(tmp_path / "out") if i.objects]
    again = found.to_session(pixels, ToyModel())
    np.testing.assert_array_equal(again.masks, session.masks)
    assert again.labels == ["" if name in NAMELESS else "object", "dog"]
    assert again.add_point(4, 5, positive=False, object_id=2).area < session.instance(2).area
    assert session.instance(2).area == KINDS["box"].sum(), "the first session is another"


@ALL
def test_nothing_is_written_where_a_later_picture_cannot_be(name, tmp_path: Path):
    write, read, *_ = FORMATS[name]
    bad = replace(picture(["box"], "b.jpg"), file_name="../b.jpg")
    out = tmp_path / "out"
    if name in ONE_FILE:
        write(out, [picture(["box"]), bad])
        assert [i.file_name for i in read(out)] == ["a.jpg", "../b.jpg"]
        return
    with pytest.raises(FormatError, match=r"must be a path inside a folder, .* got '\.\./b\.jpg'"):
        write(out, [picture(["box"]), bad])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("yolo", ["box", "hole"], r"object 2 \(grüner Baum\) of a\.jpg has holes.*several=\"seams\".*fill_holes"),
        ("yolo", ["parts"], r"object 1 \(cat\) of a\.jpg has 3 parts, and a line of YOLO holds one polygon"),
        ("yolo", ["empty"], "object 1 .* is empty, which YOLO cannot hold: remove the object"),
        ("yolo seams", ["empty"], "is empty, which YOLO cannot hold"),
        ("png", ["box", "full"], r"object 2 .* of a\.jpg and object 1 overlap.*overlaps=\"smaller\""),
        ("png", ["empty"], "object 1 .* is empty, which a label map cannot hold"),
        ("voc", ["full", "box"], r"object 1 \(cat\) of a\.jpg and object 2 overlap"),
        ("voc", ["empty"], "is empty, which a label map cannot hold"),
        ("labelme", ["empty"], "object 1 .* is empty, which LabelMe cannot hold"),
    ],
)
def test_a_mask_that_a_format_cannot_hold_is_an_error_with_a_way_out(name, kinds, message, tmp_path: Path):
    with pytest.raises(FormatError, match=message):
        FORMATS[name][0](tmp_path / "out", picture(kinds))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (io.write_coco, {"segmentation": "polygon", "holes": "error"}, "object 1 .* has holes, which polygons of COCO"),
        (io.write_labelme, {"holes": "error"}, "object 1 .* has holes, which polygons of LabelMe cannot hold"),
        (io.write_coco, {"segmentation": "polygons"}, "segmentation must be 'rle' or 'polygon', got 'polygons'"),
        (io.write_coco, {"holes": None}, "holes must be 'rle' or 'error', got None"),
        (io.write_yolo, {"several": "join"}, "several must be 'error' or 'seams', got 'join'"),
        (io.write_png, {"layout": "x"}, "layout must be 'label_map' or 'per_instance', got 'x'"),
        (io.write_png, {"overlaps": "x"}, "overlaps must be 'error' or 'smaller', got 'x'"),
        (io.write_voc, {"overlaps": "x"}, "overlaps must be 'error' or 'smaller', got 'x'"),
        (io.write_labelme, {"segmentation": "rle"}, "segmentation must be 'polygon' or 'mask', got 'rle'"),
        (io.write_coco, {"classes": ["dog"]}, r"object 1 \(cat\) of a\.jpg is of the class 'cat', but .* are dog"),
        (io.write_yolo, {"classes": ["dog"]}, "is of the class 'cat', but the classes are dog"),
        (io.write_voc, {"classes": ["dog"]}, "is of the class 'cat', but the classes are dog"),
    ],
)
def test_options_are_checked_before_anything_is_written(write, options, message, tmp_path: Path):
    with pytest.raises(FormatError, match=message):
        write(tmp_path / "out", picture(["hole"]), **options)
    assert list(tmp_path.iterdir()) == []


def test_the_smaller_object_lies_above_where_one_asks_for_it(tmp_path: Path):
    for write, read in ((io.write_png, io.read_png), (io.write_voc, io.read_voc)):
        write(tmp_path, picture(["full", "box"]), overlaps="smaller")
        (back,) = read(tmp_path)
        np.testing.assert_array_equal(back.objects[0].mask.to_mask(), ~KINDS["box"])
        np.testing.assert_array_equal(back.objects[1].mask.to_mask(), KINDS["box"])
    twice = picture(["box", "box"])
    with pytest.raises(FormatError, match="is covered by smaller objects, and nothing of it is left"):
        io.write_png(tmp_path, twice, overlaps="smaller")


@pytest.mark.parametrize("name", ["coco polygon", "yolo", "labelme"])
def test_tolerance_makes_fewer_vertices_and_nearly_the_same_mask(name, tmp_path: Path):
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    disc = RunLengths.from_mask(np.hypot(xs - 20, ys - 15) < 12)
    image = io.AnnotatedImage("a.jpg", HEIGHT, WIDTH, (io.AnnotatedObject(1, "cat", disc),))
    write, read, *_ = FORMATS[name]
    write(tmp_path / "out", image, tolerance=1.0)
    back = next(i for i in read(tmp_path / "out") if i.objects).objects[0].mask
    wrong = np.count_nonzero(back.to_mask() ^ disc.to_mask())
    assert 0 < wrong < 0.1 * disc.area


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "expected a session, a widget or an AnnotatedImage, or several of them, got None"),
        ([3], "or several of them, got 3"),
        (np.zeros((1, 2, 2), bool), "expected a session"),
        ([picture([]), picture([])], r"two pictures are called 'a\.jpg': give a mapping"),
    ],
)
def test_what_is_no_session_raises(given, message, tmp_path: Path):
    with pytest.raises(FormatError, match=message):
        io.write_npz(tmp_path / "x.npz", given)


def test_pictures_that_would_share_a_file_raise(tmp_path: Path):
    images = [picture(["box"], "a.jpg"), picture(["box"], "a.png")]
    for write in (io.write_png, io.write_yolo, io.write_labelme, io.write_voc, FORMATS["png per instance"][0]):
        with pytest.raises(FormatError, match="two pictures would be written to "):
            write(tmp_path / "out", images)
    assert list(tmp_path.iterdir()) == []


def test_pictures_without_a_name_are_numbered_and_files_keep_theirs(tmp_path: Path):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    sessions = (Session(pixels, ToyModel()) for _ in range(2))
    io.write_npz(tmp_path / "x.npz", sessions)
    assert [i.file_name for i in io.read_npz(tmp_path / "x.npz")] == ["image_00001.png", "image_00002.png"]
    PILImage.fromarray(pixels).save(tmp_path / "cup.png")
    io.write_npz(tmp_path / "x.npz", Session(tmp_path / "cup.png", ToyModel()))
    assert [i.file_name for i in io.read_npz(tmp_path / "x.npz")] == ["cup.png"]


def test_a_frame_of_a_clip_is_a_picture(tmp_path: Path):
    video = VideoSession(np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), ToyModel())
    video.frame(1).set_mask(KINDS["box"])
    io.write_coco(tmp_path / "x.json", {"1.png": video.frame(1)})
    (back,) = io.read_coco(tmp_path / "x.json")
    np.testing.assert_array_equal(back.objects[0].mask.to_mask(), KINDS["box"])


def test_categories_are_those_on_offer_then_those_in_use(tmp_path: Path):
    session = Session(np.zeros((HEIGHT, WIDTH, 3), np.uint8), ToyModel(), classes=["zebra", "cat"])
    session.set_mask(KINDS["box"])
    session.set_label(1, "dog")
    io.write_yolo(tmp_path, iter([session]))
    lines = (tmp_path / "data.yaml").read_text().splitlines()
    assert lines[-4:] == ["names:", '  0: "zebra"', '  1: "cat"', '  2: "dog"']


def test_objects_are_loaded_beside_those_that_are_there_or_not_at_all():
    session = Session(np.zeros((HEIGHT, WIDTH, 3), np.uint8), ToyModel())
    session.set_mask(KINDS["box"])
    assert picture(["hole", "pixel"]).load_into(session) == (2, 3)
    assert session.labels == ["", "cat", "grüner Baum"]
    before = session.history
    for bad, message in (
        (picture(["box", "empty"]), r"object 2 \(grüner Baum\) of a\.jpg has an empty mask"),
        (picture(["box"], labels=["two\nlines"]), "a label must be one line of at most 200"),
        (io.AnnotatedImage("b.jpg", 5, 6), r"masks of b\.jpg are for 5 x 6 pixels, .* picture is 30 x 40"),
    ):
        with pytest.raises(FormatError, match=message):
            bad.load_into(session)
        assert session.history == before


def test_an_annotated_image_checks_its_objects():
    one = picture(["box"]).objects[0]
    with pytest.raises(FormatError, match=r"object 1 \(cat\) of x has a mask of 30 x 40 pixels, the picture is 3 x 4"):
        io.AnnotatedImage("x", 3, 4, (one,))
    for ids in ((1, 1), (0,), (-2,)):
        with pytest.raises(FormatError, match="an object_id must be 1 or more, and each once"):
            io.AnnotatedImage("", HEIGHT, WIDTH, tuple(replace(one, object_id=k) for k in ids))
