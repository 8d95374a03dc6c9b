"""Imports: a file of the layout ``records`` back into the record, all of it or nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from feedback.export.reading import read_records
from feedback.vote_record import TOMBSTONES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from feedback.store import Store
    from feedback.types import VoteState
    from feedback.vote_record import VoteRecord

BATCH_ROWS = 50
BATCH_BYTES = 1024 * 1024
"""About so much goes into one script, which holds everybody else up for a few milliseconds."""

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that cannot be imported."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What a file holds: its rows, the first of the bad ones, and how many are bad."""

    rows: int
    bad: int
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        votes: Those that were written; after a dry run, that would be.
        there: Those whose completion or vote is there already, which were left alone.
        tombstones: Rows of withdrawn and deleted votes, of which nothing is left to be written.
        states: How many of the written ones stand in each state.
    """

    rows: int
    votes: int
    there: int
    tombstones: int
    states: dict[str, int]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What token ids of the base can be.

    Attributes:
        base: Its name.
        vocabulary: Ids are below it.
        context: The most tokens of prompt and reply; None if the base does not say.
    """

    base: str
    vocabulary: int
    context: int | None

    def problem(self, record: VoteRecord) -> str | None:
        """Return why a reply cannot be of this base; None if it can."""
        reply = record.completion
        if reply is None:
            return None
        for name in ("prompt_ids", "response_ids"):
            highest = max(getattr(reply, name))
            if highest >= self.vocabulary:
                return (
                    f"{name}: {highest} is no token of {self.base}, whose ids end at "
                    f"{self.vocabulary - 1}; the reply was written by another base"
                )
        tokens = len(reply.prompt_ids) + len(reply.response_ids)
        if self.context is not None and tokens > self.context:
            return (
                f"prompt_ids: with the reply there are {tokens} tokens, and {self.base} reads "
                f"{self.context} at most"
            )
        return None


def check_file(
    path: Path, progress: Callable[[int], Any] = lambda _: None, limits: TokenLimits | None = None
) -> CheckedFile:
    """Read a whole file and return what is wrong with it.

    Args:
        path: The file.
        progress: Called with the number of rows read.
        limits: What its token ids can be; None if the base is not known here.

    Raises:
        TransferError: The file cannot be read at all.
    """
    rows = bad = 0
    problems: list[RowProblem] = []
    for row in read_records(path):
        rows += 1
        problem = row.problem
        if row.record is not None and limits is not None:
            problem = limits.problem(row.record) or ""
        if problem:
            bad += 1
            problems.append(RowProblem(row.number, problem))
            del problems[SHOWN_PROBLEMS:]
        progress(rows)
    return CheckedFile(rows, bad, tuple(problems))


async def import_file(
    store: Store,
    path: Path,
    *,
    relearn: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], Any] = lambda _: None,
) -> ImportReport:
    """Write the votes of a file that ``check_file`` found nothing wrong with.

    Importing it again writes only what is not there yet, so an import that was cut off is gone on
    with by importing again.

    Args:
        store: The record.
        path: The file.
        relearn: Whether every vote that has a score and its reply becomes ``pending``. Otherwise
            states stay as they are, but for ``claimed``: the run that claimed it is not here. A
            vote that would wait without its reply has expired.
        dry_run: Count only.
        progress: Called after each batch with the rows so far.

    Raises:
        TransferError: The file cannot be read.
        StoreUnavailableError: Redis is away; importing again goes on.
    """
    rows = there = tombstones = 0
    states: Counter[str] = Counter()
    for batch in _batches(path):
        rows += len(batch)
        votes = [_ready(each, relearn=relearn) for each in batch if each.state not in TOMBSTONES]
        tombstones += len(batch) - len(votes)
        written = await _write(store, votes, dry_run=dry_run)
        there += written.count(False)
        states.update(vote.state for vote, done in zip(votes, written, strict=True) if done)
        progress(rows)
    return ImportReport(rows, states.total(), there, tombstones, dict(states), dry_run)


async def _write(store: Store, votes: list[VoteRecord], *, dry_run: bool) -> list[bool]:
    if not votes:
        return []
    if dry_run:
        return [not there for there in await store.restore.there([vote.id for vote in votes])]
    return await store.restore.add(votes)


def _ready(record: VoteRecord, *, relearn: bool) -> VoteRecord:
    """Return a vote in the state in which an import writes it."""
    gone = record.completion is None
    again = relearn and record.score is not None and not gone
    if not again and record.state not in {"claimed", "pending"}:
        return record
    if record.state == "pending" and not gone:
        return record
    state: VoteState = "expired" if gone else "pending"
    return replace(record, state=state, learned_by=None, reason=None, returned=0)


def _batches(path: Path) -> Iterator[list[VoteRecord]]:
    """Yield lists of records that are small enough for one script."""
    batch: list[VoteRecord] = []
    size = 0
    for row in read_records(path):
        if row.record is None:
            continue
        batch.append(row.record)
        size += _size(row.record)
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(record: VoteRecord) -> int:
    """Return about how many bytes a record has in a script's arguments."""
    reply = record.completion
    if reply is None:
        return 1000
    texts = len(reply.text) + sum(len(message.content) for message in reply.messages)
    return 1000 + texts + 8 * len(reply.prompt_ids) + 28 * len(reply.response_ids)
