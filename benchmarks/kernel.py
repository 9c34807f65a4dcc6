"""What a click costs in the kernel beyond the model, and on the wire: ``python benchmarks/kernel.py``.

A widget on a 12-megapixel picture gets a click on each of several objects, and a click on each of four parts of it that
takes the part away or adds it.
The time of the model's own ``refine`` is taken out of the time from the message to its last patch; bytes are those of
the JSON and the buffers of every message the click caused.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam3_widget import Sam3Widget, load_model
from sam3_widget.models.base import Candidates, Embedding, InstancePrompts, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 4000, 3000
OBJECTS = 6
MARKS = ((-0.45, 0.1), (0.45, -0.1), (0.1, 0.45), (-0.1, -0.45))
CLICKS = 1 + len(MARKS)


class Timed(Model):
    """A model that adds up the seconds of its refinements."""

    def __init__(self, model: Model) -> None:
        self.model, self.name, self.capabilities = model, model.name, model.capabilities
        self.seconds = 0.0

    def encode(self, image: NDArray[np.uint8], progress: Any = lambda _: None) -> Embedding:  # noqa: ANN401
        """Encode by the model itself."""
        return self.model.encode(image, progress)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Refine by the model itself, and take the time."""
        start = time.perf_counter()
        candidates = self.model.refine(embedding, prompts, previous)
        self.seconds += time.perf_counter() - start
        return candidates


def picture() -> tuple[NDArray[np.uint8], list[tuple[int, int, int]]]:
    """Return a textured picture with discs, and their ``(x, y, radius)``."""
    rng = np.random.default_rng(3)
    ground = cv2.resize(rng.integers(60, 140, (75, 100, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    discs = [(700 + 1300 * (k % 3), 800 + 1400 * (k // 3), 330 + 40 * k) for k in range(OBJECTS)]
    for k, (x, y, radius) in enumerate(discs):
        colour = tuple(int(v) for v in rng.integers(150, 255, 3))
        cv2.ellipse(ground, (x, y), (radius, int(radius * 0.8)), 20 * k, 0, 360, colour, cv2.FILLED)
        for dx, dy in MARKS:  # parts of another colour: what corrections are about
            other = tuple(int(v) for v in rng.integers(60, 200, 3))
            cv2.circle(ground, (int(x + dx * radius), int(y + dy * radius)), radius // 5, other, cv2.FILLED)
    return ground, discs


def import_seconds() -> float:
    """Return what ``import sam3_widget`` takes beyond bare Python: the median of seven pairs of processes."""

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - this interpreter
        return time.perf_counter() - start

    return statistics.median(run("import sam3_widget") - run("pass") for _ in range(7))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args()

    image, discs = picture()
    model = Timed(load_model(args.model))
    widget = Sam3Widget(image, model=model)
    live = widget.session._live  # noqa: SLF001
    sent: list[int] = []
    widget.send = lambda content, buffers=(): sent.append(len(json.dumps(content)) + sum(len(b) for b in buffers or ()))
    widget.add_point(5, 5)
    widget.undo()

    shares, extra, sizes = [], [], []
    for number, (x, y, radius) in enumerate(discs):
        object_id = None
        for k in range(CLICKS):
            dx, dy = (0, 0) if k == 0 else MARKS[k - 1]
            at = {"x": x + dx * radius, "y": y + dy * radius}
            inside = bool(object_id) and bool(widget.instance(object_id).mask[int(at["y"]), int(at["x"])])
            message: dict[str, Any] = {"name": "add_point", "args": {**at, "positive": not inside}}
            message["args"]["object_id"] = object_id
            sent.clear()
            before, start = model.seconds, time.perf_counter()
            widget._receive({"v": 1, "id": f"b-{number}-{k}", "type": "command", "rev": 0, "payload": message})  # noqa: SLF001
            with live.lock:
                live.lock.wait_for(lambda: not any(i.pending for i in live.state.instances))
            total, own = time.perf_counter() - start, model.seconds - before
            object_id = widget.selected
            shares.append((total - own) / own)
            extra.append(total - own)
            sizes.append(sum(sent))
    told = {
        "import_seconds": import_seconds(),
        "clicks": len(sizes),
        "kernel_beyond_model_share_median": statistics.median(shares),
        "kernel_beyond_model_ms_median": 1000 * statistics.median(extra),
        "bytes_per_click_median": statistics.median(sizes),
        "bytes_per_click_max": max(sizes),
    }
    if args.json:
        print(json.dumps(told))
        return
    print(f"{WIDTH} x {HEIGHT} pixels, model {args.model}, {told['clicks']} clicks on {OBJECTS} objects")
    print(f"import sam3_widget: {told['import_seconds']:.3f} s")
    print(f"kernel time beyond the model's own: {told['kernel_beyond_model_share_median']:.0%} (median)", end=", ")
    print(f"{told['kernel_beyond_model_ms_median']:.1f} ms")
    print(f"bytes per click: median {told['bytes_per_click_median']:.0f}, largest {told['bytes_per_click_max']}")


if __name__ == "__main__":
    main()
