"""``thumbloop users``: the people whose completions and votes are kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from feedback.errors import StoreUnavailableError
from service.cli.asking import DryRunFlag, YesFlag, ask
from service.cli.errors import CommandError
from service.cli.output import JsonFlag, print_json, say
from service.cli.record import operator, with_store

if TYPE_CHECKING:
    from feedback.retention import DeletedUser
    from feedback.store import Store

app = typer.Typer(no_args_is_help=True, help="Users whose replies and votes are kept.")


@app.command()
def delete(
    user: Annotated[str, typer.Argument(help="The name, as `user` in the requests.")],
    owner: Annotated[
        str | None,
        typer.Option(help="Public id of the API key, or `open`; needed once there are keys."),
    ] = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Delete all completions and votes of a user, for good, and say what learned from them."""
    found = with_store(lambda store: _find(store, user, owner))
    if not dry_run:
        ask(f"Delete {_amount(found)}, for good?", yes=yes)
        found = with_store(lambda store: _delete(store, user, found.owner))
    if as_json:
        print_json({**asdict(found), "dry_run": dry_run})
        return
    say(f"{'Would delete' if dry_run else 'Deleted'} {_amount(found)}.")
    for line in _consequences(found):
        say(line)


async def _find(store: Store, user: str, owner: str | None) -> DeletedUser:
    return await store.users.find(await store.users.person(user, owner))


async def _delete(store: Store, user: str, owner: str) -> DeletedUser:
    person = await store.users.person(user, owner)
    try:
        return await store.users.delete(person, who=operator())
    except StoreUnavailableError as error:
        raise CommandError(
            f"{error} What is deleted stays deleted; run the same command again to continue."
        ) from error


def _amount(found: DeletedUser) -> str:
    """Return how much is recorded of a user."""
    named = f"of {found.user!r}" if found.user else "of requests that named no user"
    return f"{found.completions} replies and {found.votes} votes {named} under {found.owner}"


def _consequences(found: DeletedUser) -> list[str]:
    """Say what a deletion cannot undo, and what is still to come."""
    lines = []
    if found.versions:
        lines.append(
            f"These versions learned from the votes: {', '.join(found.versions)}, and so did all "
            "that were built on them."
        )
    if found.runs:
        lines.append(f"The votes were in update runs {', '.join(map(str, found.runs))}.")
    if found.rewrite:
        lines.append(
            "Redis has yet to rewrite its append-only file; `thumbloop doctor` says if it cannot."
        )
    return lines
