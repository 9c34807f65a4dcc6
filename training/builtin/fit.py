"""Fit the weights of the built-in model's belief network to clicks simulated on photographs.

Users are simulated who start from nothing, from a box or from an imported mask and then click the largest error of the
answer they see. Each click is one example: the evidence that the model has at that moment, and which superpixels ought
to be on the click's side. The model answers with the weights it has at the start, so that the errors are its own.

    python training/builtin/fit.py --data ../shared/data --out sam3_widget/models/builtin/weights.npz
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.clicks import Sample, draw, find_pairs, iou, largest_region, next_click, read_sample
from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.builtin.belief import NORMAL_LIMIT
from sam3_widget.models.builtin.evidence import describe
from sam3_widget.models.builtin.geometry import LIMIT
from sam3_widget.models.builtin.graph import sigmoid
from sam3_widget.models.builtin.model import BuiltinModel, Refinement, resample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sam3_widget.models.builtin.model import BuiltinEmbedding

MOST_IMAGES = {"feralcat": 593, "various": 785, "ccp1004": 500, "dsb2018": 40}
"""Training sets, and how many images of each count: nuclei and people are alike, so fewer of them."""
LIST_SEED, LEFT_OUT = 7, 60  # the head of each shuffled list is the development set, which is never fitted
LARGEST_OBJECT, SMALLEST_PIXELS = 0.9, 20
CLICKS = {"nothing": 5, "box": 3, "mask": 2}
JITTERED = 0.35  # of the clicks miss the centre of the error, but not by more than half the way to its edge
OTHER_CANDIDATE = 0.3  # of the first clicks: the user goes on with any of the candidates, not the best
HIDDEN, EPOCHS, BATCH = (32, 16), 10, 16
LEARNING_RATE, WEIGHT_DECAY = 8e-3, 1e-2
COLUMNS = ("start", "number", "before", "positive", "features")
HELD_OUT = 10  # every tenth image only measures
THREADS = 2  # fixed, because the order of a sum in torch depends on it


@dataclass(frozen=True)
class Job:
    """One picture to simulate users on."""

    number: int
    seed: int
    name: str
    image: Path
    mask: Path
    file: Path


@dataclass(frozen=True)
class Click:
    """One example: the user's start, clicks before, IoU before, side, evidence (N, F), and the truth in superpixels."""

    start: str
    number: int
    before: float
    positive: bool
    features: NDArray[np.floating]
    truth: NDArray[np.float32]
    area: NDArray[np.float32]

    def overlap(self, side: torch.Tensor) -> torch.Tensor:
        """Return the soft IoU with the object, where superpixels are on the click's side with these probabilities."""
        area, truth = torch.from_numpy(self.area), torch.from_numpy(self.truth)
        inside = side if self.positive else 1 - side
        shared = (area * inside * truth).sum()
        return shared / ((area * (inside + truth)).sum() - shared + 1e-6)


def list_jobs(data: Path, work: Path, images: int, seed: int) -> list[Job]:
    """Return the pictures to fit, shuffled, without the development set."""
    pairs = []
    for name, most in MOST_IMAGES.items():
        found = find_pairs(data / name)
        order = np.random.default_rng(LIST_SEED).permutation(len(found))
        pairs += [(name, *found[index]) for index in order[LEFT_OUT : LEFT_OUT + most]]
    order = np.random.default_rng(seed).permutation(len(pairs))[:images]
    return [Job(n, seed, *pairs[index], work / f"{seed}_{n:04d}.npz") for n, index in enumerate(order)]


def read(job: Job) -> Sample | None:
    """Read one object of a picture, or None if none is fit to be learnt from."""
    # The name decides about the object, so that the same picture shows the same one wherever it lies.
    key = f"{job.image.parent.parent.name}/{job.image.name}".encode()
    sample = read_sample(job.image, job.mask, np.random.default_rng([job.seed, zlib.crc32(key)]))
    if job.name == "ccp1004" and job.number % 2 == 0:
        # Otherwise there would be garments only, never a whole person.
        image, mask = cv2.imread(str(job.image)), cv2.imread(str(job.mask), cv2.IMREAD_UNCHANGED)
        sample = Sample(job.image.name, np.ascontiguousarray(image[..., ::-1]), mask > 0, np.ones(mask.shape, np.bool_))
    if sample is None or sample.image.shape[:2] != sample.truth.shape:
        return None
    return sample if sample.truth.sum() >= SMALLEST_PIXELS and sample.truth.mean() <= LARGEST_OBJECT else None


