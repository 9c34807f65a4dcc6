"""The state of a clip: what was said on each frame, and what propagation carried from frame to frame."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sam3_widget.core import commands, prompts
from sam3_widget.core.document import History
from sam3_widget.core.state import Carried, InstanceState, State
from sam3_widget.errors import InvalidPromptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from sam3_widget.core.answers import Answer
    from sam3_widget.core.commands import Command
    from sam3_widget.core.runs import RunLengths
    from sam3_widget.core.state import ConceptState

    Track = Mapping[int, Carried]
    """What propagation made of one object, by frame."""

DIRECTIONS = ("forward", "backward", "both")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Sheet:
    """What was said on one frame.

    Attributes
    ----------
    instances : mapping
        By ``object_id``, those that something was said of here.
    concepts : tuple of ConceptState
    """

    instances: Mapping[int, InstanceState] = field(default_factory=lambda: _NOTHING)
    concepts: tuple[ConceptState, ...] = ()


@dataclass(frozen=True)
class Looked:
    """Where propagation has looked for a concept.

    Attributes
    ----------
    text : str
    threshold : float
    frames : frozenset of int
    """

    text: str
    threshold: float
    frames: frozenset[int]


@dataclass(frozen=True)
class ClipState:
    """A snapshot of everything that undo restores.

    Attributes
    ----------
    common : State
        What all frames share: settings, classes, the selection, the next ids, and each object with its label and
        concept, without a mask.
    sheets : mapping
        By frame, where something was said.
    tracks : mapping
        By ``object_id``.
    local : bool
        Whether what follows a prompted frame depends on nothing before it; see
        :class:`sam3_widget.models.base.Tracker`.
    looked : mapping
        What propagation has looked for, by ``concept_id``; on the frame that a concept is of, the concept itself does.
    shadows : mapping
        The concept of each instance that a person has removed, by ``object_id``. Its track stays, and is carried on,
        so that it is not found again.
    propagations : int
        How often propagation was asked for.
    """

    common: State
    sheets: Mapping[int, Sheet] = field(default_factory=lambda: _NOTHING)
    tracks: Mapping[int, Track] = field(default_factory=lambda: _NOTHING)
    local: bool = True
    looked: Mapping[int, Looked] = field(default_factory=lambda: _NOTHING)
    shadows: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    propagations: int = 0

    @property
    def answers(self) -> set[Answer]:
        """Everything that models have said and that this snapshot keeps."""
        return set().union(*(self.at(frame_idx).answers for frame_idx in self.sheets))

    def at(self, frame_idx: int) -> State:
        """Return what a frame shows: every object, also those that are not there, and the concepts asked for there."""
        sheet = self.sheets.get(frame_idx, Sheet())
        instances = tuple(
            _composed(shared, sheet.instances.get(shared.object_id), self.carried(shared.object_id, frame_idx))
            for shared in self.common.instances
        )
        active = self.common.concept if any(c.concept_id == self.common.concept for c in sheet.concepts) else None
        return replace(self.common, instances=instances, concepts=sheet.concepts, concept=active)

    def carried(self, object_id: int, frame_idx: int) -> Carried | None:
        """Return what propagation made of an object on a frame."""
        return self.tracks.get(object_id, _NOTHING).get(frame_idx)

    def prompted(self, object_id: int) -> list[int]:
        """Return the frames on which something was said of an object, ascending."""
        return sorted(frame_idx for frame_idx, sheet in self.sheets.items() if object_id in sheet.instances)

    def put(self, frame_idx: int, state: State, command: str = "") -> ClipState:
        """Return the clip with a frame as a command on it, or a model's answer, has made it.

        What a change makes stale of the tracks goes.
        """
        before = self.at(frame_idx)
        if command == "reset":
            return replace(
                self, common=_shared(state), sheets=_NOTHING, tracks=_NOTHING, looked=_NOTHING, shadows=_NOTHING
            )
        said = {i.object_id: i for i in state.instances if i.prompted or i.found}
        rest = {k: sheet for k, sheet in self.sheets.items() if k != frame_idx}
        written = said or state.concepts
        clip = replace(self, sheets={**rest, frame_idx: Sheet(said, state.concepts)} if written else rest)
        gone = {i.object_id for i in before.instances} - {i.object_id for i in state.instances}
        if command == "remove_object":
            for object_id in gone:
                clip = self._shadowed(clip, object_id).without(object_id)
        common = _shared(state, {i.object_id: i.concept_id for i in self.common.instances})
        if state.concept is None and before.concept is None:
            common = replace(common, concept=self.common.concept)  # that of another frame
        kept = tuple(i for i in self.common.instances if i.object_id in gone and clip.prompted(i.object_id))
        common = replace(common, instances=tuple(sorted((*common.instances, *kept), key=lambda i: i.object_id)))
        clip = _forgotten(
            replace(clip, common=common), self.sheets.get(frame_idx, Sheet()), Sheet(said, state.concepts)
        )
        held = {i.object_id for i in clip.common.instances}
        shadows = {k: concept_id for k, concept_id in clip.shadows.items() if k not in held}
        moving = shadows.keys() | (held - clip.shadows.keys())
        clip = replace(clip, shadows=shadows, tracks={k: t for k, t in clip.tracks.items() if k in moving})
        old = self.sheets.get(frame_idx, Sheet()).instances
        for object_id in held & (said.keys() | old.keys()):
            if _mask_of(said.get(object_id)) != _mask_of(old.get(object_id)):
                clip = clip.freshened(object_id, frame_idx)
        return clip

    def carry(self, frame_idx: int, carried: Mapping[int, Carried]) -> ClipState:
        """Return the clip with what propagation has made of objects on a frame."""
        tracks = dict(self.tracks)
        for object_id, mask in carried.items():
            tracks[object_id] = {**tracks.get(object_id, {}), frame_idx: mask}
        return replace(self, tracks=tracks)

    def welcome(
        self, frame_idx: int, newcomers: Sequence[tuple[int, Carried]], sought: Collection[int]
    ) -> tuple[ClipState, list[int]]:
        """Return the clip with what propagation has found on a frame, and the ids of the new objects.

        Parameters
        ----------
        frame_idx : int
        newcomers : sequence of (int, Carried)
            The concept and the mask of each instance that came into view there.
        sought : collection of int
            The concepts that were looked for there.
        """
        concepts = {c.concept_id: c for sheet in self.sheets.values() for c in sheet.concepts}
        common, tracks, ids = self.common, dict(self.tracks), []
        for concept_id, carried in newcomers:
            made = InstanceState(common.next_object_id, concepts[concept_id].found_as, concept_id=concept_id)
            common = replace(common.put(made).named(made.label), next_object_id=made.object_id + 1)
            tracks[made.object_id] = {frame_idx: carried}
            ids.append(made.object_id)
        looked = dict(self.looked)
        for concept_id in sought:
            concept = concepts[concept_id]
            before = self.looked_for(concept)
            looked[concept_id] = Looked(concept.text, concept.score_threshold, before | {frame_idx})
        return replace(self, common=common, tracks=tracks, looked=looked), ids

    def looked_for(self, concept: ConceptState) -> frozenset[int]:
        """Return the frames on which propagation has looked for a concept as it is now."""
        looked = self.looked.get(concept.concept_id)
        same = looked is not None and (looked.text, looked.threshold) == (concept.text, concept.score_threshold)
        return looked.frames if looked is not None and same else frozenset()

    def retract(self, object_ids: Collection[int]) -> ClipState:
        """Return the clip without objects that propagation has found to be none of their concept, on any frame."""
        clip = self
        for object_id in object_ids:
            clip = clip.without(object_id)
            common = clip.common.without(object_id, hand_on=False)
            clip = replace(clip, common=common, tracks={k: t for k, t in clip.tracks.items() if k != object_id})
        return clip

    def touched(self, object_id: int) -> bool:
        """Whether a person refined, labelled or locked an object on any frame."""
        said = (sheet.instances[object_id] for sheet in self.sheets.values() if object_id in sheet.instances)
        shared = [i for i in self.common.instances if i.object_id == object_id]
        return any(i.touched for i in (*said, *shared))

    def without(self, object_id: int) -> ClipState:
        """Return the clip with nothing said of an object on any frame; what found it there does not bring it back."""
        sheets = {
            frame_idx: replace(
                sheet,
                instances={k: i for k, i in sheet.instances.items() if k != object_id},
                concepts=_dismissed(sheet.concepts, sheet.instances.get(object_id)),
            )
            for frame_idx, sheet in self.sheets.items()
        }
        return replace(self, sheets={k: s for k, s in sheets.items() if s.instances or s.concepts})

    def _shadowed(self, after: ClipState, object_id: int) -> ClipState:
        """Return a clip in which an object is removed, with its masks here as a shadow where it is of a concept."""
        concept_id = next((i.concept_id for i in self.common.instances if i.object_id == object_id), None)
        if concept_id is None:
            return after
        size = (self.common.height, self.common.width)
        track = dict(self.tracks.get(object_id, _NOTHING))
        for frame_idx in self.prompted(object_id):
            said = self.sheets[frame_idx].instances[object_id]
            track[frame_idx] = Carried(_mask_there(said, size), 1.0, forward=True)
        shadows = {**after.shadows, object_id: concept_id}
        return replace(after, shadows=shadows, tracks={**after.tracks, object_id: track})

    def freshened(self, object_id: int, frame_idx: int) -> ClipState:
        """Return the clip without what was carried on from a frame that has changed."""
        others = [k for k in self.prompted(object_id) if k != frame_idx] if self.local else []
        first = max((k for k in others if k < frame_idx), default=-1)
        last = min((k for k in others if k > frame_idx), default=sys.maxsize)
        kept = {
            k: mask
            for k, mask in self.tracks.get(object_id, _NOTHING).items()
            if not (frame_idx < k < last if mask.forward else first < k < frame_idx)
        }
        return replace(self, tracks={**self.tracks, object_id: kept})


def propagate(
    state: ClipState,
    start: object = None,
    stop: object = None,
    direction: object = "forward",
    object_ids: object = None,
) -> ClipState:
    """Ask for objects to be carried through the frames from ``start`` up to, without it, ``stop``."""
    del start, stop  # the document knows how many frames there are
    if direction not in DIRECTIONS:
        message = f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r:.60}"
        raise InvalidPromptError(message)
    if object_ids is not None:
        if isinstance(object_ids, str) or not isinstance(object_ids, Iterable):
            message = f"object_ids must be a list of ids, got {object_ids!r:.60}"
            raise InvalidPromptError(message)
        for object_id in object_ids:
            state.common.instance(prompts.integer(object_id, "object_id"))
    return replace(state, propagations=state.propagations + 1)


def load_masks(state: ClipState, masks: Mapping[int, Track], labels: Mapping[int, str]) -> ClipState:
    """Take masks from elsewhere as if they had been carried there, each object's first one as a person's.

    An object that is there already is replaced.
    """
    for object_id, track in masks.items():
        frames = [k for k in sorted(track) if track[k].mask.area] or sorted(track)
        if object_id in {i.object_id for i in state.common.instances}:
            state = state.without(object_id)
        shared = next((i for i in state.common.instances if i.object_id == object_id), InstanceState(object_id))
        label = labels.get(object_id, shared.label)
        shared = replace(shared, label=label, labelled=bool(label))
        common = state.common.named(label).put(shared)
        common = replace(common, next_object_id=max(common.next_object_id, object_id + 1))
        instances = tuple(sorted(common.instances, key=lambda i: i.object_id))
        first = frames[0]
        sheet = state.sheets.get(first, Sheet())
        said = {**sheet.instances, object_id: InstanceState(object_id, imported=track[first].mask)}
        state = replace(
            state,
            common=replace(common, instances=instances),
            sheets={**state.sheets, first: replace(sheet, instances=said)},
            tracks={**state.tracks, object_id: {k: c for k, c in track.items() if k != first}},
            shadows={k: concept_id for k, concept_id in state.shadows.items() if k != object_id},
        )
    return state


def span(length: int, start: object, stop: object) -> range:
    """Return the frames from ``start`` (None: the first) up to, without it, ``stop`` (None: the end)."""
    first = 0 if start is None else prompts.integer(start, "start")
    last = length if stop is None else prompts.integer(stop, "stop")
    if not 0 <= first < last <= length:
        message = f"start and stop must be frames with 0 <= start < stop <= {length}, got {start} and {stop}"
        raise InvalidPromptError(message)
    return range(first, last)


def frame_of(length: int, frame_idx: object) -> int:
    """Return a frame's index, checked; there is no counting from the end."""
    index = prompts.integer(frame_idx, "frame_idx")
    if not 0 <= index < length:
        message = f"frame_idx must be from 0 to {length - 1}, got {index}"
        raise InvalidPromptError(message)
    return index


