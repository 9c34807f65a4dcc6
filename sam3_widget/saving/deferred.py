"""A model that is loaded when it is first asked something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam3_widget.engine import engine_of
from sam3_widget.errors import ModelError
from sam3_widget.live import loaded
from sam3_widget.models.base import Model, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sam3_widget.models.base import (
        Candidates,
        Capabilities,
        ConceptPrompts,
        Detections,
        Embedding,
        InstancePrompts,
        Progress,
        Question,
    )


class DeferredModel(Model):
    """What is known of a model by its name, and the model itself from the first question on.

    It is asked on the worker thread of whoever holds this, one call at a time with all others who use the model.

    Parameters
    ----------
    name : str
        What ``load_model`` takes.
    capabilities : Capabilities
    max_points : int or None
    load : callable, optional
        Returns the model of a name.
    """

    def __init__(
        self,
        name: str,
        capabilities: Capabilities,
        max_points: int | None = None,
        load: Callable[[object], Model] = loaded,
    ) -> None:
        self.name, self.capabilities, self.max_points = name, capabilities, max_points
        self._load = load
        self._models: list[Model] = []  # in a list: who unloads this one must not take apart what others use

    @property
    def loaded(self) -> bool:
        """Whether anything was asked yet."""
        return bool(self._models)

    def encode(self, image: NDArray[np.uint8], progress: Progress = no_progress) -> Embedding:
        """Encode with the model, which is loaded first."""
        model = self._there()
        with engine_of(model).running():
            return model.encode(image, progress)

    def refine(
        self, embedding: Embedding, prompts: InstancePrompts, previous: NDArray[np.float32] | None = None
    ) -> Candidates:
        """Decode one instance with the model."""
        return self.refine_many(embedding, [(prompts, previous)])[0]

    def refine_many(self, embedding: Embedding, questions: Sequence[Question]) -> list[Candidates]:
        """Decode instances with the model."""
        model = self._there()
        with engine_of(model).running():
            return model.refine_many(embedding, questions)

    def detect_many(
        self, embeddings: Sequence[Embedding], concepts: Sequence[ConceptPrompts], progress: Progress = no_progress
    ) -> list[Detections]:
        """Find a concept's instances with the model."""
        model = self._there()
        with engine_of(model).running():
            return model.detect_many(embeddings, concepts, progress)

    def _there(self) -> Model:
        if not self._models:
            try:
                self._models.append(self._load(self.name))
            except ModelError as error:
                message = (
                    f"the model {self.name!r} that this session was made with cannot be loaded here: {error}. "
                    "The masks are there without it; to go on with another, give it: Session.load(path, model=...)"
                )
                raise type(error)(message) from error
            self.batch = self._models[0].batch
        return self._models[0]
