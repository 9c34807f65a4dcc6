"""Measure how many instances a model finds from one box around one of them: ``python benchmarks/exemplars.py``.

The exemplar is the box of the instance of median area, among those that do not touch the image's border; the model gets
no other prompt. What it finds with at least the threshold's score is matched to the truth, best score first, each to
the free instance of the highest mask IoU, from 0.5 on. The exemplar's own instance counts like the others.
Counts are pooled over the images of a set; seconds are medians.

* ``coins``: the picture that scikit-image ships. It comes without a truth, so that one is made here by a watershed; on
  this picture its outlines are right to a pixel or two.
* ``dsb2018``: nuclei in microscopy, the images that no built-in model was trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from clicks import split
from skimage import data, filters, measure, segmentation

from sam3_widget.models.base import ConceptPrompts
from sam3_widget.models.catalog import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sam3_widget.models.base import Detections, Model

FEWEST = 5
"""Instances of an image that is worth a search."""
MATCHED = 0.5
DARK, BRIGHT, SMALLEST_COIN, COINS = 30, 150, 500, 24


@dataclass(frozen=True)
class Scene:
    """One picture with all its instances.

    Attributes
    ----------
    name : str
        What the picture is called.
    image : (H, W, 3) uint8
        RGB.
    ids : (H, W) int
        1 to N for the instances, 0 elsewhere.
    """

    name: str
    image: NDArray[np.uint8]
    ids: NDArray[np.intp]


@dataclass(frozen=True)
class Found:
    """What happened on one scene: how many instances there are, how many were found, IoU of matches, and seconds."""

    name: str
    instances: int
    detections: int
    ious: list[float]
    encode_seconds: float
    detect_seconds: float


def coins() -> Iterator[Scene]:
    """Yield scikit-image's coins, segmented as its gallery does ("Comparing edge-based and region-based...")."""
    grey = data.coins()
    markers = np.where(grey < DARK, 1, 0) + np.where(grey > BRIGHT, 2, 0)
    raised = segmentation.watershed(filters.sobel(grey), markers) == 2  # noqa: PLR2004 - the marker of coins
    holes = segmentation.clear_border(measure.label(~raised, connectivity=1)) > 0
    ids = measure.label(raised | holes, connectivity=1)
    ids[(np.bincount(ids.ravel()) < SMALLEST_COIN)[ids]] = 0
    ids = compact(ids)
    if ids.max() != COINS:
        message = f"expected {COINS} coins in scikit-image's picture, got {ids.max()}"
        raise ValueError(message)
    yield Scene("coins", np.dstack([grey] * 3), ids)


def nuclei(folder: Path) -> Iterator[Scene]:
    """Yield the images of dsb2018 that training leaves out and that show several nuclei."""
    for image_path, mask_path in split(folder, development=True):
        image, mask = cv2.imread(str(image_path)), cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
        if image is None or mask is None:
            message = f"cannot read {image_path} and {mask_path}"
            raise OSError(message)
        ids = compact(mask)
        if ids.max() >= FEWEST and exemplar(ids) is not None:
            yield Scene(image_path.name, np.ascontiguousarray(image[..., ::-1]), ids)


def compact(ids: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the instances numbered from 1 without gaps."""
    return segmentation.relabel_sequential(ids)[0].astype(np.intp)


def exemplar(ids: NDArray[np.intp]) -> NDArray[np.float32] | None:
    """Return the box of the instance of median area off the border, or None if all touch it."""
    border = np.unique(np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]]))
    areas = np.bincount(ids.ravel())
    inner = np.setdiff1d(np.arange(1, len(areas)), border)
    if len(inner) == 0:
        return None
    chosen = inner[np.argsort(areas[inner], kind="stable")[(len(inner) - 1) // 2]]
    rows, columns = np.nonzero(ids == chosen)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def match(found: Detections, ids: NDArray[np.intp], threshold: float) -> tuple[int, list[float]]:
    """Return how many detections there are, and the IoU of each that is an instance."""
    height, width = ids.shape
    areas = np.bincount(ids.ravel())
    free = np.ones(len(areas), np.bool_)
    free[0] = False
    chosen = np.flatnonzero(found.scores >= threshold)
    ious = []
    for index in chosen[np.argsort(-found.scores[chosen], kind="stable")]:
        mask = cv2.resize(found.logits[index], (width, height), interpolation=cv2.INTER_LINEAR) > 0
        shared = np.bincount(ids[mask], minlength=len(areas))
        iou = np.where(free, shared / (areas + np.count_nonzero(mask) - shared), 0)
        best = int(iou.argmax())
        if iou[best] >= MATCHED:
            free[best] = False
            ious.append(float(iou[best]))
    return len(chosen), ious


def search(model: Model, scene: Scene, threshold: float) -> Found:
    """Let the model find what is like the exemplar."""
    box = exemplar(scene.ids)
    if box is None:
        message = f"{scene.name}: every instance touches the border"
        raise ValueError(message)
    start = time.perf_counter()
    embedding = model.encode(scene.image)
    encoded = time.perf_counter()
    found = model.detect(embedding, ConceptPrompts(boxes=box[None], labels=np.ones(1, np.bool_)))
    detected = time.perf_counter()
    detections, ious = match(found, scene.ids, threshold)
    return Found(scene.name, int(scene.ids.max()), detections, ious, encoded - start, detected - encoded)


def summarise(runs: list[Found]) -> dict[str, float]:
    """Return the numbers to compare models by."""
    ious = [iou for run in runs for iou in run.ious]
    instances, detections = sum(run.instances for run in runs), sum(run.detections for run in runs)
    return {
        "images": len(runs),
        "instances": instances,
        "recall": len(ious) / instances,
        "precision": len(ious) / max(1, detections),
        "f1": 2 * len(ious) / (instances + detections),
        "iou_of_matches": float(np.mean(ious)) if ious else 0.0,
        "encode_seconds_median": float(np.median([run.encode_seconds for run in runs])),
        "detect_seconds_median": float(np.median([run.detect_seconds for run in runs])),
    }


def main() -> None:
    """Run the benchmark and print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where dsb2018 is, if it is")
    parser.add_argument("--limit", type=int, help="most images of a set")
    parser.add_argument("--threshold", type=float, default=0.5, help="score from which a detection counts")
    parser.add_argument("--json", type=Path, help="write the summaries and what was found in each image here")
    options = parser.parse_args()
    model = load_model(options.model)
    if not model.capabilities.exemplars:
        parser.error(f"the model {model.name!r} takes no exemplars")
    results = {}
    print("set      images  instances  recall  precision     F1    IoU  encode s  detect s")
    for name, scenes in {"coins": coins(), "dsb2018": nuclei(options.data / "dsb2018")}.items():
        runs = [search(model, scene, options.threshold) for scene in islice(scenes, options.limit)]
        if not runs:
            print(f"{name:7}  no images below {options.data / name}")
            continue
        told = summarise(runs)
        results[name] = {"summary": told, "images": [asdict(run) for run in runs]}
        print(
            f"{name:7}  {told['images']:6}  {told['instances']:9}  {told['recall']:6.3f}  {told['precision']:9.3f}",
            f"{told['f1']:5.3f}  {told['iou_of_matches']:5.3f}",
            f"{told['encode_seconds_median']:8.3f}  {told['detect_seconds_median']:8.3f}",
            sep="  ",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
