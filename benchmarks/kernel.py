"""What a click costs in the kernel beyond the model, and on the wire: ``python benchmarks/kernel.py``.

A widget on a 12-megapixel picture gets a positive click on each of several discs and corrective clicks after it.
The time of the model's own ``refine`` is taken out of the time from the message to its last patch; bytes are those of
the JSON and the buffers of every message the click caused.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam3_widget import Sam3Widget, load_model
from sam3_widget.models.base import Candidates, Embedding, InstancePrompts, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 4000, 3000
OBJECTS, CLICKS = 6, 5


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
    return ground, discs


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
            at = (x + k * radius * 0.15, y + k * radius * 0.12) if k % 2 == 0 else (x - radius * 1.3, y + 30 * k)
            message = {"name": "add_point", "args": {"x": at[0], "y": at[1], "positive": k % 2 == 0}}
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
    print(f"kernel time beyond the model's own: {told['kernel_beyond_model_share_median']:.0%} (median)", end=", ")
    print(f"{told['kernel_beyond_model_ms_median']:.1f} ms")
    print(f"bytes per click: median {told['bytes_per_click_median']:.0f}, largest {told['bytes_per_click_max']}")


if __name__ == "__main__":
    main()
