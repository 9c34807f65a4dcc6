"""Masks in the types of other libraries."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PILImage

from sam3_widget import Session, io
from sam3_widget.errors import FormatError
from sam3_widget.io.rle import from_coco_rle
from tests.io.pictures import APART, HEIGHT, KINDS, WIDTH, picture
from tests.toy import ToyModel


@pytest.fixture
def session() -> Session:
    session = Session(np.full((HEIGHT, WIDTH, 3), 128, np.uint8), ToyModel(), classes=["zebra", "cat"])
    session.set_mask(KINDS["box"])
    session.set_label(1, "cat")
    session.add_point(30, 20)
    return session


def test_dataframe_has_a_row_for_each_object(session):
    pandas = pytest.importorskip("pandas")
    table = io.to_dataframe({"a.jpg": session, "b.jpg": picture(["hole"])})
    assert isinstance(table, pandas.DataFrame)
    first = table.iloc[0]
    assert first[["file_name", "object_id", "label", "area"]].tolist() == ["a.jpg", 1, "cat", KINDS["box"].sum()]
    assert first[["x1", "y1", "x2", "y2"]].tolist() == [2, 3, 9, 11]
    assert np.isnan(first["score"])
    assert table["score"][1] == pytest.approx(0.9)
    assert table["file_name"].tolist() == ["a.jpg", "a.jpg", "b.jpg"]
    size = table[["height", "width"]].to_numpy()
    masks = [from_coco_rle({"size": s, "counts": c}) for s, c in zip(size, table["rle"], strict=True)]
    np.testing.assert_array_equal(masks[1].to_mask(), session.masks[1])
    np.testing.assert_array_equal(masks[2].to_mask(), KINDS["hole"])


def test_dataframe_of_nothing_has_its_columns():
    pytest.importorskip("pandas")
    table = io.to_dataframe([])
    assert len(table) == 0
    assert list(table)[:6] == ["file_name", "height", "width", "object_id", "label", "score"]


def test_dataframe_has_a_column_for_each_attribute():
    pytest.importorskip("pandas")
    mask = picture(["box"]).objects[0].mask
    objects = (io.AnnotatedObject(1, "", mask, attributes={"occluded": True}), io.AnnotatedObject(2, "", mask))
    table = io.to_dataframe(io.AnnotatedImage("a.jpg", HEIGHT, WIDTH, objects))
    assert table["attributes.occluded"].tolist()[0] is True


def check_supervision(found, session) -> None:
    np.testing.assert_array_equal(found.mask, session.masks)
    np.testing.assert_array_equal(found.xyxy, session.boxes)
    np.testing.assert_array_equal(found.confidence, session.scores)
    assert found.class_id.tolist() == [1, 2]
    assert found.data["class_name"].tolist() == ["cat", "object"]
    assert found.data["object_id"].tolist() == [1, 2]


@pytest.mark.filterwarnings("default")
def test_supervision_takes_the_masks(session):
    supervision = pytest.importorskip("supervision")
    found = io.to_supervision(session)
    assert isinstance(found, supervision.Detections)
    check_supervision(found, session)
    assert len(found[found.class_id == 1]) == 1
    assert len(io.to_supervision(picture([]))) == 0


def test_supervision_is_given_the_fields_that_it_documents(session, monkeypatch):
    stand_in = ModuleType("supervision")
    stand_in.Detections = SimpleNamespace
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    found = io.to_supervision(session)
    check_supervision(found, session)
    assert set(vars(found)) == {"xyxy", "mask", "confidence", "class_id", "data"}
    with pytest.raises(FormatError, match="is of the class 'cat', but the classes are dog"):
        io.to_supervision(session, classes=["dog"])


def check_fiftyone(first, second) -> None:
    assert (first.label, first.confidence, first.index) == ("cat", None, 1)
    assert first.bounding_box == [2 / WIDTH, 3 / HEIGHT, 7 / WIDTH, 8 / HEIGHT]
    assert first.mask.shape == (8, 7)
    assert first.mask.all()
    assert (second.label, second.confidence) == ("object", pytest.approx(0.9))


@pytest.mark.filterwarnings("default")
def test_fiftyone_takes_the_masks(session):
    fiftyone = pytest.importorskip("fiftyone")
    found = io.to_fiftyone(session)
    assert isinstance(found, fiftyone.Detections)
    check_fiftyone(*found.detections)


def test_fiftyone_is_given_the_fields_that_it_documents(session, monkeypatch):
    stand_in = ModuleType("fiftyone")
    stand_in.Detection = stand_in.Detections = SimpleNamespace
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    found = io.to_fiftyone(session)
    check_fiftyone(*found.detections)
    assert set(vars(found.detections[0])) == {"label", "bounding_box", "mask", "confidence", "index"}
    with pytest.raises(FormatError, match="is empty, which FiftyOne cannot hold"):
        io.to_fiftyone(picture(["empty"]))


@pytest.mark.parametrize(
    ("function", "package"),
    [(io.to_supervision, "supervision"), (io.to_dataframe, "pandas"), (io.to_fiftyone, "fiftyone")],
)
def test_a_package_that_is_missing_is_named_with_its_command(function, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"this needs {package}: pip install {package}"):
        function(picture(["box"]))


@pytest.mark.filterwarnings("default")
def test_supervision_reads_what_is_written(tmp_path):
    supervision = pytest.importorskip("supervision")
    image = picture(APART)
    (tmp_path / "images").mkdir()
    PILImage.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.jpg")
    io.write_coco(tmp_path / "x.json", image)
    io.write_yolo(tmp_path, image, several="seams")
    whole = supervision.DetectionDataset.from_coco(str(tmp_path / "images"), str(tmp_path / "x.json"), force_masks=True)
    ((_, _, found),) = whole
    np.testing.assert_array_equal(found.mask, [o.mask.to_mask() for o in image.objects])
    assert [whole.classes[k] for k in found.class_id] == [o.label for o in image.objects]
    folders = (str(tmp_path / name) for name in ("images", "labels", "data.yaml"))
    whole = supervision.DetectionDataset.from_yolo(*folders, force_masks=True)
    ((_, _, found),) = whole
    assert [whole.classes[k] for k in found.class_id] == [o.label for o in image.objects]
    for mask, ours in zip(found.mask, image.objects, strict=True):
        assert not (ours.mask.to_mask() & ~mask).any(), "it paints the line as well"
