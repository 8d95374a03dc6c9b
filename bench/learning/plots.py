"""Draws the learning benchmark's pictures."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from bench.learning.figures import CONDITIONS, along

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.learning.figures import Row
    from bench.learning.results import Run


def plot_tastes(rows: Mapping[Row, list[Run]], folder: Path) -> None:
    """Draw approval and win-rate against labels, and approval against √KL, one picture a taste.

    A line ends where its first run does: the mean of those that are left would be another.
    """
    from matplotlib import colormaps  # noqa: PLC0415 - seconds, and only here
    from matplotlib.figure import Figure  # noqa: PLC0415

    for taste in sorted({row.taste for row in rows}):
        figure = Figure(figsize=(16, 4.5), layout="constrained")
        panels = figure.subplots(1, 3)
        for panel in panels:  # more arms than the ten colours of the usual cycle
            panel.set_prop_cycle(color=colormaps["tab20"](range(20)))
        approval, wins, against_kl = panels
        for row, runs in sorted(rows.items()):
            if row.taste != taste or row.lag or row.adversaries:
                continue
            name, last = f"{row.arm}, {row.budget}", min(run.curve[-1]["labels"] for run in runs)
            labels = sorted({p["labels"] for run in runs for p in run.curve if p["labels"] <= last})
            start = fmean(run.base for run in runs)
            means = [fmean(run.approval_at(at) for run in runs) for at in labels]
            approval.plot([0, *labels], [start, *means], label=name)
            means = [fmean(run.win_at(at) for run in runs) for at in labels]
            wins.plot([0, *labels], [0.5, *means], label=name)
            points = [(p["kl"], p["approval"]) for run in runs for p in run.curve]
            roots = [max(0.0, nats) ** 0.5 for nats, _ in points]
            against_kl.scatter(roots, [value for _, value in points], s=8, label=name)
        approval.set(xlabel="labels", ylabel="approval: share of users who like a reply")
        wins.set(xlabel="labels", ylabel="held-out win-rate against the base")
        against_kl.set(xlabel="√KL to the base (nats a reply)")
        approval.legend(fontsize="small", title="arm, budget")
        figure.suptitle(f"taste: {taste}")
        figure.savefig(folder / f"learning-{taste}.png", dpi=110)


def plot_conditions(rows: Mapping[Row, list[Run]], folder: Path) -> None:
    """Draw what is closed of the gap against the lag, and against the share of adversaries."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds, and only here

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("versions that people are behind", "share of adversaries among the users")
    for panel, (condition, labels), title in zip(panels, CONDITIONS.items(), titles, strict=True):
        for (arm, taste), values in along(rows, condition, labels).items():
            panel.plot(
                list(values), list(map(fmean, values.values())), "o-", label=f"{arm}, {taste}"
            )
        panel.set(xlabel=title, ylabel=f"share of the gap that is closed after {labels} labels")
        if panel.lines:
            panel.legend(fontsize="small")
    figure.savefig(folder / "learning-conditions.png", dpi=110)
