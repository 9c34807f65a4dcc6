"""Masks of a clip go out as files, and come back to be refined on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco

from sam3_widget import io
from sam3_widget.errors import FormatError, InvalidPromptError
from sam3_widget.video.frames import Frames
from sam3_widget.video.session import VideoSession
from tests.toy import ToyModel
from tests.video.test_session import BOX, EVERYTHING, HEIGHT, LENGTH, WIDTH, boxed, clip

if TYPE_CHECKING:
    from pathlib import Path

OTHER = (8, 40, 20, 52)


@pytest.fixture
def video() -> VideoSession:
    """Return a clip of two objects, one known on all frames, one from frame 4 to 7."""
    video = VideoSession(clip(), ToyModel(EVERYTHING))
    video.add_box(BOX, frame_idx=0)
    video.set_label(1, "chair")
    video.propagate()
    video.add_box(OTHER, frame_idx=4)
    video.propagate(stop=8)
    return video


def fresh() -> VideoSession:
    return VideoSession(clip(), ToyModel(EVERYTHING))


def assert_same_masks(ours: VideoSession, theirs: VideoSession) -> None:
    assert list(ours.masks) == list(theirs.masks)
    for frame_idx in ours.masks:
        assert ours.masks[frame_idx].keys() == theirs.masks[frame_idx].keys()
        for object_id, mask in ours.masks[frame_idx].items():
            np.testing.assert_array_equal(mask, theirs.masks[frame_idx][object_id])


def test_npz_comes_back(video, tmp_path: Path):
    io.write_clip_npz(tmp_path / "clip.npz", video)
    back = fresh()
    io.read_clip_npz(tmp_path / "clip.npz", back)
    assert_same_masks(video, back)
    assert [(o.object_id, o.label) for o in back.objects] == [(1, "chair"), (2, "")]
    with np.load(tmp_path / "clip.npz") as arrays:
        assert arrays["score"][1] == pytest.approx(0.8)


def test_loaded_masks_are_refined_on(video, tmp_path: Path):
    io.write_clip_npz(tmp_path / "clip.npz", video)
    back = fresh()
    io.read_clip_npz(tmp_path / "clip.npz", back)
    corrected = back.add_point(30, 12, positive=False, object_id=1, frame_idx=5)
    assert corrected.mask[20, 38]
    assert [f for f in back.masks if 1 in back.masks[f]] == list(range(6))
    back.propagate()
    assert [f for f in back.masks if 1 in back.masks[f]] == list(range(LENGTH))
    assert back.add_box(BOX, frame_idx=1).object_id == 3, "ids go on after those that were loaded"
    for _ in range(4):
        assert back.undo()
    assert back.objects == ()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_youtube_vis_comes_back_and_pycocotools_reads_its_masks(video, tmp_path: Path):
    io.write_youtube_vis(tmp_path / "clip.json", video)
    whole = json.loads((tmp_path / "clip.json").read_text())
    assert whole["videos"][0]["length"] == LENGTH
    assert [c["name"] for c in whole["categories"]] == ["chair", "object"]
    first, second = whole["annotations"]
    assert [s is None for s in second["segmentations"]] == [not 4 <= k < 8 for k in range(LENGTH)]
    for frame_idx, rle in enumerate(first["segmentations"]):
        np.testing.assert_array_equal(coco.decode(rle).astype(bool), boxed(frame_idx))
        assert first["bboxes"][frame_idx] == coco.toBbox(rle).tolist()
        assert first["areas"][frame_idx] == coco.area(rle)
    back = fresh()
    io.read_youtube_vis(tmp_path / "clip.json", back)
    assert_same_masks(video, back)
    assert [o.label for o in back.objects] == ["chair", "object"]


def test_png_folder_is_a_palette_of_ids_and_comes_back(video, tmp_path: Path):
    io.write_png_folder(tmp_path / "masks", video)
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == [f"{k:05d}.png" for k in range(LENGTH)]
    with PILImage.open(tmp_path / "masks" / "00005.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture) == 1, video.masks[5][1])
        np.testing.assert_array_equal(np.array(picture) == 2, video.masks[5][2])
        assert picture.getpalette()[3:9] == [128, 0, 0, 0, 128, 0], "the colours of DAVIS"
    back = fresh()
    io.read_png_folder(tmp_path / "masks", back)
    for frame_idx in range(LENGTH):
        for object_id in (1, 2):
            expected = video.masks[frame_idx].get(object_id, np.zeros((HEIGHT, WIDTH), bool))
            np.testing.assert_array_equal(back.masks[frame_idx][object_id], expected)


def test_png_folder_refuses_what_it_cannot_hold(video, tmp_path: Path):
    video.add_box((10, 12, 18, 20), frame_idx=0)
    with pytest.raises(FormatError, match=r'objects 1 and 3 overlap on frame 0.*overlaps="smaller"'):
        io.write_png_folder(tmp_path, video)
    io.write_png_folder(tmp_path, video, overlaps="smaller")
    with PILImage.open(tmp_path / "00000.png") as picture:
        assert np.count_nonzero(np.array(picture) == 3) == 64


def test_overlay_is_a_video_of_the_clip_in_the_colours_of_its_objects(video, tmp_path: Path):
    seen: list[float] = []
    io.write_overlay(tmp_path / "clip.mp4", video, opacity=1.0, progress=seen.append)
    frames = Frames.read(tmp_path / "clip.mp4")
    assert (len(frames), frames.height, frames.width) == (LENGTH, HEIGHT, WIDTH)
    colour = [int(video.objects[0].color[k : k + 2], 16) for k in (1, 3, 5)]
    np.testing.assert_allclose(frames[2][14:18, 20:24].mean((0, 1)), colour, atol=30)
    assert frames[2][40:, 50:].max() < 30
    assert seen[-1] == 1


def npz(**changed: object) -> dict[str, object]:
    arrays = {
        "object_id": [1],
        "frame_idx": [0],
        "score": [0.5],
        "counts": [0, HEIGHT * WIDTH],
        "start": [0, 2],
        "size": [HEIGHT, WIDTH],
        "ids": [1],
        "labels": [""],
    }
    return {name: np.array(value) for name, value in {**arrays, **changed}.items()}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"counts": [0, 5]}, FormatError, "the runs of mask 0 do not fill 60 x 80 pixels"),
        ({"counts": [0, 50], "size": [5, 10]}, InvalidPromptError, "object 1 on frame 0 is 5 x 10 pixels.*60 x 80"),
        ({"frame_idx": [LENGTH]}, InvalidPromptError, "object 1 on frame 10 .* frames 0 to 9"),
        ({"object_id": [0]}, InvalidPromptError, "object_id must be 1 or more"),
        ({"frame_idx": [0, 1]}, FormatError, "must be a file that write_clip_npz wrote"),
        ({"counts": np.array([None], object)}, FormatError, "must be a file that write_clip_npz wrote"),
    ],
)
def test_malformed_npz_changes_nothing(changed, error, message, tmp_path: Path):
    np.savez(tmp_path / "bad.npz", **npz(**changed))
    video = fresh()
    with pytest.raises(error, match=message):
        io.read_clip_npz(tmp_path / "bad.npz", video)
    assert not video.history
    assert video.objects == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a YouTube-VIS file"),
        ('{"videos": []}', "must be a YouTube-VIS file"),
        ('{"videos": [{"id": 1}, {"id": 2}]}', "has the videos 1, 2: give video_id"),
        (
            json.dumps(
                {
                    "videos": [{"id": 1}],
                    "categories": [{"id": 1, "name": "a"}],
                    "annotations": [
                        {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [{"size": [2, 2], "counts": [3]}]}
                    ],
                }
            ),
            "must sum to 2 x 2",
        ),
    ],
)
def test_malformed_youtube_vis_raises(text, message, tmp_path: Path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        io.read_youtube_vis(tmp_path / "bad.json", fresh())


def test_png_folder_without_masks_or_numbers_raises(tmp_path: Path):
    with pytest.raises(FormatError, match="holds no PNG file"):
        io.read_png_folder(tmp_path, fresh())
    PILImage.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "00000.png")
    with pytest.raises(FormatError, match=r"00000.png must be a palette or grey image .* got RGB"):
        io.read_png_folder(tmp_path, fresh())
    (tmp_path / "00000.png").rename(tmp_path / "first.png")
    with pytest.raises(FormatError, match=r"first\.png has no frame number"):
        io.read_png_folder(tmp_path, fresh())


def test_png_folder_that_cannot_be_written_whole_is_not_begun(video, tmp_path: Path):
    video.add_box((48, 12, 54, 20), frame_idx=9)
    with pytest.raises(FormatError, match="overlap on frame 9"):
        io.write_png_folder(tmp_path / "masks", video)
    assert list(tmp_path.iterdir()) == []
