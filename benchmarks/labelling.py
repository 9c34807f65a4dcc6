"""How many images a second ``label_images`` labels, and what memory it takes: ``python benchmarks/labelling.py``.

Pictures are drawn into a temporary folder: a few discs each, and a click on one of them is asked of the model. The same
pictures go through this machine and, with ``--ray``, through a local Ray cluster; memory is the peak of the process
that has the model, the largest where there are several, after a tenth of the images and after all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from sam3_widget import Job, label_images

SIDE = 256
DISCS = ((70, 70), (180, 90), (110, 190))
RADIUS = 34


def draw(folder: Path, count: int) -> None:
    """Draw the pictures."""
    rng = np.random.default_rng(0)
    for k in range(count):
        picture = cv2.resize(rng.integers(60, 140, (8, 8, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        for x, y in DISCS:
            colour = tuple(int(c) for c in rng.integers(150, 255, 3))
            cv2.circle(picture, (x, y), RADIUS, colour, cv2.FILLED, cv2.LINE_AA)
        cv2.imwrite(str(folder / f"{k:06d}.jpg"), picture)


class Click:
    """A click on a disc of each picture; called where the model is, so it notes that process's peak of memory.

    Parameters
    ----------
    notes : Path
        A line for each picture.
    """

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, path: Path) -> list[Job]:
        """Return the click."""
        with self._notes.open("a") as file:
            file.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")
        return [Job(path, points=[DISCS[0]], label="disc")]


def run(folder: Path, out: Path, engine: str, model: str, workers: int | None) -> dict[str, float]:
    """Label the pictures in this process."""
    notes = out.with_suffix(".peaks")
    start = time.perf_counter()
    result = label_images(folder, out, prompts=Click(notes), model=model, engine=engine, workers=workers, batch_size=8)
    seconds = time.perf_counter() - start
    peaks = [int(line) for line in notes.read_text().split()]
    return {
        "images": result.images,
        "objects": result.objects,
        "failed": len(result.failed),
        "images_per_s": result.images / seconds,
        "mb_after_a_tenth": max(peaks[: len(peaks) // 10]) / 1e3,
        "mb_at_the_end": max(peaks) / 1e3,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--ray", action="store_true", help="on a local Ray cluster too")
    parser.add_argument("--workers", type=int, help="of Ray")
    parser.add_argument("--engine", help=argparse.SUPPRESS)  # in a child process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        told = run(args.folder, args.folder.parent / f"{args.engine}.json", args.engine, args.model, args.workers)
        print(json.dumps(told))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        folder.mkdir()
        draw(folder, args.images)
        for engine in ("local", "ray") if args.ray else ("local",):
            command = [sys.executable, __file__, "--engine", engine, "--folder", str(folder), "--model", args.model]
            command += ["--workers", str(args.workers)] if args.workers else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
            print(engine, json.loads(done.stdout.splitlines()[-1]), flush=True)


if __name__ == "__main__":
    main()
