"""``thumbloop versions``: what has been learned, and which of it is served."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.adapters import AdapterStore
from models.settings import ModelSettings
from models.types import BASE
from service.cli.output import JsonFlag, ago, percent, print_fields, print_json, print_table
from service.cli.record import operator, with_store

if TYPE_CHECKING:
    from feedback.events import Rollout, VersionRecord
    from feedback.store import Store

app = typer.Typer(no_args_is_help=True, help="Policy versions and the rollout.")

Version = Annotated[str, typer.Argument(help="Like v000012-3fa9c1d2e4b7, or `base`.")]
Limit = Annotated[int, typer.Option(min=1, help="How many, newest first.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit trail.")]


@app.command("list")
def list_versions(limit: Limit = 100, *, as_json: JsonFlag = False) -> None:
    """List versions with their states and approval, newest first."""
    records = with_store(lambda store: store.versions.list(limit))
    if as_json:
        print_json([_as_dict(record) for record in records])
        return
    rows = [
        (r.version, r.state, percent(r.approval), r.up, r.down, r.completions, ago(_at(r)))
        for r in records
    ]
    columns = ("version", "state", "approval", "up", "down", "replies", "made")
    print_table(columns, rows, "There are no versions yet.")


@app.command()
def show(version: Version, *, as_json: JsonFlag = False) -> None:
    """Show all that is known of one version."""
    record = with_store(lambda store: store.versions.get(version))
    if as_json:
        print_json(_as_dict(record))
    else:
        print_fields(_as_dict(record))


@app.command()
def activate(
    version: Version,
    expected_live: Annotated[
        str | None, typer.Option(help="Refuse unless this version is live now.")
    ] = None,
    why: Why = "by hand",
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a version live, after checking its files."""

    async def change(store: Store) -> Rollout:
        _check_files(version)
        return await store.rollout.activate(
            version, who=operator(), why=why, expected_live=expected_live, now=time.time()
        )

    _print_rollout(with_store(change), as_json=as_json)


@app.command()
def rollback(
    to: Annotated[
        str | None, typer.Option(help="Default: the version that was live before.")
    ] = None,
    why: Why = "by hand",
    *,
    as_json: JsonFlag = False,
) -> None:
    """Go back to an earlier version, after checking its files."""

    async def change(store: Store) -> Rollout:
        target = to or (await store.rollout.get()).previous
        if target is not None:
            _check_files(target)
        return await store.rollout.rollback(to=to, who=operator(), why=why, now=time.time())

    _print_rollout(with_store(change), as_json=as_json)


def _check_files(version: str) -> None:
    if version != BASE:
        AdapterStore(ModelSettings().adapters_dir).verify(version)


def _print_rollout(rollout: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_json(rollout)
    else:
        typer.echo(f"{rollout.live} is live (generation {rollout.generation}).")


def _as_dict(record: VersionRecord) -> dict[str, Any]:
    return {**asdict(record), "approval": record.approval}


def _at(record: VersionRecord) -> float | None:
    return record.created_at or None
