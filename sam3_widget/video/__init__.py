"""Clips: frames of video files, folders of images and arrays, read when they are asked for."""
