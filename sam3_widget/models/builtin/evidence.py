"""What speaks for each superpixel to be on the side that a click asks for, in numbers free of the picture's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sam3_widget.models.builtin.detail import signed_distance
from sam3_widget.models.builtin.graph import EVEN, colour_evidence, sigmoid, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.builtin.graph import Graph

    Numbers = NDArray[np.float64]

FAR_PIXELS, FAR_WALK = 400.0, 60.0
CERTAIN_SHARE = 0.75
"""Share of the free radius around a click that starts on the click's side."""
FIRST_RADIUS = 0.04
"""Free radius of a first click, which has no contour around it, in widths of a square image."""
SHARES = np.array([0.01, 0.03, 0.1, 0.3])
RINGS = np.array([1.0, 3.0, 10.0])
ROUNDS = 3


def describe(
    graph: Graph,
    prior: Numbers,
    mask: NDArray[np.bool_],
    clicks: Numbers,
    labels: NDArray[np.bool_],
    index: int,
) -> Numbers:
    """Return the features, (N, F), of superpixels for the change that click ``index`` asks for.

    All is told from the click's side: what counts as inside for a positive click counts as outside for a negative one.

    Parameters
    ----------
    graph : Graph
    prior : (N,) float64
        Probability of being inside so far.
    mask : (h, w) bool
        The mask so far on the work image.
    clicks, labels : (P, 2) float64, (P,) bool
        ``(x, y)`` on the work image.
    index : int
    """
    regions = graph.regions
    area, centre, one = regions.area, regions.centre, np.ones(regions.count)
    total = float(area.sum())
    label, click = bool(labels[index]), clicks[index]
    friends, foes = clicks[labels == label], clicks[labels != label]
    cells = np.round(clicks).astype(np.intp)
    ids = regions.labels[cells[:, 1], cells[:, 0]].astype(np.intp)
    own = ids[index : index + 1]
    side = prior if label else 1 - prior
    radius = free_radius(mask, click, foes)
    euclid = np.linalg.norm(centre - click, axis=1)
    disc = (euclid <= CERTAIN_SHARE * radius) & (side <= EVEN)
    disc[own] = True

    walked = walk(graph.steps, own)
    cubed = graph.steps.copy()
    cubed.data **= 3
    abrupt = np.cbrt(walk(cubed, own))
    to_friends = np.minimum(walk(graph.steps, ids[labels == label]), FAR_WALK)
    to_foes = np.minimum(walk(graph.steps, ids[labels != label]), FAR_WALK)
    to_side = np.minimum(walk(graph.steps, np.flatnonzero(side > EVEN)), FAR_WALK)
    ring = float(np.median(walked[np.argsort(np.abs(euclid - radius), kind="stable")[:12]]))
    depth = regions.average(np.clip(signed_distance(mask), -FAR_PIXELS, FAR_PIXELS)) * (-1 if label else 1)
    middle = np.array(mask.shape)[::-1] / 2

    rest = (1 - side) * ~disc
    far = rest * np.clip(euclid / radius - 1, 0, 1)
    disc_area = area * disc
    evidence = compare(graph, [disc, disc, side, side + disc, disc], [rest, far, far, far, side])
    wanted = np.minimum(to_foes, graph.from_border + 1.0) if label else to_foes
    reach = np.concatenate([np.maximum(ring, 0.3) * RINGS, distances_at(walked, area * (side <= EVEN), SHARES * total)])
    nearness = 2.0 * nearer(to_friends, wanted, 0.3)
    value = grow(graph, side, disc, walked[:, None] / reach, nearness, ids, labels == label)
    look = regions.mean - disc_area @ regions.mean / disc_area.sum()
    likeness = np.sqrt(regions.colours(disc_area[None]) * regions.colours((area * far)[None])).sum()
    columns = [
        2 * side - 1,
        np.clip(euclid / radius, 0, 4),
        np.log(euclid / radius + 0.1),
        np.log(euclid / np.sqrt(total) + 0.02),
        np.log((walked + 0.1) / (ring + 0.1)),
        np.log(walked + 0.1),
        np.log(abrupt + 0.05),
        nearer(to_friends, to_foes, 0.3),
        nearer(away(centre, friends), away(centre, foes), 2.0),
        nearer(walked, graph.from_border, 0.3),
        np.log(graph.from_border + 0.1),
        nearer(walked, to_side, 0.3),
        np.clip(depth / radius, -3, 3),
        np.tanh(depth / 10),
        *evidence.T,
        *value.T,
        value.std(1),
        np.log(np.linalg.norm(look, axis=1) + 2),
        np.log(np.linalg.norm(regions.mean - regions.mean[own], axis=1) + 2),
        np.log(regions.mean[:, 3] + 0.5),
        disc,
        nearer(one * np.linalg.norm(click - middle), np.linalg.norm(centre - middle, axis=1), np.sqrt(total) / 10),
        likeness * one,
        label * one,
        np.log(radius / np.sqrt(total)) * one,
        np.log(len(labels)) * one,
        np.log(float(area @ prior) / total + 1e-3) * one,
        (len(foes) > 0) * one,
        np.log(ring + 0.1) * one,
    ]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def free_radius(mask: NDArray[np.bool_], click: Numbers, foes: Numbers) -> float:
    """Return how far a click lies from the contour, the border and opposite clicks.

    People click the middle of an error, so this is about how large the error is.
    """
    x, y = np.round(click).astype(int)
    same = np.pad((mask == mask[y, x]).astype(np.uint8), 1)
    reach = float(cv2.distanceTransform(same, cv2.DIST_L2, 5)[y + 1, x + 1])
    if not mask.any():
        reach = min(reach, FIRST_RADIUS * float(np.sqrt(mask.size)))
    return float(max(1.5, min([reach, *np.linalg.norm(foes - click, axis=1).tolist()])))


