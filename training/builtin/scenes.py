"""Scenes to learn from: crops of pictures with cut-outs pasted on them, or drawn shapes, and the targets in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.builtin.pictures import Library, Picture

SMALLEST_SHARE, LARGEST_SHARE = 0.0015, 0.85
"""Of a scene's area: what is smaller or larger is no target."""
DRAWN, PASTED, REGIONS = 0.12, 0.5, 0.1
"""Shares of scenes that are drawn, that have cut-outs pasted on them, and in which a region can be meant."""
SIZE_COUNTS = 0.35
"""Power of its share of the area with which a target is drawn: people mean large things more often than small ones."""
VISIBLE = 0.3
"""Of an object must be in view for it to be a target."""


@dataclass(frozen=True)
class Scene:
    """A square picture and the things in it that a user may mean.

    Attributes
    ----------
    image : (S, S, 3) uint8
    targets : (K, S, S) bool
        With repetition where there are fewer than K.
    """

    image: NDArray[np.uint8]
    targets: NDArray[np.bool_]


def make_scene(library: Library, rng: np.random.Generator, side: int, targets: int) -> Scene:
    """Return a scene with ``targets`` targets."""
    while True:
        if rng.random() < DRAWN:
            image, candidates = draw_leaves(library, rng, side)
        else:
            image, candidates = crop(library.draw(rng), rng, side)
            if rng.random() < PASTED:
                image, candidates = paste(image, candidates, library, rng, int(rng.integers(1, 4)))
        if rng.random() < REGIONS:
            candidates += [(region, 0.5) for region in find_regions(image, rng)]
        candidates = [entry for entry in candidates if fits(entry[0])]
        if candidates:
            break
    weights = np.array([weight * np.mean(mask) ** SIZE_COUNTS for mask, weight in candidates])
    chosen = rng.choice(len(candidates), targets, replace=len(candidates) < targets, p=weights / weights.sum())
    return Scene(photograph(image, rng), np.stack([candidates[index][0] for index in chosen]))


Marked = tuple["NDArray[np.uint8]", "list[tuple[NDArray[np.bool_], float]]"]
"""A picture, and masks in it with how much they weigh as targets."""


def fits(mask: NDArray[np.bool_]) -> bool:
    """Return whether a target has a sensible size."""
    return SMALLEST_SHARE <= np.count_nonzero(mask) / mask.size <= LARGEST_SHARE


def warp(rng: np.random.Generator, side: int, centre: tuple[float, float], scale: float) -> NDArray[np.float64]:
    """Return the affine map that brings ``centre`` near the middle of a square, turned, stretched and mirrored."""
    angle = rng.normal(0, 8) + (90 * rng.integers(0, 4) if rng.random() < 0.1 else 0)
    stretch = float(np.exp(rng.uniform(-0.25, 0.25)))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.deg2rad(angle)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.diag([flip * stretch**0.5, stretch**-0.5])
    to = rng.uniform(0.25, 0.75, 2) * side
    return np.hstack([matrix, (to - matrix @ centre)[:, None]])


def bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return x, y, width and height of a mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, width, height


