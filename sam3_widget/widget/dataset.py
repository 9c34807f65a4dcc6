"""The widget for a folder of images: one on the canvas, and a filmstrip of all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from sam3_widget.dataset.dataset import DataSet
from sam3_widget.errors import ProtocolError, Sam3WidgetError
from sam3_widget.session import Session, Verbs
from sam3_widget.widget import imagery
from sam3_widget.widget.canvas import CanvasWidget
from sam3_widget.widget.protocol import View, envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sam3_widget.dataset.entries import Entries, Entry, Order
    from sam3_widget.io import AnnotatedImage
    from sam3_widget.live import LiveDocument, LivePicture
    from sam3_widget.models.base import Model
    from sam3_widget.results import Concept, Instance
    from sam3_widget.widget.protocol import Request


class Sam3DatasetWidget(CanvasWidget, Verbs):
    """Label a folder of images in the notebook, one after the other; the accepted ones are a COCO file at any time.

    Every verb and attribute of :class:`~sam3_widget.session.Session` is there, for the image on the canvas. What was
    done is on the disk: a widget on the same ``out`` goes on where the last one stopped.

    Parameters
    ----------
    images : folder, or iterable of path
        Image files; of a folder those in it, in the natural order of their names.
    out : path
        Of the COCO file, like ``"labels.json"``. Beside it lie ``labels.json.journal``, with every decision, and
        ``labels.json.sessions/``, with a saved session of each image that was worked on. It is open in one widget at a
        time.
    classes : iterable of str
        Class names on offer; the number keys choose them. They are the first categories of the COCO file, and those
        of labels given later follow, each in its place on every image.
    model : str, path or Model
        What :func:`~sam3_widget.models.catalog.load_model` takes, or a loaded model.
    annotations : path or iterable of AnnotatedImage, optional
        Masks that the images start with: a COCO file, like what :func:`~sam3_widget.label_images` made, or what any
        reader of :mod:`sam3_widget.io` returned. What was done here before goes before them.
    order : {"given", "score"}, optional
        In which order to go through the images: as they are given, or the lowest score first, which is what annotations
        with scores are reviewed in where nothing else is said.
    height : int
        Height of the canvas in CSS pixels.
    opacity : float
        Of the masks' fill, 0 to 1.
    outline : bool
        Show outlines only.

    Attributes
    ----------
    image_idx : int
        The image on the canvas. Observable; assign to go there.
    points, box_prompts, selected, text
        As of :class:`~sam3_widget.Sam3Widget`, of the image on the canvas.

    Raises
    ------
    LockedError
        Another widget, in this process or in another one, has ``out`` open.
    FormatError
        ``out`` is a file that was not written here, or the annotations are of other images.
    InvalidImageError
        None of the images can be read.
    """

    image_idx = traitlets.Int(0).tag(sync=True)
    _dataset = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        images: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        out: str | os.PathLike[str],
        classes: Iterable[str] = (),
        model: str | os.PathLike[str] | Model = "auto",
        *,
        annotations: str | os.PathLike[str] | Iterable[AnnotatedImage] | None = None,
        order: Order | None = None,
        height: int = 440,
        opacity: float = 0.5,
        outline: bool = False,
    ) -> None:
        self._data = data = DataSet(images, out, classes, model, annotations, order, _place())
        self._previews = imagery.Previews()
        self._thumbs = ThreadPoolExecutor(1, "sam3w-thumbs")
        self._notice = _went_on(data)
        try:
            info, preview = self._previews.of(data.live.image)
            told = {"length": len(data.entries), "out": data.store.out.name, "order": data.entries.order}
            look = {"height": height, "opacity": opacity, "outline": outline}
            super().__init__(
                lambda _: data.live.listen(_Ears(self, data.live)),
                _image=info,
                _preview=preview,
                _dataset=told,
                image_idx=data.current,
                **look,
            )
        except BaseException:
            data.close()
            super().close()
            raise
        data.watch(self)
        self._look_ahead()

    @property
    def session(self) -> Session:
        """The session of the image on the canvas."""
        return Session.of(self._live)

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names on offer, in the order of their number keys, which is the same on every image.

        Those of :attr:`session` are the ones that were said in that image.
        """
        return self._data.classes

    @property
    def files(self) -> tuple[Path, ...]:
        """The images, absolute paths in the order they were given."""
        return tuple(entry.path for entry in self._data.entries)

    @property
    def statuses(self) -> tuple[str, ...]:
        """What was decided of each image: ``"open"``, ``"accepted"``, ``"rejected"`` or ``"skipped"``."""
        return tuple(entry.status for entry in self._data.entries)

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each class there are, "" without one; those of rejected images are not counted."""
        return self._data.counts

    def go(self, image: int | str | os.PathLike[str]) -> None:
        """Show an image, given by its index, by its path, or by its name where only one image has it."""
        self.image_idx = self._data.entries.index(image)

    def next(self) -> bool:
        """Show the next image that can be read, in the order of this data set; return whether there is one.

        A page may go by a filter and an order of its own, which are those of its keys and buttons alone.
        """
        return self._step(1)

    def previous(self) -> bool:
        """Show the image before; return whether there is one."""
        return self._step(-1)

    def accept(self, image: int | str | os.PathLike[str] | None = None) -> None:
        """Take an image, by default the one on the canvas, into the COCO file; on the disk when this returns."""
        self._decide(image, "accepted")

    def reject(self, image: int | str | os.PathLike[str] | None = None) -> None:
        """Leave an image out for good; its objects are not counted."""
        self._decide(image, "rejected")

    def skip(self, image: int | str | os.PathLike[str] | None = None) -> None:
        """Leave an image for later, like for somebody who knows better."""
        self._decide(image, "skipped")

    def reopen(self, image: int | str | os.PathLike[str] | None = None) -> None:
        """Take the decision of an image back."""
        self._decide(image, "open")

    def apply_to_rest(self) -> str | None:
        """Ask of every image that nobody has touched what is asked of this one: words with their classes, thresholds.

        They are asked of an image when it is opened, which happens ahead of a person. Boxes and clicks are of one image
        and stay there.

        Returns
        -------
        str or None
            In words, what is asked from now on; None where this image has nothing of the kind, and nothing is asked of
            the others any more.
        """
        return self._apply()

    def annotations(self, *statuses: str) -> list[AnnotatedImage]:
        """Return the masks of the images of these decisions, by default of the accepted ones.

        For any writer of :mod:`sam3_widget.io`, and for :func:`~sam3_widget.evaluate`. File names are paths from the
        folder of ``out``.

        Raises
        ------
        InvalidPromptError
            There is no such decision.
        """
        return self._data.annotations(*statuses)

    def flush(self) -> None:
        """Return when all that was done so far is on the disk, the COCO file included.

        Raises
        ------
        OSError
            A file cannot be written.
        """
        self._data.flush()

    def close(self) -> None:
        """Write what is new, let the files go, and close the view."""
        data = getattr(self, "_data", None)  # not there where the constructor failed
        if data is not None and data.is_open:
            data.close()  # which calls this again
            return
        if data is not None:
            self._thumbs.shutdown(wait=False, cancel_futures=True)
        super().close()

    def told(self, indices: Sequence[int]) -> None:
        """Send news of images to all views."""
        self._tell_dataset(indices)
        answers = getattr(self._thread, "request", None) is not None
        if self._shown.common["classes"] != list(self._data.classes) and not answers:  # whose answer tells of them
            self.changed()

    def closed(self) -> None:
        """Close the view of a data set that is closed."""
        self.close()

    def _run_for(self, name: str, **args: Any) -> Instance:  # noqa: ANN401 - as there
        return self.session._run_for(name, **args)  # noqa: SLF001 - another image may be there when the model answers

    def _run_for_concept(self, name: str, **args: Any) -> Concept:  # noqa: ANN401 - as there
        return self.session._run_for_concept(name, **args)  # noqa: SLF001 - as above

    @property
    def _live(self) -> LiveDocument:  # type: ignore[override]
        return self._data.live

    @property
    def _picture(self) -> LivePicture:
        return self._data.live

    def _view(self, rev: int) -> View:
        data, image = self._data, imagery.described(self._data.live.image)
        return View.of(data.live, rev, image, image_idx=data.current, classes=list(data.classes))

    def _cancel(self) -> None:
        self._data.live.cancel()

    def _greet(self) -> None:
        super()._greet()
        self._tell_dataset(None)
        if self._notice:
            self.send(envelope("notice", self._shown.rev, {"message": self._notice}))
            self._notice = ""

    # Going from image to image.

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser set in its model; the image it wants first, where a refusal is no trait's."""
        rest = dict(sync_data)
        wanted = rest.pop("image_idx", None)
        if wanted is not None:
            try:
                self.image_idx = wanted
            except (Sam3WidgetError, traitlets.TraitError) as error:
                self._send_error(error, None)
                self.send_state(["image_idx"])
        super().set_state(rest)

    @traitlets.validate("image_idx")
    def _readable(self, proposal: Mapping[str, Any]) -> int:
        index = self._data.entries.index(proposal["value"])
        self._previews.of(self._data.open(index).image)
        return index

    @traitlets.observe("image_idx")
    def _follow(self, _: object) -> None:
        if self._data.current != self.image_idx:
            try:
                self._show(self.image_idx)
            finally:
                self.image_idx = self._data.current  # where that failed, the trait tells what is on the canvas

    def _step(self, way: Literal[1, -1]) -> bool:
        while following := self._data.entries.following(self._data.current, way):
            try:
                self.image_idx = following[0]
            except Sam3WidgetError:
                if self._data.entries[following[0]].error is None:
                    raise
                continue  # it is one of those now that cannot be opened, and follows no more
            return True
        return False

    def _show(self, index: int, ahead: Sequence[object] | None = None) -> None:
        """Put an image on the canvas, and answer the request that asked for it."""
        with self._picture.lock:
            live = self._data.show(index, ahead)
            if self._stop is not None:
                self._stop()
            self._stop = live.listen(_Ears(self, live))
            info, preview = self._previews.of(live.image)
            try:
                with self.hold_sync():  # one message: a picture and its description belong together
                    self._image, self._preview, self.image_idx = info, preview, index
            finally:  # whatever observers do
                self.progressed("idle", None)
                self.changed()
        live.prepare()
        self._look_ahead()

    def _look_ahead(self) -> None:
        self._data.look_ahead(lambda live: self._previews.of(live.image))

    # Requests.

    def _answer(self, request: Request) -> None:
        if request.type == "thumb":
            index, self._thread.request = self._data.entries.index(request.payload.get("image_idx")), None
            self._thumbs.submit(self._send_thumb, request.id, index)
            return
        args = request.payload.get("args")
        if request.type == "command" and isinstance(args, dict) and "image_idx" in args:
            # Read and drawn here, where nobody waits for the lock.
            self._previews.of(self._data.open(self._data.entries.index(args["image_idx"])).image)
        super()._answer(request)

    def _run_command(self, name: str, args: Mapping[str, Any], gesture: str | None) -> None:
        rest = dict(args)
        index = self._data.entries.index(rest.pop("image_idx", self._data.current))
        if name == "go":
            self._show(index, rest.get("ahead"))
        elif name == "decide":
            self._data.decide(index, rest.get("status"))
        elif name == "apply_to_rest":
            asked = self._apply()
            message = f"Asked of every untouched image: {asked}." if asked else "Nothing is asked of other images now."
            self.send(envelope("notice", self._shown.rev, {"message": message}))
        else:
            self._data.open(index).run(name, rest, gesture=gesture, wait=False)

    def _decide(self, image: int | str | os.PathLike[str] | None, status: str) -> None:
        self._data.decide(self._data.current if image is None else self._data.entries.index(image), status)

    def _apply(self) -> str | None:
        asked = self._data.apply_to_rest()
        self._look_ahead()
        return asked

    def _serve(self, request: Request) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        live = self._data.live
        if request.type == "script":
            return {"script": self.script()}, []
        if request.type != "tile":
            message = f"images have no {request.type}"
            raise ProtocolError(message)
        return imagery.tile(live.image, live.image.key, request.payload)

    def _send_thumb(self, request_id: str, index: int) -> None:
        try:
            told, data = imagery.thumbnail(self._data.entries[index].path)
        except Exception as error:  # noqa: BLE001 - the front end must hear of it, whatever it is
            self._send_error(error, request_id)
        else:
            self.send(envelope("thumb", self._shown.rev, {"image_idx": index, **told}, request_id), [data])

    def _tell_dataset(self, indices: Sequence[int] | None) -> None:
        payload = news(self._data.entries, self._data.counts, self._data.applied, indices)
        self.send(envelope("dataset", self._shown.rev, payload))


