"""The tables of runs with many tastes, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.learning.arms import ARMS
from bench.learning.tables import markdown
from bench.learning.wide import Setup, by_setup, closed, gained, harm, points
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.learning.results import Run
    from bench.learning.wide import Key, Mean, Point
    from service.simulate.tastes import Half

LABELS = (32, 64, 128, 256)
"""After how many votes versions are compared, if they were measured then."""


def half_of(run: Run) -> Half:
    """Return what the laboratory uses a run's taste for."""
    return TASTES[run.job.taste].half


def closed_gaps(runs: Sequence[Run]) -> str:
    """Return the share of the gap that each setup has closed, over tastes."""
    return _table(runs, lambda _, __, found: _of_tastes(closed(found), ".0f"))


def gains_over_ours(runs: Sequence[Run]) -> str:
    """Return how much more of the gap each setup closes than ours under the same conditions."""
    by_conditions = {setup[2:]: alike for setup, alike in by_setup(runs).items() if _is_ours(setup)}

    def cell(setup: Setup, labels: int, found: Mapping[Key, Point]) -> str:
        ours = points(by_conditions.get(setup[2:], []), labels)
        return _of_tastes(gained(ours, found), "+.0f")

    return _table([run for run in runs if run.job.arm != "ours"], cell)


def versions_below(runs: Sequence[Run]) -> str:
    """Return how many of each setup's versions people like less than the base."""

    def cell(_: Setup, __: int, found: Mapping[Key, Point]) -> str:
        counts = harm(found)
        if not counts.versions:
            return ""
        return f"{counts.below} of {counts.versions} ({counts.beyond_noise})"

    return _table(runs, cell)


def every_run(runs: Sequence[Run]) -> str:
    """Return what each run has closed of the gap, with the nats that its version is away."""
    columns = _measured(runs)
    lines = []
    for setup, alike in _in_order(runs):
        for run in sorted(alike, key=lambda run: (run.job.taste, run.job.seed)):
            found = [list(points([run], labels).values()) for labels in columns]
            cells = [f"{100 * p[0].closed:.0f} %, {p[0].kl:.0f} nats" if p else "" for p in found]
            who = [_name(setup), run.job.taste, half_of(run), str(run.job.seed)]
            lines.append([*who, f"{run.base:.2f}", f"{run.ceiling:.2f}", *cells])
    return markdown(["arm", "taste", "for", "seed", "base", "ceiling", *_heads(columns)], lines)


def _table(runs: Sequence[Run], cell: Callable[[Setup, int, Mapping[Key, Point]], str]) -> str:
    """Return a line for each setup, with a cell of its versions after each count of votes."""
    columns = _measured(runs)
    lines = []
    for setup, alike in _in_order(runs):
        cells = [cell(setup, labels, points(alike, labels)) for labels in columns]
        lines.append([_name(setup), ARMS[setup.arm].about, *cells])
    return markdown(["arm", "what it is", *_heads(columns)], lines)


def _in_order(runs: Sequence[Run]) -> Iterator[tuple[Setup, list[Run]]]:
    arms = list(ARMS)
    found = by_setup(runs)
    for setup in sorted(found, key=lambda setup: (arms.index(setup.arm), *setup[1:])):
        yield setup, found[setup]


def _measured(runs: Sequence[Run]) -> list[int]:
    seen = {point["labels"] for run in runs for point in run.curve}
    return [labels for labels in LABELS if labels in seen]


def _heads(columns: Sequence[int]) -> list[str]:
    return [f"{labels} votes" for labels in columns]


def _is_ours(setup: Setup) -> bool:
    return setup.arm == "ours" and setup.rate == ARMS["ours"].rate


def _name(setup: Setup) -> str:
    """Return the arm, and of its conditions those that are not the usual ones."""
    usual = setup.rate == ARMS[setup.arm].rate
    parts = [setup.arm, *([] if usual else [f"rate {setup.rate:g}"])]
    parts += [f"lag {setup.lag}"] if setup.lag else []
    parts += [f"{100 * setup.adversaries:g} % adversaries"] if setup.adversaries else []
    return ", ".join(parts)


def _of_tastes(mean: Mean | None, form: str) -> str:
    if mean is None:
        return ""
    middle, low, high = (format(100 * share, form) for share in (mean.mean, mean.low, mean.high))
    between = f" [{low}, {high}]" if mean.tastes > 1 else ""
    return f"{middle} %{between} ({mean.tastes})"
