"""Annotations as files: out of a session, and back into one to be refined on."""

from __future__ import annotations

from sam3_widget.io.annotations import AnnotatedImage, AnnotatedObject
from sam3_widget.io.clips import (
    read_clip_npz,
    read_png_folder,
    read_youtube_vis,
    write_clip_npz,
    write_overlay,
    write_png_folder,
    write_youtube_vis,
)
from sam3_widget.io.coco import read_coco, write_coco
from sam3_widget.io.convert import to_dataframe, to_fiftyone, to_supervision
from sam3_widget.io.labelme import read_labelme, write_labelme
from sam3_widget.io.npz import read_npz, write_npz
from sam3_widget.io.png import read_png, write_png
from sam3_widget.io.voc import read_voc, write_voc
from sam3_widget.io.yolo import read_yolo, write_yolo

__all__ = [
    "AnnotatedImage",
    "AnnotatedObject",
    "read_clip_npz",
    "read_coco",
    "read_labelme",
    "read_npz",
    "read_png",
    "read_png_folder",
    "read_voc",
    "read_yolo",
    "read_youtube_vis",
    "to_dataframe",
    "to_fiftyone",
    "to_supervision",
    "write_clip_npz",
    "write_coco",
    "write_labelme",
    "write_npz",
    "write_overlay",
    "write_png",
    "write_png_folder",
    "write_voc",
    "write_yolo",
    "write_youtube_vis",
]
