"""Pictures with masks of every kind, for the tests of all formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam3_widget.core.runs import RunLengths
from sam3_widget.io import AnnotatedImage, AnnotatedObject

if TYPE_CHECKING:
    from collections.abc import Sequence

HEIGHT, WIDTH = 30, 40


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y1:y2, x1:x2] = True
    return mask


KINDS = {
    "pixel": box(39, 29, 40, 30),
    "box": box(2, 3, 9, 11),
    "corner": box(12, 2, 20, 10) ^ box(15, 2, 20, 6),
    "parts": box(1, 14, 6, 19) | box(8, 13, 12, 20) | box(6, 19, 7, 20),
    "hole": box(14, 12, 24, 22) ^ box(17, 14, 20, 18),
    "nested": box(24, 0, 39, 11) ^ box(26, 2, 37, 9) ^ box(28, 4, 35, 7) ^ box(30, 5, 32, 6),
    "full": box(0, 0, WIDTH, HEIGHT),
    "empty": box(0, 0, 0, 0),
}
"""Masks by what is special about them."""
WHOLE = ("pixel", "box", "corner", "full")
"""Those of one part without holes."""
APART = ("pixel", "box", "corner", "parts", "hole", "nested")
"""Those of which no two overlap."""


def picture(
    names: Sequence[str], file_name: str = "a.jpg", labels: Sequence[str] = ("cat", "grüner Baum", "<dog & co>")
) -> AnnotatedImage:
    """Return a picture with these masks, under labels that come round."""
    objects = [
        AnnotatedObject(k, labels[(k - 1) % len(labels)], RunLengths.from_mask(KINDS[name]), k / 16)
        for k, name in enumerate(names, 1)
    ]
    return AnnotatedImage(file_name, HEIGHT, WIDTH, tuple(objects))


def noise(seed: int, file_name: str = "noise.png", *, several: int = 5) -> AnnotatedImage:
    """Return a picture of random masks that do not overlap, with holes and many parts."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, several + 1, (HEIGHT // 2, WIDTH // 2))
    values = np.kron(small, np.ones((2, 2), np.int64))
    values[rng.random(values.shape) < 0.1] = 0
    found = [AnnotatedObject(k, f"class {k % 2}", RunLengths.from_mask(values == k)) for k in range(1, several + 1)]
    return AnnotatedImage(file_name, HEIGHT, WIDTH, tuple(o for o in found if o.mask.area))


def assert_same(
    ours: Sequence[AnnotatedImage], theirs: Sequence[AnnotatedImage], *, scores: bool = True, ids: bool = True
) -> None:
    """Compare names, sizes, labels and, to the pixel, masks."""
    assert [i.file_name for i in ours] == [i.file_name for i in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.height, one.width) == (other.height, other.width)
        assert [o.label for o in one.objects] == [o.label for o in other.objects]
        if ids:
            assert [o.object_id for o in one.objects] == [o.object_id for o in other.objects]
        for mine, found in zip(one.objects, other.objects, strict=True):
            np.testing.assert_array_equal(mine.mask.to_mask(), found.mask.to_mask())
            assert mine.mask.counts.tolist() == found.mask.counts.tolist()
            if scores:
                np.testing.assert_equal(found.score, mine.score)
                assert dict(found.attributes) == dict(mine.attributes)
