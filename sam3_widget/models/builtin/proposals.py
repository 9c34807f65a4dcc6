"""Regions that a first prompt could mean: colour models grown around the click at several scales.

Each hypothesis alternates between colour models of object and rest (as GrabCut does: Rother et al., SIGGRAPH 2004)
and a random walker with these as priors (Grady, CVPR 2005), from a start that is Gaussian in the geodesic distance to
the click. Hypotheses differ in scale, in how much colour counts, and in how much the image's border counts as ground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.models.builtin.graph import EVEN, colour_evidence, fill_holes, part_at, sigmoid, walk

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
SETTLED_ROUND, SETTLED_WEIGHT = 2, 0.6
"""From this round on, nearness counts for less: colour and contour know more than at the start."""
BORDER_EMPHASIS = 2.0
"""How much more a superpixel near the border tells about the rest."""
LARGEST_HOLE = 0.2
"""Largest hole to fill, as a share of the region."""
ROUNDS = 4


def scale_at(graph: Graph, distance: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances within which lie given shares of the image."""
    order = np.argsort(distance, kind="stable")
    covered = np.cumsum(graph.regions.area[order]) / graph.regions.area.sum()
    index = np.minimum(np.searchsorted(covered, shares), len(order) - 1)
    reach = distance[order][index]
    return np.asarray(np.maximum(reach, 1e-6))


def propose_at_click(graph: Graph, clicked: int) -> NDArray[np.bool_]:
    """Return distinct regions around a positive click, (M, N) bool."""
    shares, colour_weight, near_weight, border_weight = HYPOTHESES.T
    area = graph.regions.area[:, None]
    distance = walk(graph.steps, np.array([clicked]))
    relative = distance[:, None] / scale_at(graph, distance, shares)
    spatial = near_weight * np.clip(1 - relative, -2, 1)
    fixed = border_weight * np.tanh(np.log((graph.from_border + 0.3) / (distance + 0.3)))[:, None]
    emphasis = 1 + BORDER_EMPHASIS * np.exp(-2 * graph.from_border / max(float(np.median(graph.from_border)), 1e-9))
    value = np.exp(-(relative**2) / 2)
    for number in range(ROUNDS):
        evidence = graph.regions.words @ colour_evidence(
            graph.regions, area * value, area * (1 - value) * emphasis[:, None]
        )
        settled = 1.0 if number < SETTLED_ROUND else SETTLED_WEIGHT
        belief = sigmoid(colour_weight * evidence + settled * spatial + fixed)
        belief[clicked] = 1
        value = graph.smoother.solve(area * belief)
    members = [solid_part(graph, column > threshold, clicked) for column in value.T for threshold in THRESHOLDS]
    return np.unique(np.array(members), axis=0)


def solid_part(graph: Graph, member: NDArray[np.bool_], clicked: int) -> NDArray[np.bool_]:
    """Return the connected part at a superpixel, which counts as a member, without small holes."""
    member = member.copy()
    member[clicked] = True
    part = part_at(graph.regions, member, np.array([clicked]))
    return fill_holes(graph.regions, part, LARGEST_HOLE * float(part @ graph.regions.area))


def believe_in_box(graph: Graph, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the probability, (N,), of what in a box differs from what is around it.

    Colour models of object and rest alternate (as in GrabCut: Rother et al., SIGGRAPH 2004) with a random walker that
    has them as priors (Grady, CVPR 2005).
    """
    area = graph.regions.area[:, None]
    outside = np.flatnonzero(~allowed)
    depth = walk(graph.steps, outside if len(outside) else np.flatnonzero(graph.regions.border))
    depth = depth / max(float(depth[allowed].max(initial=0)), 1e-9)
    spatial = (2.0 * np.clip(depth * 3, 0, 1) - EVEN)[:, None]
    value = ((0.3 + 0.6 * np.clip(depth * 2, 0, 1)) * allowed)[:, None]
    for _ in range(ROUNDS):
        evidence = graph.regions.words @ colour_evidence(graph.regions, area * value, area * (1 - value))
        value = graph.smoother.solve(area * sigmoid(evidence + spatial) * allowed[:, None]) * allowed[:, None]
    return np.asarray(value[:, 0])