class ClipDocument(History[ClipState]):
    """A clip that changes by commands: those of an image with the frame they are on, and ``propagate``.

    Parameters
    ----------
    state : ClipState
    length : int
        Frames of the clip; more may come.
    """

    def __init__(self, state: ClipState, length: int) -> None:
        super().__init__(state)
        self.length = length

    def _normalised(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        if name == "load_masks":
            return {"masks": self._loadable(args["masks"]), "labels": dict(args["labels"])}
        if name == "propagate":
            given = commands.bound(propagate, self.state, name, args)
            span(self.length, given.get("start"), given.get("stop"))
            ids = given.get("object_ids")
            return (
                {**given, "object_ids": tuple(ids)} if isinstance(ids, Iterable) and not isinstance(ids, str) else given
            )
        rest = dict(args)
        frame_idx = frame_of(self.length, rest.pop("frame_idx", None))
        return {**commands.normalised(self.state.at(frame_idx), name, rest), "frame_idx": frame_idx}

    def _applied(self, name: str, args: Mapping[str, Any]) -> ClipState:
        if name in {"propagate", "load_masks"}:
            return (propagate if name == "propagate" else load_masks)(self.state, **args)
        rest = dict(args)
        before = self.state.at(rest["frame_idx"])
        after = commands.apply(before, name, {k: v for k, v in rest.items() if k != "frame_idx"})
        return self.state if after is before else self.state.put(rest["frame_idx"], after, name)

    def _loadable(self, masks: Mapping[int, Mapping[int, RunLengths]]) -> dict[int, Track]:
        """Return masks by object and frame as tracks, checked."""
        size, tracks = (self.state.common.height, self.state.common.width), dict[int, "Track"]()
        for object_id, by_frame in masks.items():
            if prompts.integer(object_id, "object_id") < 1:
                message = f"object_id must be 1 or more, got {object_id}"
                raise InvalidPromptError(message)
            for frame_idx, mask in by_frame.items():
                if (mask.height, mask.width) != size or not 0 <= frame_idx < self.length:
                    message = (
                        f"a mask of object {object_id} on frame {frame_idx} is {mask.height} x {mask.width} pixels; "
                        f"the clip has frames 0 to {self.length - 1} of {size[0]} x {size[1]}"
                    )
                    raise InvalidPromptError(message)
            tracks[object_id] = {k: Carried(mask, float("nan"), forward=True) for k, mask in by_frame.items()}
        return tracks


class FrameDocument:
    """One frame of a clip as a document of its own: commands on it are commands of the clip.

    Parameters
    ----------
    clip : ClipDocument
    frame_idx : int
    """

    def __init__(self, clip: ClipDocument, frame_idx: int) -> None:
        self._clip, self.frame_idx = clip, frame_idx
        self._shown: tuple[ClipState, State] | None = None

    @property
    def state(self) -> State:
        """What the frame shows; the same object as long as the clip is the same."""
        shown, clip = self._shown, self._clip.state
        if shown is None or shown[0] is not clip:
            self._shown = shown = clip, clip.at(self.frame_idx)
        return shown[1]

    @property
    def history(self) -> tuple[Command, ...]:
        """The commands of the clip in effect, oldest first."""
        return self._clip.history

    @property
    def undo_title(self) -> str | None:
        """What an undo would take back, in words."""
        return self._clip.undo_title

    @property
    def redo_title(self) -> str | None:
        """What a redo would bring back, in words."""
        return self._clip.redo_title

    def run(self, name: str, args: Mapping[str, Any], gesture: str | None = None) -> None:
        """Apply a command to this frame and record it."""
        self._clip.run(name, {**args, "frame_idx": self.frame_idx}, gesture)

    def select(self, object_id: object) -> None:
        """Select an object on all frames."""
        chosen = None if object_id is None else prompts.integer(object_id, "object_id")
        if chosen is not None:
            self.state.instance(chosen)
        if chosen != self.state.selected:
            self._clip.amend(lambda clip: replace(clip, common=replace(clip.common, selected=chosen)))

    def select_concept(self, concept_id: object) -> None:
        """Make a concept of this frame the active one."""
        chosen = None if concept_id is None else prompts.integer(concept_id, "concept_id")
        if chosen is not None:
            self.state.concept_of(chosen)
        if chosen != self.state.concept:
            self._clip.amend(lambda clip: replace(clip, common=replace(clip.common, concept=chosen)))

    def amend(self, change: Callable[[State], State]) -> None:
        """Replace what the frame shows by what a model's answer makes of it."""
        after = change(self.state)
        if after is not self.state:
            self._clip.amend(lambda clip: clip.put(self.frame_idx, after))

    def undo(self) -> bool:
        """Take the clip's last command back, whichever frame it was on."""
        return self._clip.undo()

    def redo(self) -> bool:
        """Bring the clip's last undone command back."""
        return self._clip.redo()


def frames_of_prompt(state: ClipState, what: str, prompt_id: int) -> Iterator[int]:
    """Yield the frames that hold a point, stroke or exemplar; ``what`` is one of these words."""
    for frame_idx in state.sheets:
        frame = state.at(frame_idx)
        held = {
            "point": (p.point_id for i in frame.instances for p in i.points),
            "stroke": (s.stroke_id for i in frame.instances for s in i.strokes),
            "exemplar": (e.exemplar_id for c in frame.concepts for e in c.exemplars),
        }
        if prompt_id in held[what]:
            yield frame_idx


def frame_of_prompt(state: ClipState, what: str, prompt_id: object) -> int:
    """Return the frame that holds a point, stroke or exemplar, or raise ``NotFoundError``."""
    number = prompts.integer(prompt_id, f"{what}_id")
    for frame_idx in frames_of_prompt(state, what, number):
        return frame_idx
    message = f"there is no {what} with {what}_id {number} on any frame"
    raise NotFoundError(message)


def frame_of_concept(state: ClipState, concept_id: object) -> int:
    """Return the frame on which a concept was asked for, or raise ``NotFoundError``."""
    number = prompts.integer(concept_id, "concept_id")
    for frame_idx, sheet in state.sheets.items():
        if any(c.concept_id == number for c in sheet.concepts):
            return frame_idx
    message = f"there is no concept with concept_id {number} on any frame"
    raise NotFoundError(message)


def _forgotten(clip: ClipState, before: Sheet, after: Sheet) -> ClipState:
    """Return a clip without what propagation has found of concepts that are no longer what they were on a sheet."""
    texts = {c.concept_id: c.text for c in after.concepts}
    over = {c.concept_id for c in before.concepts if texts.get(c.concept_id) != c.text}
    if not over:
        return clip
    instances = []
    for shared in clip.common.instances:
        said = after.instances.get(shared.object_id)
        if shared.concept_id not in over or (said is not None and said.concept_id == shared.concept_id):
            instances.append(shared)
        elif clip.prompted(shared.object_id) or shared.touched:
            instances.append(replace(shared, concept_id=None))
    selected = clip.common.selected if clip.common.selected in {i.object_id for i in instances} else None
    return replace(
        clip,
        common=replace(clip.common, instances=tuple(instances), selected=selected),
        looked={k: looked for k, looked in clip.looked.items() if k not in over},
        shadows={k: concept_id for k, concept_id in clip.shadows.items() if concept_id not in over},
    )


def _composed(shared: InstanceState, said: InstanceState | None, carried: Carried | None) -> InstanceState:
    """Return an object on a frame: what was said there, or what was carried there, with what all frames share.

    An object that was carried there is an instance of no concept that was asked for there.
    """
    if said is None:
        return replace(shared, concept_id=None, carried=carried)
    return replace(
        said,
        label=shared.label,
        labelled=shared.labelled,
        visible=shared.visible,
        locked=shared.locked,
        carried=carried or said.carried,
    )


def _shared(state: State, concepts: Mapping[int, int | None] = _NOTHING) -> State:
    """Return what a frame's state shares with all others; ``concepts`` are those that objects are of elsewhere."""
    bare = tuple(
        InstanceState(
            i.object_id,
            i.label,
            concept_id=i.concept_id or concepts.get(i.object_id),
            labelled=i.labelled,
            visible=i.visible,
            locked=i.locked,
        )
        for i in state.instances
    )
    return replace(state, instances=bare, concepts=())


def _dismissed(concepts: tuple[ConceptState, ...], said: InstanceState | None) -> tuple[ConceptState, ...]:
    """Return the concepts of a frame, of which none finds again what an object was found as there."""
    if said is None or said.matched is None:
        return concepts
    matched = said.matched
    return tuple(
        replace(c, dismissed=(*c.dismissed, matched)) if c.concept_id == said.concept_id else c for c in concepts
    )


def _mask_there(said: InstanceState, size: tuple[int, int]) -> RunLengths:
    """Return the mask of an object on a frame where something was said of it."""
    from sam3_widget.core import masks  # noqa: PLC0415 - OpenCV loads with it

    basis = said.basis
    if not isinstance(basis, tuple):
        return masks.compose(basis, size, strokes=said.enforced_strokes)
    answer, candidate = basis
    assert answer.logits is not None  # noqa: S101 - a basis is there
    return masks.compose(answer.logits[candidate].astype("float32"), size, strokes=said.enforced_strokes)


def _mask_of(said: InstanceState | None) -> tuple[object, ...] | None:
    """Return all that the mask of an object follows from on a frame where something was said of it."""
    if said is None:
        return None
    return said.points, said.strokes, said.box, said.imported, said.found, said.answer, said.candidate
