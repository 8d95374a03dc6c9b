"""The gate's pure verdict: measured figures against bounds, a reason for each (no torch)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.settings import LearnerSettings


@dataclass(frozen=True, slots=True)
class GateFigures:
    """What a candidate did on the held-out prompts.

    Attributes:
        replies: Held-out prompts answered.
        finite: Whether all weights are finite numbers.
        kl_per_reply: Nats of KL to the base, averaged over replies.
        repetition: Share of 3-grams that repeat an earlier one of the same reply.
        empty: Share of replies with no visible text.
        distinct: Distinct replies as a share of all.
        mean_tokens: Tokens per reply.
    """

    replies: int
    finite: bool
    kl_per_reply: float
    repetition: float
    empty: float
    distinct: float
    mean_tokens: float


@dataclass(frozen=True, slots=True)
class GateBounds:
    """What a candidate must keep to."""

    max_kl: float
    max_repetition: float
    max_empty: float = 0.25
    min_distinct: float = 0.5

    @classmethod
    def from_settings(cls, settings: LearnerSettings) -> GateBounds:
        """Take the bounds that operators can set."""
        return cls(max_kl=settings.gate_max_kl, max_repetition=settings.gate_max_repetition)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its bound."""

    name: str
    value: float
    bound: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether users may be served by the candidate, and every check behind it."""

    passed: bool
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str | None:
        """What failed, in words; None when the candidate passed."""
        failed = [f"{c.name} {c.value:g} (bound {c.bound:g})" for c in self.checks if not c.passed]
        return "gate: " + ", ".join(failed) if failed else None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self)


def judge(figures: GateFigures, bounds: GateBounds) -> GateVerdict:
    """Hold the figures against the bounds; a figure that is not a number fails its check."""
    checks = (
        _at_least("finite weights", float(figures.finite), 1.0, "NaN or infinity would be served"),
        _at_least("replies", figures.replies, 1, "a gate that measured nothing lets nothing by"),
        _at_most("KL to base", figures.kl_per_reply, bounds.max_kl, "drift from the base model"),
        _at_most("repetition", figures.repetition, bounds.max_repetition, "replies that loop"),
        _at_most("empty replies", figures.empty, bounds.max_empty, "replies that say nothing"),
        _at_least("distinct replies", figures.distinct, bounds.min_distinct, "one reply to all"),
    )
    return GateVerdict(passed=all(c.passed for c in checks), checks=checks)


def _at_most(name: str, value: float, bound: float, reason: str) -> Check:
    passed = not math.isnan(value) and value <= bound
    return Check(name=name, value=value, bound=bound, passed=passed, reason=reason)


def _at_least(name: str, value: float, bound: float, reason: str) -> Check:
    passed = not math.isnan(value) and value >= bound
    return Check(name=name, value=value, bound=bound, passed=passed, reason=reason)
