"""The widget for one image: traits and messages on one side, the document on the other."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from sam3_widget.errors import ProtocolError, Sam3WidgetError
from sam3_widget.live import LiveDocument
from sam3_widget.session import Session, Verbs
from sam3_widget.widget import imagery, traits
from sam3_widget.widget.protocol import Request, View, envelope, status
from sam3_widget.widget.still import Stills, still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sam3_widget.models.base import Model

log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent.parent / "static"


class Sam3Widget(anywidget.AnyWidget, Verbs):
    """Click, box and paint masks on an image in the notebook; take them away as numpy.

    It has every verb and attribute of :class:`~sam3_widget.session.Session`; ``session`` is that session.

    Parameters
    ----------
    image : path, bytes, PIL image, numpy array, torch tensor or Session
        See :meth:`sam3_widget.core.image.Image.read`. A session is shown as it is and goes on.
    model : str or Model
        A name that :func:`~sam3_widget.models.catalog.load_model` knows, or a loaded model.
    classes : iterable of str
        Class names on offer; the number keys choose them.
    height : int
        Height of the canvas in CSS pixels.
    opacity : float
        Of the masks' fill, 0 to 1.
    outline : bool
        Show outlines only.

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
    """

    _esm = _STATIC / "widget.js"
    _css = _STATIC / "widget.css"

    _image = traitlets.Dict().tag(sync=True)
    _preview = traitlets.Bytes().tag(sync=True)
    points = traits.Said("set_points", "points", traits.point_rows, ())
    box_prompts = traits.Said("set_boxes", "boxes", traits.box_rows, ())
    selected = traits.Said("select", "object_id", traits.selected_id, None)
    opacity = traitlets.Float(0.5, min=0, max=1).tag(sync=True)
    outline = traitlets.Bool(False).tag(sync=True)  # noqa: FBT003
    height = traitlets.Int(520, min=120).tag(sync=True)

    def __init__(
        self,
        image: object,
        model: str | Model = "auto",
        classes: Iterable[str] = (),
        **display: Any,  # noqa: ANN401 - height, opacity, outline, and ipywidgets' own
    ) -> None:
        live = image._live if isinstance(image, Verbs) else LiveDocument(image, model, classes)  # noqa: SLF001
        self._thread = threading.local()
        info, preview = imagery.preview(live.image)
        super().__init__(_image=info, _preview=preview, **display)
        _take_the_subshell_asked_for(self.comm)
        self._live = live
        self._shown = View.of(live)
        self._encoding = False
        self._stills = Stills(lambda: still(live))
        self._stop: Callable[[], None] = live.listen(self)
        self._tell()
        self.on_msg(lambda _, content, __: self._receive(content))
        live.prepare()

    @classmethod
    def demo(cls, **options: Any) -> Sam3Widget:  # noqa: ANN401 - those of the constructor
        """Open on a cup of coffee, a picture that scikit-image ships (Rachel Michetti, CC0)."""
        from skimage import data  # noqa: PLC0415 - slow to load, and only for the demo

        picture: object = data.coffee()  # type: ignore[no-untyped-call]
        return cls(picture, **options)

    @property
    def session(self) -> Session:
        """The session that this widget shows."""
        return Session.of(self._live)

    def close(self) -> None:
        """Close the view; the session stays usable."""
        self._stop()
        super().close()

    def told(self) -> bool:
        """Whether the document is speaking on this thread, so that a trait just takes its value."""
        return not hasattr(self, "_live") or getattr(self._thread, "telling", False)

    def say(self, command: str, args: Mapping[str, Any], name: str) -> object:
        """Run the command of an assigned trait and return what the trait holds then."""
        self._live.run(command, args)
        return getattr(self.session, name)

    def changed(self) -> None:
        """Send what changed to all views, as the answer to the request that changed it if there is one."""
        view = View.of(self._live)
        payload, buffers = view.since(self._shown)
        request, self._thread.request = getattr(self._thread, "request", None), None
        if request or payload["set"] or payload["instances"] or payload["removed"]:
            self._shown = view
            self.send(envelope("patch", view.rev, payload, request), buffers)
            self._stills.outdated()
        self._tell()

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Send how far encoding is, and that it is over."""
        encoding = phase == "encoding"
        if encoding or self._encoding:
            self._encoding = encoding
            self.send(envelope("progress", self._shown.rev, status(fraction, encoding=encoding)))

    def failed(self, error: Exception) -> None:
        """Send an error of the model."""
        self._send_error(error, None)

    def _ipython_display_(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - there is no notebook without IPython

        shown = self._repr_mimebundle_()
        if shown is not None:
            data, metadata = shown
            display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
            self._stills.show()

    def _tell(self) -> None:
        """Bring the public traits in step with the document."""
        self._thread.telling = True
        try:
            for name in ("points", "box_prompts", "selected"):
                self.set_trait(name, getattr(self.session, name))
        finally:
            self._thread.telling = False

    def _receive(self, content: object) -> None:
        """Answer a message from the front end."""
        request_id = content.get("id") if isinstance(content, dict) else None
        try:
            self._answer(Request.parse(content))
        except Sam3WidgetError as error:
            self._send_error(error, request_id)
        except Exception as error:  # the front end must hear of it, whatever it is
            log.exception("a request failed")
            self._send_error(error, request_id)
        finally:
            self._thread.request = None

    def _answer(self, request: Request) -> None:
        if request.type == "tile":
            part = imagery.tile(self._live.image, request.payload)
            told = {**{name: request.payload[name] for name in ("key", "level", "x", "y")}, "mime": part.mime}
            self.send(envelope("tile", self._shown.rev, told, request.id), [part.data])
            return
        with self._live.lock:
            if request.type == "hello":
                payload, buffers = self._shown.snapshot(encoding=self._encoding)
                self.send(envelope("snapshot", self._shown.rev, payload, request.id), buffers)
                return
            self._thread.request = request.id
            if request.type == "command":
                self._command(request.payload)
            else:
                self._live.cancel()
            if self._thread.request:  # nothing changed, and the view waits for an answer
                self.changed()

    def _command(self, payload: Mapping[str, Any]) -> None:
        name, args = payload.get("name"), payload.get("args", {})
        if not isinstance(name, str) or not isinstance(args, dict):
            message = f"a command needs a name and args, got {payload!r:.200}"
            raise ProtocolError(message)
        options = dict(args)
        gesture = options.pop("gesture", None)
        self._live.run(name, options, gesture=gesture, wait=False)

    def _send_error(self, error: Exception, request_id: str | None) -> None:
        code = getattr(error, "code", "internal")
        self.send(envelope("error", self._shown.rev, {"code": code, "message": str(error)}, request_id))


def _take_the_subshell_asked_for(comm: Any) -> None:  # noqa: ANN401 - whatever the kernel's package has for one
    """Let a message go to the subshell that JupyterLab names in it.

    ipykernel 7.4 sends it to the shell that spoke last on the comm instead: once a cell has touched the widget,
    clicks would wait until that cell ends.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = None  # noqa: SLF001 - there is no public switch
