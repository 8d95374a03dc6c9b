"""``thumbloop versions``: the versions, and which of them serve."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedback.tracing import made
from feedback.types import is_event_id
from models.versions import Activate, Confirm, Rollback
from service.cli.asking import DryRunFlag, YesFlag  # noqa: TC001 - typer reads them at run time
from service.cli.changing import (
    ExpectedLiveOption,
    VersionArgument,
    WaitOption,
    WhyOption,
    change,
)
from service.cli.errors import CommandError
from service.cli.output import JsonFlag, ago, approval, print_fields, print_json, print_table, say
from service.cli.record import with_store
from service.cli.traces import TextsFlag, print_checks, print_made, print_samples
from service.operating.approval import version_row

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.tracing import VersionOrigin
    from feedback.types import RolloutEvent

app = typer.Typer(no_args_is_help=True, help="Policy versions and the rollout.")

Limit = Annotated[int, typer.Option(min=1, help="How many, newest first.")]


@app.command("list")
def list_versions(limit: Limit = 100, *, as_json: JsonFlag = False) -> None:
    """List versions with their states and what people think of them, newest first."""

    async def read(store: Store) -> list[dict[str, Any]]:
        rollout = await store.rollout.get()
        return [version_row(each, rollout) for each in await store.versions.list(limit)]

    rows = with_store(read)
    if as_json:
        print_json(rows)
        return
    columns = ("version", "state", "approval", "votes", "KL", "age", "by")
    print_table(columns, [_cells(row) for row in rows], "There are no versions yet.")


@app.command()
def show(version: VersionArgument, *, texts: TextsFlag = False, as_json: JsonFlag = False) -> None:
    """Show all that is known of one version: its run, its votes, what it was built on."""

    async def read(store: Store) -> tuple[dict[str, Any], VersionOrigin]:
        record = await store.versions.get(version)
        row = version_row(record, await store.rollout.get())
        return row | {"manifest": record.manifest}, await made(store, version, texts=texts)

    row, trace = with_store(read)
    if as_json:
        print_json({**row, "made": asdict(trace)})
        return
    figures = row["figures"]
    print_fields(_fields(row))
    say()
    print_checks(figures.get("checks", []))
    print_samples(figures.get("samples", []))
    print_made(trace)


@app.command()
def history(
    version: Annotated[str | None, typer.Argument(help="Only entries about this version.")] = None,
    limit: Limit = 100,
    before: Annotated[
        str | None, typer.Option(help="Only entries older than the one with this id.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List who changed what is served, when, from what to what, and why; newest first."""
    if before is not None and not is_event_id(before):
        raise CommandError(f"{before!r} is not an entry's id: take one from the last column.")

    async def read(store: Store) -> list[RolloutEvent]:
        if version is not None:
            await store.versions.get(version)
        return await store.rollout.events(limit, version=version, before=before)

    events = with_store(read)
    if as_json:
        print_json(events)
        return
    rows = [
        (ago(e.at), e.who, e.action.replace("_", " "), e.old or None, e.new or None, e.why, e.id)
        for e in events
    ]
    columns = ("when", "who", "what", "from", "to", "why", "id")
    print_table(columns, rows, "Nothing was changed yet.")


@app.command()
def activate(
    version: VersionArgument,
    expected_live: ExpectedLiveOption = None,
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a version live and confirmed, after checking its files."""
    change(Activate(version, expected_live), why=why, wait=wait, as_json=as_json)


@app.command()
def rollback(
    to: Annotated[
        str | None, typer.Option(help="Default: the version that was live before.")
    ] = None,
    expected_live: ExpectedLiveOption = None,
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Go back to an earlier version. Versions that were built on it since are rolled back."""
    change(
        Rollback(to, expected_live),
        why=why,
        wait=wait,
        question="Roll back?",
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command()
def confirm(
    version: VersionArgument,
    why: WhyOption = "by hand",
    wait: WaitOption = 0.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Confirm the live version: later versions are compared with it."""
    change(Confirm(version), why=why, wait=wait, as_json=as_json)


def _fields(row: dict[str, Any]) -> dict[str, object]:
    """Return what ``show`` prints in front of the gate's figures, in words."""
    left_out = {"manifest", "figures", "interval", "live"}
    return {name: value for name, value in row.items() if name not in left_out} | {
        "created_at": ago(row["created_at"] or None),
        "changed_at": ago(row["changed_at"]),
        "stopped_at": ago(row["stopped_at"]),
        "approval": approval(row),
        "roles": ", ".join(row["roles"]) or None,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    roles = [role for role in row["roles"] if role != row["state"]]
    state = ", ".join([row["state"].replace("_", " "), *roles])
    by = row["changed_by"] or ("learner" if row["run"] is not None else None)
    kl = None if row["kl"] is None else f"{row['kl']:.2f}"
    votes = row["up"] + row["down"]
    age = ago(row["created_at"] or None)
    return row["version"], state, approval(row), votes, kl, age, by
