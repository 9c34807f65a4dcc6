"""Formats of several files: what is in the files, what else is read, and which files are refused."""

from __future__ import annotations

import base64
import json
import sys
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image as PILImage

from sam3_widget import io
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from tests.io.pictures import APART, HEIGHT, KINDS, WIDTH, assert_same, noise, picture

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (HEIGHT, WIDTH)


def image_file(path: Path, size: tuple[int, int] = SIZE, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.new("RGB", size[::-1]).save(path, **options)


# YOLO


def test_yolo_files_are_what_ultralytics_expects(tmp_path: Path):
    io.write_yolo(tmp_path, {"train/a.jpg": picture(["box", "pixel"])}, classes=["cat", "grüner Baum", 'a "b": c'])
    settings = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
    assert settings == {
        "path": ".",
        "train": "images",
        "val": "images",
        "names": {0: "cat", 1: "grüner Baum", 2: 'a "b": c'},
    }
    lines = (tmp_path / "labels" / "train" / "a.txt").read_text().splitlines()
    assert lines[0] == "0 0.05 0.1 0.225 0.1 0.225 0.366666667 0.05 0.366666667"
    assert lines[1].split()[0] == "1"


def test_yolo_masks_are_those_that_opencv_fills_but_for_the_pen(tmp_path: Path):
    """Ultralytics fills polygons with OpenCV, which paints pixels that the line only touches as well."""
    image = picture(["box", "corner", "parts", "hole"])
    io.write_yolo(tmp_path, image, several="seams")
    for line, found in zip((tmp_path / "labels" / "a.txt").read_text().splitlines(), image.objects, strict=True):
        ring = np.array(line.split()[1:], np.float64).reshape(-1, 2) * (WIDTH, HEIGHT)
        filled = cv2.fillPoly(np.zeros(SIZE, np.uint8), [ring.round().astype(np.int32)], 1).astype(bool)
        mask = found.mask.to_mask()
        assert not (mask & ~filled).any()
        pen = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        for seam in cv2.polylines(np.zeros(SIZE, np.uint8), [ring.round().astype(np.int32)], isClosed=True, color=1):
            pen |= seam.astype(bool)
        assert not (filled & ~pen).any()


def test_yolo_sizes_come_from_the_pictures_upright(tmp_path: Path):
    image = picture(["box", "corner"])
    io.write_yolo(tmp_path, image)
    turned = PILImage.Exif()
    turned[0x0112] = 6
    image_file(tmp_path / "images" / "a.jpg", (WIDTH, HEIGHT), exif=turned)
    image_file(tmp_path / "images" / "b" / "none.png", (7, 5))
    (tmp_path / "images" / "notes.md").write_text("no picture")
    first, second = io.read_yolo(tmp_path)
    assert_same([image], [first], scores=False)
    assert (second.file_name, second.height, second.width, second.objects) == ("b/none.png", 7, 5, ())


def test_yolo_reads_lists_of_names_and_names_that_are_given(tmp_path: Path):
    io.write_yolo(tmp_path, picture(["box"]))
    (tmp_path / "data.yaml").write_text("names: [dog, cow]\n")
    sizes = {"a.jpg": SIZE}
    assert io.read_yolo(tmp_path, sizes=sizes)[0].objects[0].label == "dog"
    (tmp_path / "data.yaml").unlink()
    assert io.read_yolo(tmp_path, sizes=sizes, classes=["x"])[0].objects[0].label == "x"
    with pytest.raises(FileNotFoundError):
        io.read_yolo(tmp_path, sizes=sizes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0 0 1 0 1 1", r"line 1 of .*a\.txt has the class 1, but there are 0 \(cat\)"),
        ("0.5 0 0 1 0 1 1", "line 1 of .* must be a class and numbers"),
        ("cat 0 0 1 0 1 1", "line 1 of .* must be a class and numbers"),
        ("0 0.5 0.5 0.2 0.2", "line 1 of .*: this is a box, not a polygon"),
        ("0 0 0 1 0 1", "line 1 of .* must be a class and x1 y1"),
        ("0 0 0 1 0 1 1 0", "line 1 of .* must be a class and x1 y1"),
        ("0 0 0 1 0 1 nan", "line 1 of .* must be a class and x1 y1"),
        ("0 0 0 40 0 40 30", "line 1 of .* must have parts of width and height, 0 to 1"),
        ("\n\n0 0 0 -0.1 0 1 1", "line 3 of .* must have parts of width and height"),
    ],
)
def test_malformed_yolo_lines_raise(line, message, tmp_path: Path):
    io.write_yolo(tmp_path, picture(["box"], labels=["cat"]))
    (tmp_path / "labels" / "a.txt").write_text(line)
    with pytest.raises(FormatError, match=message):
        io.read_yolo(tmp_path, sizes={"a.jpg": SIZE})


