"""``thumbloop feedback``: counts, exports and imports of votes."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from feedback.errors import StoreUnavailableError
from feedback.export.exporting import export_file
from feedback.export.importing import CheckedFile, TokenLimits, check_file, import_file
from feedback.export.layouts import Format, Layout  # noqa: TC001 - likewise
from feedback.export.since import entry_before
from models.base.files import base_facts
from models.errors import BaseModelError
from models.settings import ModelSettings
from service.cli.errors import CommandError
from service.cli.output import JsonFlag, print_fields, print_json, say
from service.cli.progress import counting
from service.cli.record import with_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedback.export.exporting import ExportReport
    from feedback.export.importing import ImportReport
    from feedback.store import Store

app = typer.Typer(no_args_is_help=True, help="Votes: count, export and import them.")


@app.command()
def stats(*, as_json: JsonFlag = False) -> None:
    """Count the votes by worth and by state."""

    async def count(store: Store) -> dict[str, int]:
        return await store.votes.stats()

    figures = with_store(count)
    if as_json:
        print_json(figures)
    else:
        print_fields(figures)


@app.command()
def export(
    *,
    out: Annotated[Path, typer.Option(help="The file to write; it must not exist yet.")],
    form: Annotated[Format, typer.Option("--format", help="The format of the file.")] = "jsonl",
    layout: Annotated[
        Layout, typer.Option(help="What each row holds; see docs/tasks/export.md.")
    ] = "records",
    since: Annotated[
        str,
        typer.Option(
            help="Only votes that changed since a day, a time (ISO 8601), or the `until` "
            "of an export."
        ),
    ] = "0-0",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an export that was interrupted.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the current vote on each reply into a file."""
    after = entry_before(since)

    async def write(store: Store) -> ExportReport:
        total = await store.log.size() if since == "0-0" else None
        with counting("Exporting", total) as show, _hint("Add --resume to continue this export."):
            return await export_file(
                store,
                out,
                layout,
                form,
                since=after,
                resume=resume,
                progress=lambda cursor: show(cursor.events),
            )

    done = with_store(write)
    if as_json:
        print_json(done)
    else:
        say(f"{done.rows} rows are in {done.file}. Next time, add --since {done.until}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An export of the layout `records`.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be imported, and change nothing.")
    ] = False,
    relearn: Annotated[
        bool,
        typer.Option(
            "--relearn",
            help="Let updates learn from all votes of the file, also from those learned before.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Import votes and their replies. What the record has already stays as it is."""
    with counting("Checking") as show:
        checked = check_file(file, show, _limits())
    if checked.bad:
        raise CommandError(_refusal(file, checked))

    async def write(store: Store) -> ImportReport:
        with (
            counting("Importing", checked.rows) as show,
            _hint("Run the same command again to continue."),
        ):
            return await import_file(store, file, relearn=relearn, dry_run=dry_run, progress=show)

    done = with_store(write)
    if as_json:
        print_json(done)
        return
    would = "would be imported" if dry_run else "imported"
    say(
        f"{done.votes} votes {would}, {done.there} were there already, {done.tombstones} rows are "
        "of withdrawn or deleted votes."
    )


def _limits() -> TokenLimits | None:
    """Return what token ids can be; None where this machine does not have the base."""
    settings = ModelSettings()
    try:
        facts = base_facts(settings)
    except BaseModelError:
        return None
    if facts.vocabulary is None:
        return None
    return TokenLimits(facts.name, facts.vocabulary, facts.context)


@contextmanager
def _hint(hint: str) -> Iterator[None]:
    """Say how to continue when Redis goes away during a transfer."""
    try:
        yield
    except StoreUnavailableError as error:
        raise CommandError(f"{error} {hint}") from error


def _refusal(file: Path, checked: CheckedFile) -> str:
    """Say which rows are bad, and that nothing was done."""
    lines = [f"{file}:{each.row}: {each.reason}" for each in checked.problems]
    more = checked.bad - len(checked.problems)
    if more:
        lines.append(f"and {more} more")
    what = f"{checked.bad} of {checked.rows} rows cannot be imported, so nothing was."
    return "\n".join([what, *lines])
