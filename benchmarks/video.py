"""Measure how well a model follows an object through a clip: ``python benchmarks/video.py``.

The model's answer to the true box on the first frame is propagated to the end of the clip. Then one click corrects the
worst frame: it lies at the point farthest from the boundary of the largest error region, as in ``clicks.py``, and the
mask that propagation brought there is what the answer starts from. From there propagation goes on to the end again.

J is the IoU of the regions and F the F-measure of their boundaries (Perazzi et al., "A Benchmark Dataset and Evaluation
Methodology for Video Object Segmentation", CVPR 2016), both as means over all frames but the first. Frames per second
are those of propagation, and, in the same run, those of encoding and decoding each frame and nothing else.

    python benchmarks/video.py --data ../shared/data/puma_chair
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from clicks import Sample, next_click
from PIL import Image

from sam3_widget.core.masks import compose
from sam3_widget.models.base import InstancePrompts, Sighting
from sam3_widget.models.catalog import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sam3_widget.models.base import Model

    Mask = NDArray[np.bool_]

TOLERANCE = 0.008
"""How far apart boundaries may be that match, as a share of the picture's diagonal."""
OBJECT = 1


@dataclass(frozen=True)
class Clip:
    """A video with its truth: ``(H, W, 3)`` uint8 RGB frames, and an ``(H, W)`` bool mask of the object on each."""

    frames: list[NDArray[np.uint8]]
    truths: list[Mask]


@dataclass(frozen=True)
class Walk:
    """What propagation made of a clip: the object and its logits on each frame, and seconds for each step."""

    sightings: dict[int, Sighting]
    logits: dict[int, NDArray[np.float32]]
    seconds: list[float]


@dataclass(frozen=True)
class Score:
    """Means over the frames, and each frame's J."""

    j: float
    f: float
    js: list[float]


def read_clip(folder: Path) -> Clip:
    """Read the folders ``images`` and ``masks``; what is not 0 in a mask is the object."""
    images, masks = (sorted((folder / name).glob("*.*")) for name in ("images", "masks"))
    if not images or [path.stem for path in images] != [path.stem for path in masks]:
        message = f"expected images/ and masks/ of equal stems below {folder}"
        raise SystemExit(message)
    frames = [np.array(Image.open(path).convert("RGB")) for path in images]
    return Clip(frames, [np.array(Image.open(path)) > 0 for path in masks])


def propagate(model: Model, clip: Clip, prompted: Mapping[int, Sighting]) -> Walk:
    """Carry the object from the first prompted frame to the end, anew from each other prompted frame."""
    tracker = model.tracker(clip.frames.__getitem__)
    size = clip.truths[0].shape
    walk = Walk({}, {}, [])
    for frame_idx in range(min(prompted), len(clip.frames)):
        if frame_idx in prompted:
            walk.sightings[frame_idx] = prompted[frame_idx]
            others = [idx for idx in walk.sightings if idx not in prompted][-tracker.memory :]
            kept = sorted({*others, *(idx for idx in walk.sightings if idx in prompted)})
            tracker.follow(OBJECT, [walk.sightings[idx] for idx in kept])
            continue
        begun = time.perf_counter()
        tracked = tracker.step(frame_idx)[OBJECT]
        walk.seconds.append(time.perf_counter() - begun)
        walk.sightings[frame_idx] = Sighting(frame_idx, compose(tracked.logits, size))
        walk.logits[frame_idx] = tracked.logits
    return walk