def test_malformed_yolo_folders_raise(tmp_path: Path, monkeypatch):
    with pytest.raises(FormatError, match="holds no pictures in images and no text files in labels"):
        io.read_yolo(tmp_path, classes=[])
    io.write_yolo(tmp_path, picture(["box"]))
    with pytest.raises(FormatError, match=r"a\.txt has no picture below .*images: .* put it there or give sizes"):
        io.read_yolo(tmp_path)
    with pytest.raises(FormatError, match=r"a\.txt has no picture in sizes"):
        io.read_yolo(tmp_path, sizes={"b.jpg": SIZE})
    with pytest.raises(FormatError, match=r"the pictures a\.jpg and a\.png would share a\.txt"):
        io.read_yolo(tmp_path, sizes={"a.jpg": SIZE, "a.png": SIZE})
    image_file(tmp_path / "images" / "a.jpg")
    for text in ("", "names: 3", "names: {a: b}", "[", "path: ."):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(FormatError, match=r"must be the data\.yaml of a YOLO data set, with names"):
            io.read_yolo(tmp_path)
    (tmp_path / "images" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(FormatError, match=r"a\.jpg cannot be read as a picture"):
        io.read_yolo(tmp_path, classes=["cat"])
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match="pip install pyyaml, or give classes"):
        io.read_yolo(tmp_path)


# PNG


def test_label_maps_are_palettes_of_ids_and_deeper_above_255(tmp_path: Path):
    image = picture(APART)
    io.write_png(tmp_path, image)
    with PILImage.open(tmp_path / "a.png") as shown:
        assert shown.mode == "P"
        assert shown.getpalette()[3:9] == [128, 0, 0, 0, 128, 0], "the colours of DAVIS"
        np.testing.assert_array_equal(np.array(shown) == 2, KINDS["box"])
    mask = RunLengths.from_mask(KINDS["box"])
    deep = io.AnnotatedImage("a.jpg", *SIZE, (io.AnnotatedObject(65535, "", mask),))
    io.write_png(tmp_path, deep)
    assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).max() == 65535
    assert_same([deep], io.read_png(tmp_path))
    deeper = io.AnnotatedImage("a.jpg", *SIZE, (io.AnnotatedObject(65536, "", mask),))
    with pytest.raises(FormatError, match=r"object_ids up to 65535, got 65536 of a\.jpg"):
        io.write_png(tmp_path, deeper)
    io.write_png(tmp_path / "each", deeper, layout="per_instance")
    assert_same([deeper], io.read_png(tmp_path / "each"))


def test_masks_per_instance_are_black_and_white(tmp_path: Path):
    io.write_png(tmp_path, picture(["box", "hole"], "b/a.jpg"), layout="per_instance")
    for k, name in ((1, "box"), (2, "hole")):
        mask = cv2.imread(str(tmp_path / "b" / f"a_{k:04d}.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(mask, KINDS[name] * np.uint8(255))


@pytest.mark.parametrize("layout", ["label_map", "per_instance"])
def test_folders_of_masks_from_elsewhere_are_read(layout, tmp_path: Path):
    image = noise(2, "b/a.png")
    io.write_png(tmp_path, image, layout=layout)
    (tmp_path / "objects.json").unlink()
    (back,) = io.read_png(tmp_path, layout=layout)
    assert (back.file_name, [o.label for o in back.objects]) == ("b/a.png", [""] * len(image.objects))
    for mine, found in zip(image.objects, back.objects, strict=True):
        np.testing.assert_array_equal(mine.mask.to_mask(), found.mask.to_mask())


def spoil(path: Path, values: np.ndarray) -> None:
    PILImage.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "a.png").unlink(), r"a\.png is missing"),
        (lambda f: (f / "a.png").write_bytes(b"no"), r"a\.png cannot be read as a picture"),
        (lambda f: spoil(f / "a.png", np.ones((3, 4), np.uint8)), r"a\.png must be of 30 x 40 pixels, got 3 x 4"),
        (lambda f: spoil(f / "a.png", np.ones((*SIZE, 3), np.uint8)), "must be a palette or grey picture .* got RGB"),
        (lambda f: spoil(f / "a.png", np.full(SIZE, 9, np.uint8)), r"the objects 1 as objects\.json says, got 9"),
        (lambda f: spoil(f / "a.png", np.zeros(SIZE, np.uint8)), r"the objects 1 as objects\.json says, got none"),
        (lambda f: (f / "objects.json").write_text("{"), "it is not JSON"),
        (lambda f: (f / "objects.json").write_text("{}"), r"the list of a folder that write_png wrote \(KeyError"),
        (lambda f: (f / "objects.json").write_text('{"layout": 3}'), "layout in .* must be 'label_map' or"),
        (lambda f: (f / "objects.json").write_text('{"layout": "label_map", "images": [3]}'), "TypeError"),
    ],
)
def test_malformed_png_folders_raise(change, message, tmp_path: Path):
    io.write_png(tmp_path, picture(["box"]))
    change(tmp_path)
    with pytest.raises(FormatError, match=message):
        io.read_png(tmp_path)


