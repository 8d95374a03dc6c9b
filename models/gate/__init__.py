"""The gate: checks a candidate's measured figures against bounds before it serves (no torch)."""

from __future__ import annotations

from models.gate.figures import Behaviour, GateFigures, OperatorFigure, SampleReply
from models.gate.settings import GateBounds
from models.gate.verdict import Check, GateVerdict, blocked, decide

__all__ = [
    "Behaviour",
    "Check",
    "GateBounds",
    "GateFigures",
    "GateVerdict",
    "OperatorFigure",
    "SampleReply",
    "blocked",
    "decide",
]
