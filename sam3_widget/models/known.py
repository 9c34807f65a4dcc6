"""Short names of public checkpoints, and what is known of them before they are on this disk."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sam3_widget.models.base import Capabilities

_CLICKS = Capabilities(points=True, boxes=True, mask_prompt=True)
_VIDEO = Capabilities(points=True, boxes=True, mask_prompt=True, video=True)
CAPABILITIES = {
    "builtin": Capabilities(points=True, boxes=True, mask_prompt=True, exemplars=True, video=True),
    "sam3": Capabilities(points=True, boxes=True, mask_prompt=True, text=True, exemplars=True, video=True),
    "sam2": _VIDEO,
    "sam_hq": _CLICKS,
    "sam": _CLICKS,
    "edgetam": _VIDEO,
}
"""What the models of each family can do."""
CARRYING = {"sam3_video", "sam2_video", "edgetam_video"}
"""The ``model_type`` of the checkpoints that hold what carries objects through a video."""
APACHE = "Apache-2.0"
SAM = "SAM License"


@dataclass(frozen=True)
class Known:
    """A public checkpoint with a short name.

    Attributes
    ----------
    name : str
        For :func:`~sam3_widget.models.catalog.load_model`.
    repo_id : str
        On the Hugging Face Hub.
    family : str
        A key of :data:`CAPABILITIES`.
    size : int
        Bytes to download, roughly.
    licence : str
    gated : bool
        Whether the licence has to be accepted on the Hub before anything can be downloaded.
    """

    name: str
    repo_id: str
    family: str
    size: int
    licence: str = APACHE
    gated: bool = False


KNOWN = (
    Known("sam3", "facebook/sam3", "sam3", 3_440_000_000, SAM, gated=True),
    Known("sam2.1-large", "facebook/sam2.1-hiera-large", "sam2", 898_000_000),
    Known("sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", "sam2", 323_000_000),
    Known("sam2.1-small", "facebook/sam2.1-hiera-small", "sam2", 184_000_000),
    Known("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", "sam2", 156_000_000),
    Known("sam2-large", "facebook/sam2-hiera-large", "sam2", 898_000_000),
    Known("sam2-base-plus", "facebook/sam2-hiera-base-plus", "sam2", 323_000_000),
    Known("sam2-small", "facebook/sam2-hiera-small", "sam2", 184_000_000),
    Known("sam2-tiny", "facebook/sam2-hiera-tiny", "sam2", 156_000_000),
    Known("sam-hq-vit-huge", "syscv-community/sam-hq-vit-huge", "sam_hq", 2_570_000_000),
    Known("sam-hq-vit-large", "syscv-community/sam-hq-vit-large", "sam_hq", 1_250_000_000),
    Known("sam-hq-vit-base", "syscv-community/sam-hq-vit-base", "sam_hq", 379_000_000),
    Known("sam-vit-huge", "facebook/sam-vit-huge", "sam", 2_560_000_000),
    Known("sam-vit-large", "facebook/sam-vit-large", "sam", 1_250_000_000),
    Known("sam-vit-base", "facebook/sam-vit-base", "sam", 375_000_000),
    Known("edgetam", "yonigozlan/EdgeTAM-hf", "edgetam", 56_000_000),
    Known("slimsam-50", "Zigeng/SlimSAM-uniform-50", "sam", 112_000_000),
    Known("slimsam-77", "Zigeng/SlimSAM-uniform-77", "sam", 39_000_000),
)
"""Best first: ``"auto"`` takes the first that is on this disk."""


def capabilities_of(family: str, model_type: str) -> Capabilities:
    """Return what a checkpoint of a family can do: one of an image model carries nothing through a video."""
    stated = CAPABILITIES[family]
    return replace(stated, video=stated.video and model_type in CARRYING)


def known(name: str) -> Known | None:
    """Return the public checkpoint with this short name or ``"owner/name"``, or None."""
    return next((entry for entry in KNOWN if name in {entry.name, entry.repo_id}), None)
