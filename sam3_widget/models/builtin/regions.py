"""What an image is made of: superpixels, how strongly neighbours differ, and a small vocabulary of colours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import sparse
from skimage.segmentation import slic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sam3_widget.models.base import Progress

WORK_AREA = 90_000
"""Pixels of the work image: enough for a contour, few enough for a click."""
SHORTEST_SIDE = 16
REGION_AREA = 25
"""Pixels of the work image in one superpixel, on average."""
SLIC_COMPACTNESS = 10.0
SLIC_ROUNDS = 5
WORDS = 64
"""Size of the colour vocabulary."""
LIGHTNESS_WEIGHT = 0.7
"""Shadow changes lightness more than hue, so lightness tells less about what belongs together."""
TEXTURE_WEIGHT = 0.7


@dataclass(frozen=True)
class Regions:
    """The superpixels of one work image and their neighbourhood graph.

    Attributes
    ----------
    features : (h, w, C) float32
        Per pixel: lightness, a, b and local texture, scaled so that Euclidean distance means difference.
    labels : (h, w) int32
        Superpixel of each pixel, 0 to N - 1.
    area : (N,) float64
        Pixels of the work image.
    centre : (N, 2) float64
        Mean ``(x, y)``.
    mean : (N, C) float64
        Mean features.
    border : (N,) float64
        Pixels on the border of the image.
    pairs : (E, 2) intp
        Neighbouring superpixels.
    length : (E,) float64
        Length of the boundary between them, in pixels.
    contrast : (E,) float64
        How different they are across it, in units of the image's own mean contrast.
    word : (h, w) int32
        Colour word of each pixel.
    words : (N, K) sparse float64
        Share of each colour word in each superpixel; rows sum to 1.
    kinship : (K, K) float64
        Blurs a distribution over words into similar words; rows sum to 1.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    area: NDArray[np.float64]
    centre: NDArray[np.float64]
    mean: NDArray[np.float64]
    border: NDArray[np.float64]
    pairs: NDArray[np.intp]
    length: NDArray[np.float64]
    contrast: NDArray[np.float64]
    word: NDArray[np.int32]
    words: sparse.csr_array
    kinship: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of superpixels."""
        return len(self.area)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        arrays = [getattr(self, f.name) for f in fields(self)]
        return sum(
            int(array.data.nbytes + array.indices.nbytes if array is self.words else array.nbytes) for array in arrays
        )

    def colours(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distribution over words, (M, K), of superpixels taken with ``(M, N)`` weights in pixels."""
        counts = np.asarray((self.words.T @ weights.T).T) @ self.kinship
        return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1e-9))

    def average(self, picture: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean of an ``(h, w)`` picture over each superpixel."""
        sums = np.bincount(self.labels.ravel(), picture.ravel().astype(np.float64), self.count)
        return np.asarray(sums / self.area)

    def neighbours(self, weights: NDArray[np.float64]) -> sparse.csr_array:
        """Return the symmetric (N, N) matrix with one weight for each of ``pairs``."""
        first, second = self.pairs.T
        both = (np.concatenate([first, second]), np.concatenate([second, first]))
        return sparse.csr_array((np.concatenate([weights, weights]), both), shape=(self.count, self.count))


def build_regions(image: NDArray[np.uint8], progress: Progress) -> Regions:
    """Divide an ``(H, W, 3)`` uint8 RGB image of any size into superpixels."""
    small = shrink(image)
    progress(0.2)
    features = describe_pixels(small)
    progress(0.4)
    labels = divide(features)
    progress(0.7)
    count, flat = int(labels.max()) + 1, labels.ravel()
    area = np.bincount(flat, minlength=count).astype(np.float64)
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(flat, values.ravel().astype(np.float64), count) / area

    means = np.stack([mean(features[..., channel]) for channel in range(features.shape[-1])], axis=1)
    on_border = np.ones(labels.shape)
    on_border[1:-1, 1:-1] = 0
    pairs, length, contrast = compare_neighbours(labels, features, means)
    word, vocabulary = quantise(features)
    words = np.bincount(flat.astype(np.int64) * len(vocabulary) + word.ravel(), minlength=count * len(vocabulary))
    distance = ((vocabulary[:, None] - vocabulary[None]) ** 2).sum(-1)
    kinship = np.exp(-distance / (2 * 5.0**2))
    progress(0.9)
    return Regions(
        features=features,
        labels=labels,
        area=area,
        centre=np.stack([mean(columns), mean(rows)], axis=1),
        mean=means,
        border=np.asarray(np.bincount(flat, on_border.ravel(), count), np.float64),
        pairs=pairs,
        length=length,
        contrast=contrast,
        word=word,
        words=sparse.csr_array(words.reshape(count, -1) / area[:, None]),
        kinship=kinship / kinship.sum(1, keepdims=True),
    )


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image reduced to at most ``WORK_AREA`` pixels, each the mean of what it covers."""
    height, width = image.shape[:2]
    scale = min(1.0, (WORK_AREA / (height * width)) ** 0.5)
    # A side of few pixels keeps them: one cell for all of them could not be bounded by a box.
    least = min(height, width, SHORTEST_SIDE)
    size = tuple(min(max(least, round(side * scale)), WORK_AREA // least) for side in (width, height))
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def describe_pixels(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (h, w, 4) float32: lightness, a, b of CIE Lab after edge-keeping smoothing, and local texture."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    smooth = cv2.bilateralFilter(lab, 5, 8.0, 2.0)
    lightness = lab[..., 0]
    mean = cv2.GaussianBlur(lightness, (0, 0), 2.5)
    variance = cv2.GaussianBlur(lightness * lightness, (0, 0), 2.5) - mean * mean
    texture = np.sqrt(np.maximum(variance, 0))
    weights = np.array([LIGHTNESS_WEIGHT, 1, 1, TEXTURE_WEIGHT], np.float32)
    return np.asarray(np.dstack([smooth, texture]) * weights, np.float32)


def divide(features: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return superpixels by SLIC (Achanta et al., PAMI 2012)."""
    height, width = features.shape[:2]
    wanted = max(1, round(height * width / REGION_AREA))
    if wanted == 1:
        return np.zeros((height, width), np.int32)
    colour = features[..., :3]
    # slic stretches its input to 0..1 first, and with it what a unit of distance means.
    compactness = SLIC_COMPACTNESS / max(float(np.ptp(colour)), 1.0)
    # In noise the pieces of a superpixel are too small to keep; more compactness holds it together.
    for attempt in (compactness, 20 * compactness):
        labels = slic(
            colour,
            n_segments=wanted,
            compactness=attempt,
            max_num_iter=SLIC_ROUNDS,
            convert2lab=False,
            start_label=0,
        )
        if labels.max() + 1 >= wanted / 3:
            break
    return np.unique(labels, return_inverse=True)[1].reshape(height, width).astype(np.int32)


def compare_neighbours(
    labels: NDArray[np.int32], features: NDArray[np.float32], means: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return neighbouring superpixels, the length of their boundary, and the relative contrast across it."""
    colour = features[..., :3]
    steps = []
    for axis in (0, 1):
        ahead, behind = np.delete(labels, 0, axis), np.delete(labels, -1, axis)
        jump = np.sqrt((np.diff(colour, axis=axis) ** 2).sum(-1))
        apart = ahead != behind
        steps.append((ahead[apart], behind[apart], jump[apart]))
    first, second, jump = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    count = len(means)
    key = np.minimum(first, second).astype(np.int64) * count + np.maximum(first, second)
    keys, inverse, length = np.unique(key, return_inverse=True, return_counts=True)
    pairs = np.stack(np.divmod(keys, count), axis=1).astype(np.intp)
    if len(pairs) == 0:
        return pairs.reshape(0, 2), np.zeros(0), np.zeros(0)
    across = np.bincount(inverse, jump) / length
    difference = np.linalg.norm(means[pairs[:, 0]] - means[pairs[:, 1]], axis=1)
    contrast = across * 1.5 + difference
    # An image without any contrast has no unit to measure in; a just visible difference of Lab serves.
    return pairs, length.astype(np.float64), contrast / max(float(np.average(contrast, weights=length)), 2.0)


def quantise(features: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return each pixel's word and the (K, C) vocabulary, by k-means over a regular sample of pixels."""
    height, width, channels = features.shape
    flat = features.reshape(-1, channels)
    sample = np.ascontiguousarray(flat[:: max(1, len(flat) // 6000)])
    vocabulary = np.unique(sample, axis=0)
    if len(vocabulary) > WORDS:
        # Labels to start from keep cv2.kmeans away from OpenCV's global random numbers.
        start = nearest_word(sample, pick_apart(sample))[:, None]
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 8, 0.5)
        centres = cv2.kmeans(sample, WORDS, start, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)[2]
        vocabulary = np.asarray(centres, np.float32)
    return nearest_word(flat, vocabulary).reshape(height, width), vocabulary.astype(np.float64)


def nearest_word(features: NDArray[np.float32], vocabulary: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the index of the nearest word of each row."""
    return np.asarray(((vocabulary**2).sum(1)[None] - 2 * features @ vocabulary.T).argmin(1), np.int32)


def pick_apart(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``WORDS`` rows that lie apart (k-means++: Arthur and Vassilvitskii, SODA 2007)."""
    rng = np.random.default_rng(1)
    picked = [int(rng.integers(len(sample)))]
    distance = np.full(len(sample), np.inf)
    while len(picked) < WORDS:
        distance = np.minimum(distance, ((sample - sample[picked[-1]]) ** 2).sum(1, dtype=np.float64))
        total = np.cumsum(distance)
        picked.append(min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(sample) - 1))
    return sample[picked]
