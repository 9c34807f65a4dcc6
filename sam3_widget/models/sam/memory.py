"""What a video model remembers of one object: told by a person, carried on, and pruned to what it still attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from sam3_widget.core.masks import compose
from sam3_widget.models.sam.clicks import batch_clicks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.models.base import InstancePrompts, Sighting
    from sam3_widget.models.sam.preprocess import Preprocess
    from sam3_widget.models.sam.video import Features, Outcome, VideoNetwork

SAME = 0.98
"""IoU from which on two masks count as the same: what is left is rounding, or the cleaning of a few pixels."""
CORNERS = (2, 3)
"""Labels of the two corners of a box among points."""
PARTS = ("output_dict_per_obj", "frames_tracked_per_obj", "point_inputs_per_obj", "mask_inputs_per_obj")
"""Where a session keeps what belongs to one object, by its index."""
PASSING = ("maskmem_features", "maskmem_pos_enc", "pred_masks")
"""What a session holds of a frame, beside a vector or two, for as long as the frame is recent."""


@dataclass(frozen=True)
class Frame:
    """A frame of a clip, as an encoder sees it.

    Attributes
    ----------
    frame_idx : int
    height, width : int
        Of the original, in pixels.
    features : Features
        What the encoder made of it.
    """

    frame_idx: int
    height: int
    width: int
    features: Features

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.features["vision_feats"][0].device


class ObjectMemory:
    """What a video model remembers of one object of a clip that is walked in one direction.

    It is a session of transformers with this object alone, run as transformers runs its own: a frame with prompts that
    the model has not come by is a conditioning frame, which every later frame attends to. Prompts on the frame that it
    has just come to are a correction, decoded with the memory of the earlier frames; a correction counts among the
    recent frames first and, where transformers would forget it, becomes a conditioning frame. Between frames, all that
    the session holds lies where the network stores it.

    Parameters
    ----------
    network : VideoNetwork
    preprocess : Preprocess
        From pixels of a frame to pixels of the encoder's input.
    max_points : int, optional
        Of more clicks than this, the first and the last half count.
    """

    def __init__(self, network: VideoNetwork, preprocess: Preprocess, max_points: int | None = None) -> None:
        self._network = network
        self._preprocess = preprocess
        self._max_points = max_points
        self._session = network.session()
        self._told: dict[int, Sighting] = {}
        self._last: int | None = None

    def news(self, sightings: Sequence[Sighting]) -> Sequence[Sighting] | None:
        """Return which of an object's sightings it does not know: none, or the last; None where it remembers otherwise.

        Parameters
        ----------
        sightings : sequence of Sighting
            As for :meth:`sam3_widget.models.base.Tracker.follow`.
        """
        *earlier, last = sightings
        if last.frame_idx != self._last or not self._knows(earlier, last):
            return None
        told, made = self._told.get(last.frame_idx), self._recent.get(last.frame_idx, {}).get("pred_masks")
        if last.prompts is not None:
            return [] if told is not None and _same(told, last) else [last]
        if told is not None:
            return None
        return [] if made is not None and _agree(made[0, 0], last.mask) else [last]

    def _knows(self, earlier: Sequence[Sighting], last: Sighting) -> bool:
        """Whether what is remembered of the frames before the last is what these sightings say."""
        told = {k: each for k, each in self._told.items() if each.prompts is not None and k != last.frame_idx}
        said = {each.frame_idx: each for each in earlier if each.prompts is not None}
        if told.keys() != said.keys() or not all(_same(said[k], each) for k, each in told.items()):
            return False
        shown = {each.frame_idx: each.mask for each in earlier}
        reach = self._network.recent - (last.prompts is None)  # as many frames as sightings go back
        return all(
            k in shown and _agree(held["pred_masks"][0, 0], shown[k])
            for k, held in self._recent.items()
            if 0 < abs(last.frame_idx - k) <= reach and k not in told
        )

    def inherit(self, other: ObjectMemory, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Take over conditioning frames of an earlier memory of the object; return the sightings it does not hold."""
        rest = []
        for sighting in sightings:
            k, told = sighting.frame_idx, other._told.get(sighting.frame_idx)
            if told is not None and k in other._conditioning and _same(told, sighting):
                self._told[k], self._conditioning[k] = sighting, other._conditioning[k]
                self._last = k
            else:
                rest.append(sighting)
        return rest

    def see(self, frame: Frame, sighting: Sighting, *, reverse: bool, last: bool) -> None:
        """Take in where the object is on a frame.

        What a person said there counts as such where the model makes the sighting's mask of it; where it makes another
        one, since the person chose another candidate or painted, the mask itself counts, as on frames where nobody said
        anything.

        Parameters
        ----------
        frame : Frame
        sighting : Sighting
            With prompts it is remembered for good, even where they are empty.
        reverse : bool
            Whether the clip is walked backwards.
        last : bool
            Whether the object is carried on from here; it is remembered for good where nothing else is.

        Raises
        ------
        ValueError
            The mask is not of the frame's size.
        """
        mask, said, frame_idx = sighting.mask, sighting.prompts, frame.frame_idx
        if (mask.height, mask.width) != (frame.height, frame.width):
            message = (
                f"the mask on frame {frame_idx} must be of the frame's size, {frame.height} x {frame.width}, "
                f"got {mask.height} x {mask.width}"
            )
            raise ValueError(message)
        if said is not None or (last and not self._conditioning):
            self._told[frame_idx] = sighting
        else:  # as where transformers has come by: what it holds of such a frame passes
            self._session.frames_tracked_per_obj[0][frame_idx] = {"reverse": reverse}
        if said is None or not _speaks(said) or not _agree(self._ask(frame, said, reverse=reverse).logits, mask):
            self._show(frame, mask, reverse=reverse)
        self._forget(frame_idx)

    def carry(self, frame: Frame, *, reverse: bool) -> Outcome:
        """Find the object on the next frame, and remember it there."""
        outcome = self._run(frame, reverse=reverse)
        self._forget(frame.frame_idx)
        return outcome

    @property
    def _recent(self) -> dict[int, dict[str, torch.Tensor]]:
        """What the session holds of frames that nobody said anything on, and of corrections, by ``frame_idx``."""
        held: dict[int, dict[str, torch.Tensor]] = self._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        return held

    @property
    def _conditioning(self) -> dict[int, dict[str, torch.Tensor]]:
        """What the session holds of conditioning frames, by ``frame_idx``."""
        held: dict[int, dict[str, torch.Tensor]] = self._session.output_dict_per_obj[0]["cond_frame_outputs"]
        return held

    def _ask(self, frame: Frame, prompts: InstancePrompts, *, reverse: bool) -> Outcome:
        """Let prompts say where the object is."""
        self._session.add_point_inputs(0, frame.frame_idx, self._points(frame, prompts))
        self._session.obj_with_new_inputs = [0]
        return self._run(frame, reverse=reverse)

    def _show(self, frame: Frame, mask: RunLengths, *, reverse: bool) -> None:
        """Let a mask say where the object is."""
        side = self._preprocess.side
        shown = torch.from_numpy(mask.to_mask())[None, None].to(frame.device, torch.float32)
        if shown.shape[-2:] != (side, side):
            resized = functional.interpolate(shown, size=(side, side), mode="bilinear", antialias=True)
            shown = (resized >= 0.5).float()  # noqa: PLR2004 - the nearer of 0 and 1
        self._session.remove_point_inputs(0, frame.frame_idx)
        self._session.add_mask_inputs(0, frame.frame_idx, shown)
        self._session.obj_with_new_inputs = [0]
        self._run(frame, reverse=reverse)

    def _run(self, frame: Frame, *, reverse: bool) -> Outcome:
        self._session.cache.cache_vision_features(frame.frame_idx, frame.features)
        self._last = frame.frame_idx
        return self._network.run(self._session, frame.frame_idx, reverse=reverse)

    def _points(self, frame: Frame, prompts: InstancePrompts) -> dict[str, torch.Tensor]:
        """Return prompts as a session takes them: ``(1, 1, P, 2)`` points, of which a box is the first two."""
        side = self._network.mask_side
        scale = self._preprocess.scale(frame.height, frame.width)
        device = frame.device
        [clicks] = batch_clicks(
            [(prompts, None)], scale=scale, mask_size=(side, side), max_points=self._max_points, device=device
        )
        points, labels = [], []
        if clicks.boxes is not None:
            points.append(clicks.boxes.view(1, 1, 2, 2))
            labels.append(torch.tensor(CORNERS, dtype=torch.int64, device=device).view(1, 1, 2))
        if clicks.points is not None and clicks.labels is not None:
            points.append(clicks.points)
            labels.append(clicks.labels)
        return {"point_coords": torch.cat(points, 2), "point_labels": torch.cat(labels, 2)}

    def lend(self, session: Any, index: int) -> None:  # noqa: ANN401 - transformers has no common base of them
        """Let a session of several objects remember the one of this index here."""
        for name in PARTS:
            getattr(session, name)[index] = getattr(self._session, name)[0]

    def borrow(self, session: Any, index: int) -> None:  # noqa: ANN401
        """Remember here what a session of several objects remembers of the one of this index."""
        for name in PARTS:
            getattr(self._session, name)[0] = getattr(session, name)[index]

    def carried(self, frame_idx: int, logits: torch.Tensor, first: Sighting | None = None) -> None:
        """Take in that the session to which this is lent has carried the object to a frame.

        Parameters
        ----------
        frame_idx : int
        logits : (h, w) float32
            What became of it there.
        first : Sighting, optional
            Where the object was found only there: this is remembered for good.
        """
        self._last = frame_idx
        if first is not None:
            self._told[frame_idx] = first
        for held in (self._recent, self._conditioning):
            if frame_idx in held:
                held[frame_idx]["pred_masks"] = logits[None, None]
        self._forget(frame_idx)

    def _forget(self, frame_idx: int) -> None:
        """Drop all that neither a later frame attends to nor this one, if it is corrected, and store the rest."""
        recent, conditioning = self._recent, self._conditioning
        self._forget_confirmed(frame_idx)
        for k, held in list(recent.items()):
            since = abs(frame_idx - k)
            if since >= self._network.recent and k in self._told:  # the next frame would not attend to it any more
                conditioning[k] = recent.pop(k)
            elif since > self._network.recent:
                for name in PASSING:
                    held.pop(name, None)
            if since > max(self._network.recent, self._network.pointers):
                recent.pop(k, None)
        for held in conditioning.values():
            held.pop("pred_masks", None)
            memory = held.get("maskmem_features")
            if memory is not None and memory.untyped_storage().nbytes() > memory.nbytes:
                held["maskmem_features"] = memory.clone()  # of several objects, in one tensor
        self._store()
        self._tidy()

    def _forget_confirmed(self, frame_idx: int) -> None:
        """Drop of the frames on which a detector confirmed the object all but the nearest ones."""
        confirmed = [k for k in self._conditioning if k not in self._told]
        for place, k in enumerate(sorted(confirmed, key=lambda k: abs(frame_idx - k))):
            if place >= self._network.pointers:
                del self._conditioning[k]
            elif place >= self._network.conditions and abs(frame_idx - k) > self._network.recent:
                for name in PASSING:
                    self._conditioning[k].pop(name, None)

    def _store(self) -> None:
        """Put away what is left of every frame: what all share, once."""
        for held in (*self._recent.values(), *self._conditioning.values()):
            held.pop("high_res_masks", None)
            if "maskmem_pos_enc" in held:
                held["maskmem_pos_enc"] = self._network.shared_positions(held["maskmem_pos_enc"])
            held.update({name: self._network.stored(part) for name, part in held.items()})

    def _tidy(self) -> None:
        """Drop what a session keeps for those who ask again: pixels, features, and prompts that are answered."""
        session: Any = self._session
        session.frames_tracked_per_obj[0] = {
            k: way for k, way in session.frames_tracked_per_obj[0].items() if k in self._recent
        }
        session.point_inputs_per_obj[0].clear()
        session.mask_inputs_per_obj[0].clear()
        session.processed_frames = {}
        session.cache.clear_all()


def _speaks(prompts: InstancePrompts) -> bool:
    """Whether there is a prompt at all."""
    return prompts.box is not None or len(prompts.points) > 0


def _agree(logits: torch.Tensor, mask: RunLengths) -> bool:
    """Whether logits ``(h, w)`` over the whole frame are those of a mask, but for a few pixels."""
    made = compose(logits.float().cpu().numpy(), (mask.height, mask.width)).to_mask()
    shown = mask.to_mask()
    either = np.count_nonzero(made | shown)
    return bool(np.count_nonzero(made & shown) >= SAME * either)


def _same(one: Sighting, other: Sighting) -> bool:
    """Whether a person said the same, and it came to the same mask."""
    first, second = one.prompts, other.prompts
    if first is None or second is None:
        return False
    boxes = [np.zeros(0) if said.box is None else said.box for said in (first, second)]
    pairs = [(first.points, second.points), (first.labels, second.labels), (boxes[0], boxes[1])]
    pairs.append((one.mask.counts, other.mask.counts))
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)
