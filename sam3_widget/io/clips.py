"""Masks of a clip as files: a folder of PNG, YouTube-VIS, npz, and a video to look at."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image as PILImage

from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError
from sam3_widget.io.coco import to_xywh
from sam3_widget.io.label_map import to_png
from sam3_widget.io.rle import from_coco_rle, to_coco_rle
from sam3_widget.models.base import no_progress
from sam3_widget.saving.files import write_atomically, write_into

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from sam3_widget.models.base import Progress
    from sam3_widget.video.session import VideoSession

_MOST_IDS = 255
_FPS = 25.0


@dataclass
class ClipMasks:
    """Masks of the objects of a clip, as files hold them.

    Attributes
    ----------
    masks : dict
        ``masks[object_id][frame_idx]``.
    labels : dict
        Class names by ``object_id``, where there is one.
    """

    masks: dict[int, dict[int, RunLengths]] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)

    def put(self, object_id: int, frame_idx: int, mask: RunLengths) -> None:
        """Add a mask."""
        self.masks.setdefault(object_id, {})[frame_idx] = mask


def write_png_folder(
    folder: str | os.PathLike[str], video: VideoSession, *, overlaps: Literal["error", "smaller"] = "error"
) -> None:
    """Write ``00000.png``, ``00001.png``, …: a palette image for each frame on which anything is known.

    The value of a pixel is the ``object_id`` that it shows, 0 for none, and the palette is that of DAVIS 2017.

    Parameters
    ----------
    folder : path
        Made where it is missing; files of these names in it are replaced.
    video : VideoSession
    overlaps : {"error", "smaller"}
        What becomes of a pixel of two objects: an image of this kind holds one. ``"smaller"`` gives it to the object of
        the smaller area.

    Raises
    ------
    FormatError
        Two objects overlap, or an ``object_id`` is above 255.
    """
    files: dict[str, bytes | str] = {}
    for frame_idx in video.masks:
        shown = {object_id: mask for object_id, mask in video.masks[frame_idx].items() if mask.any()}
        if max(shown, default=0) > _MOST_IDS:
            message = f"a palette image holds object_ids up to {_MOST_IDS}, got {max(shown)} on frame {frame_idx}"
            raise FormatError(message)
        values = np.zeros((video.height, video.width), np.uint16)
        for object_id, mask in sorted(shown.items(), key=lambda item: -np.count_nonzero(item[1])):
            covered = np.unique(values[mask & (values > 0)])
            if overlaps == "error" and len(covered):
                message = (
                    f"objects {int(covered[0])} and {object_id} overlap on frame {frame_idx}, and a palette image "
                    'holds one object for each pixel: write npz or YouTube-VIS, or give overlaps="smaller"'
                )
                raise FormatError(message)
            values[mask] = object_id
        files[f"{frame_idx:05d}.png"] = to_png(values)
    write_into(folder, files)


def read_png_folder(folder: str | os.PathLike[str], video: VideoSession) -> None:
    """Load what :func:`write_png_folder` wrote, or DAVIS has, into a session of the clip; one step of its history.

    The number in a file's name is its frame. An object is taken to be out of view on the frames that have a file
    without it.
    """
    found = ClipMasks()
    values: dict[int, NDArray[np.uint8]] = {}
    for path in sorted(Path(folder).glob("*.png")):
        number = re.search(r"(\d+)$", path.stem)
        if number is None:
            message = f"{path.name} has no frame number at the end of its name"
            raise FormatError(message)
        with PILImage.open(path) as picture:
            if picture.mode not in {"P", "L"}:
                message = f"{path.name} must be a palette or grey image whose values are object_ids, got {picture.mode}"
                raise FormatError(message)
            values[int(number[1])] = np.array(picture)
    if not values:
        message = f"{str(folder)!r} holds no PNG file"
        raise FormatError(message)
    ids = sorted({int(value) for frame in values.values() for value in np.unique(frame)} - {0})
    for frame_idx, frame in values.items():
        for object_id in ids:
            found.put(object_id, frame_idx, RunLengths.from_mask(frame == object_id))
    video.load_masks(found.masks)


def write_youtube_vis(path: str | os.PathLike[str], video: VideoSession) -> None:
    """Write the masks as YouTube-VIS, COCO's format for video: one annotation for each object, null where unknown.

    Masks are compressed run lengths; an object without a label is of the category ``"object"``. Beyond the format each
    annotation has the ``scores`` of its frames.
    """
    names = list(dict.fromkeys(o.label or "object" for o in video.objects))
    name = video.name or "clip"
    annotations = []
    for shared in video.objects:
        runs = video.runs(shared.object_id)
        scores = {frame_idx: video.scores[frame_idx][shared.object_id] for frame_idx in runs}
        each = [runs.get(frame_idx) for frame_idx in range(len(video))]
        annotations.append(
            {
                "id": shared.object_id,
                "video_id": 1,
                "category_id": names.index(shared.label or "object") + 1,
                "iscrowd": 0,
                "width": video.width,
                "height": video.height,
                "length": len(video),
                "segmentations": [None if mask is None else to_coco_rle(mask) for mask in each],
                "bboxes": [None if mask is None else to_xywh(mask) for mask in each],
                "areas": [None if mask is None else mask.area for mask in each],
                "scores": [None if np.isnan(scores.get(k, np.nan)) else scores[k] for k in range(len(video))],
            }
        )
    files = [f"{name}/{frame_idx:05d}.jpg" for frame_idx in range(len(video))]
    whole = {
        "videos": [{"id": 1, "width": video.width, "height": video.height, "length": len(video), "file_names": files}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        "annotations": annotations,
    }
    write_atomically(path, json.dumps(whole))


def read_youtube_vis(path: str | os.PathLike[str], video: VideoSession, *, video_id: int | None = None) -> None:
    """Load the annotations of one video of a YouTube-VIS file into a session of it; one step of its history.

    Parameters
    ----------
    path : path
    video : VideoSession
    video_id : int, optional
        Which of the file's videos; needed where it has several.

    Raises
    ------
    FormatError
        The file is no YouTube-VIS, or its masks are of another size or length than the clip.
    """
    try:
        whole = json.loads(Path(path).read_text(encoding="utf-8"))
        videos = {int(v["id"]): v for v in whole["videos"]}
        if video_id is None and len(videos) > 1:
            message = f"{path} has the videos {', '.join(map(str, videos))}: give video_id"
            raise FormatError(message)
        chosen = next(iter(videos)) if video_id is None else video_id
        names = {int(c["id"]): str(c["name"]) for c in whole["categories"]}
        found = ClipMasks()
        for annotation in whole["annotations"]:
            if int(annotation["video_id"]) != chosen:
                continue
            object_id = int(annotation["id"])
            found.labels[object_id] = names[int(annotation["category_id"])]
            for frame_idx, rle in enumerate(annotation["segmentations"]):
                if rle is not None:
                    found.put(object_id, frame_idx, from_coco_rle(rle))
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        if isinstance(error, FormatError):
            raise
        message = f"{path} must be a YouTube-VIS file with videos, categories and annotations ({error!r})"
        raise FormatError(message) from error
    video.load_masks(found.masks, found.labels)


def write_clip_npz(path: str | os.PathLike[str], video: VideoSession) -> None:
    """Write the masks as arrays: N masks, one for each object on each frame where it is known.

    The file has ``object_id``, ``frame_idx`` (N,) int64, ``score`` (N,) float32, ``counts`` int32 with ``start``
    (N + 1,) int64 (row-major run lengths of mask k, background first: ``counts[start[k]:start[k + 1]]``), ``size``
    (height, width) and, for each object in ``ids``, its ``labels``.
    """
    rows = [
        (o.object_id, frame_idx, mask) for o in video.objects for frame_idx, mask in video.runs(o.object_id).items()
    ]
    counts = [mask.counts for *_, mask in rows]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        object_id=np.array([object_id for object_id, *_ in rows], np.int64),
        frame_idx=np.array([frame_idx for _, frame_idx, _ in rows], np.int64),
        score=np.array([video.scores[frame_idx][object_id] for object_id, frame_idx, _ in rows], np.float32),
        counts=np.concatenate([*counts, np.zeros(0, np.int64)]).astype(np.int32),
        start=np.cumsum([0, *(len(c) for c in counts)]).astype(np.int64),
        size=np.array([video.height, video.width], np.int64),
        ids=np.array([o.object_id for o in video.objects], np.int64),
        labels=np.array([o.label for o in video.objects], np.str_),
    )
    write_atomically(path, buffer.getvalue())


def read_clip_npz(path: str | os.PathLike[str], video: VideoSession) -> None:
    """Load what :func:`write_clip_npz` wrote into a session of the clip; one step of its history."""
    found = ClipMasks()
    try:
        with np.load(Path(path), allow_pickle=False) as arrays:
            height, width = (int(side) for side in arrays["size"])
            counts, start = arrays["counts"].astype(np.int64), arrays["start"]
            for k, (object_id, frame_idx) in enumerate(zip(arrays["object_id"], arrays["frame_idx"], strict=True)):
                runs = counts[start[k] : start[k + 1]]
                if (runs < 0).any() or runs.sum() != height * width:
                    message = f"the runs of mask {k} do not fill {height} x {width} pixels"
                    raise FormatError(message)
                found.put(int(object_id), int(frame_idx), RunLengths(height, width, runs))
            found.labels = {int(k): str(name) for k, name in zip(arrays["ids"], arrays["labels"], strict=True) if name}
    except (KeyError, ValueError, OSError, IndexError) as error:
        if isinstance(error, FormatError) or (isinstance(error, OSError) and not Path(path).is_file()):
            raise
        message = f"{path} must be a file that write_clip_npz wrote ({error!r})"
        raise FormatError(message) from error
    video.load_masks(found.masks, found.labels)


def write_overlay(
    path: str | os.PathLike[str], video: VideoSession, *, opacity: float = 0.5, progress: Progress = no_progress
) -> None:
    """Write a video of the clip with its masks in colour, to look at: H.264 where this build of PyAV has it.

    Parameters
    ----------
    path : path
        Its suffix says the container, ``.mp4`` for one.
    video : VideoSession
    opacity : float
        Of the masks, 0 to 1.
    progress : callable
        Called with the finished fraction; what it raises stops the work.
    """
    import av  # noqa: PLC0415 - FFmpeg loads with it

    rate = Fraction(video.fps or _FPS).limit_denominator(1000)
    colours = {o.object_id: np.array([int(o.color[k : k + 2], 16) for k in (1, 3, 5)]) for o in video.objects}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=rate)
        # Half the colour resolution: sides must be even.
        stream.width, stream.height = video.width + video.width % 2, video.height + video.height % 2
        stream.pix_fmt = "yuv420p"
        for frame_idx in range(len(video)):
            shown = video.frame(frame_idx).image.astype(np.float32)
            for object_id, mask in video.masks[frame_idx].items():
                shown[mask] += (colours[object_id] - shown[mask]) * opacity
            even = np.pad(shown, ((0, video.height % 2), (0, video.width % 2), (0, 0)), "edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even.round().astype(np.uint8)), format="rgb24")
            container.mux(stream.encode(picture))
            progress((frame_idx + 1) / len(video))
        container.mux(stream.encode(None))
