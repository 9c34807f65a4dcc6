"""COCO files are what pycocotools reads, and its masks are ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sam3_widget import io
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from tests.io.pictures import APART, HEIGHT, KINDS, WIDTH, noise, picture

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def by_pycocotools(path: Path) -> tuple[COCO, dict[str, list[np.ndarray]]]:
    """Return the masks of each picture as pycocotools makes them, in order."""
    loaded = COCO(str(path))
    names = {i["id"]: i["file_name"] for i in loaded.dataset["images"]}
    masks: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for annotation in loaded.loadAnns(loaded.getAnnIds()):
        masks[names[annotation["image_id"]]].append(loaded.annToMask(annotation).astype(bool))
    return loaded, masks


@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
def test_pycocotools_reads_the_same_masks(segmentation, tmp_path: Path):
    images = [picture(tuple(KINDS)), picture(APART, "b.jpg"), *(noise(k, f"{k}.png") for k in range(8))]
    io.write_coco(tmp_path / "x.json", images, segmentation=segmentation)
    loaded, masks = by_pycocotools(tmp_path / "x.json")
    for image in images:
        for found, mask in zip(image.objects, masks[image.file_name], strict=True):
            np.testing.assert_array_equal(found.mask.to_mask(), mask)
    for annotation in loaded.dataset["annotations"]:
        rle = loaded.annToRLE(annotation)
        assert annotation["area"] == coco_mask.area(rle)
        assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
    assert [c["name"] for c in loaded.cats.values()][:3] == ["cat", "grüner Baum", "<dog & co>"]


def test_polygons_are_lists_for_parts_and_run_lengths_for_holes(tmp_path: Path):
    io.write_coco(tmp_path / "x.json", picture(["parts", "hole", "pixel", "empty"]), segmentation="polygon")
    shapes = [a["segmentation"] for a in json.loads((tmp_path / "x.json").read_text())["annotations"]]
    assert [type(shape) for shape in shapes] == [list, dict, list, dict]
    assert len(shapes[0]) == 3
    assert shapes[2] == [[39, 29, 40, 29, 40, 30, 39, 30]]


def test_polygons_off_the_grid_are_nearly_those_of_pycocotools(tmp_path: Path):
    rng = np.random.default_rng(3)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radius = rng.uniform(60, 90, 40)
    ring = np.stack([100 + radius * np.cos(angles), 90 + radius * np.sin(angles)], 1).ravel().tolist()
    (tmp_path / "x.json").write_text(document(segmentation=[ring], size=(200, 220)))
    (found,) = io.read_coco(tmp_path / "x.json")[0].objects
    mask = found.mask.to_mask()
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([ring], 200, 220))).astype(bool)
    assert np.count_nonzero(mask & theirs) / np.count_nonzero(mask | theirs) > 0.98


def test_scores_attributes_crowds_and_ids_come_back(tmp_path: Path):
    mask = RunLengths.from_mask(KINDS["parts"])
    objects = (
        io.AnnotatedObject(7, "cat", mask, 0.25, {"occluded": True, "iscrowd": 1}),
        io.AnnotatedObject(3, "", mask),
    )
    io.write_coco(tmp_path / "x.json", io.AnnotatedImage("a.jpg", HEIGHT, WIDTH, objects))
    first, second = json.loads((tmp_path / "x.json").read_text())["annotations"]
    assert (first["id"], first["object_id"], first["iscrowd"], first["attributes"]) == (1, 7, 1, {"occluded": True})
    assert "score" not in second
    back = io.read_coco(tmp_path / "x.json")[0].objects
    assert [(o.object_id, o.label) for o in back] == [(7, "cat"), (3, "object")]
    assert back[0].attributes == {"occluded": True, "iscrowd": 1}
    assert back[0].score == 0.25
    assert np.isnan(back[1].score)


def test_ids_of_annotations_stand_in_for_those_of_objects(tmp_path: Path):
    (tmp_path / "x.json").write_text(document(segmentation=[[0, 0, 2, 0, 2, 2]], size=(4, 5)))
    (image,) = io.read_coco(tmp_path / "x.json")
    assert (image.file_name, image.height, image.width) == ("a.jpg", 4, 5)
    assert [o.object_id for o in image.objects] == [900]


def document(
    *, segmentation: object = None, size: tuple[int, int] = (HEIGHT, WIDTH), without: str = "", **changed: object
) -> str:
    whole = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": [{"id": 900, "image_id": 5, "category_id": 2, "segmentation": segmentation, **changed}],
    }
    return json.dumps({key: value for key, value in whole.items() if key != without})


SQUARE = [[0, 0, 2, 0, 2, 2, 0, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"x\.json must be COCO instances .*, but it is not JSON"),
        ("[" * 100_000, "but it is not JSON"),
        ("[1]", "a JSON object, got list"),
        ("{}", r"must be COCO instances with images, annotations and categories \(KeyError\('categories'\)\)"),
        (document(segmentation=SQUARE, without="images"), "KeyError\\('images'\\)"),
        (document(segmentation=SQUARE, category_id=3), r"annotation 900 .* the category 3, but the file has 2 \(cat\)"),
        (document(segmentation=SQUARE, image_id=6), "annotation 900 .* of the picture 6, which the file does not list"),
        (document(segmentation=SQUARE, image_id="x"), "must be COCO instances"),
        (document(segmentation=SQUARE, attributes=3), "must be COCO instances"),
        (document(), "annotation 900 .* polygons or run lengths as its segmentation, got None"),
        (document(segmentation=[[0, 0, 1, 1]]), r"polygons \[x1, y1, x2, y2, x3, y3, ...\], got \[0, 0, 1, 1\]"),
        (document(segmentation=[[0, 0, 1, 1, 2, 2, 3]]), "annotation 900 .* must have polygons"),
        (document(segmentation=[[0, 0, 1, 1, 2, float("nan")]]), "annotation 900 .* must have polygons"),
        (document(segmentation=[["a"] * 6]), "must be COCO instances"),
        (document(segmentation={"size": [2, 3], "counts": [6]}), "900 .* mask of 2 x 3 pixels, its picture 30 x 40"),
        (document(segmentation={"size": [30, 40], "counts": [6]}), "must sum to 30 x 40 pixels, got 6"),
        (document(segmentation={"counts": [6]}), "a run-length mask must be"),
    ],
)
def test_malformed_files_raise(text, message, tmp_path: Path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        io.read_coco(tmp_path / "x.json")


def test_two_annotations_of_one_id_raise(tmp_path: Path):
    whole = json.loads(document(segmentation=SQUARE))
    whole["annotations"] *= 2
    (tmp_path / "x.json").write_text(json.dumps(whole))
    with pytest.raises(FormatError, match=r"object 900 \(cat\) of a.jpg: an object_id must be .* each once"):
        io.read_coco(tmp_path / "x.json")


def test_a_missing_file_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        io.read_coco(tmp_path / "x.json")