def compare(graph: Graph, first: list[NDArray[np.generic]], second: list[NDArray[np.generic]]) -> Numbers:
    """Return the colour evidence, (N, M), for M weightings of superpixels against M others."""
    area = graph.regions.area
    ratio = colour_evidence(graph.regions, (area * np.array(first)).T, (area * np.array(second)).T)
    return np.asarray(graph.regions.words @ ratio)


def grow(
    graph: Graph,
    side: Numbers,
    disc: NDArray[np.bool_],
    relative: Numbers,
    nearness: Numbers,
    ids: NDArray[np.intp],
    friend: NDArray[np.bool_],
) -> Numbers:
    """Alternate colour models and a random walker from a start around the click, at M scales: (N, M)."""
    area = graph.regions.area[:, None]
    reach = np.exp(-(relative**2) / 2)
    value = np.maximum(side[:, None], reach)
    fixed = nearness[:, None] + 2.5 * (2 * side[:, None] - 1) * (1 - reach)
    for _ in range(ROUNDS):
        evidence = graph.regions.words @ colour_evidence(graph.regions, area * value, area * (1 - value))
        belief = sigmoid(evidence + fixed)
        belief[disc] = 1
        belief[ids[~friend]] = 0
        belief[ids[friend]] = 1
        value = graph.smoother.solve(area * belief)
    return np.asarray(value)


def nearer(first: Numbers, second: Numbers, soft: float) -> Numbers:
    """Return 1 where the first distance is far smaller than the second, -1 where it is far larger."""
    return np.asarray(np.tanh(0.5 * np.log((second + soft) / (first + soft))))


def away(centre: Numbers, points: Numbers) -> Numbers:
    """Return the distance to the nearest of ``points``."""
    if len(points) == 0:
        return np.full(len(centre), FAR_PIXELS)
    return np.asarray(np.linalg.norm(centre[:, None] - points, axis=2).min(1))


def distances_at(walked: Numbers, weight: Numbers, areas: Numbers) -> Numbers:
    """Return the distances within which lie given areas."""
    order = np.argsort(walked, kind="stable")
    index = np.minimum(np.searchsorted(np.cumsum(weight[order]), areas), len(order) - 1)
    return np.asarray(np.maximum(walked[order][index], 0.3))