def crop(picture: Picture, rng: np.random.Generator, side: int) -> Marked:
    """Return a view of a picture in which one of its objects has a random size."""
    ids, areas = np.unique(picture.ids[picture.ids > 0], return_counts=True)
    height, width = picture.ids.shape
    whole = side / max(height, width)
    if len(ids) == 0:
        focus, scale = (width / 2, height / 2), side / min(height, width) * rng.uniform(1, 1.5)
    else:
        object_ = picture.ids > 0 if len(picture.wholes) and rng.random() < 0.5 else None
        if object_ is None:
            object_ = picture.ids == rng.choice(ids, p=areas**0.5 / (areas**0.5).sum())
        x, y, w, h = bounds(object_)
        focus = (x + w * rng.uniform(0.3, 0.7), y + h * rng.uniform(0.3, 0.7))
        scale = side * float(np.exp(rng.uniform(np.log(0.3), np.log(1.1)))) / max(w, h)
        # Neither a tiny picture in the middle of nothing, nor one enlarged to a blur.
        scale = min(max(scale, whole * 0.9), 3.0)
    if rng.random() < 0.4:
        focus, scale = (width / 2, height / 2), whole * rng.uniform(0.95, 1.3)
    matrix = warp(rng, side, focus, scale)
    shown = np.array([width / 2, height / 2]) @ matrix[:, :2].T + matrix[:, 2]
    # Pull the view towards the picture, so that little of what is seen is mirrored border.
    reach = np.abs(matrix[:, :2]) @ (width / 2, height / 2)
    slack = np.maximum(reach - side / 2, 0)
    matrix[:, 2] += np.clip(shown, side / 2 - slack, side / 2 + slack) - shown
    border = cv2.BORDER_REFLECT_101 if rng.random() < 0.7 else cv2.BORDER_REPLICATE
    image = picture.image
    if scale < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)
    image = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    seen = cv2.warpAffine(
        picture.ids.astype(np.float32), matrix, (side, side), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
    ).astype(np.int32)
    targets = []
    for index, area in zip(ids, areas, strict=True):
        mask = seen == index
        visible = np.count_nonzero(mask)
        if visible >= VISIBLE * area * scale**2:
            targets.append((mask, 0.35 if len(picture.wholes) else 1.0))
    if len(picture.wholes):
        targets.append((seen > 0, 0.5 * max(3, len(targets))))
    elif len(targets) > 1 and rng.random() < 0.15:
        targets.append((group(seen), 1.0))
    return np.asarray(image, np.uint8), targets


def group(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the connected group of instances that is largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate((ids > 0).astype(np.uint8), np.ones((5, 5))))
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if count > 1 else 0
    return (labels == largest) & (ids > 0)


def cut_out(library: Library, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """Return the surroundings of a random object, and its mask."""
    picture = library.draw(rng)
    ids, areas = np.unique(picture.ids[picture.ids > 0], return_counts=True)
    large = ids[areas >= 900]
    if len(large) == 0:
        return None
    whole = len(picture.wholes) > 0 and rng.random() < 0.7
    mask = picture.ids > 0 if whole else picture.ids == rng.choice(large)
    x, y, w, h = bounds(mask)
    return picture.image[y : y + h, x : x + w], mask[y : y + h, x : x + w]


def paste(
    image: NDArray[np.uint8],
    targets: list[tuple[NDArray[np.bool_], float]],
    library: Library,
    rng: np.random.Generator,
    number: int,
) -> Marked:
    """Paste objects of other pictures; they hide what is behind them."""
    side = image.shape[0]
    for _ in range(number):
        found = cut_out(library, rng)
        if found is None:
            continue
        patch, mask = found
        height, width = mask.shape
        scale = min(side * float(np.exp(rng.uniform(np.log(0.22), np.log(0.95)))) / max(height, width), 3.0)
        matrix = warp(rng, side, (width / 2, height / 2), scale)
        alpha = cv2.warpAffine(mask.astype(np.float32), matrix, (side, side), flags=cv2.INTER_LINEAR)
        moved = cv2.warpAffine(patch, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.4, 1.0)))[..., None]
        moved = recolour(moved, rng) if rng.random() < 0.3 else moved
        image = np.rint(image * (1 - alpha) + moved * alpha).astype(np.uint8)
        new = alpha[..., 0] > 0.5
        kept = []
        for old, weight in targets:
            left = old & ~new
            if np.count_nonzero(left) >= VISIBLE * np.count_nonzero(old):
                kept.append((left, weight))
        targets = [*kept, (new, 2.0)]
    return image, targets


