"""Tables and plots of the finished runs of ``bench/learning.py``.

Per arm and taste: the labels after which half and four fifths of the gap from the base to the best
of sixteen were closed, and the gold at the end, each with a bootstrap interval over seeds. A run
that never got there counts as the whole budget, and the table says how many did. "In bounds" counts
only versions that the gate of the product would not refuse for their distance to the base.

A second table sets each arm beside ours, seed by seed. Runs of few labels are in that one only. A
third has what each setting changes alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from learn.arms import ARMS
from learn.beside import ALONE, ablations, gains, interval
from learn.results import FILE, read
from machine import RESULTS

from models.settings import LearnerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from learn.results import Run

GATE_NATS = LearnerSettings.model_fields["gate_max_kl"].default
"""Nats a reply beyond which the product's gate lets nothing pass: "in bounds" is nearer."""

FULL = 256
"""Labels from which on a run can tell when four fifths of the gap are closed."""

Key = tuple[str, str, float, int, float, int]
"""Arm, taste, rate, lag, share of adversaries and budget: what the seeds of a row share."""


def grouped(runs: Sequence[Run]) -> Mapping[Key, list[Run]]:
    """Return the runs that differ by their seed only."""
    rows: defaultdict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        job = run.job
        key = (job.arm, job.taste, job.rate, job.lag, job.adversaries, job.labels)
        rows[key].append(run)
    return rows


def labels_cell(runs: Sequence[Run], share: float, within: float = math.inf) -> str:
    """Return the median labels to a share of the gap, its interval, and how many got there."""
    reached = [run.labels_to(share, within=within) for run in runs]
    values = [run.job.labels if at is None else at for run, at in zip(runs, reached, strict=True)]
    low, high = interval(values, median)
    there = sum(at is not None for at in reached)
    if there * 2 < len(runs):
        return f"> {runs[0].job.labels} ({there}/{len(runs)})"
    return f"{median(values):.0f} [{low:.0f}, {high:.0f}] ({there}/{len(runs)})"


def share_closed(run: Run) -> float:
    """Return the share of the gap that is closed at the end of a run."""
    return (run.gold_at(run.job.labels) - run.base) / (run.ceiling - run.base)


