"""Figures over many tastes: what is closed of the gap, and which versions harm."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from bench.learning.figures import GATE_NATS, interval
from bench.learning.measure import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.learning.results import Run

NOISE = 2.0
"""Standard errors of a measurement; what is nearer to the base may be as good as the base."""


class Setup(NamedTuple):
    """What the runs of one row share: all but their taste, their seed and how long they are."""

    arm: str
    rate: float
    lag: int
    adversaries: float


class Key(NamedTuple):
    """What tells apart the runs of one row."""

    taste: str
    seed: int


@dataclass(frozen=True, slots=True)
class Point:
    """A version of a run as it was measured.

    Attributes:
        base: Approval of the base.
        approval: Approval of the version.
        closed: The share of the gap from base to ceiling that is closed.
        kl: Nats from the base a reply.
    """

    base: float
    approval: float
    closed: float
    kl: float

    @property
    def passes(self) -> bool:
        """Whether the gate lets it pass for its distance to the base, so that it can go live."""
        return self.kl <= GATE_NATS

    @property
    def harms(self) -> bool:
        """Whether people like it less than the base."""
        return self.approval < self.base

    @property
    def harms_beyond_noise(self) -> bool:
        """Whether people like it less by more than the noise of a measurement.

        The noise is the standard error of the base's share over the measured replies. Each reply
        counts by the share of people who like it, so that the true error is smaller.
        """
        error = math.sqrt(self.base * (1 - self.base) / HELD_OUT)
        return self.approval < self.base - NOISE * error


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over tastes with its bootstrap interval at 95 %; a taste is its seeds' mean."""

    tastes: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Harm:
    """How many versions people like less than the base, among those that could go live."""

    versions: int
    below: int
    beyond_noise: int


def by_setup(runs: Sequence[Run]) -> Mapping[Setup, list[Run]]:
    """Return the runs of each setup; of a taste and seed the longest comes last."""
    found: defaultdict[Setup, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.job.labels):
        job = run.job
        found[Setup(job.arm, job.rate, job.lag, job.adversaries)].append(run)
    return found


def points(runs: Sequence[Run], labels: int) -> Mapping[Key, Point]:
    """Return the versions of a setup that were measured after just so many labels."""
    return {
        Key(run.job.taste, run.job.seed): Point(
            base=run.base,
            approval=measured["approval"],
            closed=(measured["approval"] - run.base) / (run.ceiling - run.base),
            kl=measured["kl"],
        )
        for run in runs
        for measured in run.curve
        if measured["labels"] == labels
    }


def mean_over_tastes(values: Mapping[Key, float]) -> Mean | None:
    """Return the mean over tastes of the mean over a taste's seeds; None for no values."""
    by_taste: defaultdict[str, list[float]] = defaultdict(list)
    for key, value in values.items():
        by_taste[key.taste].append(value)
    if not by_taste:
        return None
    means = [fmean(by_taste[taste]) for taste in sorted(by_taste)]
    return Mean(len(means), fmean(means), *interval(means, fmean))


def closed(found: Mapping[Key, Point]) -> Mean | None:
    """Return the share of the gap that is closed, over tastes."""
    return mean_over_tastes({key: point.closed for key, point in found.items()})


def gained(ours: Mapping[Key, Point], theirs: Mapping[Key, Point]) -> Mean | None:
    """Return by how much more of the gap they close than ours, on tastes and seeds of both."""
    shared = [key for key in theirs if key in ours]
    return mean_over_tastes({key: theirs[key].closed - ours[key].closed for key in shared})


def harm(found: Mapping[Key, Point]) -> Harm:
    """Return how many of the versions that the gate could let pass people like less."""
    live = [point for point in found.values() if point.passes]
    return Harm(
        versions=len(live),
        below=sum(point.harms for point in live),
        beyond_noise=sum(point.harms_beyond_noise for point in live),
    )
