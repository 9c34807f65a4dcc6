"""The built-in model: classical segmentation by clicks, with nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Candidates, Capabilities, Embedding, Model, no_progress
from sam3_widget.models.builtin.belief import believe, expected_iou
from sam3_widget.models.builtin.detail import build_guide, to_pixels
from sam3_widget.models.builtin.evidence import free_radius
from sam3_widget.models.builtin.geometry import LIMIT, bound_by_box, obey_clicks, to_grid
from sam3_widget.models.builtin.graph import EVEN, build_graph, part_at, sigmoid, surround
from sam3_widget.models.builtin.proposals import believe_in_box, propose_at_click, solid_part
from sam3_widget.models.builtin.regions import build_regions
from sam3_widget.models.builtin.scoring import choose, measure, predict_iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import InstancePrompts, Progress
    from sam3_widget.models.builtin.detail import Guide
    from sam3_widget.models.builtin.graph import Graph

MOST_CANDIDATES = 3
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
    """Superpixels, colour models, a random walker and a tiny network that weighs them; no download."""

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
        self.allowed = self.within_box()

    def within_box(self) -> NDArray[np.bool_]:
        """Return the superpixels where the object can be; a box always holds at least the one in its middle."""
        if self.prompts.box is None:
            return np.ones(self.regions.count, np.bool_)
        x1, y1, x2, y2 = self.prompts.box
        height, width = self.regions.labels.shape
        x, y = (self.regions.centre.T + 0.5) * np.array([[self.size[1] / width], [self.size[0] / height]])
        allowed = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        middle = np.array([[(x1 + x2) / 2, (y1 + y2) / 2]], np.float32)
        column, row = np.round(to_grid(middle, self.size, (height, width))[0]).astype(np.intp)
        allowed[self.regions.labels[row, column]] = True
        return np.asarray(allowed)

    def certain(self, belief: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities with all that box and clicks make certain; the latest click in a superpixel counts."""
        fixed = belief * self.allowed
        for region, label in zip(self.clicked, self.prompts.labels, strict=True):
            fixed[region] = label
        return fixed

    def decode(self, prior: NDArray[np.float32] | None) -> Candidates:
        """Return the answer, starting from prior logits on the work image's grid, if there are any."""
        if prior is not None and not self.nothing_left(prior):
            return self.finish([self.correct(prior)])
        if self.prompts.box is None and not self.prompts.labels.any():
            # Only negative clicks: they say what is not meant, so nothing is.
            return self.finish([(np.full(self.regions.labels.shape, -LIMIT, np.float32), 0.0)])
        answers = self.start()
        if self.prompts.ambiguous or len(self.clicks) == 0:
            return self.finish(answers)
        return self.finish([self.correct(answers[0][0])])

    def nothing_left(self, prior: NDArray[np.float32]) -> bool:
        """Return whether the prior is of no use within the box."""
        return self.prompts.box is not None and not (bound_by_box(prior, self.prompts.box, self.size) > 0).any()

    def start(self) -> list[tuple[NDArray[np.float32], float]]:
        """Answer the box, or else the first positive click."""
        if self.prompts.box is None:
            return self.start_at(int(np.argmax(self.prompts.labels)))
        belief = believe_in_box(self.graph, self.allowed)
        member = solid_part(self.graph, belief > EVEN, int(belief.argmax())) & self.allowed
        score = float(expected_iou(self.regions.area, member, belief))
        return [(self.draw(member), score)]

    def start_at(self, first: int) -> list[tuple[NDArray[np.float32], float]]:
        """Answer one positive click: regions grown around it, the best and most distinct first."""
        members = propose_at_click(self.graph, int(self.clicked[first]))
        scores = predict_iou(measure(self.regions, members, self.clicks[first]))
        chosen = choose(self.regions, members, scores, MOST_CANDIDATES)
        return [(self.draw(members[index]), float(scores[index])) for index in chosen]

    def draw(self, member: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return logits of a region on the work image."""
        around = surround(self.regions, member, SURROUNDINGS)
        return to_pixels(self.regions, self.guide, member, around)

    def correct(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Change what the clicks contradict, and nothing that is not connected to them."""
        prior = sigmoid(self.regions.average(logits))
        belief = prior
        for index, label in enumerate(self.prompts.labels.tolist()):
            region = int(self.clicked[index])
            if (logits[self.cells][index] > 0) == label or self.certain(prior)[region] != label:
                continue
            belief = believe(self.graph, prior, logits > 0, *self.anchor(logits > 0, index))
            before = prior > EVEN
            changed = (self.certain(belief) > EVEN) != before
            # A click can fall on the wrong part of a superpixel that is right on the whole: then only pixels change.
            changed[region] = before[region] != label
            changed = part_at(self.regions, changed, np.array([region]))
            touched = changed.copy()
            touched[region] = True
            logits = self.blend(logits, self.draw(before ^ changed), touched)
            prior = sigmoid(self.regions.average(logits))
        return logits, float(expected_iou(self.regions.area, prior > EVEN, belief))

    def anchor(self, mask: NDArray[np.bool_], index: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
        """Return clicks, labels and index with a positive click in the mask, if it came without one from elsewhere."""
        clicks, labels = self.clicks, self.prompts.labels
        if np.delete(labels, index).any():
            return clicks, labels, index
        kept = mask.astype(np.uint8)
        if not labels[index]:
            x, y = np.round(clicks[index]).astype(int).tolist()
            cv2.circle(kept, (x, y), round(free_radius(mask, clicks[index], clicks[:0])), 0, -1)
        depth = cv2.distanceTransform(np.pad(kept, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] == 0:
            return clicks, labels, index
        return np.vstack([[x, y], clicks]), np.append(True, labels), index + 1

    def blend(
        self, old: NDArray[np.float32], new: NDArray[np.float32], touched: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return new logits on the superpixels touched, old ones elsewhere, with a soft passage."""
        changed = cv2.dilate(touched[self.regions.labels].astype(np.float32), np.ones((5, 5)))
        weight = cv2.GaussianBlur(changed, (0, 0), SEAM)
        weight = np.maximum(weight, touched[self.regions.labels]).astype(np.float32)
        return old + weight * (new - old)

    def finish(self, answers: list[tuple[NDArray[np.float32], float]]) -> Candidates:
        """Keep the promises about box and clicks, and put the answers in order."""
        kept = []
        for picture, _ in answers:
            bounded = picture if self.prompts.box is None else bound_by_box(picture, self.prompts.box, self.size)
            kept.append(obey_clicks(bounded, self.prompts.points, self.prompts.labels, self.size))
        scores = np.clip([score for _, score in answers], 0.0, 1.0).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        return Candidates(np.stack(kept)[order].astype(np.float32), scores[order])