def texture(library: Library, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return a square of something: a piece of a picture, or a plain or graded colour."""
    kind = rng.random()
    if kind < 0.3:
        ends = rng.integers(0, 256, (2, 3)).astype(np.float32)
        if kind < 0.12:
            ends[1] = ends[0]
        y, x = np.mgrid[:side, :side] / side
        turn = rng.uniform(0, 2 * np.pi)
        mix = np.clip(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), 0, 1)[..., None]
        return np.asarray(ends[0] * (1 - mix) + ends[1] * mix).astype(np.uint8)
    picture = library.draw(rng)
    height, width = picture.image.shape[:2]
    size = int(min(height, width) * rng.uniform(0.15, 0.8)) + 2
    y, x = int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))
    piece = cv2.resize(picture.image[y : y + size, x : x + size], (side, side), interpolation=cv2.INTER_LINEAR)
    return recolour(piece, rng) if rng.random() < 0.4 else piece


def draw_shape(rng: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Return a random closed form: an ellipse, a polygon, a blob or a ring."""
    mask = np.zeros((side, side), np.uint8)
    centre = rng.uniform(0.1, 0.9, 2) * side
    radius = side * float(np.exp(rng.uniform(np.log(0.05), np.log(0.4))))
    kind = rng.integers(0, 4)
    corners = int(rng.integers(3, 9)) if kind == 1 else 48
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == 1 else np.linspace(0, 2 * np.pi, 48, endpoint=False)
    lengths = np.ones(corners)
    if kind == 1:
        lengths = rng.uniform(0.5, 1, corners)
    elif kind == 2:
        for wave in range(2, 7):
            lengths += rng.normal(0, 0.5 / wave) * np.cos(wave * angles + rng.uniform(0, 7))
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.abs(lengths)[:, None]
    points = points * radius * np.array([1, rng.uniform(0.35, 1)])
    turn = rng.uniform(0, np.pi)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + centre
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    if kind == 3 and rng.random() < 0.5:
        cv2.fillPoly(mask, [((points - centre) * rng.uniform(0.3, 0.7) + centre).round().astype(np.int32)], 0)
    return mask > 0


def draw_leaves(library: Library, rng: np.random.Generator, side: int) -> Marked:
    """Return shapes with natural textures, each hiding what was drawn before, some with a part of another texture."""
    image, targets = texture(library, rng, side), []
    for _ in range(int(rng.integers(2, 12))):
        shape = draw_shape(rng, side)
        alpha = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), float(rng.uniform(0.4, 1.2)))[..., None]
        image = np.rint(image * (1 - alpha) + texture(library, rng, side) * alpha).astype(np.uint8)
        targets = [(old & ~shape, weight) for old, weight in targets]
        targets.append((shape, 1.0))
        if rng.random() < 0.35:
            part = draw_shape(rng, side) & shape
            if fits(part) and np.count_nonzero(part) < 0.7 * np.count_nonzero(shape):
                alpha = cv2.GaussianBlur(part.astype(np.float32), (0, 0), 0.6)[..., None]
                image = np.rint(image * (1 - alpha) + texture(library, rng, side) * alpha).astype(np.uint8)
                targets.append((part, 0.5))
    return image, targets


def find_regions(image: NDArray[np.uint8], rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Return a region of a classical hierarchical segmentation that is much the same at two scales, if there is one."""
    side = image.shape[0]
    small = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
    scale = float(np.exp(rng.uniform(np.log(60), np.log(800))))
    fine = felzenszwalb(small, scale=scale, sigma=0.6, min_size=60).astype(np.int32)
    coarse = felzenszwalb(small, scale=scale * 2, sigma=0.6, min_size=60).astype(np.int32)
    found = []
    for index in rng.permutation(fine.max() + 1)[:12]:
        region = fine == index
        over = coarse == np.bincount(coarse[region]).argmax()
        if np.count_nonzero(region & over) > 0.85 * np.count_nonzero(region | over) and fits(region):
            smooth = cv2.resize(region.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
            found.append(smooth > 0.5)
            break
    return found


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change the colours of a picture as other light and another camera would."""
    gains = np.exp(rng.normal(0, 0.08, 3)) * np.exp(rng.normal(0, 0.18))
    levels = np.arange(256) / 255.0
    gamma = float(np.exp(rng.normal(0, 0.18)))
    contrast = float(np.exp(rng.normal(0, 0.15)))
    tables = np.clip(((levels[:, None] ** gamma - 0.5) * contrast + 0.5) * gains * 255, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, tables.reshape(1, 256, 3)), np.uint8)
    if rng.random() < 0.6:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        amount = 0.0 if rng.random() < 0.08 else float(np.exp(rng.normal(0, 0.3)))
        image = np.clip(grey + (image.astype(np.float32) - grey) * amount, 0, 255).astype(np.uint8)
    if rng.random() < 0.05:
        image = np.ascontiguousarray(image[..., rng.permutation(3)])
    return image


def photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take a picture of the scene: colours, blur, noise, compression."""
    if rng.random() < 0.8:
        image = recolour(image, rng)
    if rng.random() < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < 0.12:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 14)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else image
    return np.asarray(image, np.uint8)
