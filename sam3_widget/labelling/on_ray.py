"""Labelling on a Ray cluster: Ray Data hands batches of paths to workers with a model each."""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sam3_widget.errors import InvalidPromptError
from sam3_widget.labelling.records import labelled
from sam3_widget.models.catalog import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sam3_widget.labelling.journal import Record
    from sam3_widget.labelling.records import Asked
    from sam3_widget.models.base import Model

_CPUS_EACH = 2


class Worker:
    """One model, and the images that it gets.

    Parameters
    ----------
    model : str
    asked : Asked
    """

    def __init__(self, model: str, asked: Asked) -> None:
        self._model, self._asked = load_model(model), asked

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Label a batch of paths; return a record in JSON for each."""
        records = labelled(self._model, [str(path) for path in batch["file"]], self._asked)
        return {"record": [json.dumps(record) for record in records]}


def answers(
    files: Sequence[str], asked: Asked, model: str | os.PathLike[str] | Model, workers: int | None
) -> Iterator[Sequence[Record]]:
    """Yield what becomes of the images, a batch at a time, in whatever order they are finished.

    Raises
    ------
    ImportError
        Ray is not installed.
    InvalidPromptError
        The model is a loaded one, which cannot travel.
    """
    if not isinstance(model, (str, os.PathLike)):
        message = f"a loaded model cannot travel to Ray's workers: give its name or folder, got {model!r:.80}"
        raise InvalidPromptError(message)
    try:
        ray, data = import_module("ray"), import_module("ray.data")
    except ImportError as error:
        message = 'engine="ray" takes Ray: pip install "sam3-widget[ray]"'
        raise ImportError(message) from error
    if not files:
        return
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    have = ray.cluster_resources()
    gpus = int(have.get("GPU", 0))
    cpus = min(_CPUS_EACH, int(have.get("CPU", 1)))
    count = workers or gpus or max(1, int(have.get("CPU", 1)) // _CPUS_EACH)
    given = {"num_gpus": 1} if gpus else {"num_cpus": cpus}
    batches = data.from_items([{"file": file} for file in files]).map_batches(
        Worker,
        fn_constructor_args=(os.fspath(model), asked),
        batch_size=asked.batch_size,
        compute=data.ActorPoolStrategy(size=count),
        **given,
    )
    for batch in batches.iter_batches(batch_size=asked.batch_size, prefetch_batches=0):
        yield [json.loads(record) for record in batch["record"]]
