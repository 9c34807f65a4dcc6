"""Measure how well a model follows an object through a clip: ``python benchmarks/video.py``.

A session gets the true box on the first frame and propagates to the end of the clip. Then one click corrects the worst
frame: it lies at the point farthest from the boundary of the largest error region, as in ``clicks.py``, and the session
propagates again.

J is the IoU of the regions and F the F-measure of their boundaries (Perazzi et al., "A Benchmark Dataset and Evaluation
Methodology for Video Object Segmentation", CVPR 2016), both as means over all frames but the first. The time of
``propagate()`` is compared, in the same run, with that of encoding and decoding each frame and nothing else.

    python benchmarks/video.py --data ../shared/data/puma_chair

With ``--memory`` it measures the peak of resident memory instead, beyond that of the process with its model, while
three objects go through video files of several lengths; each length has a process of its own. The model ``toy`` finds
its objects at no cost, so that long clips measure all the rest.

    python benchmarks/video.py --memory --model toy
    python benchmarks/video.py --memory --model builtin --lengths 60 120
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from clicks import Sample, next_click
from PIL import Image

from sam3_widget.models.base import Candidates, Capabilities, Embedding, InstancePrompts, Model, Tracked, Tracker
from sam3_widget.models.catalog import load_model
from sam3_widget.video.session import VideoSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Frames, Progress, Sighting

    Mask = NDArray[np.bool_]

TOLERANCE = 0.008
"""How far apart boundaries may be that match, as a share of the picture's diagonal."""
OBJECT = 1
HEIGHT, WIDTH, RADIUS, OBJECTS = 1080, 1920, 150, 3
"""Of the clips that memory is measured with: pixels, and discs that sway in front of a ground that pans."""
LENGTHS = (100, 300, 1000, 3000)
SHRUNK = 4
"""Pixels of the frame to a logit of the toy."""
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Clip:
    """A video with its truth: ``(H, W, 3)`` uint8 RGB frames, and an ``(H, W)`` bool mask of the object on each."""

    frames: list[NDArray[np.uint8]]
    truths: list[Mask]


@dataclass(frozen=True)
class Score:
    """Means over the frames but the first, and J of each of them."""

    j: float
    f: float
    js: list[float]


@dataclass(frozen=True)
class Time:
    """Seconds by the clock, and of all processors together, which other programs disturb less."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process with its model, the most beyond them while a clip is walked, and seconds a frame."""

    before: int
    beyond: int
    seconds: float


def read_clip(folder: Path, start: int) -> Clip:
    """Read the folders ``images`` and ``masks`` from a frame on; what is not 0 in a mask is the object."""
    images, masks = (sorted((folder / name).glob("*.*")) for name in ("images", "masks"))
    if not images or [path.stem for path in images] != [path.stem for path in masks]:
        message = f"expected images/ and masks/ of equal stems below {folder}"
        raise SystemExit(message)
    frames = [np.array(Image.open(path).convert("RGB")) for path in images[start:]]
    return Clip(frames, [np.array(Image.open(path)) > 0 for path in masks[start:]])


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


def rate(video: VideoSession, clip: Clip) -> Score:
    """Return the score of all frames but the first."""
    pairs = [(video.masks[idx][OBJECT], truth) for idx, truth in enumerate(clip.truths) if idx]
    js = [region_iou(*pair) for pair in pairs]
    return Score(float(np.mean(js)), float(np.mean([boundary_f(*pair) for pair in pairs])), js)


def true_box(truth: Mask) -> NDArray[np.float32]:
    """Return the box around a mask."""
    x, y, width, height = cv2.boundingRect(truth.astype(np.uint8))
    return np.array([x, y, x + width, y + height], np.float32)


