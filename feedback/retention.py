"""What may leave the record, and what a sweep of it did: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rewrite = Literal["", "wanted", "started"]
"""Where the rewrite of Redis's append-only file stands that follows a deletion of a user."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did, and what it found afterwards.

    Attributes:
        at: When it began, in seconds since the epoch.
        seconds: How long it took.
        expired_votes: Votes that waited longer than their completion lived.
        returned_runs: Runs of versions that were rolled back, whose votes wait again.
        trimmed_events: Entries that left the feedback log.
        trimmed_audit: Entries that left the audit.
        forgotten_ids: Ids that left the lists of users, as neither reply nor vote is left.
        log_events: Entries of the feedback log.
        unexported_events: Those that no finished export has, counted up to ``COUNTED_EVENTS``.
        finished: Whether there was time for all of it; what is left over comes next time.
        rewrite: Whether Redis still has to rewrite its append-only file after a deletion.
    """

    at: float
    seconds: float = 0.0
    expired_votes: int = 0
    returned_runs: int = 0
    trimmed_events: int = 0
    trimmed_audit: int = 0
    forgotten_ids: int = 0
    log_events: int = 0
    unexported_events: int = 0
    finished: bool = True
    rewrite: Rewrite = ""


@dataclass(frozen=True, slots=True)
class DeletedUser:
    """What a deletion of a user deleted, or would.

    Attributes:
        completions: Replies, or the votes that outlived them.
        votes: Votes that were not withdrawn.
        versions: Those that learned from the user's votes; later ones descend from them.
        runs: Numbers of the runs that had such votes in their batch.
        rewrite: Whether Redis still has to rewrite its append-only file.
    """

    user: str
    owner: str
    completions: int
    votes: int
    versions: tuple[str, ...] = ()
    runs: tuple[int, ...] = ()
    rewrite: Rewrite = ""


@dataclass(frozen=True, slots=True)
class RecordHealth:
    """What the record says of those who work on it.

    Attributes:
        last_look: When a worker last checked for work, in seconds since the epoch; None for never.
        waiting_votes: Votes that no run has claimed.
        log_events: Entries of the feedback log.
        swept: The last sweep; None before the first.
    """

    last_look: float | None
    waiting_votes: int
    log_events: int
    swept: SweepReport | None


COUNTED_EVENTS = 10_000
"""At most so many unexported events are counted."""


def trim_mark(
    *, exported: str | None, now_ms: int, vote_ttl_ms: int, trim_unexported: bool
) -> str | None:
    """Return the id of the feedback log's first entry that must stay; None when all must.

    The log is trimmed only below what an export has, and below the age at which a vote's hash
    expires. The script that trims also compares each entry with the vote that it belongs to: only
    there is it certain, at that moment, which vote waits, is claimed or can still be read.

    Args:
        exported: The last entry that a finished export has; None before the first export.
        now_ms: Redis's own time, by which it numbers entries and lets hashes expire.
        vote_ttl_ms: How long a vote outlives its last change.
        trim_unexported: Whether entries may go that no export has.
    """
    aged = f"{max(0, now_ms - vote_ttl_ms)}-0"
    if trim_unexported:
        return aged
    if exported is None:
        return None
    return min(exported, aged, key=position)


def position(entry_id: str) -> tuple[int, int]:
    """Return what a stream's entries are ordered by: milliseconds, and a number within one."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def next_rewrite(rewrite: Rewrite, *, running: bool, completed: bool, enabled: bool) -> Rewrite:
    """Return where the rewrite of the append-only file stands, and so whether to start one.

    Args:
        rewrite: Where it stood.
        running: Whether Redis rewrites now, or is about to.
        completed: Whether the last rewrite since Redis's own start went well.
        enabled: Whether there is an append-only file.

    Returns:
        ``wanted`` when one has to be started now.
    """
    if not enabled or (rewrite == "started" and completed and not running):
        return ""
    if rewrite == "started" and not running:
        return "wanted"
    return rewrite
