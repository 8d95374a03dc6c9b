"""What the operator sees: live progress, the closing table, and the curve as a picture."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.simulate.errors import SimulationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rich.console import Console

    from service.simulate.records import SimulationPlan, SimulationProgress, SimulationResult

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 15.0
"""Between two lines when the output is not a terminal."""

_VERSION_WIDTH = 20
"""Characters of a version's id."""

_ROLLING_VOTES = 32


@asynccontextmanager
async def progress(
    console: Console, plan: SimulationPlan, tally: SimulationProgress
) -> AsyncIterator[None]:
    """Show how far the simulation is until the block ends: live, or as lines without a terminal."""
    job = _draw(console, plan, tally) if console.is_terminal else _write(console, plan, tally)
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _draw(console: Console, plan: SimulationPlan, tally: SimulationProgress) -> None:
    bar = Progress(
        TextColumn("{task.fields[phase]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    task = bar.add_task("", total=plan.votes, phase=tally.phase, note="")
    with Live(bar, console=console, transient=True):
        while True:
            done, total = _counts(plan, tally)
            bar.update(task, completed=done, total=total, phase=tally.phase, note=_note(tally))
            await asyncio.sleep(_REFRESH_SECONDS)


async def _write(console: Console, plan: SimulationPlan, tally: SimulationProgress) -> None:
    while True:
        done, total = _counts(plan, tally)
        console.print(f"{tally.phase}: {done}/{total}, {_note(tally)}", soft_wrap=True)
        await asyncio.sleep(_LINE_SECONDS)


def _counts(plan: SimulationPlan, tally: SimulationProgress) -> tuple[int, int]:
    if tally.to_score:
        return tally.scored, tally.to_score
    return len(tally.clicks), plan.votes


def _note(tally: SimulationProgress) -> str:
    approval = tally.recent_approval()
    parts = [f"live {tally.live}", f"new versions so far: {max(0, len(tally.live_since) - 1)}"]
    if approval is not None:
        parts.append(f"{approval:.0%} of the last votes are up")
    if tally.updating:
        parts.append("an update is being learned")
    if tally.failures:
        parts.append(f"{len(tally.failures)} failed requests")
    return ", ".join(parts)


def print_result(console: Console, result: SimulationResult) -> None:
    """Print the approval of each measured version, and what happened on the way."""
    plan = result.plan
    title = f"Approval of fresh replies, taste {plan.taste.name}"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)  # 80 columns hold it
    table.add_column("version", min_width=_VERSION_WIDTH)  # whole, so that it can be copied
    for heading in ("after votes", "replies", "approval", "95 % interval", "words"):
        table.add_column(heading, justify="right")
    for score in result.scores:
        low, high = score.interval
        table.add_row(
            score.version,
            str(score.votes_before),
            str(score.replies),
            f"{score.approval:.1%}",
            f"{low:.1%} … {high:.1%}",
            f"{score.mean_words:.1f}",
        )
    console.print(table)
    console.print(
        f"{len(result.clicks)} votes on {result.chats} replies by {plan.users} users, "
        f"{plan.flip:.0%} of the clicks flipped; versions that went live on the way: "
        f"{len(result.versions_live)}; failed requests: {len(result.failures)}; "
        f"{result.seconds:.0f} s."
    )
    for failure in list(dict.fromkeys(result.failures))[:3]:
        console.print(f"  failed: {failure}", markup=False)


def require_matplotlib() -> None:
    """Say how to get matplotlib when it is missing, before a long run rather than after it.

    Raises:
        SimulationError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SimulationError(
            "--plot needs matplotlib, which is not installed. Install it with: make setup-dev"
        )


def plot_result(result: SimulationResult, path: Path) -> None:
    """Write a picture: measured approval with intervals, and the rolling share of thumbs up."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only --plot needs it

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    ups = [one.thumb == "up" for one in result.clicks]
    ends = range(_ROLLING_VOTES, len(ups) + 1)
    rolling = [sum(ups[end - _ROLLING_VOTES : end]) / _ROLLING_VOTES for end in ends]
    axes.plot(ends, rolling, color="0.7", label=f"thumbs up, last {_ROLLING_VOTES} votes")
    scores = sorted(result.scores, key=lambda score: score.votes_before)
    places = [score.votes_before for score in scores]
    values = [score.approval for score in scores]
    lows = [score.approval - score.interval[0] for score in scores]
    highs = [score.interval[1] - score.approval for score in scores]
    axes.errorbar(
        places,
        values,
        yerr=[lows, highs],
        marker="o",
        capsize=4,
        label=f"approval of {result.plan.score_replies} fresh replies, 95 % interval",
    )
    axes.set(xlabel="votes cast", ylabel="approval", ylim=(0, 1))
    axes.set_title(f"Taste {result.plan.taste.name}, {result.plan.flip:.0%} of clicks flipped")
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=150)