def test_malformed_png_folders_without_a_list_raise(tmp_path: Path):
    with pytest.raises(FormatError, match="holds no PNG file"):
        io.read_png(tmp_path)
    spoil(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    with pytest.raises(FormatError, match=r"a\.png has no object_id at the end of its name"):
        io.read_png(tmp_path, layout="per_instance")
    (tmp_path / "a.png").rename(tmp_path / "a_1.png")
    with pytest.raises(FormatError, match="0 outside and one other value inside, got 12"):
        io.read_png(tmp_path, layout="per_instance")
    spoil(tmp_path / "a_1.png", np.ones((3, 4), np.uint8))
    spoil(tmp_path / "a_2.png", np.ones((3, 5), np.uint8))
    with pytest.raises(FormatError, match=r"a_2\.png must be of 3 x 4 pixels, got 3 x 5"):
        io.read_png(tmp_path, layout="per_instance")


# LabelMe


def labelme(*shapes: dict[str, object], **changed: object) -> dict[str, object]:
    whole = {"version": "5.0", "flags": {}, "imagePath": "a.jpg", "imageData": None}
    return {**whole, "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": list(shapes), **changed}


def shape(points: object, kind: str | None = "polygon", label: object = "cat", **more: object) -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def png64(mask: np.ndarray) -> str:
    buffer = BytesIO()
    PILImage.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


TRIANGLE = [[0, 0], [4, 0], [0, 4]]


def test_labelme_files_hold_polygons_masks_and_groups(tmp_path: Path):
    io.write_labelme(tmp_path, picture(["parts", "hole", "box"], "b/a.jpg"))
    whole = json.loads((tmp_path / "b" / "a.json").read_text(encoding="utf-8"))
    assert (whole["imagePath"], whole["imageHeight"], whole["imageWidth"]) == ("a.jpg", HEIGHT, WIDTH)
    found = [(s["label"], s["shape_type"], s["group_id"]) for s in whole["shapes"]]
    assert found == [("cat", "polygon", 1)] * 3 + [("grüner Baum", "mask", 2), ("<dog & co>", "polygon", 3)]
    hole = whole["shapes"][3]
    (x1, y1), (x2, y2) = hole["points"]
    with PILImage.open(BytesIO(base64.b64decode(hole["mask"]))) as crop:
        np.testing.assert_array_equal(np.array(crop), KINDS["hole"][y1 : y2 + 1, x1 : x2 + 1], "ends are inclusive")


def test_labelme_shapes_of_other_kinds_are_read(tmp_path: Path):
    crop = np.array([[0, 255], [255, 255]], np.uint8)
    shapes = [
        shape(TRIANGLE, None),
        shape([[8, 6], [2, 3]], "rectangle"),
        shape([[20, 10], [24, 10]], "circle"),
        shape([[10, 20], [14, 20], [14, 24], [10, 24]], "oriented_rectangle"),
        shape([[38, 28], [39, 29]], "mask", mask=png64(crop)),
        shape([[-500, -500], [-490, -500]], "circle"),
    ]
    (tmp_path / "a.json").write_text(json.dumps(labelme(*shapes)))
    (image,) = io.read_labelme(tmp_path / "a.json")
    triangle, rectangle, circle, turned, mask, outside = (o.mask for o in image.objects)
    assert triangle.area == 6
    assert rectangle.bbox == (2, 3, 8, 6)
    assert rectangle.area == 18
    assert circle.bbox == (16, 6, 24, 14)
    assert abs(circle.area - np.pi * 16) < 3
    assert turned.area == 16
    np.testing.assert_array_equal(mask.window(38, 28, 40, 30), crop > 0)
    assert outside.area == 0


def test_labelme_groups_of_one_label_are_one_object(tmp_path: Path):
    shapes = [
        shape([[0, 0], [2, 2]], "rectangle", group_id=3),
        shape([[5, 5], [7, 7]], "rectangle", group_id=3, label="dog"),
        shape([[10, 10], [12, 12]], "rectangle", group_id=3),
        shape([[20, 20], [22, 22]], "rectangle"),
        shape([[1, 1], [3, 3]], "rectangle", group_id=0, score=0.5),
    ]
    (tmp_path / "a.json").write_text(json.dumps(labelme(*shapes, imagePath=r"..\pictures\a.jpg")))
    (image,) = io.read_labelme(tmp_path)
    assert image.file_name == "a.jpg"
    assert [(o.object_id, o.label, o.mask.area) for o in image.objects] == [
        (3, "cat", 8),
        (1, "dog", 4),
        (2, "cat", 4),
        (4, "cat", 4),
    ]
    assert image.objects[3].score == 0.5


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ([], "must be a LabelMe file .*: a JSON object, got list"),
        ({}, r"a\.json: it must be a LabelMe file with imagePath, imageHeight, .*KeyError\('imageHeight'\)"),
        (labelme(imageHeight=None), "it must be a LabelMe file"),
        (labelme(shape([[3, 4]], "point")), "a point must have 3 or more points, got 1"),
        (labelme(shape(TRIANGLE, "linestrip")), "a shape of the kind 'linestrip' has no mask"),
        (labelme(shape(TRIANGLE[:2])), "a polygon must have 3 or more points, got 2"),
        (labelme(shape(TRIANGLE, "circle")), "a circle must have 2 points, got 3"),
        (labelme(shape([1, 2, 3])), r"the points of a shape must be \[\[x, y\], ...\] in pixels"),
        (labelme(shape([[1, 2], [3, 4], ["a", 5]])), "it must be a LabelMe file"),
        (labelme({"points": TRIANGLE}), "KeyError"),
        (labelme(shape([[0, 0], [1, 1]], "mask")), "KeyError"),
        (labelme(shape([[0, 0], [1, 1]], "mask", mask="abc")), "it must be a LabelMe file"),
        (labelme(shape([[0, 0], [1, 1]], "mask", mask=png64(np.ones((3, 3), bool)))), "a mask must cover its points"),
        (labelme(shape([[39, 0], [41, 2]], "mask", mask=png64(np.ones((3, 3), bool)))), "in the picture of 30 x 40"),
    ],
)
def test_malformed_labelme_raises(whole, message, tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(FormatError, match=message):
        io.read_labelme(tmp_path)


# Pascal VOC


def test_voc_files_have_classes_objects_and_boxes_from_one(tmp_path: Path):
    image = picture(APART)
    io.write_voc(tmp_path, image, classes=["<dog & co>", "grüner Baum", "cat"])
    labels = (tmp_path / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    assert labels[1:3] == ["background:0,0,0::", "<dog & co>:128,0,0::"]
    with PILImage.open(tmp_path / "SegmentationClass" / "a.png") as shown:
        np.testing.assert_array_equal(np.array(shown)[KINDS["box"]], 2)
        np.testing.assert_array_equal(np.array(shown)[KINDS["corner"]], 1)
    with PILImage.open(tmp_path / "SegmentationObject" / "a.png") as shown:
        np.testing.assert_array_equal(np.array(shown)[KINDS["box"]], 2)
    tree = ET.parse(tmp_path / "Annotations" / "a.xml")  # noqa: S314 - our own
    assert tree.findtext("segmented") == "1"
    assert [n.text for n in tree.findall("object/name")][:3] == ["cat", "grüner Baum", "<dog & co>"]
    assert [n.text for n in tree.findall("object/bndbox")[1]] == ["3", "4", "9", "11"], "the last pixel is inside"


def test_voc_leaves_void_pixels_out_and_pictures_for_detection_alone(tmp_path: Path):
    io.write_voc(tmp_path, {"a.jpg": picture(["box"]), "b.jpg": picture(["box"]), "c.jpg": picture(["box", "hole"])})
    values = np.where(KINDS["box"], 1, 255).astype(np.uint8)
    spoil(tmp_path / "SegmentationObject" / "a.png", values)
    spoil(tmp_path / "SegmentationObject" / "c.png", values)
    (tmp_path / "SegmentationObject" / "b.png").unlink()
    xml = tmp_path / "Annotations" / "b.xml"
    xml.write_text(xml.read_text().replace("<segmented>1", "<segmented>0"))
    first, last = io.read_voc(tmp_path)
    np.testing.assert_array_equal(first.objects[0].mask.to_mask(), KINDS["box"])
    assert [o.mask.area for o in last.objects] == [KINDS["box"].sum(), 0], "an object may have no pixel of its own"


def test_voc_holds_254_objects(tmp_path: Path):
    masks = np.eye(254, dtype=bool).reshape(254, 1, 254)
    objects = [io.AnnotatedObject(k, "", RunLengths.from_mask(mask)) for k, mask in enumerate(masks, 1)]
    io.write_voc(tmp_path, io.AnnotatedImage("a.jpg", 1, 254, tuple(objects)))
    (back,) = io.read_voc(tmp_path)
    assert len(back.objects) == 254
    more = io.AnnotatedObject(255, "", RunLengths.empty(1, 254))
    with pytest.raises(FormatError, match="254 objects in a picture and 254 classes, got 255"):
        io.write_voc(tmp_path, io.AnnotatedImage("a.jpg", 1, 254, (*objects, more)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "Annotations" / "a.xml").unlink(), "holds no XML file"),
        (lambda f: (f / "Annotations" / "a.xml").write_text("<a>"), r"a\.xml must be a Pascal VOC annotation"),
        (lambda f: (f / "Annotations" / "a.xml").write_text("<a/>"), r"\(size/height is missing\)"),
        (lambda f: replaced(f, "<height>30", "<height>x"), "must be a Pascal VOC annotation"),
        (lambda f: replaced(f, "<height>30", "<height>31"), r"a\.png must be of 31 x 40 pixels, got 30 x 40"),
        (lambda f: replaced(f, "<name>cat</name>", ""), r"\(name is missing\)"),
        (lambda f: (f / "SegmentationObject" / "a.png").unlink(), r"a\.png is missing"),
        (lambda f: spoil(f / "SegmentationObject" / "a.png", np.full(SIZE, 3, np.uint8)), "the object 3, .* lists 1"),
    ],
)
def test_malformed_voc_raises(change, message, tmp_path: Path):
    io.write_voc(tmp_path, picture(["box"]))
    change(tmp_path)
    with pytest.raises(FormatError, match=message):
        io.read_voc(tmp_path)


