"""Computations on the graph of superpixels: distances, smoothing, connected parts, colour likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import splu

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse.linalg import SuperLU

    from sam3_widget.models.builtin.regions import Regions

SMOOTHNESS = 3.0
"""How much a shared boundary without contrast counts against a superpixel's own evidence."""
CONTRAST_FALLOFF = 1.0
STEP_COST = 0.15
"""Cost of a step between equal neighbours, as a contrast: keeps distance growing inside uniform areas."""
EVEN = 0.5
"""The probability that tells neither side."""
COLOUR_FLOOR = 0.02
"""Share of the whole image's colours in either colour model: nothing is impossible."""


@dataclass(frozen=True)
class Graph:
    """What clicks reuse of one image.

    Attributes
    ----------
    regions : Regions
    affinity : (N, N) sparse float64
        High between neighbours that look alike.
    steps : (N, N) sparse float64
        Cost of walking from one superpixel to the next.
    smoother : SuperLU
        Factors of the random walker's system in which each pixel has one vote.
    from_border : (N,) float64
        Cheapest walk from the border of the image.
    """

    regions: Regions
    affinity: sparse.csr_array
    steps: sparse.csr_array
    smoother: SuperLU
    from_border: NDArray[np.float64]


FAR = 1e6
"""The cost of a walk from nowhere."""


def build_graph(regions: Regions) -> Graph:
    """Weigh the neighbourhood graph."""
    alike = np.exp(-CONTRAST_FALLOFF * regions.contrast**2) + 0.01
    affinity = regions.neighbours(SMOOTHNESS * regions.length * alike)
    steps = regions.neighbours(regions.contrast + STEP_COST)
    on_border = np.flatnonzero(regions.border)
    return Graph(regions, affinity, steps, factorise(affinity, regions.area), walk(steps, on_border))


def factorise(affinity: sparse.csr_array, confidence: NDArray[np.float64]) -> SuperLU:
    """Return the factors of the random walker's system (Grady, PAMI 2006, with priors as in CVPR 2005)."""
    degree = affinity.sum(1) + confidence
    system = sparse.diags_array(degree) - affinity
    return splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)


def walk(steps: sparse.csr_array, sources: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the cost of the cheapest walk from any of ``sources`` to each superpixel."""
    if len(sources) == 0:
        return np.full(steps.shape[0], FAR)
    return np.asarray(dijkstra(steps, indices=sources, min_only=True))


def colour_evidence(regions: Regions, inside: NDArray[np.float64], outside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of each word: inside against outside.

    Parameters
    ----------
    inside, outside : (N, M) float64
        How much each superpixel belongs to the object and to the rest, in pixels, for M hypotheses.

    Returns
    -------
    (K, M) float64
    """
    floor = COLOUR_FLOOR * regions.colours(regions.area[None])
    ratio = (regions.colours(inside.T) + floor) / (regions.colours(outside.T) + floor)
    return np.asarray(np.log(ratio).T)


def connected_parts(regions: Regions, member: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected parts and the part of each superpixel; non-members are parts of their own."""
    first, second = regions.pairs[member[regions.pairs].all(1)].T
    links = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(regions.count, regions.count))
    count, part = connected_components(links, directed=False)
    return int(count), part


def part_at(regions: Regions, member: NDArray[np.bool_], seeds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return the connected parts of ``member`` that hold one of ``seeds``."""
    count, part = connected_parts(regions, member)
    wanted = np.zeros(count, np.bool_)
    wanted[part[seeds]] = True
    return np.asarray(wanted[part] & member)


def fill_holes(regions: Regions, member: NDArray[np.bool_], largest: float) -> NDArray[np.bool_]:
    """Return ``member`` with enclosed holes of up to ``largest`` pixels filled."""
    count, part = connected_parts(regions, ~member)
    area = np.bincount(part, regions.area, count)
    border = np.bincount(part, regions.border, count)
    enclosed = (border == 0) & (area <= largest)
    return np.asarray(member | enclosed[part])


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))


def surround(regions: Regions, member: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Return the superpixels within a few steps outside of a region, (N,) bool."""
    touching = regions.neighbours(np.ones(len(regions.pairs)))
    reached = member.astype(np.float64)
    for _ in range(steps):
        reached = ((touching @ reached + reached) > 0).astype(np.float64)
    return np.asarray((reached > 0) & ~member)
