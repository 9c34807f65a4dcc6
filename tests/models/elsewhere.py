"""A main memory that lies elsewhere: where a machine has no accelerator, the CPU stands for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils._pytree import tree_leaves

from sam3_widget.models.base import Model
from sam3_widget.models.sam.memory import Frame
from sam3_widget.models.sam.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = torch.nn.Module | Model | Preprocess | Frame
"""What a tracker refers to, and does not remember: weights, constants, and the frame at hand."""


class Elsewhere(torch.Tensor):
    """A copy in main memory, which takes no part in what a device computes until it is moved there."""

    fetched = 0
    """How often one was moved to the device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.to and ("device" in kwargs or isinstance(args[1], torch.device | str)):
            Elsewhere.fetched += 1
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs).clone().as_subclass(torch.Tensor)
        if any(isinstance(part, torch.Tensor) and not isinstance(part, cls) for part in tree_leaves((args, kwargs))):
            message = f"expected all tensors of {func} to be on the same device"
            raise RuntimeError(message)
        return super().__torch_function__(func, types, args, kwargs)


def to_elsewhere(tensor: torch.Tensor) -> torch.Tensor:
    """Stand for :func:`sam3_widget.models.sam.video.to_main_memory`."""
    return tensor if isinstance(tensor, Elsewhere) else tensor.clone().as_subclass(Elsewhere)


def remembered(owner: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors that a tracker, or a part of it, remembers, each with the way to it."""
    if isinstance(owner, torch.Tensor):
        yield path, owner
    elif isinstance(owner, FOREIGN):
        return
    elif isinstance(owner, dict):
        for key, part in owner.items():
            yield from remembered(part, f"{path}.{key}")
    elif isinstance(owner, list | tuple | set):
        for part in owner:
            yield from remembered(part, path)
    elif hasattr(owner, "__dict__"):
        yield from remembered(vars(owner), path)
