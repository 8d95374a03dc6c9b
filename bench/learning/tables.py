"""The learning benchmark's tables, as Markdown."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from bench.learning.arms import ARMS
from bench.learning.figures import (
    GATE_NATS,
    Row,
    along,
    gains,
    interval,
    labels_cell,
    long_enough,
    share_closed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.learning.results import Run

TASTES = ("brief", "plain", "polite")

USUAL = 320
"""The labels of the runs that all arms have."""

LONG = 1008
"""Labels of a run of 63 updates."""

ALONE: Mapping[str, int] = {"brief": 160, "plain": 96, "polite": 160}
"""The labels up to which a changed setting is measured alone: about where ours reaches its aim."""


def overview(rows: Mapping[Row, list[Run]]) -> str:
    """Return each arm's labels to four fifths of the gap, and the nats that it ends at."""
    cells: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row, runs in rows.items():
        if row.budget == USUAL and not row.lag and not row.adversaries:
            nats = fmean(run.curve[-1]["kl"] for run in runs)
            cells[row.arm][row.taste] = f"{labels_cell(runs, 0.8)}, {nats:.0f} nats"
    return markdown(
        ["arm", "what it is", *TASTES],
        (
            [arm, ARMS[arm].about, *(cells[arm].get(taste, "") for taste in TASTES)]
            for arm in sorted(cells, key=list(ARMS).index)
        ),
    )


def every_row(rows: Mapping[Row, list[Run]]) -> str:
    """Return what each arm came to under each condition."""
    heads = "arm|taste|rate|lag|adversaries|budget|seeds|labels to 50 %|to 80 %|to 80 % in bounds"
    lines = []
    for row, runs in sorted(rows.items(), key=lambda item: item[0][1:]):
        closed = [share_closed(run) for run in runs]
        low, high = interval(closed, fmean)
        last = [run.curve[-1] for run in runs]
        lines.append(
            [
                row.arm,
                row.taste,
                f"{row.rate:g}",
                str(row.lag),
                f"{row.adversaries:.0%}",
                str(row.budget),
                str(len(runs)),
                labels_cell(runs, 0.5),
                labels_cell(runs, 0.8),
                labels_cell(runs, 0.8, GATE_NATS),
                f"{fmean(closed):.0%} [{low:.0%}, {high:.0%}]",
                *(f"{fmean(point[name] for point in last):.2f}" for name in ("win", "kl", "words")),
            ]
        )
    return markdown([*heads.split("|"), "gap closed", "win", "KL", "words"], lines)


def beside_ours(rows: Mapping[Row, list[Run]]) -> str:
    """Return what each arm gains over ours under the same conditions, but for ``ablations``."""
    heads = "arm|taste|lag|adversaries|budget|seeds|more of the gap|seed by seed|KL|KL of ours"
    ours = {(row.taste, *row[3:]): runs for row, runs in rows.items() if row.arm == "ours"}
    lines = []
    for row, runs in sorted(rows.items(), key=lambda item: (*item[0][1:], item[0].arm)):
        partners = ours.get((row.taste, *row[3:]), [])
        found = list(gains(partners, runs).values())
        if row.arm == "ours" or not found or _alone(row):
            continue
        seeds = {run.job.seed for run in runs}
        alike = [run for run in partners if run.job.seed in seeds]
        nats = [fmean(run.curve[-1]["kl"] for run in group) for group in (runs, alike)]
        cells = [row.arm, row.taste, str(row.lag), f"{row.adversaries:.0%}", str(row.budget)]
        cells += [str(len(found)), f"{100 * fmean(found):+.0f} %", _each(found, "+.0f")]
        lines.append([*cells, *(f"{value:.1f}" for value in nats)])
    return markdown(heads.split("|"), lines)


def conditions(rows: Mapping[Row, list[Run]], condition: str, labels: int) -> str:
    """Return what is closed of the gap after so many labels under each value of a condition."""
    found = along(rows, condition, labels)
    values = sorted({value for by_value in found.values() for value in by_value})
    heads = ["arm", "taste", *(f"{condition} {value:g}" for value in values)]
    lines = []
    for (arm, taste), by_value in found.items():
        shares = [by_value.get(value, []) for value in values]
        each = (f"{fmean(some):.0%} ({_each(some, '.0f')})" if some else "" for some in shares)
        lines.append([arm, taste, *each])
    return markdown(heads, lines)


def long_runs(rows: Mapping[Row, list[Run]]) -> str:
    """Return the range of each long run's figures, measured from a third of the way on."""
    heads = "arm|taste|seed|gap closed|at the end|nats|distinct 3-grams, least|words"
    lines = []
    for row, runs in sorted(rows.items()):
        if row.budget < LONG or row.lag or row.adversaries:
            continue
        for run in runs:
            late = [point for point in run.curve if point["labels"] >= row.budget / 3]
            closed = [share_closed(run, point["labels"]) for point in late]
            lines.append(
                [
                    row.arm,
                    row.taste,
                    str(run.job.seed),
                    f"{min(closed):.0%} to {max(closed):.0%}",
                    f"{closed[-1]:.0%}",
                    _range([point["kl"] for point in late], ".1f"),
                    f"{min(point['distinct'] for point in late):.3f}",
                    _range([point["words"] for point in late], ".0f"),
                ]
            )
    return markdown(heads.split("|"), lines)


def ablations(rows: Mapping[Row, list[Run]]) -> str:
    """Return what each setting changes alone: mean, interval and seeds, and nats at the end.

    An arm belongs there if any run of it has just the budget of ``ALONE``; a seed that has no such
    run is taken from a longer one, which goes the same way up to there.
    """
    arms = {row.arm for row in rows if _alone(row)} | {"ours"}
    lines = []
    for arm in sorted(arms, key=lambda arm: (arm == "ours", list(ARMS).index(arm))):
        line = [arm, ARMS[arm].about]
        for taste, labels in ALONE.items():
            likes = (Row(name, taste, 0.0, 0, 0.0, labels) for name in ("ours", arm))
            ours, theirs = (long_enough(rows, like, labels) for like in likes)
            found = [] if arm == "ours" else list(gains(ours, theirs, labels).values())
            nats = [run.kl_at(labels) for run in theirs]
            line += [_gained(found) if found else "", f"{fmean(nats):.1f}" if nats else ""]
        lines.append(line)
    heads = ["arm", "changed"]
    for taste, labels in ALONE.items():
        heads += [f"{taste}, to {labels} labels", "nats"]
    return markdown(heads, lines)


def _alone(row: Row) -> bool:
    return (row.lag, row.adversaries, row.budget) == (0, 0, ALONE.get(row.taste))


def _gained(values: Sequence[float]) -> str:
    low, high = interval(values, fmean)
    mean = f"{100 * fmean(values):+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"
    return f"{mean} ({_each(values, '+.0f')})"


def _range(values: Sequence[float], form: str) -> str:
    return f"{format(min(values), form)} to {format(max(values), form)}"


def _each(values: Sequence[float], form: str) -> str:
    return " / ".join(format(100 * value, form) for value in values)


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    rule = "|" + "---|" * len(heads)
    body = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *body])
