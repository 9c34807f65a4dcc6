"""The models that can be loaded, as a table for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, overload

from sam3_widget.models.known import APACHE, CAPABILITIES, KNOWN, Known, capabilities_of, known
from sam3_widget.models.weights.checkpoint import HUB, Checkpoint, all_cached, lacking, snapshots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sam3_widget.models.base import Capabilities

HEADINGS = ("name", "Hugging Face Hub", "takes", "size", "on disk", "licence", "note")
WORDS = {"mask_prompt": "masks"}
UNITS = (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000))


@dataclass(frozen=True)
class ModelInfo:
    """What there is to know about a model before it is loaded.

    Attributes
    ----------
    name : str
        What ``load_model`` takes.
    repo_id : str
        On the Hugging Face Hub; "" for the built-in model.
    family : str
        ``"builtin"``, ``"sam3"``, ``"sam2"``, ``"sam_hq"``, ``"sam"`` or ``"edgetam"``.
    capabilities : Capabilities
    on_disk : bool
        Whether it loads without a download.
    path : Path or None
        The folder with its weights, where they are on this disk.
    size : int
        Bytes of the weights on this disk, or to download, roughly.
    licence : str
        Of the weights; "" where its page on the Hub says.
    usable : bool
        Whether everything is installed that it needs.
    note : str
        What to do before it can be used, if anything.
    """

    name: str
    repo_id: str
    family: str
    capabilities: Capabilities
    on_disk: bool
    path: Path | None
    size: int
    licence: str
    usable: bool
    note: str

    def _cells(self) -> tuple[str, ...]:
        takes = ", ".join(WORDS.get(word, word) for word, can in self.capabilities.to_json().items() if can)
        here = "yes" if self.on_disk else "no"
        return (self.name, self.repo_id, takes, readable(self.size), here, self.licence, self.note)


class ModelList(Sequence[ModelInfo]):
    """Models, best first, which print as a table.

    Parameters
    ----------
    models : iterable of ModelInfo
    """

    def __init__(self, models: Iterable[ModelInfo]) -> None:
        self._models = tuple(models)

    @overload
    def __getitem__(self, index: int) -> ModelInfo: ...

    @overload
    def __getitem__(self, index: slice) -> ModelList: ...

    def __getitem__(self, index: int | slice) -> ModelInfo | ModelList:
        return ModelList(self._models[index]) if isinstance(index, slice) else self._models[index]

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        rows = [HEADINGS, *(model._cells() for model in self._models)]  # noqa: SLF001 - the same module
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align: left'>{heading}</th>" for heading in HEADINGS)
        body = "".join(f"<tr>{_html(model)}</tr>" for model in self._models)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html(model: ModelInfo) -> str:
    name, repo_id, *others = map(escape, model._cells())  # noqa: SLF001 - the same module
    page = f"<a href='https://huggingface.co/{repo_id}'>{repo_id}</a>" if repo_id else ""
    cells = (f"<code>{name}</code>", page, *others)
    return "".join(f"<td style='text-align: left'>{cell}</td>" for cell in cells)


def readable(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit, factor = next(((unit, factor) for unit, factor in UNITS if size >= factor), UNITS[-1])
    return f"{size / factor:.3g} {unit}"


def describe() -> ModelList:
    """Return the built-in model, those with a short name, and whatever else of the SAM family is in the Hub's cache."""
    cached = all_cached()
    others = {repo_id: checkpoint for repo_id, checkpoint in cached.items() if known(repo_id) is None}
    return ModelList(
        [
            _of_builtin(),
            *(_of_known(entry, cached.get(entry.repo_id)) for entry in KNOWN),
            *(_of_checkpoint(repo_id, repo_id, checkpoint) for repo_id, checkpoint in others.items()),
        ]
    )


def _of_builtin() -> ModelInfo:
    path = Path(__file__).parent / "builtin"
    return ModelInfo(
        "builtin",
        "",
        "builtin",
        CAPABILITIES["builtin"],
        on_disk=True,
        path=path,
        size=(path / "weights.safetensors").stat().st_size,
        licence=APACHE,
        usable=True,
        note="",
    )


def _of_known(entry: Known, checkpoint: Checkpoint | None) -> ModelInfo:
    if checkpoint is not None:
        return _of_checkpoint(entry.name, entry.repo_id, checkpoint, entry.licence)
    needs = lacking(entry.family)
    notes = [needs] if needs else []
    if snapshots(entry.repo_id):
        notes.append("download is not complete: loading it goes on")
    elif entry.gated:
        notes.append(f"accept its licence first: {HUB}/{entry.repo_id}")
    return ModelInfo(
        entry.name,
        entry.repo_id,
        entry.family,
        CAPABILITIES[entry.family],
        on_disk=False,
        path=None,
        size=entry.size,
        licence=entry.licence,
        usable=not needs,
        note="; ".join(notes),
    )


def _of_checkpoint(name: str, repo_id: str, checkpoint: Checkpoint, licence: str = "") -> ModelInfo:
    needs = lacking(checkpoint.family)
    return ModelInfo(
        name,
        repo_id,
        checkpoint.family,
        capabilities_of(checkpoint.family, checkpoint.model_type),
        on_disk=True,
        path=checkpoint.folder,
        size=checkpoint.size,
        licence=licence,
        usable=not needs,
        note=needs,
    )
