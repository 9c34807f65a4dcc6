"""The widget for one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam3_widget.errors import InvalidPromptError, ProtocolError
from sam3_widget.live import LiveDocument
from sam3_widget.session import Session, Verbs, opened
from sam3_widget.widget import imagery
from sam3_widget.widget.canvas import CanvasWidget
from sam3_widget.widget.protocol import View, envelope

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

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
    ) -> None:
        if isinstance(image, Verbs):
            if model != "auto" or classes or autosave is not None:
                message = "a session brings its own model, classes and autosave: give it alone"
                raise InvalidPromptError(message)
            self._live = image._live  # noqa: SLF001 - two views of one session
        else:
            self._live = opened(image, model, classes, autosave)
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
    def _picture(self) -> LivePicture:
        return self._live

    def _view(self, rev: int) -> View:
        return View.of(self._live, rev, imagery.described(self._live.image))

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
            message = f"a picture has no {request.type}: only clips have"
            raise ProtocolError(message)
        return imagery.tile(self._live.image, request.payload)
