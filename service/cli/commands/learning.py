"""``thumbloop learning``: pauses and resumes learning."""

from __future__ import annotations

import typer

from service.cli.output import JsonFlag, print_json, say
from service.cli.record import operator, with_store

app = typer.Typer(no_args_is_help=True, help="Pause or resume learning.")


@app.command()
def pause(*, as_json: JsonFlag = False) -> None:
    """Start no more updates. An update under way is finished, and votes are still taken."""
    with_store(lambda store: store.learning.pause(operator()))
    _say(paused=True, as_json=as_json)


@app.command()
def resume(*, as_json: JsonFlag = False) -> None:
    """Let updates start again."""
    with_store(lambda store: store.learning.resume(operator()))
    _say(paused=False, as_json=as_json)


def _say(*, paused: bool, as_json: bool) -> None:
    if as_json:
        print_json({"paused": paused})
    else:
        say("Learning is paused." if paused else "Learning goes on.")
