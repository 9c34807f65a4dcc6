"""A folder of images that a person labels one after the other."""

from __future__ import annotations

import atexit
import logging
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from sam3_widget.core.image import Image, image_paths
from sam3_widget.dataset.asked import Asked
from sam3_widget.dataset.entries import Entries, Entry, checked_status, starts
from sam3_widget.dataset.sheet import Sheet
from sam3_widget.dataset.store import ACCEPTED, Store, real_path
from sam3_widget.errors import (
    FormatError,
    InvalidImageError,
    LockedError,
    Sam3WidgetError,
)
from sam3_widget.labelling.records import annotated, told_of_object
from sam3_widget.live import LOCK, LiveDocument, checked_classes, loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sam3_widget.dataset.entries import Order
    from sam3_widget.io import AnnotatedImage
    from sam3_widget.labelling.journal import Record
    from sam3_widget.models.base import Model

log = logging.getLogger(__name__)

_KEPT = 6
"""Images that stay open at most, unless they wait for the model."""


class Watcher(Protocol):
    """Whoever shows a data set."""

    def told(self, indices: Sequence[int]) -> None:
        """Take the news of images whose decision or objects have changed; called under the lock of all documents."""

    def failed(self, error: Exception) -> None:
        """Take an error of the work in the background."""

    def closed(self) -> None:
        """Take the news that the data set was closed."""


