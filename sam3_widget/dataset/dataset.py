"""A folder of images that a person labels one after the other."""

from __future__ import annotations

import atexit
import logging
import math
import os
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args
from weakref import WeakValueDictionary

import numpy as np

from sam3_widget.core.image import Image, image_paths
from sam3_widget.core.prompts import integer
from sam3_widget.core.state import Settings
from sam3_widget.dataset.entries import STATUSES, Entry, listed, starts
from sam3_widget.dataset.store import Store
from sam3_widget.errors import (
    FormatError,
    InvalidImageError,
    InvalidPromptError,
    LockedError,
    NotFoundError,
    Sam3WidgetError,
)
from sam3_widget.labelling.records import annotated, told_of_object
from sam3_widget.live import LOCK, LiveDocument, checked_classes, loaded, pending_of
from sam3_widget.results import score_of
from sam3_widget.saving import autosave
from sam3_widget.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import State
    from sam3_widget.dataset.entries import Status
    from sam3_widget.io import AnnotatedImage
    from sam3_widget.labelling.journal import Record
    from sam3_widget.models.base import Model

    Command = tuple[str, dict[str, Any]]
    Drawn = list[tuple[int, str, RunLengths]]

Order = Literal["given", "score"]

log = logging.getLogger(__name__)

AHEAD = 2
"""Images that are opened and encoded ahead."""
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


