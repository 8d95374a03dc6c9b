"""``thumbloop versions import`` and ``export``: adapters as folders and archives."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from models.adapters import AdapterRequirements, AdapterStore
from models.errors import AdapterStoreUnavailableError
from models.settings import ModelSettings
from service.cli.errors import CommandError
from service.cli.output import JsonFlag, print_json, say
from service.cli.record import operator, with_store
from service.operating.transfers import import_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedback.store import Store
    from feedback.types import VersionRecord


def import_(
    source: Annotated[Path, typer.Argument(help="A folder, .tar.gz, .tar or .zip.")],
    why: Annotated[str, typer.Option(help="The reason, for the audit trail.")] = "by hand",
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check whether the adapter would be accepted.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Import an adapter in PEFT's format as a candidate. The gate checks it next."""
    settings = ModelSettings()
    if dry_run:
        _check(settings, source, as_json=as_json)
        return

    async def take(store: Store) -> VersionRecord:
        return await import_version(
            store, settings, source, who=operator(), why=why, follow_links=True, now=time.time()
        )

    with _files_usable():
        record = with_store(take)
    if as_json:
        print_json(record)
    else:
        say(
            f"{record.version} is a candidate. A worker puts it through the gate; then "
            f"`thumbloop versions activate {record.version}` makes it live."
        )


def export(
    version: Annotated[str, typer.Argument(help="A version's id, such as v000012-3fa9c1d2e4b7.")],
    target: Annotated[
        Path, typer.Argument(help="A folder, .tar.gz, .tar or .zip that does not exist yet.")
    ],
    *,
    state: Annotated[
        bool,
        typer.Option(
            "--state/--no-state",
            help="Include the learner's state, which other tools do not need. It holds each user's "
            "mean reward, by pseudonym.",
        ),
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Write an adapter in PEFT's format, as a folder or an archive."""
    with _files_usable():
        AdapterStore.open(ModelSettings()).export(version, target, state=state)
    if as_json:
        print_json({"version": version, "target": str(target), "state": state})
    else:
        say(f"{version} is in {target}.")


@contextmanager
def _files_usable() -> Iterator[None]:
    """Say in one line that a file cannot be read or written."""
    try:
        yield
    except AdapterStoreUnavailableError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(
            f"{where}{error.strerror or error}. Check that it may be read or written, and that "
            "its disk is not full."
        ) from error


def _check(settings: ModelSettings, source: Path, *, as_json: bool) -> None:
    wanted = AdapterRequirements.from_settings(settings)
    with (
        _files_usable(),
        AdapterStore.open(settings).importing(source, wanted, follow_links=True) as found,
    ):
        checked = found.checked
    if as_json:
        print_json({**asdict(checked), "base": wanted.base.name, "dry_run": True})
    else:
        state = "with" if checked.has_state else "without"
        say(
            f"{source} would be accepted: {checked.parameters:,} parameters for "
            f"{wanted.base.name}, {state} the learner's state."
        )