def region_iou(mask: Mask, truth: Mask) -> float:
    """Return J."""
    union = int(np.count_nonzero(mask | truth))
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_f(mask: Mask, truth: Mask) -> float:
    """Return F: the harmonic mean of the shares of each boundary that are near the other one."""
    radius = int(np.ceil(TOLERANCE * np.hypot(*truth.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    drawn, true = boundary(mask), boundary(truth)
    if not drawn.any() or not true.any():
        return float(drawn.any() == true.any())
    precision = float(np.mean(cv2.dilate(true.astype(np.uint8), disc)[drawn]))
    recall = float(np.mean(cv2.dilate(drawn.astype(np.uint8), disc)[true]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Return the pixels that differ from the one below, to the right, or diagonally below them."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return np.asarray((here ^ padded[1:, :-1]) | (here ^ padded[:-1, 1:]) | (here ^ padded[1:, 1:]))


def rate(walk: Walk, clip: Clip) -> Score:
    """Return the score of all frames but the first."""
    masks = [walk.sightings[idx].mask.to_mask() for idx in range(1, len(clip.truths))]
    js = [region_iou(mask, truth) for mask, truth in zip(masks, clip.truths[1:], strict=True)]
    fs = [boundary_f(mask, truth) for mask, truth in zip(masks, clip.truths[1:], strict=True)]
    return Score(float(np.mean(js)), float(np.mean(fs)), js)


def begin(model: Model, clip: Clip) -> Sighting:
    """Return the model's answer to the true box on the first frame."""
    x, y, width, height = cv2.boundingRect(clip.truths[0].astype(np.uint8))
    prompts = InstancePrompts(box=np.array([x, y, x + width, y + height], np.float32))
    answer = model.refine(model.encode(clip.frames[0]), prompts)
    return Sighting(0, compose(answer.logits[0], clip.truths[0].shape), prompts)


def correct(model: Model, clip: Clip, walk: Walk, frame_idx: int) -> Sighting:
    """Return the model's answer to a click on the largest error of a frame."""
    truth, mask = clip.truths[frame_idx], walk.sightings[frame_idx].mask.to_mask()
    sample = Sample(str(frame_idx), clip.frames[frame_idx], truth, np.ones(truth.shape, np.bool_))
    click = next_click(mask, sample, np.zeros(truth.shape, np.bool_))
    if click is None:
        message = f"nothing to correct on frame {frame_idx}"
        raise SystemExit(message)
    x, y, positive = click
    prompts = InstancePrompts(np.array([(x + 0.5, y + 0.5)], np.float32), np.array([positive]))
    answer = model.refine(model.encode(clip.frames[frame_idx]), prompts, walk.logits[frame_idx])
    return Sighting(frame_idx, compose(answer.logits[0], truth.shape), prompts)


def raw_seconds(model: Model, clip: Clip, prompts: InstancePrompts) -> list[float]:
    """Return how long encoding and decoding takes, frame by frame."""
    seconds = []
    for frame in clip.frames[1:]:
        begun = time.perf_counter()
        model.refine(model.encode(frame), prompts)
        seconds.append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    """Run the benchmark and print a row before and one after the correction."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/puma_chair"))
    parser.add_argument("--json", type=Path, help="write the scores and each frame's J here")
    options = parser.parse_args()
    model = load_model(options.model)
    if not model.capabilities.video:
        parser.error(f"the model {model.name!r} follows nothing through a video")
    clip = read_clip(options.data)
    first = begin(model, clip)
    before = propagate(model, clip, {0: first})
    scores = {"before": rate(before, clip)}
    worst = 1 + int(np.argmin(scores["before"].js))
    corrected = correct(model, clip, before, worst)
    after = propagate(model, clip, {0: first, worst: corrected})
    scores["after"] = rate(after, clip)
    print("correction      J      F")
    for name, score in scores.items():
        print(f"{name:10}  {score.j:.3f}  {score.f:.3f}")
    worst_j = scores["before"].js[worst - 1], region_iou(corrected.mask.to_mask(), clip.truths[worst])
    print(f"J on the first frame: {region_iou(first.mask.to_mask(), clip.truths[0]):.3f}")
    print(f"J on frame {worst}: {worst_j[0]:.3f}, with a click {worst_j[1]:.3f}")
    raw = raw_seconds(model, clip, first.prompts or InstancePrompts())
    speeds = {"propagation": 1 / float(np.mean(before.seconds)), "raw": 1 / float(np.mean(raw))}
    height, width = clip.truths[0].shape
    print(f"{speeds['propagation']:.2f} frames a second at {width} x {height}; {speeds['raw']:.2f} for the model alone")
    if options.json:
        told = {"scores": {name: asdict(score) for name, score in scores.items()}, "frames_per_second": speeds}
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