@dataclass
class _Sheet:
    """An image that is open."""

    live: LiveDocument
    recorded: Drawn
    """What the journal holds of it."""
    scores: dict[int, tuple[RunLengths, float]]
    """The scores of masks that came with the image, by ``object_id``: imported masks have none in a document."""
    began: int
    """How many commands it began with."""
    stop: Callable[[], None] = lambda: None
    visited: bool = False
    """Whether a person has been there: what an image that is only ahead holds counts for nothing yet."""


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
    entries : list of Entry
    order : str
    sequence : list of int
        The indices of the images in that order.
    current : int
        The index of the image that a person is at.
    resumed : bool
        Whether something was decided here before.

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
        self.classes = checked_classes(classes)
        self.model = loaded(model)
        # Absolute, without following links.
        paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in image_paths(images)))  # noqa: PTH100
        given = starts(annotations, paths)
        self._watchers: list[Watcher] = []
        self._sheets: OrderedDict[int, _Sheet] = OrderedDict()
        self._ahead: tuple[int, ...] = ()
        self._counts: Counter[str] = Counter()
        self._worker = ThreadPoolExecutor(1, "sam3w-ahead")
        self.is_open = True
        self._place, self._pid = place, os.getpid()
        self._give_way(os.path.realpath(out), place)
        self.store = Store(out, self.classes, self._failed)
        try:
            named: dict[str, Path] = {}
            for path in paths:
                named.setdefault(self.store.name_of(path), path)
            self.entries = [Entry(path, name, given.get(path)) for name, path in named.items()]
            self.resumed = self._recall()
            scores = [math.inf if entry.score is None else entry.score for entry in self.entries]
            self.order = _order(order, scored=any(entry.start and entry.score is not None for entry in self.entries))
            self.sequence = list(range(len(self.entries)))
            if self.order == "score":
                self.sequence.sort(key=scores.__getitem__)
            self.current = self.sequence[0]
            self.current = self._first()
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

    def _recall(self) -> bool:
        """Take what the files say; return whether they say anything."""
        by_name = {entry.name: entry for entry in self.entries}
        resumed = False
        for record in self.store.records():
            entry = by_name.get(record["file"])
            if entry is not None:
                resumed = True
                entry.status = record["status"]
                entry.take((o["label"], o.get("score", math.nan)) for o in record["objects"])
        if resumed:
            self.store.outdated()
        for entry in self.entries:
            if entry.start is not None and self.store.record(entry.name) is None:
                entry.take((o.label, o.score) for o in entry.start.objects)
            if entry.status != "rejected":
                self._counts += entry.labels
        self._applied: list[Command] = [(name, args) for name, args in self.store.place.get("applied", [])]
        return resumed

    def _first(self) -> int:
        """Open the image where the work stopped, or the first that can be read."""
        stopped = self.store.place.get("current")
        at = next((n for n, k in enumerate(self.sequence) if self.entries[k].name == stopped), 0)
        failed: Exception | None = None
        for k in [*self.sequence[at:], *self.sequence[:at]]:
            try:
                self.open(k)
            except Sam3WidgetError as error:
                failed = failed or error
                continue
            with LOCK:  # the model may answer already what was asked when it was saved
                self._visit(k)
                self._ahead = self.following(k)
            return k
        assert failed is not None  # noqa: S101 - there is an image
        raise failed

    # What there is.

    @property
    def live(self) -> LiveDocument:
        """The document of the image that a person is at."""
        return self._sheets[self.current].live

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each class there are, "" without a class; those of rejected images are not counted."""
        with LOCK:
            offered = dict.fromkeys(self.classes, 0)
            return {**offered, **dict(listed(self._counts))}

    @property
    def applied(self) -> str | None:
        """What is asked of every image that nobody has touched, in words; None where nothing is."""
        told = {"add_concept": "“{text}”", "set_mask_threshold": "mask threshold {value:g}"}
        told |= {"set_fill_holes": "fill holes {area}", "set_min_area": "drop islands {area}"}
        said = [told[name].format(**args) for name, args in self._applied if name in told]
        scores = {args["value"] for name, args in self._applied if name == "set_score_threshold"}
        return ", ".join([*said, *(f"score threshold {score:g}" for score in sorted(scores))]) or None

    def index(self, image: object) -> int:
        """Return the index of an image that is given by it, or by its path, or its name where only one has it.

        Raises
        ------
        NotFoundError
            There is none, or there are several.
        """
        if isinstance(image, (str, os.PathLike)):
            path = os.path.abspath(image)  # noqa: PTH100 - without following links
            found = [k for k, entry in enumerate(self.entries) if str(entry.path) == path]
            found = found or [k for k, entry in enumerate(self.entries) if entry.path.name == os.fspath(image)]
            if len(found) != 1:
                message = f"there are {len(found)} images {os.fspath(image)!r} in this data set: give the path of one"
                raise NotFoundError(message)
            return found[0]
        number = int(integer(image, "image_idx"))
        if not 0 <= number < len(self.entries):
            message = f"image_idx must be from 0 to {len(self.entries) - 1}, got {number}"
            raise NotFoundError(message)
        return number

    def annotations(self, *statuses: str) -> list[AnnotatedImage]:
        """Return what is known of the images of these decisions, accepted ones where none is given.

        For any writer of :mod:`sam3_widget.io`. File names are paths from the folder of the COCO file. Images that
        nothing is known of and that cannot be read are left out.
        """
        wanted = {_checked(status) for status in statuses or ("accepted",)}
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
            message = f"the data set {self.store.out} was closed: open it again"
            raise LockedError(message)

    def show(self, index: int, ahead: Sequence[object] | None = None) -> LiveDocument:
        """Go to an image; those that are ``ahead``, by default the next ones, are for :meth:`look_ahead`."""
        following = self.following(index) if ahead is None else self._indices(ahead)
        self.open(index)  # read here, where nobody waits for the lock
        with LOCK:
            live = self.open(index)  # it may have been put away meanwhile
            before = self.current
            self._keep(before)
            self._visit(index)
            self._remember(index)
            self.current, self._ahead = index, following
            if before not in (index, *following) and not pending_of(self._sheets[before].live.state):
                self._sheets[before].live.cancel()  # nobody waits for it, and others are to be encoded
            self._put_away()
        return live

    def _indices(self, images: object) -> tuple[int, ...]:
        if not isinstance(images, (list, tuple)):
            message = f"ahead must be a list of images, got {images!r:.80}"
            raise InvalidPromptError(message)
        return tuple(self.index(image) for image in images)

    def following(self, index: int, way: Literal[1, -1] = 1) -> tuple[int, ...]:
        """Return the next images after one that can be opened, as far as is known: two at most."""
        at = self.sequence.index(index)
        rest = self.sequence[at + 1 :] if way > 0 else self.sequence[:at][::-1]
        return tuple(islice((k for k in rest if self.entries[k].error is None), AHEAD))

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
            entry.status = _checked(status)
            try:
                self._write(index)
            except BaseException:
                entry.status = before
                raise
            if (before == "rejected") != (entry.status == "rejected"):
                self._counts.update(entry.labels) if before == "rejected" else self._counts.subtract(entry.labels)
            self._tell([index])

    def apply_to_rest(self) -> str | None:
        """Ask of every image that nobody has touched what is asked of this one: its words and thresholds.

        Returns
        -------
        str or None
            In words, what is asked from now on; None where this image has nothing of the kind.
        """
        with LOCK:
            self._check_open()
            self._applied = _asked(self.live.state)
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
                if sheet.live.keeper is not None:
                    sheet.live.keeper.flush()
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
                for index, sheet in self._sheets.items():
                    sheets.callback(self._close, sheet)
                    sheets.callback(self._keep, index)

    # Open images.

    def _sheet(self, index: int, image: Image) -> _Sheet:
        """Make the document of an image."""
        entry = self.entries[index]
        live = LiveDocument(image, self.model, tuple(dict.fromkeys([*self.classes, *filter(None, self._counts)])))
        path, record = self.store.session_path(entry.name), self._recorded(index)
        start = entry.start if record is None else annotated(record, entry.name)
        objects = start.objects if start is not None else ()
        ids = tuple(range(1, 1 + len(objects))) if record is None else tuple(o.object_id for o in objects)
        if path.exists():
            autosave.begin(live, path)
            live.notice = ""  # of one image among many
        elif start is not None:
            ids = start.load_into(Session.of(live))
        else:
            self._ask(live)
        came = list(zip(ids, objects, strict=True))
        recorded = [(k, o.label, o.mask) for k, o in came]
        scores = {k: (o.mask, o.score) for k, o in came if not math.isnan(o.score)}
        sheet = _Sheet(live, recorded, scores, len(live.history))
        sheet.stop = live.listen(_Ears(self, index))
        return sheet

    def _ask(self, live: LiveDocument) -> None:
        """Ask of an untouched image what is asked of every one."""
        for name, args in self._applied:
            try:
                live.run(name, args, wait=False)
            except Sam3WidgetError as error:  # another model, which takes no words, or a size that does not fit
                log.info("%s was not applied to %s: %s", name, live.image.name, error)

    def _visit(self, index: int) -> None:
        """Save an image as it goes from now on."""
        sheet = self._sheets[index]
        sheet.visited = True
        if sheet.live.keeper is None:
            keeper = autosave.begin(sheet.live, self.store.session_path(self.entries[index].name))
            if not len(sheet.live.history) == sheet.began == len(sheet.recorded):
                keeper.changed()  # something was said already, beside which masks it came with
        sheet.stop()
        sheet.stop = sheet.live.listen(_Ears(self, index))  # after its keeper, which is to know of a change before
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
            elif len(self._sheets) > _KEPT and index not in needed and not pending_of(sheet.live.state):
                try:
                    self._keep(index)
                    if sheet.live.keeper is not None:
                        sheet.live.keeper.flush()
                except OSError as error:  # it stays open until it can be written
                    self._failed(error)
                else:
                    self._drop(index)

    def _drop(self, index: int) -> None:
        self._close(self._sheets.pop(index))

    @staticmethod
    def _close(sheet: _Sheet) -> None:
        sheet.stop()
        sheet.live.cancel()
        if sheet.live.keeper is not None:
            sheet.live.keeper.close()

    # What became of them.

    def heard(self, index: int) -> None:
        """Take the news that an image has changed."""
        sheet = self._sheets.get(index)
        if sheet is None or not self.is_open:
            return
        if not sheet.visited:
            if len(sheet.live.history) == sheet.began:
                return  # the model's answer to what is asked of every image
            self._visit(index)  # a person works on it from elsewhere
        self._note(index)
        if index != self.current and not pending_of(sheet.live.state):
            self._keep(index)  # it was left before the model had answered

    def _note(self, index: int) -> None:
        """Bring what is known of an image in step with its document."""
        entry, sheet = self.entries[index], self._sheets[index]
        before = entry.labels, entry.score
        entry.take((label, self._score(sheet, k, mask)) for k, label, mask in _drawn(sheet.live))
        if (entry.labels, entry.score) == before:
            return
        if entry.status != "rejected":
            self._counts.subtract(before[0])
            self._counts.update(entry.labels)
        self._tell([index])

    @staticmethod
    def _score(sheet: _Sheet, object_id: int, mask: RunLengths) -> float:
        """Return the score of an object: the model's, or that it came with if it is as it came."""
        score = score_of(sheet.live.state.instance(object_id))
        came, old = sheet.scores.get(object_id, (None, math.nan))
        return old if math.isnan(score) and came is not None and _same(came, mask) else score

    def _worked_on(self, index: int) -> _Sheet | None:
        """Return an image that is open and that a person is at or has worked on; None where it is another."""
        sheet = self._sheets.get(index)
        return sheet if sheet is not None and (sheet.visited or sheet.live.keeper is not None) else None

    def _known(self, index: int) -> Record | None:
        """Return what became of an image, as it is now; None where nothing is known of it."""
        entry, sheet = self.entries[index], self._worked_on(index)
        head = {"file": entry.name, "status": entry.status}
        if sheet is not None:
            told = [told_of_object(k, label, m, self._score(sheet, k, m)) for k, label, m in _drawn(sheet.live)]
            return {**head, "height": sheet.live.image.height, "width": sheet.live.image.width, "objects": told}
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
        sheet = self._worked_on(index)
        if sheet is not None and sheet.live.keeper is not None:
            sheet.live.keeper.flush()
        self.store.add(self._known(index) or self._nothing(index))
        if sheet is not None:
            sheet.recorded = _drawn(sheet.live)

    def _nothing(self, index: int) -> Record:
        """Return what became of an image that nothing is known of; one that cannot be read may be left out."""
        entry = self.entries[index]
        try:
            return self._empty(index)
        except InvalidImageError:
            if entry.status == "accepted":
                raise
            return {"file": entry.name, "status": entry.status, "objects": []}

    def _keep(self, index: int) -> None:
        """Note in the journal what became of an open image, where that is new."""
        sheet = self._sheets[index]
        if sheet.visited and not _alike(sheet.recorded, _drawn(sheet.live)):
            self._write(index)

    def _remember(self, index: int) -> None:
        """Note where the work is."""
        name = self.entries[index].name
        self.store.place = {"current": name, "applied": [[name, args] for name, args in self._applied]}

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