def correct(video: VideoSession, clip: Clip, frame_idx: int) -> float:
    """Click on the largest error of a frame, and return the J that the model's answer has there."""
    truth = clip.truths[frame_idx]
    sample = Sample(str(frame_idx), clip.frames[frame_idx], truth, np.ones(truth.shape, np.bool_))
    click = next_click(video.masks[frame_idx][OBJECT], sample, np.zeros(truth.shape, np.bool_))
    if click is None:
        message = f"nothing to correct on frame {frame_idx}"
        raise SystemExit(message)
    x, y, positive = click
    video.add_point(x + 0.5, y + 0.5, positive, OBJECT, frame_idx)
    return region_iou(video.masks[frame_idx][OBJECT], truth)


def answer_all(model: Model, clip: Clip) -> None:
    """Encode and decode all frames but the first."""
    prompts = InstancePrompts(box=true_box(clip.truths[0]))
    for frame in clip.frames[1:]:
        model.refine(model.encode(frame), prompts)


def timed(work: Callable[[], object]) -> Time:
    """Do some work, and return how long it took."""
    begun, busy = time.perf_counter(), time.process_time()
    work()
    return Time(time.perf_counter() - begun, time.process_time() - busy)


def follow(model: Model, clip: Clip, corrections: int, report: Path | None) -> None:
    """Print how well an object is followed, before and after each correction, and how long that takes."""
    video = VideoSession(clip.frames, model)
    first = video.add_box(true_box(clip.truths[0]))
    print(f"J on the first frame: {region_iou(first.mask, clip.truths[0]):.3f}")
    propagation, raw = timed(video.propagate), timed(lambda: answer_all(model, clip))
    scores = [rate(video, clip)]
    told = []
    for _ in range(corrections):
        js = scores[-1].js
        worst = 1 + int(np.argmin(js))
        told.append(f"J on frame {worst}: {js[worst - 1]:.3f}, with a click {correct(video, clip, worst):.3f}")
        video.propagate()
        scores.append(rate(video, clip))
        told[-1] += f"; on those after it {mean(js[worst:]):.3f}, then {mean(scores[-1].js[worst:]):.3f}"
    print("clicks      J      F")
    for clicks, score in enumerate(scores):
        print(f"{clicks:6}  {score.j:.3f}  {score.f:.3f}")
    print(*told, sep="\n")
    count, (height, width) = len(clip.frames) - 1, clip.truths[0].shape
    print(f"{count / propagation.wall:.2f} frames a second at {width} x {height}", end=", ")
    print(f"{count / raw.wall:.2f} for encoding and decoding alone")
    print(f"propagation takes {propagation.wall / raw.wall:.2f} times as long as those", end=", ")
    print(f"and {propagation.processor / raw.processor:.2f} times the processor")
    if report:
        seconds = {"propagation": asdict(propagation), "raw": asdict(raw)}
        numbers = {"scores": [asdict(score) for score in scores], "seconds": seconds}
        report.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


def mean(numbers: Sequence[float]) -> float:
    """Return the mean, NaN of none."""
    return float(np.mean(numbers)) if numbers else float("nan")


def centre(number: int, frame_idx: int) -> tuple[int, int]:
    """Return ``(x, y)`` of a disc's middle."""
    angle = frame_idx / 40 + number
    return round(480 * (number + 1) + 120 * np.sin(angle)), round(540 + 200 * np.cos(angle))


