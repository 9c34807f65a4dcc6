"""Click-refinement of segmentation masks in the notebook.

Names are loaded when they are first used, so that ``import sam3_widget`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3_widget.batch import Segmentation, segment_batch
    from sam3_widget.evaluation import ClickEvaluation, Evaluation, clicks_to, evaluate
    from sam3_widget.jobs import Job
    from sam3_widget.labelling.run import label_images
    from sam3_widget.models.catalog import list_models, load_model, unload_model
    from sam3_widget.results import Concept, Instance
    from sam3_widget.session import Session
    from sam3_widget.video.session import VideoSession
    from sam3_widget.widget.dataset import Sam3DatasetWidget
    from sam3_widget.widget.image import Sam3Widget
    from sam3_widget.widget.video import Sam3VideoWidget

__version__ = "0.1.0"
__all__ = [
    "ClickEvaluation",
    "Concept",
    "Evaluation",
    "Instance",
    "Job",
    "Sam3DatasetWidget",
    "Sam3VideoWidget",
    "Sam3Widget",
    "Segmentation",
    "Session",
    "VideoSession",
    "clicks_to",
    "evaluate",
    "label_images",
    "list_models",
    "load_model",
    "segment_batch",
    "unload_model",
]

_HOMES = {
    "ClickEvaluation": "sam3_widget.evaluation",
    "Concept": "sam3_widget.results",
    "Evaluation": "sam3_widget.evaluation",
    "Instance": "sam3_widget.results",
    "Job": "sam3_widget.jobs",
    "Sam3DatasetWidget": "sam3_widget.widget.dataset",
    "Sam3VideoWidget": "sam3_widget.widget.video",
    "Sam3Widget": "sam3_widget.widget.image",
    "Segmentation": "sam3_widget.batch",
    "Session": "sam3_widget.session",
    "VideoSession": "sam3_widget.video.session",
    "clicks_to": "sam3_widget.evaluation",
    "evaluate": "sam3_widget.evaluation",
    "label_images": "sam3_widget.labelling.run",
    "list_models": "sam3_widget.models.catalog",
    "load_model": "sam3_widget.models.catalog",
    "segment_batch": "sam3_widget.batch",
    "unload_model": "sam3_widget.models.catalog",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *__all__])
