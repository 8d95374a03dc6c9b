"""Figures of finished runs: labels to a share of the gap, gains over ours, intervals over seeds."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from models.gate import GateBounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.learning.results import Run

GATE_NATS = GateBounds().kl_to_base
"""Nats a reply beyond which the product's gate lets nothing pass: "in bounds" is nearer."""

DRAWS = 2000
LOW, HIGH = 0.025, 0.975

CONDITIONS: Mapping[str, int] = {"lag": 128, "adversaries": 1008}
"""After how many labels what a condition changes is measured."""


class Row(NamedTuple):
    """What the seeds of one row of a table share."""

    arm: str
    taste: str
    rate: float
    lag: int
    adversaries: float
    budget: int


def grouped(runs: Sequence[Run]) -> Mapping[Row, list[Run]]:
    """Return the runs that differ by their seed only, in the seeds' order."""
    rows: defaultdict[Row, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.job.seed):
        job = run.job
        rows[Row(job.arm, job.taste, job.rate, job.lag, job.adversaries, job.labels)].append(run)
    return rows


def interval(
    values: Sequence[float], middle: Callable[[Sequence[float]], float]
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic at 95 %, the same at every call."""
    dice = random.Random(0)
    drawn = sorted(middle(dice.choices(values, k=len(values))) for _ in range(DRAWS))
    return drawn[int(LOW * DRAWS)], drawn[int(HIGH * DRAWS)]


def labels_cell(runs: Sequence[Run], share: float, within: float = math.inf) -> str:
    """Return the median labels to a share of the gap, its interval, and how many got there.

    Where a run ended before it could get there, only how many did is known.
    """
    reached = [run.labels_to(share, within=within) for run in runs]
    values = [run.job.labels if at is None else at for run, at in zip(runs, reached, strict=True)]
    low, high = interval(values, median)
    there = sum(at is not None for at in reached)
    unknown = sum(not run.is_known(share, within=within) for run in runs)
    if unknown:
        return f"({there}/{len(runs)}, {unknown} unknown)"
    if there * 2 < len(runs):
        return f"> {runs[0].job.labels} ({there}/{len(runs)})"
    return f"{median(values):.0f} [{low:.0f}, {high:.0f}] ({there}/{len(runs)})"


def share_closed(run: Run, labels: int | None = None) -> float:
    """Return the share of the gap that is closed after so many labels, or at the end of a run."""
    approval = run.approval_at(run.job.labels if labels is None else labels)
    return (approval - run.base) / (run.ceiling - run.base)


def long_enough(rows: Mapping[Row, list[Run]], like: Row, labels: int) -> list[Run]:
    """Return each seed's shortest run of at least so many labels, in the seeds' order.

    Args:
        rows: All runs.
        like: What the runs share with it, but for rate and budget.
        labels: The least budget.
    """
    by_seed = {}
    for row, runs in sorted(rows.items(), key=lambda item: -item[0].budget):
        alike = row._replace(rate=like.rate, budget=like.budget) == like
        if alike and row.budget >= labels:
            by_seed |= {run.job.seed: run for run in runs}
    return [by_seed[seed] for seed in sorted(by_seed)]


def along(
    rows: Mapping[Row, list[Run]], condition: str, labels: int
) -> Mapping[tuple[str, str], Mapping[float, Sequence[float]]]:
    """Return by arm and taste what is closed after so many labels, for each value of a condition.

    For each value one share a seed: of those seeds, in their order, that were looked at then under
    every value. Arms that were run under one value only are left out.

    Args:
        rows: All runs.
        condition: ``lag`` or ``adversaries``; the other one is none.
        labels: After how many labels.
    """
    other = {"lag": "adversaries", "adversaries": "lag"}[condition]
    found: defaultdict[tuple[str, str], dict[float, dict[int, float]]] = defaultdict(dict)
    for row in rows:
        if getattr(row, other):
            continue
        runs = long_enough(rows, row, labels)
        looked = [run for run in runs if any(point["labels"] == labels for point in run.curve)]
        if looked:
            shares = {run.job.seed: share_closed(run, labels) for run in looked}
            found[row.arm, row.taste][getattr(row, condition)] = shares
    return {
        key: {
            value: [by_seed[seed] for seed in sorted(set.intersection(*map(set, values.values())))]
            for value, by_seed in sorted(values.items())
        }
        for key, values in sorted(found.items())
        if len(values) > 1
    }


def gains(
    ours: Sequence[Run], theirs: Sequence[Run], labels: float = math.inf
) -> Mapping[int, float]:
    """Return by how much more of the gap an arm has closed than ours, one figure a seed.

    Each is the mean over the measurements that both runs have within so many ``labels``: one alone
    is noisier than what most settings change. Seeds are in the order of ``theirs``.
    """
    by_seed = {run.job.seed: run for run in ours}
    pairs = ((by_seed[run.job.seed], run) for run in theirs if run.job.seed in by_seed)
    found = {}
    for one, other in pairs:
        measured = [{p["labels"]: p["approval"] for p in run.curve} for run in (one, other)]
        shared = sorted(at for at in measured[0].keys() & measured[1].keys() if at <= labels)
        if shared:
            gap = one.ceiling - one.base
            found[one.job.seed] = fmean((measured[1][at] - measured[0][at]) / gap for at in shared)
    return found
