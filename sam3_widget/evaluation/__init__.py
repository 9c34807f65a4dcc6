"""How good masks are: against the truth, and in clicks that a model needs to reach it."""

from __future__ import annotations

from sam3_widget.evaluation.clicks import ClickEvaluation, ClickRun, clicks_to
from sam3_widget.evaluation.masks import Evaluation, Match, evaluate
from sam3_widget.evaluation.overlap import boundary_f

__all__ = ["ClickEvaluation", "ClickRun", "Evaluation", "Match", "boundary_f", "clicks_to", "evaluate"]
