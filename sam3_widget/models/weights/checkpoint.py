"""Checkpoints of the SAM family on this disk: found in the Hub's cache or a folder, and checked before they load."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sam3_widget.errors import WeightsError
from sam3_widget.models.weights.files import WEIGHTS, check_size, read_json, weight_files

FAMILIES = {
    "sam3_video": "sam3",
    "sam3": "sam3",
    "sam2_video": "sam2",
    "sam2": "sam2",
    "sam_hq": "sam_hq",
    "sam": "sam",
    "edgetam_video": "edgetam",
    "edgetam": "edgetam",
}
"""What ``model_type`` in a checkpoint's ``config.json`` may be, and the family that it stands for."""
HUB = "https://huggingface.co"
EXTRA = 'pip install "sam3-widget[sam3]"'
TIMM = "pip install timm torchvision"
AGAIN = "load it again by its name"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this disk, whole as far as its files' headers tell.

    Attributes
    ----------
    folder : Path
        With ``config.json`` and the weights.
    model_type : str
        A key of :data:`FAMILIES`.
    size : int
        Bytes of the weights.
    """

    folder: Path
    model_type: str
    size: int

    @property
    def family(self) -> str:
        """The family it belongs to."""
        return FAMILIES[self.model_type]


def lacking(family: str) -> str:
    """Return what has to be installed before a model of this family runs: a pip command, or "" where nothing has to."""
    if not all(map(_importable, ("transformers", "huggingface_hub"))):
        return EXTRA
    if family == "edgetam" and not all(map(_importable, ("timm", "torchvision"))):
        return TIMM
    return ""


def _importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, as tests put there
        return True


def require(family: str) -> None:
    """Check that everything is installed which a model of this family needs.

    Raises
    ------
    WeightsError
        Something is not; the message has the pip command.
    """
    if command := lacking(family):
        message = f"{family or 'the SAM family'} needs packages that are not installed: {command}"
        raise WeightsError(message)


def unimportable(error: ImportError) -> WeightsError:
    """Return what to tell where a package is installed but does not load."""
    return WeightsError(
        f"transformers cannot be imported: {error}. Where torchvision is installed, it must fit torch: install both "
        "anew in one command, or remove it with pip uninstall torchvision, which only EdgeTAM needs"
    )


def open_folder(path: str | Path) -> Checkpoint:
    """Return the checkpoint in a folder.

    Parameters
    ----------
    path : str or Path
        A folder with ``config.json`` and ``model.safetensors``, or the shards and their index.

    Raises
    ------
    WeightsError
        There is no such folder, it holds something else, or part of it is missing or damaged.
    """
    folder = Path(path).expanduser()
    if folder.is_file():
        message = (
            f"{folder} is a file; expected the folder that holds it, with config.json beside the weights"
            if (folder.parent / "config.json").is_file()
            else f"{folder} is a file without a config.json beside it; expected the folder of a checkpoint for "
            'transformers, such as "facebook/sam3" downloads (a .pt file is for the authors\' own code)'
        )
        raise WeightsError(message)
    if not folder.is_dir():
        message = f"there is no folder {folder}; expected one with config.json and {WEIGHTS}"
        raise WeightsError(message)
    return read_checkpoint(folder, f"copy the whole file from where {folder.name} came from")


def find_cached(repo_id: str, cache: Path | None = None) -> Checkpoint | None:
    """Return a checkpoint that was downloaded from the Hub, or None; a partial one counts as none.

    Parameters
    ----------
    repo_id : str
        ``"owner/name"``.
    cache : Path, optional
        The Hub's cache; by default where ``HF_HUB_CACHE`` and ``HF_HOME`` say.
    """
    for folder in snapshots(repo_id, cache):
        try:
            return read_checkpoint(folder)
        except WeightsError:
            continue
    return None


def all_cached(cache: Path | None = None) -> dict[str, Checkpoint]:
    """Return every whole checkpoint of the SAM family in the Hub's cache, by ``"owner/name"``."""
    cache = hub_cache() if cache is None else cache
    if cache is None:
        return {}
    repos = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in cache.glob("models--*--*"))
    found = ((repo_id, find_cached(repo_id, cache)) for repo_id in repos)
    return {repo_id: checkpoint for repo_id, checkpoint in found if checkpoint is not None}


def snapshots(repo_id: str, cache: Path | None = None) -> list[Path]:
    """Return a repository's folders in the Hub's cache, partial ones included: the main revision, then the newest."""
    cache = hub_cache() if cache is None else cache
    if cache is None:
        return []
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    reference = folder / "refs" / "main"
    main = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    found = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime))


def hub_cache() -> Path | None:
    """Return where the Hub keeps what it downloads, or None without ``huggingface_hub``."""
    try:
        from huggingface_hub import constants  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


def read_checkpoint(folder: Path, remedy: str = AGAIN) -> Checkpoint:
    """Return the checkpoint in a folder that exists.

    Parameters
    ----------
    folder : Path
    remedy : str
        What to do about a missing or damaged file, as the end of a sentence.

    Raises
    ------
    WeightsError
        The folder holds something else, or part of it is missing or damaged.
    """
    try:
        kind = model_type(folder)
        size = sum(check_size(file, remedy) for file in weight_files(folder, remedy))
    except OSError as error:
        message = f"{error.filename or folder} cannot be read ({error.strerror}): check its permissions"
        raise WeightsError(message) from error
    return Checkpoint(folder, kind, size)


def model_type(folder: Path) -> str:
    """Return what kind of model a folder's ``config.json`` describes: a key of :data:`FAMILIES`.

    Raises
    ------
    WeightsError
        There is none, or it describes another kind of model.
    """
    file = folder / "config.json"
    if not file.is_file():
        original = next(iter(sorted([*folder.glob("*.pt"), *folder.glob("*.pth")])), None)
        hint = f" ({original.name} is for the authors' own code)" if original else ""
        message = (
            f"{folder} has no config.json{hint}; expected a checkpoint for transformers: config.json and {WEIGHTS}"
        )
        raise WeightsError(message)
    kind = read_json(file).get("model_type")
    if kind not in FAMILIES:
        message = f"{file} says model_type {kind!r}; expected one of the SAM family: {', '.join(FAMILIES)}"
        raise WeightsError(message)
    return str(kind)
