"""Sets runs of an arm beside ours, seed by seed, at the looks that both have."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from learn.arms import ARMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from learn.results import Run

DRAWS = 2000
LOW, HIGH = 0.025, 0.975

ALONE: Mapping[str, int] = {"plain": 96, "brief": 160, "polite": 160}
"""The labels up to which a changed setting is measured alone: about where ours reaches its aim."""


def interval(
    values: Sequence[float], middle: Callable[[Sequence[float]], float]
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic at 95 %, the same at every call."""
    dice = random.Random(0)
    drawn = sorted(middle(dice.choices(values, k=len(values))) for _ in range(DRAWS))
    return drawn[int(LOW * DRAWS)], drawn[int(HIGH * DRAWS)]


def gains(
    ours: Sequence[Run], theirs: Sequence[Run], labels: float = math.inf
) -> Mapping[int, float]:
    """Return by how much more of the gap an arm has closed than ours, one figure a seed.

    Each is the mean over the looks that both runs have within so many ``labels``: one look alone is
    noisier than what most settings change.
    """
    by_seed = {run.job.seed: run for run in ours}
    pairs = ((by_seed[run.job.seed], run) for run in theirs if run.job.seed in by_seed)
    found = {}
    for one, other in pairs:
        looks = [{p["labels"]: p["gold"] for p in run.curve} for run in (one, other)]
        shared = sorted(at for at in looks[0].keys() & looks[1].keys() if at <= labels)
        if shared:
            gap = one.ceiling - one.base
            found[one.job.seed] = fmean((looks[1][at] - looks[0][at]) / gap for at in shared)
    return found


def ablations(runs: Sequence[Run]) -> str:
    """Return as Markdown what each setting changes alone: mean and interval over seeds, and nats.

    An arm belongs there if any run of it has just the budget of ``ALONE``; a seed that has no such
    run is taken from a longer one, which is the same run up to there.
    """
    fair = [run for run in runs if not run.job.lag and not run.job.adversaries]
    arms = {run.job.arm for run in fair if run.job.labels == ALONE.get(run.job.taste)} | {"ours"}
    cells: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for taste, labels in ALONE.items():
        ours = _within(fair, "ours", taste, labels)
        for arm in arms:
            if theirs := _within(fair, arm, taste, labels):
                gained = "" if arm == "ours" else _gained(gains(ours, theirs, labels))
                nats = fmean(run.kl_at(labels) for run in theirs)
                cells[arm][taste] = f"{gained} | {nats:.1f}"
    heads = " | ".join(f"{taste}, to {labels} labels | nats" for taste, labels in ALONE.items())
    lines = [f"| arm | changed | {heads} |", "|" + "---|" * (2 + 2 * len(ALONE))]
    for arm in sorted(cells, key=lambda arm: (arm == "ours", list(ARMS).index(arm))):
        row = " | ".join(cells[arm].get(taste, " | ") for taste in ALONE)
        lines.append(f"| {arm} | {ARMS[arm].about} | {row} |")
    return "\n".join(lines)


def _gained(by_seed: Mapping[int, float]) -> str:
    values = [100 * by_seed[seed] for seed in sorted(by_seed)]
    low, high = interval(values, fmean)
    each = " / ".join(f"{value:+.0f}" for value in values)
    return f"{fmean(values):+.0f} [{low:+.0f}, {high:+.0f}] ({each})"


def _within(runs: Sequence[Run], arm: str, taste: str, labels: int) -> list[Run]:
    """Return each seed's shortest run of an arm that is long enough."""
    by_seed = {}
    for run in sorted(runs, key=lambda run: run.job.labels, reverse=True):
        if (run.job.arm, run.job.taste) == (arm, taste) and run.job.labels >= labels:
            by_seed[run.job.seed] = run
    return [by_seed[seed] for seed in sorted(by_seed)]
