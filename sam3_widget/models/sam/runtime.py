"""Where a torch model runs, and in which precision; how its progress is followed layer by layer."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sam3_widget.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from sam3_widget.models.base import Progress

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCH = 16
"""Instances that an accelerator decodes at once. On a CPU sixteen at once are slower than one after another."""


@dataclass(frozen=True)
class Runtime:
    """A device and the precision of the weights on it.

    Attributes
    ----------
    device : torch.device
    dtype : torch.dtype
        Of parameters and of activations; masks, scores and coordinates are float32 whatever it is.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def batch(self) -> int:
        """How many instances a decoder should take at once."""
        return 1 if self.device.type == "cpu" else BATCH

    @contextmanager
    def running(self) -> Iterator[None]:
        """Enter inference mode, and autocast where half precision runs on an accelerator.

        Both belong to a thread, so every public method of a model enters them itself.

        Raises
        ------
        ModelError
            The accelerator has too little memory left.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.dtype != torch.float32 and self.device.type != "cpu":
                stack.enter_context(torch.autocast(self.device.type, dtype=self.dtype))
            try:
                yield
            except torch.cuda.OutOfMemoryError as error:
                message = (
                    f"{self.device} is out of memory; close what else uses it, or load the model with a smaller "
                    'resolution=, with dtype="bfloat16" or with device="cpu"'
                )
                raise ModelError(message) from error


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Suspend autocast: coordinates in pixels do not survive half precision, which tells 1 from 1.004 at best."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def choose_runtime(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Runtime:
    """Return the device and the precision that these names stand for.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA, else MPS, else the CPU; else a name that torch knows, such as ``"cuda:1"``.
    dtype : str or torch.dtype
        ``"auto"`` is bfloat16 on CUDA devices that have it, else float32; else ``"float32"``, ``"bfloat16"``
        or ``"float16"``.

    Raises
    ------
    ModelError
        The device is not there, or the name is not one of these.
    """
    chosen = _choose_device(str(device))
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        half = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
        return Runtime(chosen, torch.bfloat16 if half else torch.float32)
    if name not in DTYPES:
        message = f"there is no dtype {name!r} to run a model in; expected one of: {', '.join(['auto', *DTYPES])}"
        raise ModelError(message)
    return Runtime(chosen, DTYPES[name])


def _choose_device(name: str) -> torch.device:
    """Return a device that is there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cuda"] * (count > 0) + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    there = device is not None and device.type in here and (device.type != "cuda" or (device.index or 0) < count)
    if device is None or not there:
        several = f" (cuda:0 to cuda:{count - 1})" if count > 1 else ""
        message = f"there is no device {name!r} here; expected one of: {', '.join(['auto', *here])}{several}"
        raise ModelError(message)
    return device


def place(module: nn.Module, runtime: Runtime, *, exact: Sequence[nn.Module] = ()) -> None:
    """Move a model to its device and its parameters to its precision, in evaluation mode and without gradients.

    Parameters
    ----------
    module : nn.Module
    runtime : Runtime
    exact : sequence of nn.Module
        Parts whose parameters stay float32: those that read coordinates. Buffers (tables of positions and of
        frequencies) keep theirs everywhere.
    """
    kept = {id(parameter) for part in exact for parameter in part.parameters()}
    for parameter in module.parameters():
        dtype = torch.float32 if id(parameter) in kept else runtime.dtype
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    module.to(runtime.device).eval().requires_grad_(requires_grad=False)


@contextmanager
def follow(layers: Sequence[nn.Module], progress: Progress) -> Iterator[None]:
    """Report progress whenever one of these layers has finished, for as long as the context lasts.

    Parameters
    ----------
    layers : sequence of nn.Module
        Those that the forward pass goes through, each once.
    progress : callable
        Called with the share of layers that have finished. What it raises ends the forward pass.
    """
    finished = 0

    def count(*_: object) -> None:
        nonlocal finished
        finished += 1
        progress(min(1.0, finished / len(layers)))

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
