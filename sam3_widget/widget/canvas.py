"""What all widgets share: traits and messages on one side, a picture that a model answers on the other."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from sam3_widget.errors import CancelledError, ProtocolError, Sam3WidgetError
from sam3_widget.session import Session
from sam3_widget.widget.protocol import Request, View, envelope, status
from sam3_widget.widget.still import Stills, still
from sam3_widget.widget.traits import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sam3_widget.live import LivePicture

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


class CanvasWidget(anywidget.AnyWidget):
    """A picture with masks, prompts and objects, on a canvas in the notebook.

    A widget answers the front end's requests, tells all its views what has changed, and holds no state of its own
    beside what was told last.

    Parameters
    ----------
    listen : callable
        Registers the widget with what it shows, which must be there already; what it returns takes it away again.
    **traits
        Values of traits.
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

    def __init__(self, listen: Callable[[Any], Callable[[], None]], **traits: Any) -> None:  # noqa: ANN401
        self._thread = threading.local()
        self._stop: Callable[[], None] | None = None
        self._phase = "idle"
        super().__init__(**traits, **{name: self.held(name) for name in _SAID})
        _take_the_subshell_asked_for(self.comm)
        self._stills = Stills(lambda: still(self._picture))
        with self._picture.lock:
            self._shown = self._view(0)
            self._stop = listen(self)
            self._tell()
        self.on_msg(lambda _, content, __: self._receive(content))
        self._picture.prepare()

    @property
    @abstractmethod
    def _picture(self) -> LivePicture:
        """What the canvas shows."""

    @abstractmethod
    def _view(self, rev: int) -> View:
        """Describe what the front end is to show, as the view's revision ``rev``."""

    @abstractmethod
    def _cancel(self) -> None:
        """Stop what the model does."""

    @abstractmethod
    def _serve(self, request: Request) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Return what a request that changes nothing asks for, as a payload with buffers."""

    def close(self) -> None:
        """Close the view; the session stays usable."""
        stop = getattr(self, "_stop", None)  # not there where the constructor failed
        if stop is not None:
            stop()
        super().close()

    def held(self, name: str) -> object:
        """Return what the document holds for a trait."""
        return getattr(Session.of(self._picture), name)

    def say(self, command: str, args: dict[str, object]) -> None:
        """Run the command of an assigned trait."""
        self._picture.run(command, args)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser set in its model; tell it the truth where that is refused."""
        try:
            super().set_state(sync_data)
        except (Sam3WidgetError, traitlets.TraitError) as error:
            self._send_error(error, None)
            self.send_state([name for name in sync_data if self.has_trait(name)])

    def changed(self) -> None:
        """Send what changed to all views, as the answer to the request that changed it if there is one."""
        view = self._view(self._shown.rev + 1)
        payload, buffers = view.since(self._shown)
        request = self._request()
        if request or payload["set"] or payload["instances"] or payload["removed"]:
            self._shown = view
            self.send(envelope("patch", view.rev, payload, request), buffers)
            self._stills.outdated()
        self._tell()

    def progressed(self, phase: str, fraction: float | None, seconds_left: float | None = None) -> None:
        """Send how far encoding, detecting or propagating is, and that it is over."""
        self._phase = phase
        self.send(envelope("progress", self._shown.rev, status(phase, fraction, seconds_left)))

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
        if request.type in {"tile", "frame", "thumb", "script"}:
            told, buffers = self._serve(request)
            self.send(envelope(request.type, self._shown.rev, told, self._request()), list(buffers))
            return
        with self._picture.lock:
            if request.type == "hello":
                self._greet()
                return
            if request.type == "command":
                self._command(request.payload)
            else:
                self._cancel()
            if self._thread.request:  # nothing changed, and the view waits for an answer
                self.changed()

    def _greet(self) -> None:
        """Answer a view that knows nothing yet."""
        payload, buffers = self._shown.snapshot(self._phase)
        self.send(envelope("snapshot", self._shown.rev, payload, self._request()), buffers)

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
        self._run_command(name, options, gesture)

    def _run_command(self, name: str, args: Mapping[str, Any], gesture: str | None) -> None:
        """Run a command of the front end, without waiting for the model."""
        self._picture.run(name, args, gesture=gesture, wait=False)

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
