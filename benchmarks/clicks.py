"""Measure how many clicks models need: NoC@85, NoC@90, IoU after 1, 3 and 5 clicks, and seconds.

The protocol is that of the interactive segmentation papers (Xu et al., "Deep Interactive Object Selection", CVPR 2016;
Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2021): the first click lies at the point of the object
farthest from its boundary, each next one at the point farthest from the boundary of the largest error region, and every
click calls ``refine`` with all clicks so far and the logits of the answer before.

    python benchmarks/clicks.py --data ../shared/data/grabcut50

Beside the built-in model, the same run measures OpenCV's GrabCut and the built-in model of the first version, which
was classical: it is taken from this repository's history, and a child process runs this very file on it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

import sam3_widget
from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.catalog import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from sam3_widget.models.base import Model

CLASSICAL = "f152665"
"""The last revision whose built-in model is the classical one: superpixels and a random walker."""
MODELS = ("builtin", "classical", "grabcut")
COLUMNS = {
    "NoC@85": ("noc85", "5.2f"),
    "NoC@90": ("noc90", "5.2f"),
    "never 85": ("never85", "5.0%"),
    "never 90": ("never90", "5.0%"),
    "IoU@1": ("iou_after_1", "5.3f"),
    "best@1": ("iou_after_1_best_candidate", "5.3f"),
    "IoU@3": ("iou_after_3", "5.3f"),
    "IoU@5": ("iou_after_5", "5.3f"),
    "encode s": ("encode_seconds_median", "5.3f"),
    "click s": ("click_seconds_median", "5.3f"),
    "slowest": ("click_seconds_max", "5.3f"),
}
"""Headings of the table, with the summary's key and the format of what stands below."""
SEMANTIC_FOREGROUND, SEMANTIC_IGNORE = 255, 128
SMALLEST_OBJECT = 0.01
"""Fraction of an image below which an instance is not drawn from a folder of instance ids."""

LIST_SEED, LEFT_OUT = 7, 60
"""How a training set is shuffled, and how many of its pictures only measure."""
IMPORTED = 6.0
"""Magnitude of the logits of a mask that a run starts from."""


@dataclass(frozen=True)
class Sample:
    """One object of one picture.

    Attributes
    ----------
    name : str
        Folder and file of the picture.
    image : (H, W, 3) uint8
        RGB.
    truth, counted : (H, W) bool
        The object, and where pixels count.
    """

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Run:
    """What happened on one sample: the IoU after each click, and seconds."""

    name: str
    ious: list[float]
    best_first: float
    encode_seconds: float
    click_seconds: list[float]


def find_pairs(data: Path) -> list[tuple[Path, Path]]:
    """Return every (image, mask) below ``data``: files of one stem in sibling folders ``images`` and ``masks``."""
    pairs = []
    for folder in sorted(path for path in [data, *data.rglob("*")] if (path / "masks").is_dir()):
        images = {path.stem: path for path in sorted((folder / "images").iterdir())}
        pairs += [(images[mask.stem], mask) for mask in sorted((folder / "masks").iterdir()) if mask.stem in images]
    return pairs


def split(folder: Path, *, development: bool) -> list[tuple[Path, Path]]:
    """Return the pairs of a training set that are learnt from, or the head of its shuffled list, which never is."""
    pairs = find_pairs(folder)
    order = np.random.default_rng(LIST_SEED).permutation(len(pairs))
    return [pairs[index] for index in (order[:LEFT_OUT] if development else order[LEFT_OUT:])]


def read_sample(image_path: Path, mask_path: Path, rng: np.random.Generator) -> Sample | None:
    """Read a pair; of a mask of instance ids one instance is drawn. None if no object is large enough."""
    image, mask = cv2.imread(str(image_path)), cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
    if image is None or mask is None:
        message = f"cannot read {image_path} and {mask_path}"
        raise OSError(message)
    if set(np.unique(mask)) <= {0, SEMANTIC_IGNORE, SEMANTIC_FOREGROUND} and SEMANTIC_FOREGROUND in mask:
        truth, counted = mask == SEMANTIC_FOREGROUND, mask != SEMANTIC_IGNORE
    else:
        ids, areas = np.unique(mask[mask > 0], return_counts=True)
        ids = ids[areas >= SMALLEST_OBJECT * mask.size]
        if len(ids) == 0:
            return None
        truth, counted = mask == rng.choice(ids), np.ones(mask.shape, np.bool_)
    rgb = np.ascontiguousarray(image[..., ::-1])
    name = f"{image_path.parent.parent.name}/{image_path.name}"
    return Sample(name, rgb.astype(np.uint8), np.asarray(truth), np.asarray(counted))