def table(rows: Mapping[Key, list[Run]]) -> str:
    """Return the results as Markdown."""
    heads = "arm|taste|rate|lag|adversaries|budget|seeds|labels to 50 %|to 80 %|to 80 % in bounds"
    names = [*heads.split("|"), "gap closed", "win", "KL", "words"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for (arm, taste, rate, lag, adversaries, budget), runs in sorted(
        rows.items(), key=lambda r: r[0][1:]
    ):
        closed = [share_closed(run) for run in runs]
        low, high = interval(closed, fmean)
        last = [run.curve[-1] for run in runs]
        cells = [
            arm,
            taste,
            f"{rate:g}",
            str(lag),
            f"{adversaries:.0%}",
            str(budget),
            str(len(runs)),
            labels_cell(runs, 0.5),
            labels_cell(runs, 0.8),
            labels_cell(runs, 0.8, GATE_NATS),
            f"{fmean(closed):.0%} [{low:.0%}, {high:.0%}]",
            *(f"{fmean(point[name] for point in last):.2f}" for name in ("win", "kl", "words")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def beside_ours(rows: Mapping[Key, list[Run]]) -> str:
    """Return as Markdown what each arm gains over ours under the same conditions.

    Runs as long as those of ``ablations`` are in that table only.
    """
    names = "arm|taste|lag|adversaries|budget|seeds|more of the gap|seed by seed|KL|KL of ours"
    lines = ["| " + names.replace("|", " | ") + " |", "|" + "---|" * (names.count("|") + 1)]
    ours = {(key[1], *key[3:]): runs for key, runs in rows.items() if key[0] == "ours"}
    for key, runs in sorted(rows.items(), key=lambda row: (*row[0][1:], row[0][0])):
        arm, taste, _, lag, adversaries, budget = key
        partners = ours.get((taste, lag, adversaries, budget), [])
        found = list(gains(partners, runs).values())
        if arm == "ours" or not found or (lag, adversaries, budget) == (0, 0, ALONE.get(taste)):
            continue
        each = " / ".join(f"{100 * gain:+.0f}" for gain in found)
        seeds = {run.job.seed for run in runs}
        alike = [run for run in partners if run.job.seed in seeds]
        nats = [fmean(run.curve[-1]["kl"] for run in group) for group in (runs, alike)]
        cells = [arm, taste, str(lag), f"{adversaries:.0%}", str(budget), str(len(found))]
        cells += [f"{100 * fmean(found):+.0f} %", each, *(f"{value:.1f}" for value in nats)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Mapping[Key, list[Run]], folder: Path) -> None:
    """Draw gold against labels, and gold against √KL, one picture a taste."""
    from matplotlib import colormaps  # noqa: PLC0415 - seconds, and only here
    from matplotlib.figure import Figure  # noqa: PLC0415

    for taste in sorted({key[1] for key in rows}):
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel in panels:  # more arms than the ten colours of the usual cycle
            panel.set_prop_cycle(color=colormaps["tab20"](range(20)))
        against_labels, against_kl = panels
        for key, runs in sorted(rows.items()):
            if key[1] != taste or key[3] or key[4]:
                continue
            labels = sorted({point["labels"] for run in runs for point in run.curve})
            gold = [fmean(run.gold_at(at) for run in runs) for at in labels]
            start = fmean(run.base for run in runs)
            against_labels.plot([0, *labels], [start, *gold], label=f"{key[0]}, {key[5]}")
            points = [(p["kl"], p["gold"]) for run in runs for p in run.curve]
            roots = [max(0.0, nats) ** 0.5 for nats, _ in points]
            against_kl.scatter(
                roots, [gold for _, gold in points], s=8, label=f"{key[0]}, {key[5]}"
            )
        against_labels.set(xlabel="labels", ylabel="gold: share of users who like a reply")
        against_kl.set(xlabel="√KL to the base (nats a reply)")
        against_labels.legend(fontsize="small", title="arm, budget")
        figure.suptitle(f"taste: {taste}")
        figure.savefig(folder / f"learning-{taste}.png", dpi=110)


def plot_conditions(rows: Mapping[Key, list[Run]], folder: Path) -> None:
    """Draw what is closed of the gap against the lag, and against the share of adversaries."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds, and only here

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("versions that people are behind", "share of adversaries among the users")
    for panel, place, other, title in zip(panels, (3, 4), (4, 3), titles, strict=True):
        plain = [key for key in rows if not key[other]]
        for arm, taste, budget in sorted({(*key[:2], key[5]) for key in plain if key[place]}):
            alike = (key for key in plain if (*key[:2], key[5]) == (arm, taste, budget))
            keys = sorted(alike, key=lambda key: key[place])
            closed = [fmean(map(share_closed, rows[key])) for key in keys]
            panel.plot(
                [key[place] for key in keys], closed, "o-", label=f"{arm}, {taste}, {budget} labels"
            )
        panel.set(xlabel=title, ylabel="share of the gap that is closed at the end")
        if panel.lines:
            panel.legend(fontsize="small")
    figure.savefig(folder / "learning-conditions.png", dpi=110)


def main() -> int:
    """Print the tables; draw the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=FILE)
    parser.add_argument("--plots", type=Path, default=RESULTS)
    options = parser.parse_args()
    runs = [run for run in read(options.runs) if run.job.arm in ARMS]
    rows = grouped(runs)
    if not rows:
        sys.stderr.write(f"No finished runs in {options.runs}: start with bench/learning.py.\n")
        return 1
    full = {key: runs for key, runs in rows.items() if key[5] >= FULL}
    print(f"{table(full)}\n\n{beside_ours(rows)}\n\n{ablations(runs)}")
    plot(full, options.plots)
    if any(key[3] or key[4] for key in full):
        plot_conditions(full, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
