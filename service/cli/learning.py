"""``thumbloop learning`` and ``thumbloop feedback``: the switch, and what people said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from service.cli.output import JsonFlag, print_fields, print_json
from service.cli.record import operator, with_store

if TYPE_CHECKING:
    from feedback.store import Store

learning = typer.Typer(no_args_is_help=True, help="Pause or resume learning.")
feedback = typer.Typer(no_args_is_help=True, help="What people said of replies.")


@learning.command()
def pause(*, as_json: JsonFlag = False) -> None:
    """Start no more updates; one under way is finished, votes are still taken."""
    with_store(lambda store: store.learning.pause(operator()))
    _say(paused=True, as_json=as_json)


@learning.command()
def resume(*, as_json: JsonFlag = False) -> None:
    """Let updates start again."""
    with_store(lambda store: store.learning.resume(operator()))
    _say(paused=False, as_json=as_json)


@feedback.command()
def stats(*, as_json: JsonFlag = False) -> None:
    """Count the votes by what they say and where they stand."""

    async def count(store: Store) -> dict[str, int]:
        return await store.votes.stats()

    figures = with_store(count)
    if as_json:
        print_json(figures)
    else:
        print_fields(figures)


def _say(*, paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"paused": paused})
    else:
        typer.echo("Learning is paused." if paused else "Learning goes on.")
