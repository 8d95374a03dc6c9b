"""``thumbloop keys``: who may use the API."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.asking import DryRunFlag, YesFlag, ask
from service.cli.errors import CommandError
from service.cli.output import JsonFlag, ago, print_json, print_table, say
from service.cli.record import with_store

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import ApiKey, Scope

app = typer.Typer(
    no_args_is_help=True, help="API keys. Once there is a key, every request needs one."
)


class Scopes(StrEnum):
    """What a key is for."""

    chat = "chat"
    admin = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for your own list: whose key it is.")],
    scope: Annotated[
        list[Scopes], typer.Option("--scope", help="What the key may do; repeat for several.")
    ] = [Scopes.chat],  # noqa: B006 - typer copies it
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    scopes: frozenset[Scope] = frozenset(s.value for s in scope)
    key, secret = with_store(lambda store: store.keys.create(name, scopes, now=time.time()))
    if as_json:
        print_json({**asdict(key), "key": secret})
    else:
        say(secret)
        say("Keep this key: only its hash is stored, so it cannot be shown again.", err=True)


@app.command("list")
def list_keys(*, as_json: JsonFlag = False) -> None:
    """List the keys, without their secrets."""
    keys = with_store(lambda store: store.keys.list())
    if as_json:
        print_json(keys)
        return
    rows = [
        (k.public_id, k.name, ", ".join(sorted(k.scopes)), ago(k.created_at), _state(k.revoked))
        for k in keys
    ]
    print_table(
        ("id", "name", "scopes", "made", "state"),
        rows,
        "There are no keys: the API serves this machine only.",
    )


@app.command()
def revoke(
    public_id: Annotated[str, typer.Argument(help="The id that `keys list` shows.")],
    *,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key: it is refused from now on."""
    key = with_store(lambda store: _find(store, public_id))
    if not dry_run:
        ask(f"Revoke the key {public_id} of {key.name!r}, for good?", yes=yes)
        with_store(lambda store: store.keys.revoke(public_id))
    if as_json:
        print_json({"public_id": public_id, "revoked": not dry_run, "dry_run": dry_run})
    else:
        would = "would be" if dry_run else "is"
        say(f"{public_id} of {key.name!r} {would} revoked.")


async def _find(store: Store, public_id: str) -> ApiKey:
    for key in await store.keys.list():
        if key.public_id == public_id:
            return key
    raise CommandError(f"There is no key {public_id}: `thumbloop keys list` shows them.")


def _state(revoked: bool) -> str:
    return "revoked" if revoked else "valid"