def click_error(
    mask: NDArray[np.bool_], sample: Sample, clicked: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[int, int, bool] | None:
    """Return the (x, y, label) of a corrective click by a user who is not always exact."""
    click = next_click(mask, sample, clicked)
    if click is None or rng.random() >= JITTERED:
        return click
    errors = (sample.truth & ~mask) if click[2] else (~sample.truth & mask)
    region = largest_region(errors & sample.counted & ~clicked)
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= depth.max() / 2)
    picked = rng.integers(len(rows))
    return int(columns[picked]), int(rows[picked]), click[2]


def corrupt(truth: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask as another tool could have left it: too small or too large, with parts missing or added."""
    mask = truth.astype(np.uint8)
    size = max(float(np.sqrt(truth.sum())), 3.0)
    change = rng.integers(4)
    if change <= 1:
        kernel = np.ones((int(size * rng.uniform(0.03, 0.25)) + 2,) * 2)
        mask = cv2.erode(mask, kernel) if change else cv2.dilate(mask, kernel)
    rows, columns = np.nonzero(truth)
    for _ in range(rng.integers(1, 4)):
        picked = rng.integers(len(rows))
        x, y = np.array([columns[picked], rows[picked]]) + rng.normal(size=2) * size * 0.3
        axes = (size * rng.uniform(0.08, 0.4, 2)).astype(int) + 2
        cv2.ellipse(mask, (int(x), int(y)), axes.tolist(), rng.uniform(0, 180), 0, 360, int(rng.integers(2)), -1)
    return mask > 0


def click_on(
    model: BuiltinModel, embedding: BuiltinEmbedding, sample: Sample, start: str, rng: np.random.Generator
) -> Iterator[Click]:
    """Yield the clicks of one user."""
    regions, grid = embedding.graph.regions, embedding.graph.regions.labels.shape
    coverage = cv2.resize(sample.truth.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
    truth, area = regions.average(coverage).astype(np.float32), regions.area.astype(np.float32)
    box, logits = None, None
    if start == "box":
        rows, columns = np.nonzero(sample.truth)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        logits = model.refine(embedding, InstancePrompts(box=box)).logits[0]
    elif start == "mask":
        logits = np.where(corrupt(sample.truth, rng), LIMIT, -LIMIT).astype(np.float32)
    clicked = np.zeros(sample.truth.shape, np.bool_)
    points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
    for number in range(CLICKS[start]):
        mask = np.zeros(sample.truth.shape, np.bool_) if logits is None else draw(logits, sample)
        click = click_error(mask, sample, clicked, rng)
        if click is None:
            return
        x, y, label = click
        clicked[y, x] = True
        points = np.vstack([points, np.array([[x + 0.5, y + 0.5]], np.float32)])
        labels = np.append(labels, label)
        prompts = InstancePrompts(points, labels, box)
        state = np.full(grid, -LIMIT, np.float32) if logits is None else resample(logits, grid)
        known = Refinement(embedding, prompts).anchor(state > 0, number)
        features = describe(embedding.graph, sigmoid(regions.average(state)), state > 0, *known)
        yield Click(start, number, iou(mask, sample), label, features.astype(np.float16), truth, area)
        answers = model.refine(embedding, prompts, logits).logits
        other = start == "nothing" and number == 0 and rng.random() < OTHER_CANDIDATE
        logits = answers[rng.integers(len(answers)) if other else 0]


def simulate(job: Job) -> None:
    """Write the clicks on one picture to ``job.file``, unless an earlier run with the same weights has done so."""
    sample = None if job.file.exists() else read(job)
    if sample is None:
        return
    cv2.setNumThreads(1)
    model, rng = BuiltinModel(), np.random.default_rng([job.seed, job.number])
    embedding = model.encode(sample.image)
    starts = ("nothing", "mask" if job.number % 2 else "box")
    clicks = [click for start in starts for click in click_on(model, embedding, sample, start, rng)]
    columns = {name: np.array([getattr(click, name) for click in clicks]) for name in COLUMNS}
    # A run that is cut off leaves no half file behind for the next to skip.
    part = job.file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, truth=clicks[0].truth, area=clicks[0].area, **columns)
    part.rename(job.file)


def load_clicks(files: list[Path]) -> list[Click]:
    """Read what :func:`simulate` wrote."""
    clicks = []
    for file in files:
        with np.load(file) as arrays:
            columns = [arrays[name] if name == "features" else arrays[name].tolist() for name in COLUMNS]
            truth, area = arrays["truth"], arrays["area"]
        clicks += [Click(*row, truth=truth, area=area) for row in zip(*columns, strict=True)]
    return clicks


def normalise(clicks: list[Click], mean: NDArray[np.float32], spread: NDArray[np.float32]) -> list[Click]:
    """Return clicks with features as the model's ``predict`` has them."""
    return [replace(c, features=np.clip((c.features - mean) / spread, -NORMAL_LIMIT, NORMAL_LIMIT)) for c in clicks]


def train(clicks: list[Click], seed: int) -> torch.nn.Sequential:
    """Return the network, fitted by cross-entropy, which knows each superpixel, and soft IoU, which knows the mask."""
    sizes = [clicks[0].features.shape[1], *HIDDEN]
    hidden = [layer for pair in pairwise(sizes) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    net = torch.nn.Sequential(*hidden, torch.nn.Linear(sizes[-1], 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=WEIGHT_DECAY)
    batches, rng = len(clicks) // BATCH, np.random.default_rng(seed)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=EPOCHS * batches)
    for epoch in range(EPOCHS):
        total, order = 0.0, rng.permutation(len(clicks))
        for batch in order[: batches * BATCH].reshape(batches, BATCH):
            picked = [clicks[index] for index in batch]
            values = net(torch.from_numpy(np.concatenate([click.features for click in picked])))[:, 0]
            losses = []
            for click, value in zip(picked, values.split([len(click.area) for click in picked]), strict=True):
                target = click.truth if click.positive else 1 - click.truth
                weight = torch.from_numpy(click.area / click.area.mean())
                entropy = binary_cross_entropy_with_logits(value, torch.from_numpy(target), weight=weight)
                losses.append(entropy + 1 - click.overlap(torch.sigmoid(value)))
            loss = torch.stack(losses).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / batches:.4f}", flush=True)
    return net


def measure(net: torch.nn.Sequential, clicks: list[Click]) -> None:
    """Print the IoU before and after clicks; what the model does about connected parts and contours is not in it."""
    groups: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with torch.no_grad():
        for click in clicks:
            after = click.overlap((net(torch.from_numpy(click.features))[:, 0] > 0).float())
            groups.setdefault((click.start, click.number + 1), []).append((click.before, float(after)))
    for (start, number), values in sorted(groups.items()):
        before, after = np.mean(values, axis=0)
        print(f"held out, from {start:7} click {number}: IoU {before:.3f} -> {after:.3f} ({len(values)} clicks)")


def main() -> None:
    """Simulate, fit, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--images", type=int, default=900, help="pictures to simulate users on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir(), "clicks"), help="keeps what is simulated"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    jobs, began = list_jobs(options.data, options.work, options.images, options.seed), time.perf_counter()
    # Each process is one thread; a process that is spawned reads this before it loads numpy.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(THREADS, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(simulate, jobs), 1):
            if done % 50 == 0:
                print(f"{done}/{len(jobs)} pictures, {time.perf_counter() - began:.0f} s", flush=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    files = [job.file for job in jobs if job.file.exists()]
    held = load_clicks(files[::HELD_OUT])
    fitted = load_clicks([file for index, file in enumerate(files) if index % HELD_OUT])
    print(f"{len(files)} pictures, {len(fitted)} clicks to fit, {len(held)} held out", flush=True)
    some = np.concatenate([click.features[::10] for click in fitted]).astype(np.float64)
    mean, spread = some.mean(0).astype(np.float32), (some.std(0) + 1e-3).astype(np.float32)
    net = train(normalise(fitted, mean, spread), options.seed)
    measure(net, normalise(held, mean, spread))
    arrays = {"mean": mean, "spread": spread}
    for index, layer in enumerate(layer for layer in net if isinstance(layer, torch.nn.Linear)):
        arrays[f"weight{index}"] = layer.weight.detach().numpy().T.copy()
        arrays[f"bias{index}"] = layer.bias.detach().numpy()
    np.savez(options.out, **arrays)
    print(f"wrote {options.out} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
