"""From the prompts of instances to what a SAM decoder takes, and from its masks to candidates.

The prompt encoders of SAM, SAM 2 and SAM 3 agree on all of this; see "Segment Anything" (Kirillov et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from sam3_widget.errors import InvalidPromptError
from sam3_widget.models.base import Candidates, InstancePrompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Question

LIMIT = 32.0
"""Earlier logits are bounded by this, as where the models were trained."""
NO_POINT = -1
"""Label of the point that stands for "no point here"."""


@dataclass(frozen=True)
class ClickBatch:
    """Instances of one image that a decoder can take together, along the batch dimension of every tensor.

    Prompt encoders attend to padding points as to any other token, so that an instance's mask would depend on
    its neighbours: a batch holds only instances of as many points, and either all or none with a box, with
    earlier logits, and ambiguous.

    Attributes
    ----------
    order : list of int
        Which question each of the N rows answers.
    points : (N, 1, P, 2) float32 or None
        ``(x, y)`` in pixels of the encoder's input, as indices: 0 is the middle of the first pixel. None where
        boxes stand alone.
    labels : (N, 1, P) int64 or None
        1 includes, 0 excludes, -1 is no point.
    boxes : (N, 1, 4) float32 or None
        ``(x1, y1, x2, y2)``, in the same units.
    masks : (N, 1, h, w) float32 or None
        Earlier logits at the prompt encoder's resolution, -32 to 32.
    multimask : bool
        Whether to ask for several candidates.
    """

    order: list[int]
    points: torch.Tensor | None
    labels: torch.Tensor | None
    boxes: torch.Tensor | None
    masks: torch.Tensor | None
    multimask: bool


def batch_clicks(
    questions: Sequence[Question],
    *,
    scale: NDArray[np.float32],
    mask_size: tuple[int, int],
    most: int = 1,
    max_points: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[ClickBatch]:
    """Divide questions about one image into batches that a decoder can take.

    Parameters
    ----------
    questions : sequence of (InstancePrompts, (h, w) float32 or None)
        In pixels of the original image.
    scale : (2,) float32
        Factors ``(x, y)`` from there to pixels of the encoder's input.
    mask_size : (int, int)
        Height and width of the earlier logits that the prompt encoder takes.
    most : int
        Instances in a batch.
    max_points : int, optional
        Of more points than this, the first and the last half count.
    device : torch.device or str
        Where the tensors go.

    Yields
    ------
    ClickBatch
        Each question is in exactly one.

    Raises
    ------
    InvalidPromptError
        A question has neither points nor a box nor earlier logits.
    """
    groups: dict[tuple[int, bool, bool, bool], list[int]] = {}
    kept = [(keep_points(prompts, max_points), previous) for prompts, previous in questions]
    for index, (prompts, previous) in enumerate(kept):
        if previous is None and prompts.box is None and not len(prompts.points):
            message = "nothing to refine: expected at least one point, a box or previous logits"
            raise InvalidPromptError(message)
        primed = previous is not None
        kind = (len(prompts.points), prompts.box is not None, primed, prompts.ambiguous and not primed)
        groups.setdefault(kind, []).append(index)
    for (_, _, _, multimask), indices in groups.items():
        for start in range(0, len(indices), most):
            order = indices[start : start + most]
            points, labels = _points([kept[index][0] for index in order], scale)
            boxes = [prompts.box for prompts, _ in (kept[index] for index in order) if prompts.box is not None]
            masks = [fit_prior(mask, mask_size) for _, mask in (kept[index] for index in order) if mask is not None]
            alone = bool(boxes) and not len(kept[order[0]][0].points)
            yield ClickBatch(
                order,
                None if alone else torch.from_numpy(points)[:, None].to(device),
                None if alone else torch.from_numpy(labels)[:, None].to(device),
                torch.from_numpy(np.stack(boxes) * np.tile(scale, 2) - 0.5)[:, None].to(device) if boxes else None,
                torch.stack(masks)[:, None].to(device) if masks else None,
                multimask,
            )


def _points(
    instances: Sequence[InstancePrompts], scale: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (N, P, 2) points and (N, P) labels of instances with as many points each; no point is one that says so."""
    if not len(instances[0].points):
        return np.zeros((len(instances), 1, 2), np.float32), np.full((len(instances), 1), NO_POINT, np.int64)
    points = np.stack([prompts.points for prompts in instances]) * scale - np.float32(0.5)
    return points, np.stack([prompts.labels for prompts in instances]).astype(np.int64)


def keep_points(prompts: InstancePrompts, most: int | None) -> InstancePrompts:
    """Return prompts with at most so many points: the first half of them and the last."""
    count = len(prompts.points)
    if most is None or count <= most:
        return prompts
    kept = np.r_[: most - most // 2, count - most // 2 : count]
    return InstancePrompts(prompts.points[kept], prompts.labels[kept], prompts.box)


def fit_prior(logits: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """Return earlier logits of any resolution, infinite ones included, as a prompt encoder takes them.

    Parameters
    ----------
    logits : (h, w) float32
    size : (int, int)
        Height and width of what the prompt encoder takes.

    Returns
    -------
    (size) float32
        From -32 to 32.
    """
    bounded = torch.from_numpy(np.clip(np.nan_to_num(logits, nan=-LIMIT), -LIMIT, LIMIT).astype(np.float32))
    if bounded.shape == size:
        return bounded
    resized = functional.interpolate(bounded[None, None], size=size, mode="bilinear", antialias=True)
    return resized[0, 0]


def to_candidates(logits: torch.Tensor, scores: torch.Tensor) -> Candidates:
    """Return a decoder's masks, best first.

    Parameters
    ----------
    logits : (K, h, w)
        Of one instance, in any precision, on any device.
    scores : (K,)
        Predicted IoU of each.
    """
    order = torch.argsort(scores.float(), descending=True, stable=True)
    return Candidates(
        np.ascontiguousarray(logits[order].float().cpu().numpy()),
        scores[order].float().clamp(0, 1).cpu().numpy(),
    )
