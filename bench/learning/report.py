"""Tables and plots of the finished runs of ``bench.learning.run``.

Runs with the control tastes make ``bench/results/learning.md``: per arm and taste the labels after
which half and four fifths of the gap from the base to the best of sixteen were closed, and the
approval at the end, each with a bootstrap interval over seeds. A run that never got there counts as
the whole budget, and the table says how many did. "In bounds" counts only versions that the gate of
the product would not refuse for their distance to the base; runs that ended at four fifths beyond
it are unknown there, because they might have come back.

A file with runs of other tastes makes ``bench/results/learning-wide.md``: per arm the share of the
gap that is closed after so many votes, its mean over tastes with a bootstrap interval over tastes,
and the versions that people like less than the base. The control tastes are apart there. A run that
``--until`` ended is missing after its end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.learning.arms import ARMS
from bench.learning.figures import CONDITIONS, GATE_NATS, grouped
from bench.learning.measure import HELD_OUT
from bench.learning.plots import plot_conditions, plot_tastes
from bench.learning.results import FILE, read
from bench.learning.tables import ablations, beside_ours, conditions, every_row, long_runs, overview
from bench.learning.wide import NOISE
from bench.learning.wide_tables import (
    closed_gaps,
    every_run,
    gains_over_ours,
    half_of,
    versions_below,
)
from bench.support.paths import RESULTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.learning.figures import Row
    from bench.learning.results import Run
    from service.simulate.tastes import Half

FULL = 256
"""Labels that a run needs at least to show when four fifths of the gap are closed."""

PAGE = """# Votes to learn a taste: all runs

Made by `python -m bench.learning.report` from `{source}`; what it means is in
[RESULTS.md](../RESULTS.md#votes-to-learn-a-taste). A cell of labels is the median over seeds with a
95 % bootstrap interval, and how many seeds got there. Distances are nats a reply from the base.

## Labels to 80 % of the gap

{overview}

![brief](learning-brief.png)
![plain](learning-plain.png)
![polite](learning-polite.png)

## Each setting alone

Percent more of the gap than ours over the measurements that both have: the mean over seeds with a
95 % bootstrap interval, and seed by seed.

{ablations}

## Stale votes and adversaries

What is closed of the gap after so many labels, on the seeds that have every value, one by one in
parentheses. Lag, the versions that people are behind, after {lag_labels} labels:

{lag}

The share of the users who vote against what they like, after {adversaries_labels} labels:

{adversaries}

![stale votes and adversaries](learning-conditions.png)

## Long runs

Ranges over the measurements from a third of the way on.

{long_runs}

## Every arm and condition

{every_row}

## More than ours, seed by seed

The mean over the measurements that both runs have; a run ends at its first 80 %.

{beside_ours}
"""

WIDE_PAGE = """# Votes to learn a taste: many tastes

Made by `python -m bench.learning.report` from `{source}`. Tastes to choose with may decide how
Thumbloop learns. Tastes to tell never may: they show how well it learns what nobody chose for it.
The control tastes are those of [learning.md](learning.md).

A cell of what is closed is the share of the gap from the approval of the base to that of the best
of its sixteen replies: the mean over tastes, a 95 % bootstrap interval over tastes, and the number
of tastes. The interval of fewer than five tastes is too narrow. Two arms compare only on the tastes
and seeds that both have, as in the tables of gains over ours.

A version that people like less than the base counts if it is within {nats:g} nats a reply of the
base, because the gate lets no other go live. In parentheses are those whose approval is below the
base's by more than {noise:g} standard errors of a share over {replies} replies.
{sections}
## Every run

What is closed of the gap, and the distance to the base.

{every_run}
"""

WIDE_SECTION = """
## {title}

Share of the gap that is closed:

{closed}

More of the gap closed than by ours:

{gains}

Versions that people like less than the base:

{below}
"""

SECTIONS: Mapping[Half, str] = {
    "choosing": "Tastes to choose with",
    "telling": "Tastes to tell",
    "control": "Control",
}


def wide_page(runs: Sequence[Run], source: str) -> str:
    """Return the tables of runs with many tastes, apart for what the tastes are used for."""
    sections = []
    for half, title in SECTIONS.items():
        some = [run for run in runs if half_of(run) == half]
        if some:
            sections.append(
                WIDE_SECTION.format(
                    title=title,
                    closed=closed_gaps(some),
                    gains=gains_over_ours(some),
                    below=versions_below(some),
                )
            )
    return WIDE_PAGE.format(
        source=source,
        nats=GATE_NATS,
        noise=NOISE,
        replies=HELD_OUT,
        sections="".join(sections),
        every_run=every_run(runs),
    )


def page(rows: Mapping[Row, list[Run]], source: str) -> str:
    """Return all tables; runs of few labels are only in those that compare arms with ours."""
    full = _full(rows)
    tables = {"overview": overview(full), "every_row": every_row(full)}
    tables |= {"long_runs": long_runs(rows)}
    tables |= {"ablations": ablations(rows), "beside_ours": beside_ours(rows)}
    for condition, labels in CONDITIONS.items():
        tables |= {condition: conditions(rows, condition, labels)}
        tables |= {f"{condition}_labels": str(labels)}
    return PAGE.format(source=source, **tables)


def _full(rows: Mapping[Row, list[Run]]) -> Mapping[Row, list[Run]]:
    return {row: runs for row, runs in rows.items() if row.budget >= FULL}


def main() -> int:
    """Write the tables; draw the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=FILE)
    parser.add_argument("--to", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    runs = [run for run in read(options.runs) if run.job.arm in ARMS]
    if not runs:
        sys.stderr.write(
            f"No finished runs in {options.runs}: start with `python -m bench.learning.run`.\n"
        )
        return 1
    if any(half_of(run) != "control" for run in runs):
        written = options.to / "learning-wide.md"
        written.write_text(wide_page(runs, options.runs.name), encoding="utf-8")
    else:
        rows = grouped(runs)
        written = options.to / "learning.md"
        written.write_text(page(rows, options.runs.name), encoding="utf-8")
        plot_tastes(_full(rows), options.to)
        plot_conditions(rows, options.to)
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
