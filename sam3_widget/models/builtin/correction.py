"""A corrective click: solve again with every click and the mask so far, and take over what changes around the click."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.models.builtin.graph import EVEN, colour_evidence, part_at, walk
from sam3_widget.models.builtin.proposals import scale_at, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.builtin.graph import Graph
    from sam3_widget.models.builtin.proposals import Seeds

REACH = np.array([0.03])
"""Share of the image around the click where the mask so far counts for little."""
TRUST = 1.0
"""How much the mask so far counts elsewhere."""
NEARNESS = 3.0
"""How much it counts to be nearer to clicks of one kind than to those of the other."""
BORDER_DISTANCE = 1.0
"""The border of the image counts as a negative click this much farther away."""
ROUNDS = 4


def find_flip(
    graph: Graph, prior: NDArray[np.float64], clicked: int, *, label: bool, seeds: Seeds
) -> NDArray[np.bool_]:
    """Return the superpixels that change side: a connected set around the click, or none.

    As for the first click, colour models and a random walker alternate; the mask so far is a prior that grows with the
    geodesic distance from the click, and nearness to the clicks of either kind stands in for a geodesic star.

    Parameters
    ----------
    graph : Graph
    prior : (N,) float64
        Probability of each superpixel so far.
    clicked : int
        Superpixel of the click.
    label : bool
        The side it asks for.
    seeds : Seeds
        All that is certain, this click included.

    Returns
    -------
    (N,) bool
    """
    regions = graph.regions
    area = regions.area[:, None]
    before = prior > EVEN
    at_click = np.array([clicked])
    distance = walk(graph.steps, at_click)
    relative = distance / scale_at(graph, distance, before != label, REACH)
    known = np.clip(np.log((prior + 0.02) / (1.02 - prior)), -2.5, 2.5) * np.clip(relative - 0.5, 0, 1)
    to_inside = walk(graph.steps, seeds.inside)
    to_outside = np.minimum(walk(graph.steps, seeds.outside), graph.from_border + BORDER_DISTANCE)
    nearer = np.tanh(np.log((to_outside + 0.3) / (to_inside + 0.3)))
    fixed = (TRUST * known + NEARNESS * nearer)[:, None]
    value = (prior + (float(label) - prior) * np.exp(-(relative**2) / 2))[:, None]
    for _ in range(ROUNDS):
        evidence = regions.words @ colour_evidence(regions, area * value, area * (1 - value))
        value = graph.smoother.solve(area * seeds.fix(sigmoid(evidence + fixed)))
    changed = (seeds.fix((value[:, 0] > EVEN).astype(np.float64)) > 0) != before
    changed[clicked] = before[clicked] != label
    return part_at(regions, changed, at_click)
