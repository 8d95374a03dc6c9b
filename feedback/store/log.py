"""The log of votes: every accepted event in order, and the votes as they stand by that order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from feedback.retention import position
from feedback.store import keys
from feedback.store.completions import decode_completion
from feedback.store.vote_codec import decode_vote
from feedback.types import Person
from feedback.vote_record import VoteRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.store.client import Client
    from feedback.vote_record import RecordState

START = "0-0"
"""Before the log's first entry."""

Event = Literal["put", "withdrawn", "deleted"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One accepted event. ``id`` is the entry's, ``completion_id`` what it is about.

    Attributes:
        at: Seconds since the epoch.
        learned_by: The version that had learned the vote that ended here.
    """

    id: str
    event: Event
    completion_id: str
    revision: int
    at: float
    learned_by: str | None


class FeedbackLog:
    """The log of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def last_id(self) -> str:
        """Return the id of the last entry there was, trimmed or not; ``START`` when none was."""
        if not await self._client.command("EXISTS", keys.FEEDBACK_LOG):
            return START
        found = await self._client.command("XINFO STREAM", keys.FEEDBACK_LOG)
        return str(found["last-generated-id"])

    async def size(self) -> int:
        """Return how many entries there are."""
        return int(await self._client.command("XLEN", keys.FEEDBACK_LOG))

    async def read(self, after: str, limit: int, until: str = "+") -> list[LogEntry]:
        """Return at most ``limit`` entries after the entry ``after``, up to ``until``, in order."""
        found = await self._client.command(
            "XRANGE", keys.FEEDBACK_LOG, f"({after}", until, "COUNT", limit
        )
        return [_entry(entry_id, event) for entry_id, event in found]

    async def records(self, entries: Sequence[LogEntry]) -> list[VoteRecord]:
        """Return the votes whose latest event is among ``entries``, in order, all as of one moment.

        Withdrawn and deleted votes come as tombstones. A vote that has expired altogether is left
        out, as is one that has changed since: its later event stands for it.
        """
        ids = [entry.completion_id for entry in entries]
        names = [keys.feedback(each) for each in ids] + [keys.completion(each) for each in ids]
        found = await self._client.hashes(names)
        votes, replies = found[: len(ids)], found[len(ids) :]
        records = map(_record, entries, votes, replies)
        return [record for record in records if record is not None]

    async def exported(self) -> str | None:
        """Return the last entry that a finished export of the whole has; None before the first."""
        found = await self._client.command("GET", keys.EXPORTED)
        return None if found is None else str(found)

    async def raise_exported(self, *, since: str, until: str) -> bool:
        """Note that an export has every entry after ``since`` up to ``until``.

        Returns:
            Whether the mark stands at ``until`` or later now. It stays where it is when the export
            left a gap between the mark and ``since``.
        """
        raised = await self._client.script("log_exported", [keys.EXPORTED], [since, until])
        return bool(raised)


def _entry(entry_id: str, found: dict[str, str]) -> LogEntry:
    return LogEntry(
        id=entry_id,
        event=cast("Event", found["event"]),
        completion_id=found["id"],
        revision=int(found["revision"]),
        at=float(found["at"]),
        learned_by=found["learned_by"] or None,
    )


def _record(entry: LogEntry, vote: dict[str, str], reply: dict[str, str]) -> VoteRecord | None:
    """Return the vote that an entry is the latest event of; None when it is not, or it expired."""
    if entry.event == "deleted":
        return None if vote else _tombstone(entry, "deleted")
    if vote.get("revision") != str(entry.revision):
        return None
    if "logged" in vote and position(entry.id) < position(vote["logged"]):
        return None  # It was deleted and imported again, and the import is its latest event.
    if vote["state"] == "withdrawn":
        return _tombstone(entry, "withdrawn")
    return _standing(entry, vote, reply)


def _tombstone(entry: LogEntry, state: RecordState) -> VoteRecord:
    return VoteRecord(
        id=entry.completion_id,
        state=state,
        revision=entry.revision,
        updated_at=entry.at,
        learned_by=entry.learned_by,
    )


def _standing(entry: LogEntry, vote: dict[str, str], reply: dict[str, str]) -> VoteRecord:
    state = cast("RecordState", vote["state"])
    return VoteRecord(
        id=entry.completion_id,
        state="expired" if state == "pending" and not reply else state,
        revision=entry.revision,
        updated_at=float(vote["updated_at"]),
        learned_by=vote.get("version"),
        person=Person(vote["owner"], vote["user"]),
        version=vote["made_by"],
        vote=decode_vote(vote["vote"]),
        score=float(vote["score"]) if vote["score"] else None,
        scored_revision=int(vote["scored"]),
        voted_at=float(vote["voted_at"]),
        reason=vote.get("reason"),
        returned=int(vote.get("returned", 0)),
        completion=decode_completion(reply) if reply else None,
    )
