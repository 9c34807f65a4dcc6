"""The widget for one image: traits and messages on one side, the document on the other."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from sam3_widget.errors import CancelledError, InvalidPromptError, ProtocolError, Sam3WidgetError
from sam3_widget.live import LiveDocument
from sam3_widget.session import Session, Verbs
from sam3_widget.widget import imagery
from sam3_widget.widget.protocol import Request, View, envelope, status
from sam3_widget.widget.still import Stills, still
from sam3_widget.widget.traits import Said

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from sam3_widget.models.base import Model

log = logging.getLogger(__name__)

_SAID = ("points", "box_prompts", "selected", "text")


def _bundled(name: str) -> str:
    """Return a file of the front end's bundle.

    Its text rather than its path: anywidget keeps every widget of a watched path alive.
    """
    file = Path(__file__).parent.parent / "static" / name
    if not file.is_file():
        message = (
            f"the front-end bundle {file.name} is missing from this installation: run `make bundle`, or install again"
        )
        raise ImportError(message)
    return file.read_text(encoding="utf-8")


class Sam3Widget(anywidget.AnyWidget, Verbs):
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

    _esm = _bundled("widget.js")
    _css = _bundled("widget.css")

    _image = traitlets.Dict().tag(sync=True)
    _preview = traitlets.Bytes().tag(sync=True)
    points = Said("set_points", "points")
    box_prompts = Said("set_boxes", "boxes")
    selected = Said("select", "object_id")
    text = Said("set_text", "text")
    opacity = traitlets.Float(0.5, min=0, max=1).tag(sync=True)
    outline = traitlets.Bool(False).tag(sync=True)  # noqa: FBT003
    height = traitlets.Int(520, min=120).tag(sync=True)

    def __init__(
        self,
        image: object,
        model: str | os.PathLike[str] | Model = "auto",
        classes: Iterable[str] = (),
        *,
        height: int = 520,
        opacity: float = 0.5,
        outline: bool = False,
    ) -> None:
        if isinstance(image, Verbs):
            if model != "auto" or classes:
                message = "a session brings its own model and classes: give it alone"
                raise InvalidPromptError(message)
            self._live = image._live  # noqa: SLF001 - two views of one session
        else:
            self._live = LiveDocument(image, model, classes)
        self._thread = threading.local()
        self._stop: Callable[[], None] | None = None
        info, preview = imagery.preview(self._live.image)
        said = {name: self.held(name) for name in _SAID}
        super().__init__(_image=info, _preview=preview, height=height, opacity=opacity, outline=outline, **said)
        _take_the_subshell_asked_for(self.comm)
        self._phase = "idle"
        self._stills = Stills(lambda: still(self._live))
        with self._live.lock:
            self._shown = View.of(self._live)
            self._stop = self._live.listen(self)
            self._tell()
        self.on_msg(lambda _, content, __: self._receive(content))
        self._live.prepare()

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
        """Close the view; the session stays usable."""
        stop = getattr(self, "_stop", None)  # not there where the constructor failed
        if stop is not None:
            stop()
        super().close()

    def held(self, name: str) -> object:
        """Return what the document holds for a trait."""
        return getattr(self.session, name)

    def say(self, command: str, args: dict[str, object]) -> None:
        """Run the command of an assigned trait."""
        self._live.run(command, args)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser set in its model; tell it the truth where that is refused."""
        try:
            super().set_state(sync_data)
        except (Sam3WidgetError, traitlets.TraitError) as error:
            self._send_error(error, None)
            self.send_state([name for name in sync_data if self.has_trait(name)])

    def changed(self) -> None:
        """Send what changed to all views, as the answer to the request that changed it if there is one."""
        view = View.of(self._live)
        payload, buffers = view.since(self._shown)
        request = self._request()
        if request or payload["set"] or payload["instances"] or payload["removed"]:
            self._shown = view
            self.send(envelope("patch", view.rev, payload, request), buffers)
            self._stills.outdated()
        self._tell()

    def progressed(self, phase: str, fraction: float | None) -> None:
        """Send how far encoding or detecting is, and that it is over."""
        self._phase = phase
        self.send(envelope("progress", self._shown.rev, status(phase, fraction)))

    def failed(self, error: Exception) -> None:
        """Send an error of the model; whoever cancelled knows, and the instance says so."""
        if not isinstance(error, CancelledError):
            self._send_error(error, None)

    def _ipython_display_(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - there is no notebook without IPython

        shown = self._repr_mimebundle_() if self.comm is not None else None
        if shown is None:
            display({"text/plain": f"{type(self).__name__}, closed"}, raw=True)  # type: ignore[no-untyped-call]
        else:
            data, metadata = shown
            display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
            self._stills.show()

    def _tell(self) -> None:
        """Bring the public traits in step with the document."""
        for name in _SAID:
            self.set_trait(name, self.held(name))

    def _receive(self, content: object) -> None:
        """Answer a message from the front end."""
        given = content.get("id") if isinstance(content, dict) else None
        self._thread.request = given if isinstance(given, str) else None
        try:
            self._answer(Request.parse(content))
        except Sam3WidgetError as error:
            self._send_error(error, self._request())
        except Exception as error:  # the front end must hear of it, whatever it is
            log.exception("a request failed")
            self._send_error(error, self._request())
        finally:
            self._thread.request = None

    def _request(self) -> str | None:
        """Return the id of the request that this thread is to answer, once."""
        request, self._thread.request = getattr(self._thread, "request", None), None
        return request

    def _answer(self, request: Request) -> None:
        if request.type == "tile":
            part = imagery.tile(self._live.image, request.payload)
            told = {**{name: request.payload[name] for name in ("key", "level", "x", "y")}, "mime": part.mime}
            self.send(envelope("tile", self._shown.rev, told, self._request()), [part.data])
            return
        with self._live.lock:
            if request.type == "hello":
                payload, buffers = self._shown.snapshot(self._phase)
                self.send(envelope("snapshot", self._shown.rev, payload, self._request()), buffers)
                return
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
        if gesture is not None and not isinstance(gesture, str):
            message = f"a gesture must be text, got {gesture!r:.200}"
            raise ProtocolError(message)
        self._live.run(name, options, gesture=gesture, wait=False)

    def _send_error(self, error: Exception, request_id: str | None) -> None:
        code = error.code if isinstance(error, Sam3WidgetError) else "internal"
        self.send(envelope("error", self._shown.rev, {"code": code, "message": str(error)}, request_id))


def _take_the_subshell_asked_for(comm: Any) -> None:  # noqa: ANN401 - whatever the kernel's package has for one
    """Let a message go to the subshell that JupyterLab names in it.

    ipykernel 7.4 sends it to the shell that spoke last on the comm instead: once a cell has touched the widget,
    clicks would wait until that cell ends.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = None  # noqa: SLF001 - there is no public switch