def news(
    entries: Entries, classes: Mapping[str, int], applied: str | None, indices: Sequence[int] | None
) -> dict[str, Any]:
    """Return what the front end is to know of images, a row ``[image_idx, status, count, score, error]`` for each.

    Without ``indices`` it is the whole: the names of all images, and rows but of those that nothing is known of.
    """
    rows = [_row(k, entries[k]) for k in (range(len(entries)) if indices is None else indices)]
    told = {"classes": list(classes.items()), "applied": applied}
    if indices is not None:
        return {"whole": False, "rows": rows, **told}
    names = _names([entry.path for entry in entries])
    return {"whole": True, "names": names, "rows": [row for row in rows if row[1:] != _UNKNOWN], **told}


@dataclass(frozen=True)
class _Ears:
    """Hears of the image on the canvas."""

    widget: Sam3DatasetWidget
    live: LiveDocument

    def changed(self) -> None:
        self.widget.changed()

    def progressed(self, phase: str, fraction: float | None) -> None:
        self.widget.progressed(phase, fraction)
        if self.widget._live is not self.live:  # noqa: SLF001 - it was left while this was on its way
            self.widget.progressed("idle", None)

    def failed(self, error: Exception) -> None:
        self.widget.failed(error)


_UNKNOWN = ["open", 0, None, None]


def _row(index: int, entry: Entry) -> list[object]:
    score = None if entry.score is None else round(entry.score, 4)
    return [index, entry.status, entry.count, score, entry.error]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what images are called: their paths from the folder that they have in common."""
    try:
        folder = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # they lie on several drives
        return [path.as_posix() for path in paths]
    return [path.relative_to(folder).as_posix() for path in paths]


def _went_on(data: DataSet) -> str:
    if not data.entries.resumed:
        return ""
    decided = sum(entry.status != "open" for entry in data.entries)
    return f"Went on from {data.store.out.name}: {decided} of {len(data.entries)} images decided."


def _place() -> tuple[str, str]:
    """Return the id of the notebook's cell that runs, and of its run; "" where that is not known."""
    from IPython.core.getipython import get_ipython  # noqa: PLC0415 - not needed for anything else here

    shell = get_ipython()
    parent = shell.get_parent() if shell is not None and hasattr(shell, "get_parent") else {}
    return str(parent.get("metadata", {}).get("cellId") or ""), str(parent.get("header", {}).get("msg_id") or "")
