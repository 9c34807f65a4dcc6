"""Write the goldens that the Python and the TypeScript tests both read: ``python tests/wire/make_goldens.py``."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.dataset.entries import Entries, Entry
from sam3_widget.live import LiveDocument
from sam3_widget.widget.dataset import news
from sam3_widget.widget.imagery import described
from sam3_widget.widget.protocol import View
from tests.toy import ToyModel

HERE = Path(__file__).parent

PICTURES: dict[str, list[str]] = {
    "one background pixel": ["."],
    "one foreground pixel": ["#"],
    "empty": ["....", "....", "...."],
    "full": ["####", "####"],
    "first pixel": ["#...", "...."],
    "last pixel": ["....", "...#"],
    "run over the end of a row": ["..##", "##..", "...."],
    "hole": ["......", ".####.", ".#..#.", ".####.", "......"],
    "two parts": ["##..##", "##..##", "......"],
    "checkers": ["#.#.#", ".#.#.", "#.#.#"],
    "slanted": ["#.......", ".##.....", "..###...", "...####.", "....####"],
    "one row": ["..##..###.#"],
    "one column": [".", "#", "#", ".", "#"],
}

BROKEN = {
    "nothing": "",
    "no run": "0202",
    "cut off in a number": "020284",
    "runs too short": "020203",
    "runs too long": "020205",
    "negative run": "020201020100",
    "empty run inside": "0202010003",
    "number of six bytes": "02028080808080" + "01",
}


def mask_of(rows: list[str]) -> np.ndarray:
    """Return a bool mask from rows of ``#`` and ``.``."""
    return np.array([[c == "#" for c in row] for row in rows])


def masks() -> list[dict[str, object]]:
    """Return the cases of the mask codec."""
    cases: list[dict[str, object]] = []
    for name, rows in PICTURES.items():
        runs = RunLengths.from_mask(mask_of(rows))
        cases.append(case(name, runs, rows))
    disc = np.hypot(*(np.mgrid[:300, :500] - np.array([150, 260])[:, None, None])) < 120
    cases.append(case("disc of two-byte runs", RunLengths.from_mask(disc), None))
    far = RunLengths(30_000, 40_000, np.array([700_000_000, 1, 499_999_999]))
    cases.append(case("1.2 gigapixels", far, None))
    cases += [{"name": name, "hex": code, "error": True} for name, code in BROKEN.items()]
    return cases


def case(name: str, runs: RunLengths, rows: list[str] | None) -> dict[str, object]:
    """Return one case."""
    return {
        "name": name,
        "height": runs.height,
        "width": runs.width,
        "rows": rows,
        "runs": runs.counts.tolist(),
        "hex": runs.to_bytes().hex(),
    }


def messages() -> dict[str, object]:
    """Return a snapshot, a patch upon it, and the snapshot that the two make."""
    image = np.full((48, 64, 3), 90, np.uint8)
    image[2:10, 2:12, 0] = image[30:40, 40:60, 0] = image[30:40, 2:12, 1] = 220
    document = LiveDocument(image, ToyModel(), classes=["cup"])
    document.run("add_point", {"x": 20, "y": 20})
    document.run("add_box", {"box": (30, 5, 50, 25)})
    document.run("add_point", {"x": 50, "y": 40})
    document.run("add_concept", {"text": "red"})
    before = View.of(document, document.revision, described(document.image))
    document.run("add_exemplar", {"box": (38, 28, 62, 42), "positive": False})
    document.run("add_concept", {"text": "green"})
    document.run("set_label", {"object_id": 1, "label": "saucer"})
    document.run("remove_object", {"object_id": 2})
    document.run("add_point", {"x": 52, "y": 40, "positive": False, "object_id": 3})
    document.run("add_stroke", {"path": [(5, 40), (15, 40)], "radius": 3})
    after = View.of(document, document.revision, described(document.image))
    patch, patch_buffers = after.since(before)
    return {
        "before": packed(before),
        "patch": {"rev": after.rev, "payload": patch, "buffers": [b.hex() for b in patch_buffers]},
        "after": packed(after),
        "dataset": news_of_images(),
    }


def news_of_images() -> dict[str, object]:
    """Return what is told of a folder of images at first, and of one of them later."""
    entries = Entries((Entry(Path("/pictures", name), name) for name in ("a.jpg", "b/c.jpg", "d.jpg", "e.jpg")), ())
    entries.take(1, [("cup", 0.75), ("", 0.5)])
    entries.decide(1, "accepted")
    entries[3].error = "it is no image"
    first = news(entries, {"cup": 0, "dog": 0, **entries.counts}, None, None)
    entries.take(2, [("dog", math.nan)])
    entries.decide(1, "rejected")
    return {"first": first, "later": news(entries, {"cup": 0, **entries.counts}, "“cup”", [1, 2])}


def packed(view: View) -> dict[str, object]:
    """Return a view as a snapshot message."""
    payload, buffers = view.snapshot()
    return {"rev": view.rev, "payload": payload, "buffers": [b.hex() for b in buffers]}


if __name__ == "__main__":
    for name, made in (("masks", masks()), ("messages", messages())):
        (HERE / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")