class ToyTracker(Tracker):
    """Reads each frame, and knows where the discs are.

    Parameters
    ----------
    frames : callable
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._followed: set[int] = set()

    def follow(self, object_id: int, sightings: Sequence[Sighting]) -> None:
        """Take an object up."""
        del sightings
        self._followed.add(object_id)

    def drop(self, object_id: int) -> None:
        """Follow an object no longer."""
        self._followed.discard(object_id)

    def step(self, frame_idx: int) -> dict[int, Tracked]:
        """Return the discs."""
        height, width = self._frames(frame_idx).shape[:2]
        tracked = {}
        for object_id in self._followed:
            logits = np.full((height // SHRUNK, width // SHRUNK), -8, np.float32)
            x, y = centre(object_id - 1, frame_idx)
            cv2.circle(logits, (x // SHRUNK, y // SHRUNK), RADIUS // SHRUNK, 8, cv2.FILLED)
            tracked[object_id] = Tracked(logits, 1.0)
        return tracked


class Toy(Model):
    """Fills boxes, and follows nothing but the discs of this file's clips."""

    name = "toy"
    capabilities = Capabilities(points=False, boxes=True, video=True)

    def encode(self, image: NDArray[np.uint8], progress: Progress = lambda _: None) -> Embedding:
        """Note the size."""
        progress(1.0)
        return Embedding(image.shape[0], image.shape[1], nbytes=0)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Fill the box."""
        del previous
        logits = np.full((embedding.height // SHRUNK, embedding.width // SHRUNK), -8, np.float32)
        if prompts.box is not None:
            x1, y1, x2, y2 = (prompts.box / SHRUNK).astype(int)
            logits[y1:y2, x1:x2] = 8
        return Candidates(logits[None], np.ones(1, np.float32))

    def tracker(self, frames: Frames) -> ToyTracker:
        """Return what follows the discs."""
        return ToyTracker(frames)


def write_clip(path: Path, count: int) -> None:
    """Write a video file of the discs."""
    import av  # noqa: PLC0415 - loads FFmpeg, which the measured process is to do for itself

    coarse = np.random.default_rng(1).integers(40, 140, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
    ground = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"b": "8M"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame_idx in range(count):
            picture = np.roll(ground, 2 * frame_idx, 1)
            for number, colour in enumerate(((220, 60, 40), (50, 210, 70), (60, 90, 230))[:OBJECTS]):
                cv2.circle(picture, centre(number, frame_idx), RADIUS, colour, cv2.FILLED)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = frame_idx, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def resident(what: str) -> int:
    """Return bytes of this process: ``VmRSS`` now, ``VmHWM`` at most until now."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    if found is None:
        message = "--memory reads /proc/self/status as Linux writes it"
        raise SystemExit(message)
    return 1024 * int(found[1])


def peak(name: str, path: Path) -> Memory:
    """Carry the discs through a file in this process."""
    model = Toy() if name == Toy.name else load_model(name)
    before = resident("VmRSS")
    video = VideoSession(path, model)
    for number in range(OBJECTS):
        x, y = centre(number, 0)
        video.add_box((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS))
    begun = time.perf_counter()
    video.propagate()
    seconds = (time.perf_counter() - begun) / (len(video.masks) - 1)
    return Memory(before, resident("VmHWM") - before, seconds)


def weigh(name: str, lengths: Sequence[int]) -> None:
    """Print the peak of memory for clips of several lengths."""
    print(f"{name}, {OBJECTS} objects, {WIDTH} x {HEIGHT}; megabytes of the process with its model, and beyond them")
    print("frames   model  beyond  seconds a frame")
    for length in lengths:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "discs.mp4"
            write_clip(path, length)
            command = [sys.executable, __file__, "--model", name, "--peak-of", str(path)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - this file
        memory = Memory(**json.loads(told.splitlines()[-1]))
        sizes = f"{memory.before / MEGABYTE:6.0f}  {memory.beyond / MEGABYTE:6.0f}"
        print(f"{length:6}  {sizes}  {memory.seconds:.3f}", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/puma_chair"))
    parser.add_argument("--start", type=int, default=0, help="frame of the data that is the first of the clip")
    parser.add_argument("--corrections", type=int, default=1, help="how often the worst frame gets a click")
    parser.add_argument("--json", type=Path, help="write the scores and each frame's J here")
    parser.add_argument("--memory", action="store_true", help="measure memory against the length of the clip")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of the clips for --memory")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(json.dumps(asdict(peak(options.model, options.peak_of))))
        return
    if options.memory:
        weigh(options.model, options.lengths)
        return
    model = load_model(options.model)
    if not model.capabilities.video:
        parser.error(f"the model {model.name!r} follows nothing through a video")
    follow(model, read_clip(options.data, options.start), options.corrections, options.json)


if __name__ == "__main__":
    main()
