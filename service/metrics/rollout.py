"""Prometheus figures of the rollout, as this replica sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from feedback.tracing import served
from feedback.types import JudgementState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from feedback.types import Judgement, Rollout


@dataclass(frozen=True, slots=True)
class RolloutSeen:
    """What a replica knows of the rollout.

    Attributes:
        rollout: As last read; None before that.
        serving: The version of those who are not on the canary here; None until one is loaded.
        generation: The generation that is served here wholly.
        problem: Whether something keeps it from serving what it should.
        judgement: The judge's last verdict.
        now: Seconds since the epoch.
    """

    rollout: Rollout | None
    serving: str | None
    generation: int
    problem: bool
    judgement: Judgement | None
    now: float


class RolloutFigures(Collector):
    """The rollout's figures; ``seen`` is to be set before they are read."""

    def __init__(self) -> None:
        self.seen: RolloutSeen | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the figures that are known."""
        seen = self.seen
        if seen is None:
            return
        yield _versions(seen)
        yield GaugeMetricFamily(
            "thumbloop_rollout_problem",
            "Whether this replica cannot serve what it should.",
            float(seen.problem),
        )
        yield GaugeMetricFamily(
            "thumbloop_served_generation",
            "Generation of the rollout that this replica serves wholly.",
            seen.generation,
        )
        if seen.rollout is not None:
            yield GaugeMetricFamily(
                "thumbloop_rollout_generation",
                "Generation of the rollout as last read.",
                seen.rollout.generation,
            )
            yield GaugeMetricFamily(
                "thumbloop_canary_fraction",
                "Share of the users on the canary; 0 without one.",
                seen.rollout.fraction if seen.rollout.canary else 0.0,
            )
        if seen.judgement is not None:
            yield from _judgement(seen.judgement, seen.now)


def _versions(seen: RolloutSeen) -> Metric:
    family = GaugeMetricFamily(
        "thumbloop_version_info",
        "1 for each role and the version that has it.",
        labels=("role", "version"),
    )
    if seen.rollout is not None:
        for role, version in served(seen.rollout).items():
            family.add_metric((role, version), 1.0)
    if seen.serving is not None:
        family.add_metric(("serving", seen.serving), 1.0)
    return family


def _judgement(judgement: Judgement, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "thumbloop_verdict_seconds",
        "Seconds since the judge last ran.",
        max(0.0, now - judgement.at),
    )
    states = GaugeMetricFamily(
        "thumbloop_verdict", "1 for the judge's last verdict.", labels=("state",)
    )
    for state in get_args(JudgementState):
        states.add_metric((state,), float(state == judgement.state))
    yield states
    if judgement.votes_needed is not None:
        yield GaugeMetricFamily(
            "thumbloop_verdict_votes_needed",
            "About how many more votes the judge needs.",
            judgement.votes_needed,
        )
