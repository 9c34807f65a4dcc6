"""The widget for one image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.errors import InvalidPromptError, ProtocolError
from sam3_widget.evaluation import overlap
from sam3_widget.evaluation.pictures import pictures, same_size
from sam3_widget.live import LiveDocument
from sam3_widget.session import Session, Verbs, opened
from sam3_widget.widget import imagery
from sam3_widget.widget.canvas import CanvasWidget
from sam3_widget.widget.protocol import View, envelope

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from sam3_widget.arrays import Arrays
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import State
    from sam3_widget.io import AnnotatedImage
    from sam3_widget.live import LivePicture
    from sam3_widget.models.base import Model
    from sam3_widget.widget.protocol import Request


class Sam3Widget(CanvasWidget, Verbs):
    """Click, box and paint masks on an image in the notebook; take them away as numpy.

    It has every verb and attribute of :class:`~sam3_widget.session.Session`; ``session`` is that session.

    Parameters
    ----------
    image : path, bytes, PIL image, numpy array, torch tensor or Session
        See :meth:`sam3_widget.core.image.Image.read`. A session is shown as it is and goes on.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes, or a loaded model.
    classes : iterable of str
        Class names on offer; the number keys choose them.
    height : int
        Height of the canvas in CSS pixels.
    opacity : float
        Of the masks' fill, 0 to 1.
    outline : bool
        Show outlines only.
    autosave : path, optional
        A file to save to after each change, and to go on from: see :class:`~sam3_widget.session.Session`.
    truth : (H, W) or (N, H, W) bool array, Session or AnnotatedImage, optional
        What the masks should be. The widget then shows the IoU of each object with the true mask that it is nearest to,
        and how many prompts it took.

    Attributes
    ----------
    points : tuple of Point
        All clicks. Observable; assign rows ``(x, y)``, ``(x, y, positive)`` or ``(x, y, positive, object_id)`` to
        replace them.
    box_prompts : tuple of Box
        All boxes that were drawn. Observable; assign rows ``(x1, y1, x2, y2)`` or ``(x1, y1, x2, y2, object_id)``
        to replace them. (``boxes`` are the tight boxes of the masks.)
    selected : int or None
        The ``object_id`` of the selected instance. Observable; assign to select.
    text : str
        The words of the active concept. Observable; assign a phrase to find every instance of it.
    """

    def __init__(
        self,
        image: object,
        model: str | os.PathLike[str] | Model = "auto",
        classes: Iterable[str] = (),
        *,
        height: int = 520,
        opacity: float = 0.5,
        outline: bool = False,
        autosave: str | os.PathLike[str] | None = None,
        truth: Arrays | AnnotatedImage | NDArray[np.bool_] | None = None,
    ) -> None:
        if isinstance(image, Verbs):
            if model != "auto" or classes or autosave is not None:
                message = "a session brings its own model, classes and autosave: give it alone"
                raise InvalidPromptError(message)
            self._live = image._live  # noqa: SLF001 - two views of one session
        else:
            self._live = opened(image, model, classes, autosave)
        self._truth = () if truth is None else _true_masks(truth, self._live.state)
        info, preview = imagery.preview(self._live.image.pixels, imagery.described(self._live.image))
        super().__init__(
            self._live.listen, _image=info, _preview=preview, height=height, opacity=opacity, outline=outline
        )

    @classmethod
    def demo(cls, **options: Any) -> Sam3Widget:  # noqa: ANN401 - the constructor's, but the image
        """Open on a cup of coffee, a picture that scikit-image ships (Rachel Michetti, CC0)."""
        from skimage import data  # noqa: PLC0415 - slow to load, and only for the demo

        picture: object = data.coffee()  # type: ignore[no-untyped-call]
        return cls(picture, **options)

    @property
    def session(self) -> Session:
        """The session that this widget shows."""
        return Session.of(self._live)

    def close(self) -> None:
        """Close the view; the session stays usable. What is new of it is written to the file of ``autosave``."""
        live = getattr(self, "_live", None)  # not there where the constructor failed
        try:
            if isinstance(live, LiveDocument) and live.keeper is not None:
                live.keeper.flush()
        finally:
            super().close()

    @property
    def ious(self) -> dict[int, float]:
        """The IoU of each object, by ``object_id``, with the mask of ``truth`` that it is nearest to."""
        return {i.object_id: self._iou(self._live.mask(i)) for i in self._live.state.instances} if self._truth else {}

    def _iou(self, mask: RunLengths) -> float:
        return max(overlap.iou(mask, true) for true in self._truth)

    @property
    def _picture(self) -> LivePicture:
        return self._live

    def _view(self, rev: int) -> View:
        view = View.of(self._live, rev, imagery.described(self._live.image))
        if not self._truth:
            return view
        told = {k: {**one, "iou": round(self._iou(view.masks[k]), 4)} for k, one in view.instances.items()}
        return replace(view, instances=told)

    def _greet(self) -> None:
        """Answer a view that knows nothing yet; the first one hears that the session has gone on from a file."""
        super()._greet()
        live = self._live
        if isinstance(live, LiveDocument) and live.notice:
            self.send(envelope("notice", self._shown.rev, {"message": live.notice}))
            live.notice = ""

    def _cancel(self) -> None:
        self._live.cancel()

    def _serve(self, request: Request) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        if request.type == "script":
            return {"script": self.script()}, []
        if request.type != "tile":
            message = f"one image has no {request.type}"
            raise ProtocolError(message)
        return imagery.tile(self._live.image, self._live.image.key, request.payload)


def _true_masks(truth: object, state: State) -> tuple[RunLengths, ...]:
    """Return the masks of a truth, checked against the image."""
    masks: Any = truth
    if hasattr(masks, "__array__"):
        masks = np.asarray(masks)
        masks = masks[None] if masks.ndim == 2 else masks  # noqa: PLR2004 - one mask
    found = pictures(masks, "truth")
    if len(found) != 1 or not found[0].objects:
        message = f"truth must be of this one image and hold a mask, got {len(found)} images"
        raise InvalidPromptError(message)
    same_size(found[0], state.height, state.width, "the image")
    return tuple(one.mask for one in found[0].objects)