def read_samples(data: Path, limit: int, seed: int) -> Iterator[Sample]:
    """Yield up to ``limit`` samples (0: all), drawn at random from the whole folder."""
    rng = np.random.default_rng(seed)
    pairs = find_pairs(data)
    if limit:
        pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    found = 0
    for image_path, mask_path in pairs:
        sample = read_sample(image_path, mask_path, rng)
        if sample is not None:
            yield sample
            found += 1
            if found == limit:
                return


def innermost(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (x, y) of the pixel farthest from the boundary of ``region``; the image's border is a boundary."""
    padded = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x), int(y)


def largest_region(errors: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component of ``errors``."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(errors.astype(np.uint8), connectivity=4)
    if count == 1:
        return np.zeros(errors.shape, np.bool_)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def next_click(mask: NDArray[np.bool_], sample: Sample, clicked: NDArray[np.bool_]) -> tuple[int, int, bool] | None:
    """Return (x, y, label) of the corrective click, or None where there is nothing left to correct."""
    open_pixels = sample.counted & ~clicked
    missed = largest_region(sample.truth & ~mask & open_pixels)
    wrong = largest_region(~sample.truth & mask & open_pixels)
    positive = bool(missed.sum() >= wrong.sum())
    region = missed if positive else wrong
    return (*innermost(region), positive) if region.any() else None


def iou(mask: NDArray[np.bool_], sample: Sample) -> float:
    """Return intersection over union where pixels count."""
    inside = np.count_nonzero(mask & sample.truth & sample.counted)
    return float(inside / max(1, int(np.count_nonzero((mask | sample.truth) & sample.counted))))


def draw(logits: NDArray[np.float32], sample: Sample) -> NDArray[np.bool_]:
    """Return the mask at the image's size."""
    height, width = sample.truth.shape
    return np.asarray(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0)


def run_sample(model: Model, sample: Sample, max_clicks: int, start: NDArray[np.bool_] | None = None) -> Run:
    """Click until ``max_clicks`` or until nothing is wrong, from nothing or from a mask."""
    begun = time.perf_counter()
    embedding = model.encode(sample.image)
    encode_seconds = time.perf_counter() - begun
    points: list[tuple[float, float]] = []
    labels: list[bool] = []
    ious: list[float] = []
    seconds: list[float] = []
    best_first = 0.0
    clicked = np.zeros(sample.truth.shape, np.bool_)
    mask = np.zeros(sample.truth.shape, np.bool_) if start is None else start
    previous = None if start is None else np.where(start, np.float32(IMPORTED), np.float32(-IMPORTED))
    for number in range(max_clicks):
        click = next_click(mask, sample, clicked)
        if click is None:
            break
        x, y, label = click
        clicked[y, x] = True
        points.append((x + 0.5, y + 0.5))
        labels.append(label)
        prompts = InstancePrompts(np.array(points, np.float32), np.array(labels, np.bool_))
        begun = time.perf_counter()
        candidates = model.refine(embedding, prompts, previous)
        seconds.append(time.perf_counter() - begun)
        previous = candidates.logits[0]
        mask = draw(previous, sample)
        ious.append(iou(mask, sample))
        if number == 0:
            best_first = max(iou(draw(logits, sample), sample) for logits in candidates.logits)
    return Run(sample.name, ious, best_first, encode_seconds, seconds)


def clicks_to(run: Run, target: float, max_clicks: int) -> int:
    """Return the number of clicks to reach ``target``, ``max_clicks`` where it was never reached."""
    return next((n for n, value in enumerate(run.ious, 1) if value >= target), max_clicks)


def summarise(runs: list[Run], max_clicks: int) -> dict[str, float]:
    """Return the numbers to compare models by."""
    after = {n: float(np.mean([run.ious[min(n, len(run.ious)) - 1] for run in runs])) for n in (1, 3, 5)}
    seconds = np.concatenate([run.click_seconds for run in runs])
    return {
        "samples": len(runs),
        "noc85": float(np.mean([clicks_to(run, 0.85, max_clicks) for run in runs])),
        "noc90": float(np.mean([clicks_to(run, 0.90, max_clicks) for run in runs])),
        "never85": float(np.mean([max(run.ious) < 0.85 for run in runs])),  # noqa: PLR2004 - as the key says
        "never90": float(np.mean([max(run.ious) < 0.90 for run in runs])),  # noqa: PLR2004 - as the key says
        "iou_after_1": after[1],
        "iou_after_1_best_candidate": float(np.mean([run.best_first for run in runs])),
        "iou_after_3": after[3],
        "iou_after_5": after[5],
        "click_seconds_mean": float(seconds.mean()),
        "click_seconds_median": float(np.median(seconds)),
        "click_seconds_max": float(seconds.max()),
        "encode_seconds_median": float(np.median([run.encode_seconds for run in runs])),
        "encode_seconds_max": float(np.max([run.encode_seconds for run in runs])),
    }


def make_model(name: str) -> Model:
    """Return GrabCut, or load a model by its catalogue name."""
    if name == "grabcut":
        from grabcut import GrabCut  # noqa: PLC0415 - it lies beside this file, which training imports from elsewhere

        return GrabCut()
    return load_model(name)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the summary of a model and the IoUs of every sample."""
    model = make_model(name)
    runs = [
        run_sample(model, sample, options.clicks) for sample in read_samples(options.data, options.limit, options.seed)
    ]
    if not runs:
        message = f"no images with masks below {options.data}: expected folders images/ and masks/ of equal stems"
        raise SystemExit(message)
    samples = [{"name": run.name, "ious": [round(value, 4) for value in run.ious]} for run in runs]
    return {"summary": summarise(runs, options.clicks), "samples": samples}


def extract(revision: str, folder: Path) -> None:
    """Write the package as it was at a revision of this repository below ``folder``."""
    instead = f"'classical' is read from the history of a full clone; without one: --models {MODELS[0]} {MODELS[2]}"
    git = shutil.which("git")
    if git is None:
        message = f"git is not on the PATH. {instead}"
        raise SystemExit(message)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(  # noqa: S603 - git, with a revision that this file names
        [git, "-C", str(root), "archive", revision, "sam3_widget"], capture_output=True, check=False
    )
    if done.returncode != 0:
        message = f"git cannot read revision {revision} ({done.stderr.decode(errors='replace').strip()}). {instead}"
        raise SystemExit(message)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def measure_at(package: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``measure`` says of the built-in model of another version of the package, which lies in a folder."""
    answer = package / "clicks.json"
    command = [sys.executable, __file__, "--models", "builtin", "--package", str(package), "--json", str(answer)]
    command += ["--data", str(options.data), "--limit", str(options.limit)]
    command += ["--clicks", str(options.clicks), "--seed", str(options.seed)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - this file
    if done.returncode != 0:
        message = f"the benchmark of the package at {CLASSICAL} failed; its own error is above"
        raise SystemExit(message)
    return json.loads(answer.read_text(encoding="utf-8"))["builtin"]


def parse() -> argparse.Namespace:
    """Return the options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    named = "builtin, classical (the built-in model before it was a network), grabcut, or any name of load_model"
    parser.add_argument("--models", nargs="+", default=MODELS, help=named)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/grabcut50"))
    parser.add_argument("--limit", type=int, default=0, help="number of samples drawn at random; 0 takes all")
    parser.add_argument("--clicks", type=int, default=20, help="most clicks a sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write each model's summary and every sample's IoUs here")
    parser.add_argument("--package", type=Path, help=argparse.SUPPRESS)  # where a child has to import from
    options = parser.parse_args()
    source = Path(sam3_widget.__file__).resolve()
    if options.package and not source.is_relative_to(options.package.resolve()):
        parser.error(f"sam3_widget must be the one in {options.package}, but Python found {source}")
    return options


def main() -> None:
    """Run the benchmark and print a row for each model as soon as it is measured."""
    options = parse()
    width = max(len(name) for name in options.models)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        if "classical" in options.models:  # before the others run, since it may fail
            extract(CLASSICAL, Path(folder))
        print(" " * width, *COLUMNS, sep="  ", flush=True)
        for name in options.models:
            results[name] = measure_at(Path(folder), options) if name == "classical" else measure(name, options)
            told = results[name]["summary"]
            cells = [f"{told[key]:{form}}".rjust(len(heading)) for heading, (key, form) in COLUMNS.items()]
            print(name.ljust(width), *cells, sep="  ", flush=True)
    print(f"{told['samples']} samples of {options.data.name}, at most {options.clicks} clicks; seconds are medians")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