def replaced(folder: Path, old: str, new: str) -> None:
    xml = folder / "Annotations" / "a.xml"
    assert old in xml.read_text()
    xml.write_text(xml.read_text().replace(old, new))


# npz


def npz(**changed: object) -> dict[str, np.ndarray]:
    arrays = {
        "file_name": ["a.jpg"],
        "size": [[2, 3]],
        "image": [0],
        "object_id": [1],
        "label": ["cat"],
        "score": [0.5],
        "attributes": ["{}"],
        "counts": [0, 6],
        "start": [0, 2],
    }
    return {name: np.array(value) for name, value in {**arrays, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"counts": [0, 5]}, "the runs of mask 0 do not fill 2 x 3 pixels"),
        ({"counts": [8, -2]}, "do not fill"),
        ({"counts": [1, 0, 5], "start": [0, 3]}, "do not fill"),
        ({"image": [1]}, "mask 0 is of picture 1, of 1"),
        ({"image": [0, 0]}, "must be a file that write_npz wrote"),
        ({"size": None}, "must be a file that write_npz wrote"),
        ({"size": [2, 3]}, "must be a file that write_npz wrote"),
        ({"file_name": []}, "must be a file that write_npz wrote"),
        ({"attributes": ["{"]}, "must be a file that write_npz wrote"),
        ({"start": [0]}, "must be a file that write_npz wrote"),
        ({"label": np.array([None], object)}, "must be a file that write_npz wrote"),
        ({"object_id": [0]}, "an object_id must be 1 or more"),
    ],
)
def test_malformed_npz_raises(changed, message, tmp_path: Path):
    np.savez(tmp_path / "x.npz", **npz())
    assert io.read_npz(tmp_path / "x.npz")[0].objects[0].mask.area == 6
    np.savez(tmp_path / "x.npz", **npz(**changed))
    with pytest.raises(FormatError, match=message):
        io.read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_files_that_are_no_npz_raise(data, tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(FormatError, match="must be a file that write_npz wrote"):
        io.read_npz(tmp_path / "x.npz")
