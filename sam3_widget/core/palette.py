"""Colours of instances, told apart by colour-blind people too."""

from __future__ import annotations

COLORS = (
    "#0072b2",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#d55e00",
    "#332288",
    "#44aa99",
    "#882255",
    "#88ccee",
    "#ddcc77",
    "#aa4499",
)
"""Okabe and Ito's palette (2008), then Paul Tol's muted one (2021), less the greens and reds of prompts."""


def color_of(object_id: int) -> str:
    """Return the ``#rrggbb`` of an instance."""
    return COLORS[(object_id - 1) % len(COLORS)]


def color_of_concept(concept_id: int) -> str:
    """Return the ``#rrggbb`` of a concept: from the other end, so that it is not its first instance's too."""
    return COLORS[-concept_id % len(COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of ``#rrggbb``."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
