"""The built-in model: classical segmentation by clicks, with nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Candidates, Capabilities, Embedding, Model, no_progress
from sam3_widget.models.builtin.correction import find_flip
from sam3_widget.models.builtin.detail import build_guide, to_pixels
from sam3_widget.models.builtin.geometry import LIMIT, bound_by_box, obey_clicks, to_grid
from sam3_widget.models.builtin.graph import EVEN, build_graph
from sam3_widget.models.builtin.proposals import Seeds, propose_at_clicks, propose_in_box, sigmoid
from sam3_widget.models.builtin.regions import build_regions
from sam3_widget.models.builtin.scoring import (
    agreement_between,
    box_fit,
    measure,
    predict_iou,
    surround,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import InstancePrompts, Progress
    from sam3_widget.models.builtin.detail import Guide
    from sam3_widget.models.builtin.graph import Graph

MOST_CANDIDATES = 3
DISTINCT_IOU = 0.8
"""Two regions that overlap more are one answer."""
SURROUNDINGS = 6
"""Steps from a region within which its surroundings decide where its contour runs."""
SEAM = 2.0
"""Standard deviation, in pixels of the work image, of the passage between corrected and untouched logits."""


class BuiltinEmbedding(Embedding):
    """Superpixels and their graph."""

    def __init__(self, height: int, width: int, graph: Graph, guide: Guide) -> None:
        # The factors of the sparse system are not numpy arrays; their size is a multiple of the number of superpixels.
        super().__init__(height, width, graph.regions.nbytes + guide.nbytes + 1000 * graph.regions.count)
        self.graph = graph
        self.guide = guide


class BuiltinModel(Model):
    """Superpixels, colour models and a random walker; no weights, no download."""

    name = "builtin"
    capabilities = Capabilities(points=True, boxes=True, mask_prompt=True)

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> BuiltinEmbedding:
        """Divide the image into superpixels and weigh their neighbourhood."""
        progress(0.0)
        regions = build_regions(image, progress)
        graph = build_graph(regions)
        guide = build_guide(regions.features[..., :3])
        progress(1.0)
        height, width = image.shape[:2]
        return BuiltinEmbedding(height, width, graph, guide)

    def refine(
        self,
        embedding: Embedding,
        prompts: InstancePrompts,
        previous: NDArray[np.float32] | None = None,
    ) -> Candidates:
        """Decode one instance; see :meth:`sam3_widget.models.base.Model.refine`.

        A positive click outside the box stays inside the mask; there the box does not bound.
        """
        if not isinstance(embedding, BuiltinEmbedding):
            message = f"expected an embedding made by {self.name!r}, got {type(embedding).__name__}"
            raise TypeError(message)
        if previous is None and prompts.box is None and len(prompts.points) == 0:
            message = "nothing to refine: expected at least one point, a box or previous logits"
            raise InvalidPromptError(message)
        prior = None if previous is None else resample(previous, embedding.graph.regions.labels.shape)
        return Refinement(embedding, prompts).decode(prior)


def resample(logits: NDArray[np.float32], grid: tuple[int, ...]) -> NDArray[np.float32]:
    """Return logits of any resolution, infinite ones included, on the grid of the work image."""
    bounded = np.clip(np.nan_to_num(logits, nan=-LIMIT), -LIMIT, LIMIT).astype(np.float32)
    if bounded.shape == grid:
        return bounded
    shrinks = bounded.shape[0] > grid[0] or bounded.shape[1] > grid[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bounded, (grid[1], grid[0]), interpolation=method), np.float32).reshape(grid)


class Refinement:
    """One call of refine: the prompts in terms of superpixels, and the ways to answer them."""

    def __init__(self, embedding: BuiltinEmbedding, prompts: InstancePrompts) -> None:
        self.graph = embedding.graph
        self.regions = embedding.graph.regions
        self.guide = embedding.guide
        self.prompts = prompts
        self.size = (embedding.height, embedding.width)
        grid = self.regions.labels.shape
        self.clicks = to_grid(prompts.points, self.size, (grid[0], grid[1]))
        columns, rows = np.round(self.clicks).astype(np.intp).T
        self.cells = (rows, columns)
        self.clicked = self.regions.labels[self.cells].astype(np.intp)

    def seeds(self, count: int | None = None) -> Seeds:
        """Return what the first ``count`` clicks and the box make certain; the latest click in a superpixel counts."""
        latest = dict(zip(self.clicked[:count].tolist(), self.prompts.labels[:count].tolist(), strict=True))
        inside = np.array([region for region, label in latest.items() if label], np.intp)
        outside = np.array([region for region, label in latest.items() if not label], np.intp)
        allowed = np.ones(self.regions.count, np.bool_)
        if self.prompts.box is not None:
            x1, y1, x2, y2 = self.prompts.box
            height, width = self.regions.labels.shape
            x, y = (self.regions.centre.T + 0.5) * np.array([[self.size[1] / width], [self.size[0] / height]])
            allowed = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        return Seeds(inside, outside, allowed)

    def decode(self, prior: NDArray[np.float32] | None) -> Candidates:
        """Return the answer, starting from prior logits on the work image's grid, if there are any."""
        if prior is not None and not self.nothing_left(prior):
            return self.finish([self.correct(prior)], np.array([0.9]))
        return self.start()

    def nothing_left(self, prior: NDArray[np.float32]) -> bool:
        """Return whether the prior is of no use within the box."""
        return self.prompts.box is not None and not (bound_by_box(prior, self.prompts.box, self.size) > 0).any()

    def start(self) -> Candidates:
        """Answer without a prior."""
        seeds = self.seeds()
        if self.prompts.box is not None:
            members = propose_in_box(self.graph, seeds)
            middle = self.box_middle(self.prompts.box)
        elif len(seeds.inside) == 0:
            # Only negative clicks: they say what is not meant, so nothing is.
            empty = np.full(self.regions.labels.shape, -LIMIT, np.float32)
            return self.finish([empty], np.array([0.0]))
        else:
            members = propose_at_clicks(self.graph, seeds)
            middle = self.clicks[self.prompts.labels][0]
        scores = predict_iou(measure(self.regions, members, middle))
        if self.prompts.box is not None:
            scores = (scores + box_fit(self.regions, members, seeds.allowed)) / 2
        chosen = self.choose(members, scores, MOST_CANDIDATES if self.prompts.ambiguous else 1)
        pictures = [self.draw(members[index]) for index in chosen]
        return self.finish(pictures, scores[chosen])

    def box_middle(self, box: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the middle of a box on the work image."""
        middle = ((box[None, :2] + box[None, 2:]) / 2).astype(np.float32)
        height, width = self.regions.labels.shape
        return np.asarray(to_grid(middle, self.size, (height, width))[0])

    def choose(self, members: NDArray[np.bool_], scores: NDArray[np.float64], most: int) -> list[int]:
        """Return the indices of the best regions, distinct ones only."""
        alike = agreement_between(self.regions, members)
        chosen: list[int] = []
        for index in np.argsort(-scores, kind="stable"):
            if all(alike[index, other] < DISTINCT_IOU for other in chosen):
                chosen.append(int(index))
            if len(chosen) == most:
                break
        return chosen

    def draw(self, member: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return logits of a region on the work image."""
        around = surround(self.regions, member[None], SURROUNDINGS)[0]
        return to_pixels(self.regions, self.guide, member, around)

    def correct(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Change what the clicks contradict, and nothing far from them."""
        for index, label in enumerate(self.prompts.labels.tolist()):
            if (logits[self.cells][index] > 0) == label:
                continue
            seeds = self.seeds()
            region = int(self.clicked[index])
            if region not in (seeds.inside if label else seeds.outside):
                continue
            prior = sigmoid(self.regions.average(logits))
            before = prior > EVEN
            flip = find_flip(self.graph, prior, region, label=label, seeds=seeds)
            touched = flip.copy()
            touched[region] = True
            logits = self.blend(logits, self.draw(before ^ flip), touched)
        return logits

    def blend(
        self, old: NDArray[np.float32], new: NDArray[np.float32], touched: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return new logits on the superpixels touched, old ones elsewhere, with a soft passage."""
        changed = cv2.dilate(touched[self.regions.labels].astype(np.float32), np.ones((5, 5)))
        weight = cv2.GaussianBlur(changed, (0, 0), SEAM)
        weight = np.maximum(weight, touched[self.regions.labels]).astype(np.float32)
        return old + weight * (new - old)

    def finish(self, pictures: list[NDArray[np.float32]], scores: NDArray[np.float64]) -> Candidates:
        """Keep the promises about box and clicks, and put the answers in order."""
        kept = []
        for picture in pictures:
            bounded = picture if self.prompts.box is None else bound_by_box(picture, self.prompts.box, self.size)
            kept.append(obey_clicks(bounded, self.prompts.points, self.prompts.labels, self.size))
        order = np.argsort(-scores, kind="stable")
        clipped = np.clip(scores[order], 0.0, 1.0).astype(np.float32)
        return Candidates(np.stack([kept[index] for index in order]).astype(np.float32), clipped)
