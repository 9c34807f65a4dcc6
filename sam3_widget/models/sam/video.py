"""The video models of transformers seen alike: SAM 2 and EdgeTAM, which hold their image model, and SAM 3's tracker.

What carries an object from frame to frame is a memory: "SAM 2: Segment Anything in Images and Videos" (Ravi et al.,
2024). Each frame attends to what the memory encoder made of earlier frames and of the masks on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from sam3_widget.models.sam.network import KINDS
from sam3_widget.models.weights.checkpoint import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sam3_widget.models.sam.runtime import Runtime

VIDEO_KINDS = {"sam2_video": "Sam2VideoModel", "edgetam_video": "EdgeTamVideoModel"}
"""The class of transformers for each ``model_type`` that carries objects through a video."""
SESSIONS = {
    "sam2_video": "Sam2VideoInferenceSession",
    "edgetam_video": "EdgeTamVideoInferenceSession",
    "sam3_tracker_video": "Sam3TrackerVideoInferenceSession",
}
"""The class in which transformers keeps what such a model remembers, by ``model_type``."""

STREAMED = torch.empty(3, 0, 0)
"""A frame's pixels, none of which are looked at where its features are cached. A frame that is given to transformers
counts as one of a stream, whose end is not known."""

Features = dict[str, list[torch.Tensor]]
"""What a session caches of one frame, (h * w, 1, C) float32 each: ``vision_feats`` of all levels, the finest first, and
``vision_pos_embeds`` of the coarsest, which alone attends to the memory."""


def image_part(video: PreTrainedModel) -> PreTrainedModel:
    """Return the image model that is part of a video model: of the same modules and parameters, none of them a copy.

    Parameters
    ----------
    video : PreTrainedModel
        Of one of the classes in :data:`VIDEO_KINDS`.
    """
    kind = getattr(transformers, KINDS[FAMILIES[video.config.model_type]])
    stated = {key: value for key, value in video.config.to_dict().items() if key != "model_type"}
    with torch.device("meta"):  # parameters without memory, in whose place come those of the video model
        image = kind(kind.config_class.from_dict(stated))
    parts = [*image.named_children(), *image.named_parameters(recurse=False)]
    for name, _ in parts:
        setattr(image, name, getattr(video, name))
    view: PreTrainedModel = image.eval()
    return view


def to_main_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in main memory, whole when this returns; itself where it is there already."""
    return tensor.to("cpu")


def place_memory(video: PreTrainedModel, image: PreTrainedModel, runtime: Runtime) -> None:
    """Move what a video model has beyond its image part to the device, in float32.

    Parameters
    ----------
    video : PreTrainedModel
    image : PreTrainedModel
        Its image part, placed already.
    runtime : Runtime
    """
    placed = {id(parameter) for parameter in image.parameters()}
    for parameter in video.parameters():
        if id(parameter) not in placed:
            parameter.data = parameter.data.float()
    cast("Any", video).to(runtime.device).eval().requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class Outcome:
    """What a video model says of one object on one frame.

    Attributes
    ----------
    logits : (h, w) float32
        Over the whole frame, on the CPU; -1024 everywhere where the object is not in view.
    score : float
        Probability that the object is in view times predicted IoU, 0 to 1; 0 where it is not in view.
    """

    logits: torch.Tensor
    score: float


class VideoNetwork:
    """A video model of transformers.

    The encoder runs in the chosen precision. What remembers and decodes is float32, under autocast where objects are
    carried in half precision on an accelerator, and without it where a person's prompts are read.

    Parameters
    ----------
    model : PreTrainedModel
        On its device already, with everything but the encoder in float32.
    runtime : Runtime
    offload_memory : bool
        Whether what is remembered of earlier frames lies in main memory, and not on the device.

    Attributes
    ----------
    recent : int
        How many frames before the next one it attends to, beside those that a person prompted.
    pointers : int
        How many frames before the next one it reads the object's summary of, a single vector.
    conditions : int
        How many conditioning frames, the nearest ones, it attends to.
    mask_side : int
        Pixels per side of the masks that it makes, which cover the same square as the encoder's input.
    """

    def __init__(self, model: PreTrainedModel, runtime: Runtime, *, offload_memory: bool = False) -> None:
        self._model = cast("Any", model)
        self._runtime = runtime
        self._offload_memory = offload_memory
        config = self._model.config
        self.recent: int = config.num_maskmem - 1
        self.pointers: int = config.max_object_pointers_in_encoder - 1
        self.conditions: int = config.max_cond_frame_num
        self.mask_side: int = self._model.prompt_encoder.mask_input_size[0]
        self._positions: torch.Tensor | None = None

    def session(self) -> Any:  # noqa: ANN401 - transformers has no common base of them
        """Return a new session of transformers, with one object, whose index is 0 and whose id is 0."""
        device = self._runtime.device
        kind = getattr(transformers, SESSIONS[self._model.config.model_type])
        session = kind(  # its state elsewhere would send the features of the frame at hand to and fro in each step
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
        )
        session.obj_id_to_idx(0)
        return session

    def encode(self, pixels: torch.Tensor) -> Features:
        """Return what a session caches of a frame, ``(1, 3, side, side)`` float32, by the model's own encoder."""
        device, dtype = self._runtime.device, self._runtime.dtype
        output = self._model.get_image_features(pixels.to(device, dtype), return_dict=True)
        return {
            "vision_feats": [level.float() for level in output.fpn_hidden_states],
            "vision_pos_embeds": [output.fpn_position_encoding[-1].float()],
        }

    def run(self, session: Any, frame_idx: int, *, reverse: bool) -> Outcome:  # noqa: ANN401
        """Let the model say where the session's object is on a frame whose features the session has cached.

        Parameters
        ----------
        session : Sam2VideoInferenceSession or another of :data:`SESSIONS`
        frame_idx : int
        reverse : bool
            Whether the clip is walked backwards.
        """
        scores: list[torch.Tensor] = []
        hook = self._model.mask_decoder.register_forward_hook(lambda _m, _a, made: scores.append(made[1].max()))
        try:
            output = self._model(session, frame_idx=frame_idx, frame=STREAMED, reverse=reverse)
        finally:
            hook.remove()
        logits = output.pred_masks[0, 0].float().cpu().clone()  # the session keeps its own
        there = torch.sigmoid(output.object_score_logits.float()) * scores[-1].float().clamp(0, 1)
        return Outcome(logits, float(there) if bool((logits > 0).any()) else 0.0)

    def shared_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the positions within a memory, the same for all frames and objects, as one tensor for all of them."""
        if self._positions is None or self._positions.shape != positions.shape:
            self._positions = self.stored(positions.clone())
        return self._positions

    def stored(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what is remembered of a frame as it lies until a later one attends to it: in main memory if offloaded.

        transformers moves to the device, in each step, what that step attends to, wherever it lies.
        """
        return to_main_memory(tensor) if self._offload_memory else tensor
