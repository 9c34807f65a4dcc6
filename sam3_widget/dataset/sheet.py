"""An image of a data set that is open: its document, and what the files know of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_widget.labelling.records import told_of_object
from sam3_widget.live import pending_of
from sam3_widget.results import score_of
from sam3_widget.saving import autosave
from sam3_widget.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.dataset.asked import Asked
    from sam3_widget.io import AnnotatedImage
    from sam3_widget.live import Listener, LiveDocument

    Drawn = list[tuple[int, str, RunLengths]]


class Sheet:
    """A new document that goes on from its session; else with the masks that it starts with, or with what is asked.

    Parameters
    ----------
    live : LiveDocument
        On which nothing was said yet.
    session : Path
        Where it is saved.
    start : AnnotatedImage or None
        What the journal holds of it, or what it came with.
    ids : sequence of int
        The ``object_id`` that each of these objects has in the session, if there is one.
    asked : Asked
        Of an image that nothing is known of.

    Attributes
    ----------
    live : LiveDocument
    visited : bool
        Whether a person has been there: what an image that is only ahead holds counts for nothing yet.
    """

    def __init__(
        self, live: LiveDocument, session: Path, start: AnnotatedImage | None, ids: Sequence[int], asked: Asked
    ) -> None:
        self.live, self._session = live, session
        if session.exists():
            autosave.begin(live, session)
            live.notice = ""  # of one image among many
        elif start is not None:
            ids = start.load_into(Session.of(live))
        else:
            asked.ask(live)
        came = list(zip(ids, start.objects if start is not None else (), strict=True))
        self._recorded: Drawn = [(k, o.label, o.mask) for k, o in came]
        # Imported masks have no scores in a document.
        self._scores = {k: (o.mask, o.score) for k, o in came if not math.isnan(o.score)}
        self._began = len(live.history)
        self._deaf: Callable[[], None] = lambda: None
        self.visited = False

    @property
    def is_waiting(self) -> bool:
        """Whether the model has not answered everything."""
        return bool(pending_of(self.live.state))

    @property
    def is_said(self) -> bool:
        """Whether anything was said of it since it was opened."""
        return len(self.live.history) != self._began

    @property
    def counts(self) -> bool:
        """Whether a person is there, or has worked on it."""
        return self.visited or self.live.keeper is not None

    @property
    def is_new(self) -> bool:
        """Whether it holds what the journal does not."""
        return self.visited and not _alike(self._recorded, self._drawn())

    def visit(self, ears: Listener) -> None:
        """Save it as it goes from now on, and let somebody hear of its changes after they count as changes there."""
        self.visited = True
        if self.live.keeper is None:
            keeper = autosave.begin(self.live, self._session)
            if not len(self.live.history) == self._began == len(self._recorded):
                keeper.changed()  # something was said already, beside which masks it came with
        self.listen(ears)

    def listen(self, ears: Listener) -> None:
        """Let somebody hear of its changes, in the place of who did before."""
        self._deaf()
        self._deaf = self.live.listen(ears)

    def flush(self) -> None:
        """Return when its session is on the disk."""
        if self.live.keeper is not None:
            self.live.keeper.flush()

    def close(self, why: str) -> None:
        """Stop the model, write what is new of its session, and let the file go; nothing can be said from now on."""
        self.live.closed = why
        self._deaf()
        self.live.cancel()
        if self.live.keeper is not None:
            self.live.keeper.close()

    def recorded(self) -> None:
        """Take the news that the journal holds what it is now."""
        self._recorded = self._drawn()

    def labels(self) -> list[tuple[str, float]]:
        """Return label and score of each object; NaN where there is no score."""
        return [(label, self._score(k, mask)) for k, label, mask in self._drawn()]

    def record(self) -> dict[str, Any]:
        """Return its size and its objects, as a record has them."""
        told = [told_of_object(k, label, mask, self._score(k, mask)) for k, label, mask in self._drawn()]
        return {"height": self.live.image.height, "width": self.live.image.width, "objects": told}

    def _drawn(self) -> Drawn:
        """Return id, label and mask of the objects that have a pixel."""
        drawn = [(i.object_id, i.label, self.live.mask(i)) for i in self.live.state.instances]
        return [each for each in drawn if each[2].area]

    def _score(self, object_id: int, mask: RunLengths) -> float:
        """Return the score of an object: the model's, or that it came with if it is as it came."""
        score = score_of(self.live.state.instance(object_id))
        came, old = self._scores.get(object_id, (None, math.nan))
        return old if math.isnan(score) and came is not None and _same(came, mask) else score


def _same(first: RunLengths, second: RunLengths) -> bool:
    return first is second or np.array_equal(first.counts, second.counts)


def _alike(first: Drawn, second: Drawn) -> bool:
    return len(first) == len(second) and all(
        (a[0], a[1]) == (b[0], b[1]) and _same(a[2], b[2]) for a, b in zip(first, second, strict=True)
    )