def _order(order: object, *, scored: bool) -> Order:
    for known in get_args(Order):
        if order == known:
            return known  # type: ignore[no-any-return]
    if order is not None:
        message = f'order must be "given" or "score", got {order!r:.80}'
        raise InvalidPromptError(message)
    return "score" if scored else "given"


def _checked(status: object) -> Status:
    for known in STATUSES:
        if status == known:
            return known
    message = f"a decision must be {', '.join(STATUSES)}, got {status!r:.80}"
    raise InvalidPromptError(message)


def _asked(state: State) -> list[Command]:
    """Return the commands that ask of a new image what is asked of this one in words and thresholds."""
    now, usual = state.settings, Settings()
    said: list[Command] = [
        (f"set_{name}", {argument: getattr(now, name)})
        for name, argument in (("mask_threshold", "value"), ("fill_holes", "area"), ("min_area", "area"))
        if getattr(now, name) != getattr(usual, name)
    ]
    if now.score_threshold != usual.score_threshold:
        said.append(("set_score_threshold", {"value": now.score_threshold}))
    worded = [concept for concept in state.concepts if concept.text]
    for number, concept in enumerate(worded, 1):
        said.append(("add_concept", {"text": concept.text}))
        if concept.score_threshold != now.score_threshold:
            said.append(("set_score_threshold", {"value": concept.score_threshold, "concept_id": number}))
    return said


def _drawn(live: LiveDocument) -> Drawn:
    """Return id, label and mask of the objects that have a pixel."""
    drawn = [(i.object_id, i.label, live.mask(i)) for i in live.state.instances]
    return [each for each in drawn if each[2].area]


def _same(first: RunLengths, second: RunLengths) -> bool:
    return first is second or np.array_equal(first.counts, second.counts)


def _alike(first: Drawn, second: Drawn) -> bool:
    return len(first) == len(second) and all(
        (a[0], a[1]) == (b[0], b[1]) and _same(a[2], b[2]) for a, b in zip(first, second, strict=True)
    )


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
