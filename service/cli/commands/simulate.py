"""The command ``thumbloop simulate``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer
from rich.console import Console

from service.cli.output import say
from service.settings import ServiceSettings
from service.simulate.client import Api
from service.simulate.prompts import Prompts, builtin_prompts, read_prompts
from service.simulate.records import SimulationPlan, SimulationResult
from service.simulate.run import Simulation
from service.simulate.show import plot_result, print_result, progress, require_matplotlib
from service.simulate.tastes import TASTES, TasteName


def simulate(
    *,
    taste: Annotated[TasteName, typer.Option(help="What the users like.")] = "brief",
    votes: Annotated[int, typer.Option(min=1, help="Votes to cast in all.")] = 300,
    users: Annotated[int, typer.Option(min=1, help="Simulated users.")] = 20,
    flip: Annotated[
        float, typer.Option(min=0, max=1, help="Share of clicks that say the opposite by mistake.")
    ] = 0.1,
    rate: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of replies that are voted on.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Makes users, questions and mistakes repeatable.")] = 0,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="File of JSON lines with a prompt each, in place of the built-in questions."
        ),
    ] = None,
    pace: Annotated[
        bool, typer.Option(help="Wait while an update is due or under way, as if hours went by.")
    ] = True,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a reply; by default the taste's.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Users who chat at a time.")] = 4,
    score_replies: Annotated[
        int, typer.Option(min=1, help="Fresh replies on which a version is measured.")
    ] = 100,
    url: Annotated[
        str | None, typer.Option(help="The server; by default the one of THUMBLOOP_HOST and _PORT.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="An API key with the scopes chat and admin.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the curve to this PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Let simulated users with a hidden taste chat and vote, then measure the versions.

    It uses the public API only. Approval is measured on fresh replies to questions that are kept
    apart, which nobody votes on.
    """
    plan = SimulationPlan(
        taste=TASTES[taste],
        users=users,
        votes=votes,
        rate=rate,
        flip=flip,
        seed=seed,
        pace=pace,
        max_tokens=max_tokens or TASTES[taste].tokens,
        concurrency=concurrency,
        score_replies=score_replies,
    )
    if plot is not None:
        require_matplotlib()
    server = url or ServiceSettings().local_url
    asked = read_prompts(questions) if questions else builtin_prompts(plan.taste)
    result = asyncio.run(_run(Console(stderr=True), plan, asked, server, key))
    if plot is not None:
        plot_result(result, plot)
    if as_json:
        say(json.dumps(result.as_dict(), indent=2))
    else:
        print_result(Console(), result)


async def _run(
    console: Console, plan: SimulationPlan, questions: Prompts, url: str, key: str | None
) -> SimulationResult:
    async with Api.connect(url, key) as api:
        simulation = Simulation(api, plan, questions)
        async with progress(console, plan, simulation.tally):
            return await simulation.run()
