"""Exports: the log of votes as lines, chunk by chunk, and as a file that survives a crash."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from feedback.errors import TransferError
from feedback.export.files import Cursor, PartFile
from feedback.export.layouts import PAIRED, pair_row, single_rows
from feedback.export.pairs import Match, Pairing, PreferencePair, resolve
from feedback.export.writers import encode_line
from feedback.retention import position
from feedback.store.log import START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from feedback.export.layouts import Format, Layout, Row
    from feedback.store import Store
    from feedback.vote_record import VoteRecord

CHUNK = 100
"""Entries of the log, and so at most completions, that are in memory at a time."""

KEPT_EVENTS = 1000
"""Entries between two points from which an export can be gone on with."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        until: The last entry of the log that it has; the next export goes on ``since`` there.
        marked: Whether the log may be trimmed up to there.
    """

    file: str
    layout: Layout
    rows: int
    events: int
    since: str
    until: str
    marked: bool


async def begin(store: Store, layout: Layout, since: str = START) -> Cursor:
    """Return the cursor of an export of what the log has now after the entry ``since``."""
    return Cursor(layout, since=since, until=await store.log.last_id(), after=since)


async def chunks(store: Store, cursor: Cursor) -> AsyncIterator[tuple[list[bytes], Cursor]]:
    """Yield the lines of one chunk after the other, each with the cursor after it.

    The log is read up to the cursor's ``until``. A vote that changes meanwhile is not in this
    export but in the next one, as its event comes after that.

    Raises:
        StoreUnavailableError: Redis is away.
    """
    pairing = Pairing.restored(cursor.waiting)
    while position(cursor.after) < position(cursor.until):
        entries = await store.log.read(cursor.after, CHUNK, cursor.until)
        if not entries:
            return
        records = await store.log.records(entries)
        rows = await _rows(store, cursor.layout, records, pairing)
        # Encoding long replies takes a while; other requests of this process go on meanwhile.
        lines = await asyncio.to_thread(_encode, rows)
        cursor = replace(
            cursor,
            after=entries[-1].id,
            events=cursor.events + len(entries),
            rows=cursor.rows + len(lines),
            waiting=pairing.state() if cursor.layout in PAIRED else [],
        )
        yield lines, cursor


def _encode(rows: Sequence[Row]) -> list[bytes]:
    return [encode_line(row) for row in rows]


async def export_file(
    store: Store,
    target: Path,
    layout: Layout,
    form: Format,
    *,
    since: str = START,
    resume: bool = False,
    progress: Callable[[Cursor], Any] = lambda _: None,
) -> ExportReport:
    """Write an export into a file, which is whole and on disk once it has its name.

    Args:
        store: The record.
        target: The file; it must not be there.
        layout: What the rows are.
        form: How the rows are written.
        since: The entry of the log after which to begin.
        resume: Whether to go on with an export to this file that did not come to its end; where
            there is none, one begins.
        progress: Called after each chunk.

    Raises:
        TransferError: The file cannot be written, or gone on with.
        StoreUnavailableError: Redis is away; ``resume`` goes on.
    """
    part = PartFile(target)
    cursor = part.finished() if resume else None
    if cursor is None:
        with part.held():
            cursor = part.resume() if resume else None
            if cursor is None:
                part.restart()
                cursor = await begin(store, layout, since)
            await _check(store, cursor, layout, since)
            cursor = await _write(store, part, cursor, progress)
            await asyncio.to_thread(part.finish, layout, form)
    marked = layout == "records" and await store.log.raise_exported(
        since=cursor.since, until=cursor.until
    )
    part.clear()
    return ExportReport(
        str(target), layout, cursor.rows, cursor.events, cursor.since, cursor.until, marked
    )


async def _write(
    store: Store, part: PartFile, cursor: Cursor, progress: Callable[[Cursor], Any]
) -> Cursor:
    """Write what is left of an export; return the cursor at its end."""
    kept = cursor.events
    async for lines, reached in chunks(store, cursor):
        cursor = reached
        part.add(lines)
        if cursor.events - kept >= KEPT_EVENTS:
            await asyncio.to_thread(part.keep, cursor)
            kept = cursor.events
        progress(cursor)
    await asyncio.to_thread(part.keep, cursor)
    return cursor


async def _check(store: Store, cursor: Cursor, layout: Layout, since: str) -> None:
    """Refuse to go on with an export that is not the one that is asked for.

    Raises:
        TransferError: Another layout or beginning was asked for, or the record is another one.
    """
    if (cursor.layout, cursor.since) != (layout, since):
        raise TransferError(
            f"The unfinished export has the layout {cursor.layout} and begins after "
            f"{cursor.since}: ask for the same to continue it, or leave --resume out to begin "
            "anew."
        )
    if position(cursor.until) > position(await store.log.last_id()):
        raise TransferError(
            "The unfinished export is of a record with later events than this one has: check the "
            "data folder or THUMBLOOP_REDIS_URL, or leave --resume out to begin anew."
        )


async def _rows(
    store: Store, layout: Layout, records: Sequence[VoteRecord], pairing: Pairing
) -> list[Row]:
    if layout not in PAIRED:
        return [row for record in records for row in single_rows(layout, record)]
    found = [each for record in records for each in pairing.take(record)]
    ids = [each.other for each in found if isinstance(each, Match)]
    others = iter(await store.completions.get_many(ids))
    pairs = [resolve(each, next(others)) if isinstance(each, Match) else each for each in found]
    return [pair_row(layout, pair) for pair in pairs if isinstance(pair, PreferencePair)]
