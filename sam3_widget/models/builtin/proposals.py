"""Regions that a first prompt could mean: colour models grown around the clicks at several scales.

Each hypothesis alternates between colour models of object and rest (as GrabCut does: Rother et al., SIGGRAPH 2004)
and a random walker with these as priors (Grady, CVPR 2005), from a start that is Gaussian in the geodesic distance to
the clicks. Hypotheses differ in scale, in how much colour counts, and in how much the image's border counts as ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.models.builtin.graph import colour_evidence, fill_holes, part_at, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.builtin.graph import Graph

# Columns: scale (share of the image), weight of colour, weight of nearness, weight of the geodesic from the border.
HYPOTHESES = np.array(
    [
        (0.003, 1.0, 1.5, 0.0),
        (0.010, 1.0, 1.5, 0.0),
        (0.030, 1.0, 1.5, 0.0),
        (0.100, 1.0, 1.5, 0.0),
        (0.030, 1.5, 0.7, 0.0),
        (0.100, 1.5, 0.7, 0.0),
        (0.300, 1.5, 0.7, 0.0),
        (0.100, 1.0, 1.5, 1.0),
        (0.300, 1.0, 1.5, 1.0),
    ]
)
THRESHOLDS = (0.3, 0.5, 0.7)
ROUNDS = 4
SETTLED_ROUND, SETTLED_WEIGHT = 2, 0.6
"""From this round on, nearness counts for less: colour and contour know more than at the start."""
BORDER_EMPHASIS = 2.0
"""How much more a superpixel near the border tells about the rest."""
LARGEST_HOLE = 0.2
"""Largest hole to fill, as a share of the region."""


@dataclass(frozen=True)
class Seeds:
    """What is certain, by superpixel.

    Attributes
    ----------
    inside, outside : (P,), (Q,) intp
        Superpixels of positive and of negative clicks.
    allowed : (N,) bool
        Where the object can be: inside the box.
    """

    inside: NDArray[np.intp]
    outside: NDArray[np.intp]
    allowed: NDArray[np.bool_]

    def fix(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities, (N,) or (N, M), with the certain ones set."""
        fixed = values.copy()
        fixed[~self.allowed] = 0
        fixed[self.outside] = 0
        fixed[self.inside] = 1
        return fixed


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))


def scale_at(
    graph: Graph, distance: NDArray[np.float64], domain: NDArray[np.bool_], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distances within which lie given shares of the image, counting only ``domain``."""
    order = np.argsort(distance, kind="stable")
    covered = np.cumsum((graph.regions.area * domain)[order]) / graph.regions.area.sum()
    index = np.minimum(np.searchsorted(covered, shares), len(order) - 1)
    reach = distance[order][index]
    return np.asarray(np.maximum(reach, 1e-6))


def propose_at_clicks(graph: Graph, seeds: Seeds) -> NDArray[np.bool_]:
    """Return distinct regions around the positive clicks, (M, N) bool."""
    shares, colour_weight, near_weight, border_weight = HYPOTHESES.T
    area = graph.regions.area[:, None]
    distance = walk(graph.steps, seeds.inside)
    relative = distance[:, None] / scale_at(graph, distance, seeds.allowed, shares)
    start = np.exp(-(relative**2) / 2)
    spatial = near_weight * np.clip(1 - relative, -2, 1)
    fixed = border_weight * np.tanh(np.log((graph.from_border + 0.3) / (distance + 0.3)))[:, None]
    if len(seeds.outside):
        fixed = fixed + np.tanh(np.log((walk(graph.steps, seeds.outside) + 0.3) / (distance + 0.3)))[:, None]
    emphasis = 1 + BORDER_EMPHASIS * np.exp(-2 * graph.from_border / max(float(np.median(graph.from_border)), 1e-9))
    value = seeds.fix(start)
    for number in range(ROUNDS):
        evidence = graph.regions.words @ colour_evidence(
            graph.regions, area * value, area * (1 - value) * emphasis[:, None]
        )
        settled = 1.0 if number < SETTLED_ROUND else SETTLED_WEIGHT
        belief = seeds.fix(sigmoid(colour_weight * evidence + settled * spatial + fixed))
        value = graph.smoother.solve(area * belief)
    return regions_of(graph, value, seeds)


def propose_in_box(graph: Graph, seeds: Seeds) -> NDArray[np.bool_]:
    """Return distinct regions for a box, (M, N) bool: what in it differs from what is around it."""
    area = graph.regions.area[:, None]
    outside = np.flatnonzero(~seeds.allowed)
    sources = outside if len(outside) else np.flatnonzero(graph.regions.border)
    depth = walk(graph.steps, sources)
    depth = depth / max(float(depth[seeds.allowed].max(initial=0)), 1e-9)
    colour_weight = np.array([0.5, 1.0, 2.0])
    spatial = (2.0 * np.clip(depth * 3, 0, 1) - 0.5)[:, None]
    value = seeds.fix(np.repeat((0.3 + 0.6 * np.clip(depth * 2, 0, 1))[:, None], len(colour_weight), axis=1))
    for _ in range(ROUNDS):
        evidence = graph.regions.words @ colour_evidence(graph.regions, area * value, area * (1 - value))
        belief = seeds.fix(sigmoid(colour_weight * evidence + spatial))
        value = seeds.fix(graph.smoother.solve(area * belief))
    if len(seeds.inside) == 0:
        deepest = np.argmax(np.where(seeds.allowed, value.mean(1), -1))
        seeds = Seeds(np.array([deepest]), seeds.outside, seeds.allowed)
    return regions_of(graph, value, seeds)


def regions_of(graph: Graph, value: NDArray[np.float64], seeds: Seeds) -> NDArray[np.bool_]:
    """Cut soft hypotheses, (N, M), into distinct connected regions that hold the seeds."""
    members = []
    for column in value.T:
        for threshold in THRESHOLDS:
            member = seeds.fix((column > threshold).astype(np.float64)) > 0
            member = part_at(graph.regions, member, seeds.inside)
            filled = fill_holes(graph.regions, member, LARGEST_HOLE * float(member @ graph.regions.area))
            members.append(seeds.fix(filled.astype(np.float64)) > 0)
    return np.unique(np.array(members), axis=0)