class DataSet:
    """Images, what was decided of each, and the documents of those that are open.

    Every method may be called from any thread; those that open an image read its file, so that they take a while.

    Parameters
    ----------
    images : folder, or iterable of path
    out : path
        Of the COCO file; see :mod:`sam3_widget.dataset.store` for what lies beside it.
    classes : iterable of str
    model : str, path or Model
    annotations : path or iterable of AnnotatedImage, optional
        What images start with: see :func:`sam3_widget.dataset.entries.starts`.
    order : {"given", "score"}, optional
        In which order to go through the images: as they are given, or the lowest score first, which is what annotations
        with scores are reviewed in where nothing else is said.
    place : (str, str)
        Where this data set is used, like a cell of a notebook, and which run of it: a later run at the same place
        closes the data set of the one before. "" is no such place.

    Attributes
    ----------
    entries : Entries
    current : int
        The index of the image that a person is at.
    classes : tuple of str
        Those that were given, then those of objects in the order in which they were first used; each keeps its place.

    Raises
    ------
    LockedError
        Another data set has the file open.
    FormatError
        The file, or the annotations, are something else.
    InvalidImageError
        None of the images can be read.
    """

    def __init__(
        self,
        images: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        out: str | os.PathLike[str],
        classes: Iterable[str] = (),
        model: str | os.PathLike[str] | Model = "auto",
        annotations: str | os.PathLike[str] | Iterable[AnnotatedImage] | None = None,
        order: Order | None = None,
        place: tuple[str, str] = ("", ""),
    ) -> None:
        self.classes = tuple(filter(None, checked_classes(classes)))
        self.model = loaded(model)
        real = real_path(out)
        # Absolute, without following links.
        paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in image_paths(images)))  # noqa: PTH100
        given = starts(annotations, paths)
        self._watchers: list[Watcher] = []
        self._sheets: OrderedDict[int, Sheet] = OrderedDict()
        self._ahead: tuple[int, ...] = ()
        self._worker = ThreadPoolExecutor(1, "sam3w-ahead")
        self.is_open = True
        self._place, self._pid = place, os.getpid()
        self._give_way(real, place)
        self.store = Store(out, self._gather, self._failed)
        try:
            named: dict[str, Path] = {}
            for path in paths:
                named.setdefault(self.store.name_of(path), path)
            entries = (Entry(path, name, given.get(path)) for name, path in named.items())
            self.entries = Entries(entries, self.store.records(), order)
            if self.entries.resumed:
                self.store.outdated()
            left = self.store.place
            self._asked = Asked.from_json(left.get("applied", []))
            used = self.entries.counts
            known = (label for label in left.get("classes", ()) if label in used)
            self._name([*known, *used])
            self.current = self.entries.sequence[0]
            self.current = self._first(left.get("current"))
        except BaseException:
            self.store.close()
            raise
        _open[str(self.store.out)] = self

    @staticmethod
    def _give_way(out: str, place: tuple[str, str]) -> None:
        """Close the data set that an earlier run of this place has opened."""
        before = _open.get(out)
        if before is not None and before.is_open and place[0]:
            cell, run = before._place  # noqa: SLF001 - its own class
            if cell == place[0] and run != place[1]:
                before.close()

    def _first(self, name: object) -> int:
        """Open the image where the work stopped, or the first that can be read."""
        failed: Exception | None = None
        for k in self.entries.since(name):
            try:
                self.open(k)
            except Sam3WidgetError as error:
                failed = failed or error
                continue
            with LOCK:  # the model may answer already what was asked when it was saved
                self._visit(k)
                self._ahead = self.entries.following(k)
            return k
        assert failed is not None  # noqa: S101 - there is an image
        raise failed

    def _name(self, labels: Iterable[str]) -> None:
        """Give each class that is new a place after the others."""
        self.classes = self.store.classes = tuple(dict.fromkeys([*self.classes, *filter(None, labels)]))

    # What there is.

    @property
    def live(self) -> LiveDocument:
        """The document of the image that a person is at."""
        return self._sheets[self.current].live

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each class there are, "" without a class; those of rejected images are not counted.

        In the order of :attr:`classes`.
        """
        with LOCK:
            return {**dict.fromkeys(self.classes, 0), **self.entries.counts}

    @property
    def applied(self) -> str | None:
        """What is asked of every image that nobody has touched, in words; None where nothing is."""
        return str(self._asked) or None

    def annotations(self, *statuses: str) -> list[AnnotatedImage]:
        """Return what is known of the images of these decisions, accepted ones where none is given.

        For any writer of :mod:`sam3_widget.io`. File names are paths from the folder of the COCO file. Images that
        nothing is known of and that cannot be read are left out.
        """
        wanted = {checked_status(status) for status in statuses or (ACCEPTED,)}
        with LOCK:
            for index in list(self._sheets) if self.is_open else ():
                self._keep(index)
            known = {k: self._known(k) for k, entry in enumerate(self.entries) if entry.status in wanted}
        found = []
        for index, record in known.items():  # without the lock: it takes a while
            with suppress(InvalidImageError):
                found.append(annotated(record or self._empty(index), self.entries[index].name))
        return found

    # What a person does.

    def open(self, index: int) -> LiveDocument:
        """Open an image, with what was said of it before, with its annotations, or with what is asked of every image.

        Raises
        ------
        InvalidImageError
            It cannot be read, or it is not what it was when it was labelled.
        """
        with LOCK:
            self._check_open()
            if index in self._sheets:
                self._sheets.move_to_end(index)
                return self._sheets[index].live
        entry = self.entries[index]
        try:
            image = Image.read(entry.path)
            _ = image.key  # computed here, where nobody waits for the lock
            with LOCK:
                self._check_open()
                if index not in self._sheets:
                    self._sheets[index] = self._sheet(index, image)
                if entry.error is not None:
                    entry.error = None
                    self._tell([index])
                return self._sheets[index].live
        except (InvalidImageError, FormatError) as error:
            self._unreadable(index, error)
            raise InvalidImageError(str(error)) from error

    def _check_open(self) -> None:
        if not self.is_open:
            raise LockedError(self._closed)

    @property
    def _closed(self) -> str:
        return f"the data set {self.store.out} was closed: open it again"

    def show(self, index: int, ahead: Sequence[object] | None = None) -> LiveDocument:
        """Go to an image; those that are ``ahead``, by default the next ones, are for :meth:`look_ahead`."""
        following = self.entries.following(index) if ahead is None else self.entries.indices(ahead)
        self.open(index)  # read here, where nobody waits for the lock
        with LOCK:
            live = self.open(index)  # it may have been put away meanwhile
            before = self.current
            self._keep(before)
            self._visit(index)
            self._remember(index)
            self.current, self._ahead = index, following
            if before not in (index, *following) and not self._sheets[before].is_waiting:
                self._sheets[before].live.cancel()  # nobody waits for it, and others are to be encoded
            self._put_away()
        return live

    def look_ahead(self, ready: Callable[[LiveDocument], object]) -> None:
        """Open and encode the images that are ahead, in the background; ``ready`` is told of each."""
        with LOCK:
            for index in self._ahead if self.is_open else ():
                self._worker.submit(self._prepare, index, ready)

    def decide(self, index: int, status: object) -> None:
        """Note what a person decided of an image: on the disk when this returns."""
        entry = self.entries[index]
        with LOCK:
            self._check_open()
            before = entry.status
            self.entries.decide(index, checked_status(status))
            try:
                self._write(index)
            except BaseException:
                self.entries.decide(index, before)
                self._tell([index])  # whoever shows it may have shown it as decided
                raise
            self._name(entry.labels)  # those of a rejected image had no place
            self._tell([index])

    def apply_to_rest(self) -> str | None:
        """Ask of every image that nobody has touched what is asked of this one: words with their classes, thresholds.

        Returns
        -------
        str or None
            In words, what is asked from now on; None where this image has nothing of the kind.
        """
        with LOCK:
            self._check_open()
            self._asked = Asked.of(self.live.state)
            for index, sheet in list(self._sheets.items()):
                if index != self.current and not (sheet.visited and sheet.live.history):
                    self._drop(index)  # opened anew when it is needed, with what is asked now
            self._remember(self.current)
            self._tell([])
        return self.applied

    def watch(self, watcher: Watcher) -> None:
        """Tell a watcher what changes, until the data set is closed."""
        self._watchers.append(watcher)

    def flush(self) -> None:
        """Return when all that was said so far is on the disk, and the COCO file holds it."""
        with LOCK:
            for index, sheet in list(self._sheets.items()) if self.is_open else ():
                self._keep(index)
                sheet.flush()
            if self.is_open:
                self._remember_classes()
        self.store.flush()

    def close(self) -> None:
        """Write what is new, and let the files go."""
        with LOCK:
            if not self.is_open:
                return
            self.is_open = False
        self._worker.shutdown(wait=False, cancel_futures=True)
        with ExitStack() as rest:  # all of it, whatever cannot be written
            for watcher in self._watchers[::-1]:
                rest.callback(watcher.closed)
            rest.callback(self.store.close)
            with LOCK, ExitStack() as sheets:
                sheets.callback(self._remember_classes)
                for index, sheet in self._sheets.items():
                    sheets.callback(sheet.close, self._closed)
                    sheets.callback(self._keep, index)

    # Open images.

    def _sheet(self, index: int, image: Image) -> Sheet:
        """Make the document of an image."""
        entry, record = self.entries[index], self._recorded(index)
        live = LiveDocument(image, self.model, self.classes)
        start = entry.start if record is None else annotated(record, entry.name)
        objects = start.objects if start is not None else ()
        ids = [k if record is None else o.object_id for k, o in enumerate(objects, 1)]
        sheet = Sheet(live, self.store.session_path(entry.name), start, ids, self._asked)
        sheet.listen(_Ears(self, index))
        return sheet

    def _visit(self, index: int) -> None:
        """Save an image as it goes from now on."""
        self._sheets[index].visit(_Ears(self, index))
        self._note(index)

    def _prepare(self, index: int, ready: Callable[[LiveDocument], object]) -> None:
        if index not in self._ahead or not self.is_open:
            return
        try:
            live = self.open(index)
            live.prepare()
            ready(live)
        except (Sam3WidgetError, OSError):
            log.info("%s cannot be opened ahead", self.entries[index].path, exc_info=True)
        except Exception:  # a mistake here must not be lost with the future
            log.exception("%s could not be opened ahead", self.entries[index].path)

    def _put_away(self) -> None:
        """Close the images that were used longest ago, but for those that are needed."""
        needed = {self.current, *self._ahead}
        for index in list(self._sheets):
            sheet = self._sheets[index]
            if not sheet.visited and index not in needed:
                self._drop(index)
            elif len(self._sheets) > _KEPT and index not in needed and not sheet.is_waiting:
                try:
                    self._keep(index)
                    sheet.flush()
                except OSError as error:  # it stays open until it can be written
                    self._failed(error)
                else:
                    self._drop(index)

    def _drop(self, index: int) -> None:
        name = self.entries[index].path.name
        self._sheets.pop(index).close(f"{name} was put away: go there again, and take the session of the widget then")

    # What became of them.

    def heard(self, index: int) -> None:
        """Take the news that an image has changed."""
        sheet = self._sheets.get(index)
        if sheet is None or not self.is_open:
            return
        if not sheet.visited:
            if not sheet.is_said:
                return  # the model's answer to what is asked of every image
            self._visit(index)  # a person works on it from elsewhere
        self._note(index)
        if sheet.is_waiting:
            return
        if index != self.current:
            self._keep(index)  # it was left before the model had answered
        elif self.entries[index].status == ACCEPTED and sheet.is_new:
            self.store.outdated()  # where it is gathered from

    def _gather(self) -> None:
        """Note in the journal what became of the accepted images that are open."""
        with LOCK:
            for index, sheet in list(self._sheets.items()) if self.is_open else ():
                if self.entries[index].status == ACCEPTED and not sheet.is_waiting:
                    self._keep(index)

    def _note(self, index: int) -> None:
        """Bring what is known of an image in step with its document."""
        if self.entries.take(index, self._sheets[index].labels()):
            self._name(self.entries[index].labels)
            self._tell([index])

    def _known(self, index: int) -> Record | None:
        """Return what became of an image, as it is now; None where nothing is known of it."""
        entry, sheet = self.entries[index], self._sheets.get(index)
        head = {"file": entry.name, "status": entry.status}
        if sheet is not None and sheet.counts:
            return {**head, **sheet.record()}
        known = self._recorded(index)
        if known is not None:
            return {**known, **head}
        if entry.start is not None:
            start = entry.start
            told = [told_of_object(o.object_id, o.label, o.mask, o.score) for o in start.objects]
            return {**head, "height": start.height, "width": start.width, "objects": told}
        return None

    def _recorded(self, index: int) -> Record | None:
        """Return what the journal says of an image; None where that is no more than that it could not be read."""
        record = self.store.record(self.entries[index].name)
        return record if record is not None and "height" in record else None

    def _empty(self, index: int) -> Record:
        """Return what became of an image that nothing is known of.

        Raises
        ------
        InvalidImageError
            It cannot be read.
        """
        entry = self.entries[index]
        try:
            image = Image.read(entry.path)
        except InvalidImageError as error:
            self._unreadable(index, error)
            raise
        size = {"height": image.height, "width": image.width}
        return {"file": entry.name, "status": entry.status, **size, "objects": []}

    def _unreadable(self, index: int, error: Exception) -> None:
        """Note why an image cannot be opened."""
        self.entries[index].error = str(error)
        self._tell([index])

    def _write(self, index: int) -> None:
        """Note in the journal what became of an image, as it is now.

        Its session is written before: it goes before the journal when the image is opened again, so it must never be
        older.
        """
        sheet = self._sheets.get(index)
        if sheet is not None:
            sheet.flush()
        self.store.add(self._known(index) or self._nothing(index))
        if sheet is not None and sheet.counts:
            sheet.recorded()

    def _nothing(self, index: int) -> Record:
        """Return what became of an image that nothing is known of; one that cannot be read may be left out."""
        entry = self.entries[index]
        try:
            return self._empty(index)
        except InvalidImageError:
            if entry.status == ACCEPTED:
                raise
            return {"file": entry.name, "status": entry.status, "objects": []}

    def _keep(self, index: int) -> None:
        """Note in the journal what became of an open image, where that is new."""
        if self._sheets[index].is_new:
            self._write(index)

    def _remember(self, index: int) -> None:
        """Note where the work is, what is asked, and which classes there are."""
        name = self.entries[index].name
        self.store.place = {"current": name, "applied": self._asked.to_json(), "classes": list(self.classes)}

    def _remember_classes(self) -> None:
        left, now = self.store.place, list(self.classes)
        if left.get("classes") != now:
            self.store.place = {**left, "classes": now}

    def _tell(self, indices: Sequence[int]) -> None:
        with LOCK:
            for watcher in self._watchers:
                watcher.told(indices)

    def _failed(self, error: Exception) -> None:
        for watcher in self._watchers:
            watcher.failed(error)


@dataclass(frozen=True)
class _Ears:
    """Hears of the changes of one image."""

    dataset: DataSet
    index: int

    def changed(self) -> None:
        self.dataset.heard(self.index)

    def progressed(self, phase: str, fraction: float | None) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass


_open: WeakValueDictionary[str, DataSet] = WeakValueDictionary()
"""The last one of each file."""


@atexit.register
def _close_all() -> None:
    """Write what is new before the interpreter ends."""
    for each in list(_open.values()):
        if each._pid != os.getpid():  # noqa: SLF001 - forked: its parent writes
            continue
        try:
            each.close()
        except Exception:  # the others are to be saved all the same
            log.exception("%s could not be written", each.store.out)
