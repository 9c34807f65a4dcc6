"""Annotations as files: out of a session, and back into one to be refined on."""

from __future__ import annotations

from sam3_widget.io.clips import (
    read_clip_npz,
    read_png_folder,
    read_youtube_vis,
    write_clip_npz,
    write_overlay,
    write_png_folder,
    write_youtube_vis,
)

__all__ = [
    "read_clip_npz",
    "read_png_folder",
    "read_youtube_vis",
    "write_clip_npz",
    "write_overlay",
    "write_png_folder",
    "write_youtube_vis",
]
