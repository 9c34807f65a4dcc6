"""Measure the built-in model on the development sets: pictures of the training sets that it never learnt from.

python -m training.builtin.evaluate --data ../shared/data
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.clicks import Sample, clicks_to, draw, iou, read_sample, run_sample, split
from sam3_widget.models.base import InstancePrompts
from sam3_widget.models.builtin.model import WEIGHTS, BuiltinModel
from training.builtin.pictures import SHARES
from training.builtin.users import draw_box, spoil

if TYPE_CHECKING:
    from collections.abc import Iterator

CLICKS = 5


def read_development(data: Path, name: str, limit: int) -> Iterator[Sample]:
    """Yield one object of each picture of a development set; which one depends on the picture's name alone."""
    found = 0
    for image, mask in split(data / name, development=True):
        key = f"{image.parent.parent.name}/{image.name}".encode()
        sample = read_sample(image, mask, np.random.default_rng([0, zlib.crc32(key)]))
        if sample is not None and found < limit:
            found += 1
            yield sample


def from_box(model: BuiltinModel, sample: Sample) -> float:
    """Return the IoU of the answer to a box."""
    box = draw_box(sample.truth, np.random.default_rng(0))
    answer = model.refine(model.encode(sample.image), InstancePrompts(box=box))
    return iou(draw(answer.logits[0], sample), sample)


def from_mask(model: BuiltinModel, sample: Sample) -> tuple[float, float]:
    """Return the IoU of a mask with errors, and after one click on the largest of them."""
    rng = np.random.default_rng(0)
    mask = spoil(sample.truth, np.roll(sample.truth, 40, 1), rng)
    run = run_sample(model, sample, 1, mask)
    return iou(mask, sample), run.ious[0] if run.ious else 1.0


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--limit", type=int, default=60, help="most pictures of a set")
    options = parser.parse_args()
    model = BuiltinModel(options.weights)
    print("set         objects  IoU after 1..5 clicks                best of 3  NoC@85  NoC@90  box    mask, 1 click")
    for name in SHARES:
        samples = list(read_development(options.data, name, options.limit))
        runs = [run_sample(model, sample, CLICKS) for sample in samples]
        after = np.mean([[run.ious[min(n, len(run.ious)) - 1] for n in range(1, CLICKS + 1)] for run in runs], axis=0)
        to85, to90 = (np.mean([clicks_to(run, target, CLICKS) for run in runs]) for target in (0.85, 0.9))
        boxes = np.mean([from_box(model, sample) for sample in samples])
        before, corrected = np.mean([from_mask(model, sample) for sample in samples], axis=0)
        print(
            f"{name:11} {len(samples):7}  {'  '.join(f'{value:.3f}' for value in after)}  "
            f"{np.mean([run.best_first for run in runs]):9.3f}  {to85:6.2f}  {to90:6.2f}  {boxes:.3f}  "
            f"{before:.3f} -> {corrected:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
