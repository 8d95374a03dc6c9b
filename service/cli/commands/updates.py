"""``thumbloop updates``: the runs that turned votes into versions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import CommandError
from service.cli.output import JsonFlag, ago, print_fields, print_json, print_table, say
from service.cli.record import operator, with_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feedback.store import Store
    from feedback.types import UpdateRequest

ANSWER_SECONDS = 30.0

app = typer.Typer(no_args_is_help=True, help="Update runs.")


@app.command("run")
def run_now(*, as_json: JsonFlag = False) -> None:
    """Ask for an update now, from as few as one vote, and wait for the workers' answer."""
    request = with_store(_ask)
    if as_json:
        print_json(request)
    else:
        say(request.answer or "No worker has answered.")
    if request.run is None:
        raise typer.Exit(1)


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List runs, newest first."""
    runs = with_store(lambda store: store.runs.list(limit))
    if as_json:
        print_json(runs)
        return
    rows = [
        (
            r.number,
            r.state,
            len(r.votes),
            r.version,
            r.attempts,
            ago(r.claimed_at),
            r.reason or r.doing,
        )
        for r in runs
    ]
    columns = ("run", "state", "votes", "version", "attempts", "claimed", "why, or what it does")
    print_table(columns, rows, "There are no runs yet.")


@app.command()
def show(
    number: Annotated[int, typer.Argument(min=1, help="The run's number.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show one run with its report."""
    run = with_store(lambda store: store.runs.get(number))
    if as_json:
        print_json(run)
        return
    times = {"claimed_at": ago(run.claimed_at), "finished_at": ago(run.finished_at)}
    fields = {**asdict(run), **times, "votes": len(run.votes)}
    del fields["report"]
    print_fields(fields)
    if run.report:
        say("\nreport")
        print_fields(_flat(run.report))


def _flat(report: Mapping[str, object], path: str = "") -> dict[str, object]:
    """Return a report without nesting, as in ``seconds.learn``, and without its lists of ids."""
    flat: dict[str, object] = {}
    for name, value in report.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{path}{name}.")
        elif name != "practice_vote_ids":
            flat[path + name] = _short(value)
    return flat


def _short(value: object) -> object:
    """Return a value with four digits of each float."""
    if isinstance(value, list):
        return ", ".join(str(_short(each)) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else value


async def _ask(store: Store) -> UpdateRequest:
    request = await store.learning.request_update(operator(), now=time.time())
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        current = await store.learning.get_request(request.id)
        if current is not None and current.state == "answered":
            return current
        await asyncio.sleep(0.2)
    raise CommandError(
        f"No worker answered within {ANSWER_SECONDS:.0f} s; the request stays. "
        "`thumbloop doctor` says whether the workers run."
    )
