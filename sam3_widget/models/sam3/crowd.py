"""The instances of concepts on their way through a clip: carried together, and held against what the detector finds.

The rules are those of transformers' ``Sam3VideoModel``, whose own methods decide here: what is new, what was never
there, what is remembered, and what of two that overlap is hidden.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from sam3_widget.models.sam3.tidying import NOWHERE, apart, best_of_each, cleaned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import Sam3VideoModel

    from sam3_widget.models.sam.memory import Frame, ObjectMemory
    from sam3_widget.models.sam.runtime import Runtime

LONG_AGO = 1 << 40
"""How many frames before all others an object counts as seen first that is never given up."""


class _Session(transformers.Sam3VideoInferenceSession):
    """A session of a clip whose end is not known."""

    num_frames = sys.maxsize
    obj_with_new_inputs: Sequence[int] = ()


@dataclass(frozen=True)
class Offer:
    """What a detector offers for one concept on a frame.

    Attributes
    ----------
    concept_id : int
    threshold : float
        Score that counts as the concept.
    logits : (N, h, w) float32
    scores : (N,) float32
    """

    concept_id: int
    threshold: float
    logits: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True)
class Met:
    """One of a crowd on a frame.

    Attributes
    ----------
    concept_id : int
    logits : (h, w) float32
        Over the whole frame; nowhere positive where it is not in view.
    score : float
        0 to 1; of one that is carried as :attr:`sam3_widget.models.sam.video.Outcome.score`, of a new one the
        detector's.
    """

    concept_id: int
    logits: torch.Tensor
    score: float


@dataclass(frozen=True)
class Meeting:
    """What became of a crowd on a frame.

    Attributes
    ----------
    carried : mapping
        By number, those that were there before and still are.
    new : mapping
        By number, those that the detector found beside them.
    lost : frozenset of int
        The numbers of those that were never there.
    """

    carried: Mapping[int, Met]
    new: Mapping[int, Met]
    lost: frozenset[int]


class Crowd:
    """The instances of the concepts that are looked for, each with a number of its own.

    Parameters
    ----------
    model : Sam3VideoModel
    runtime : Runtime
    stored : callable
        As :meth:`sam3_widget.models.sam.video.VideoNetwork.stored`, for what the rules remember of instances.
    """

    def __init__(self, model: Sam3VideoModel, runtime: Runtime, stored: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._model = cast("Any", model)
        self._stored = stored
        self._tracker = self._model.tracker_model
        device = runtime.device
        self._session: Any = _Session(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
        )

    def enter(self, concept_id: int, first: int) -> int:
        """Count in an instance that is known from elsewhere, first seen on a frame; return its number."""
        session = self._session
        session.max_obj_id += 1
        number: int = session.max_obj_id
        session.obj_id_to_idx(number)
        session.obj_id_to_prompt_id[number] = concept_id
        session.trk_keep_alive[number] = self._model.init_trk_keep_alive
        session.obj_first_frame_idx[number] = first
        return number

    def keep(self, number: int, *, reverse: bool) -> None:
        """Never give an instance up, in a walk of this direction."""
        self._session.obj_first_frame_idx[number] = LONG_AGO if reverse else -LONG_AGO

    def leave(self, number: int) -> None:
        """Count an instance out."""
        session = self._session
        session.remove_object(number)
        for known in (
            session.obj_id_to_score,
            session.obj_id_to_last_occluded,
            session.obj_first_frame_idx,
            session.unmatched_frame_inds,
            session.trk_keep_alive,
        ):
            known.pop(number, None)
        session.removed_obj_ids.discard(number)
        for pair in [pair for pair in session.overlap_pair_to_frame_inds if number in pair]:
            del session.overlap_pair_to_frame_inds[pair]

    def remember(self, number: int, memory: ObjectMemory, *, new: bool = False) -> None:
        """Share what is remembered of an instance: the object's memory with the crowd, or, of a new one, vice versa."""
        index = self._session.obj_id_to_idx(number)
        (memory.borrow if new else memory.lend)(self._session, index)

    def meet(self, frame: Frame, offers: Sequence[Offer], *, reverse: bool) -> Meeting:
        """Carry all instances to a frame, and hold them against what the detector offers there.

        What becomes of a crowd is decided as ``Sam3VideoModel.forward`` does for a clip that is loaded.

        Parameters
        ----------
        frame : Frame
        offers : sequence of Offer
        reverse : bool
            Whether the clip is walked backwards.
        """
        model, session, frame_idx = self._model, self._session, frame.frame_idx
        session.cache.cache_vision_features(frame_idx, frame.features)
        found, owners = self._counted(offers, frame.device)
        numbers = list(session.obj_ids)
        session.obj_id_to_last_occluded = {  # the one thing stored that transformers does not move by itself
            number: last.to(session.inference_device) for number, last in session.obj_id_to_last_occluded.items()
        }
        masks, sights, ious = self._carried(frame_idx, reverse=reverse)
        plan, told = model.run_tracker_update_planning_phase(
            session, frame_idx, reverse, found, masks, sights, dict(enumerate(owners))
        )
        model.run_tracker_update_execution_phase(session, frame_idx, found, plan, reverse)
        carried = dict(zip(numbers, masks, strict=True))
        for number in plan["reconditioned_obj_ids"]:
            carried[number] = found["mask"][plan["trk_id_to_max_iou_high_conf_det"][number]]
        new = cleaned(found["mask"][plan["new_det_out_inds"]], model.fill_hole_area)
        carried |= dict(zip(plan["new_det_obj_ids"], new, strict=True))
        surely = dict(zip(numbers, sights.sigmoid().tolist(), strict=True))
        surely |= dict(zip(plan["new_det_obj_ids"], found["stated"][plan["new_det_out_inds"]].tolist(), strict=True))
        self._note(told)
        lost = frozenset(plan["obj_ids_newly_removed"])
        hidden = told["extra_metadata"]["suppressed_obj_ids"][frame_idx]
        shown = {n: mask.clamp(max=NOWHERE) if n in hidden else mask for n, mask in carried.items() if n not in lost}
        score = {n: surely[n] * ious.get(n, 1.0) for n in shown}
        met = self._apart(shown, surely, score)
        for number in lost:
            self.leave(number)
        fresh = set(plan["new_det_obj_ids"])
        return Meeting(
            {n: each for n, each in met.items() if n not in fresh},
            {n: each for n, each in met.items() if n in fresh},
            lost,
        )

    def _counted(self, offers: Sequence[Offer], device: torch.device) -> tuple[dict[str, torch.Tensor], list[int]]:
        """Return the detections that count, with the concept of each.

        The rules know one threshold for all concepts. A concept's own one shifts its scores by the difference.
        """
        model, side = self._model, self._model.low_res_mask_size
        logits, owners = [torch.zeros(0, side, side, device=device)], list[int]()
        scores, stated = [torch.zeros(0, device=device)], [torch.zeros(0, device=device)]
        for offer in offers:
            moved = offer.scores + (model.score_threshold_detection - offer.threshold)
            rows = torch.nonzero(moved > model.score_threshold_detection)[:, 0]
            if model.det_nms_thresh > 0:
                rows = rows[best_of_each(offer.logits[rows], moved[rows], model.det_nms_thresh)]
            logits.append(offer.logits[rows])
            scores.append(moved[rows])
            stated.append(offer.scores[rows])
            owners += [offer.concept_id] * len(rows)
        return {"mask": torch.cat(logits), "scores": torch.cat(scores), "stated": torch.cat(stated)}, owners

    def _carried(self, frame_idx: int, *, reverse: bool) -> tuple[torch.Tensor, torch.Tensor, dict[int, float]]:
        """Return what the tracker makes of all instances, how surely each is in view, and the IoU that it predicts."""
        session, side = self._session, self._model.low_res_mask_size
        if not session.obj_ids:
            device = session.inference_device
            return torch.zeros(0, side, side, device=device), torch.zeros(0, device=device), {}
        ious: list[torch.Tensor] = []
        hook = self._tracker.mask_decoder.register_forward_hook(lambda _m, _a, made: ious.append(made[1].max()))
        try:
            output = self._tracker(session, frame_idx=frame_idx, reverse=reverse, run_mem_encoder=False)
        finally:
            hook.remove()
        masks = cleaned(output.pred_masks[:, 0].float(), self._model.fill_hole_area)
        predicted = (float(iou.float().clamp(0, 1)) for iou in ious)
        return masks, output.object_score_logits[:, 0].float(), dict(zip(session.obj_ids, predicted, strict=True))

    def _note(self, told: Mapping[str, Any]) -> None:
        """Keep what the rules want to know on later frames, and no more of it than they look at."""
        session, model, extra = self._session, self._model, told["extra_metadata"]
        session.obj_ids = list(told["obj_ids"])
        session.max_obj_id = told["max_obj_id"]
        session.obj_id_to_score = told["obj_id_to_score"]
        session.obj_id_to_last_occluded = {n: self._stored(at) for n, at in told["obj_id_to_last_occluded"].items()}
        for name in ("obj_first_frame_idx", "unmatched_frame_inds", "trk_keep_alive", "overlap_pair_to_frame_inds"):
            setattr(session, name, extra[name])
        for counted, most in (
            (session.unmatched_frame_inds, model.hotstart_unmatch_thresh),
            (session.overlap_pair_to_frame_inds, model.hotstart_dup_thresh),
        ):
            for frames in counted.values():
                del frames[: max(0, len(frames) - most)]
        session.mask_inputs_per_obj = {index: {} for index in session.mask_inputs_per_obj}
        session.cache.clear_all()

    def _apart(
        self, shown: Mapping[int, torch.Tensor], surely: Mapping[int, float], scores: Mapping[int, float]
    ) -> dict[int, Met]:
        """Return instances of which no two of one concept share a pixel."""
        if not shown:
            return {}
        numbers = sorted(shown)
        owner = self._session.obj_id_to_prompt_id
        masks = torch.stack([shown[n] for n in numbers])
        claims = torch.tensor([surely[n] for n in numbers], device=masks.device)
        groups = torch.tensor([owner[n] for n in numbers], device=masks.device)
        return {
            number: Met(owner[number], mask, scores[number] if bool((mask > 0).any()) else 0.0)
            for number, mask in zip(numbers, apart(masks, claims, groups), strict=True)
        }
