"""Checkpoints by name: from the Hub's cache, else from the Hub. Whatever goes wrong says what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

from sam3_widget.errors import WeightsError
from sam3_widget.models.weights.checkpoint import (
    HUB,
    Checkpoint,
    find_cached,
    hub_cache,
    model_type,
    read_checkpoint,
    require,
    snapshots,
)
from sam3_widget.models.weights.files import INDEX, WEIGHTS

NEEDED = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model*.safetensors",
    INDEX,
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
]
"""All that is read of a repository; the weights in the authors' own format, as large again, stay there."""
FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = 403


def fetch(repo_id: str, cache: Path | None = None) -> Checkpoint:
    """Return a checkpoint from the Hub's cache; download it into the cache where it is not there.

    A whole checkpoint on this disk is used as it is: the Hub is not asked for a newer one. Of a repository of
    another kind no more is downloaded than the small file that says so.

    Parameters
    ----------
    repo_id : str
        ``"owner/name"``.
    cache : Path, optional
        The Hub's cache; by default where ``HF_HUB_CACHE`` and ``HF_HOME`` say.

    Raises
    ------
    WeightsError
        It could not be downloaded, or is of another kind.
    """
    require("")
    found = find_cached(repo_id, cache)
    if found is not None:
        return found
    require(model_type(_download(repo_id, NEEDED[:1], cache)))
    folder = _download(repo_id, NEEDED, cache)
    remedy = f"load {repo_id} again with a network; if that does not help, it is no checkpoint for transformers"
    return read_checkpoint(folder, remedy)


def _download(repo_id: str, patterns: list[str], cache: Path | None) -> Path:
    """Return the folder in the Hub's cache that has these files of a repository."""
    import huggingface_hub  # noqa: PLC0415 - an extra

    try:
        return Path(huggingface_hub.snapshot_download(repo_id, cache_dir=cache, allow_patterns=patterns))
    except Exception as error:  # the Hub's client raises errors of four libraries
        raise WeightsError(_explain(repo_id, error, cache)) from error


def _explain(repo_id: str, error: Exception, cache: Path | None) -> str:
    """Return what went wrong in a download, and the next step."""
    from huggingface_hub import errors  # noqa: PLC0415 - an extra

    page = f"{HUB}/{repo_id}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HFValidationError):
        return f"{repo_id!r} cannot be the name of a repository; expected owner/name, such as 'facebook/sam3'"
    if isinstance(error, errors.GatedRepoError) or status == FORBIDDEN:
        return _gated(repo_id, page)
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no model {repo_id!r} on the Hugging Face Hub, nor a folder with a checkpoint by that name here; "
            f"look at {page}. A private one needs a login with `hf auth login` first"
        )
    if isinstance(error, errors.LocalEntryNotFoundError) or _unreachable(error):
        return _offline(repo_id, error, cache)
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"the disk is full: {cache or hub_cache()} has no room for {repo_id}; free some, or set HF_HUB_CACHE to a "
            "folder on another disk, restart, and load again: it goes on where it stopped"
        )
    if isinstance(error, PermissionError):
        return (
            f"{error.filename or cache or hub_cache()} cannot be written: change its permissions, or set HF_HUB_CACHE "
            "to a folder of yours, restart, and load again"
        )
    return f"downloading {repo_id} failed ({error}); load again: it goes on where it stopped"


def _gated(repo_id: str, page: str) -> str:
    """Return the way to a model whose licence has to be accepted first."""
    import huggingface_hub  # noqa: PLC0415 - an extra

    if huggingface_hub.get_token() is None:
        return (
            f"{repo_id} is gated: its licence has to be accepted first, and you are not logged in. "
            f"1. Accept the licence on {page}. "
            "2. Make a token on https://huggingface.co/settings/tokens and log in with `hf auth login` in a terminal "
            "(`huggingface-cli login` before version 1.0), huggingface_hub.login() in a notebook, or HF_TOKEN. "
            "3. Load again."
        )
    return (
        f"{repo_id} is gated, and your login has no access to it: accept its licence on {page}, which also says "
        "whether a request is pending or was rejected; a fine-grained token needs the permission to read gated "
        "repositories. Then load again"
    )


def _unreachable(error: Exception) -> bool:
    """Whether the network failed: by name, since the Hub's client changed its HTTP library twice."""
    network = {"ConnectError", "ConnectionError", "TimeoutException", "Timeout", "NetworkError", "ProxyError"}
    return bool(network & {kind.__name__ for kind in type(error).__mro__})


def _offline(repo_id: str, error: Exception, cache: Path | None) -> str:
    """Return the way to a model while the Hub cannot be reached."""
    from huggingface_hub import errors  # noqa: PLC0415 - an extra

    half = bool(snapshots(repo_id, cache))
    what = f"{repo_id} is on this disk only in part" if half else f"{repo_id} is not on this disk"
    switched_off = isinstance(error.__cause__ or error, errors.OfflineModeIsEnabled)
    why = "HF_HUB_OFFLINE forbids to download it" if switched_off else "the Hugging Face Hub cannot be reached"
    how = "Unset HF_HUB_OFFLINE, restart, and load again" if switched_off else "Load again once there is a network"
    return (
        f"{what}, and {why}. {how}; or, where there is a network, run `hf download {repo_id} --local-dir FOLDER`, "
        f"copy FOLDER here ({WEIGHTS} and the small files beside it), and call load_model('/path/to/FOLDER')"
    )
