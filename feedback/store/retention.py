"""Retention: sweeps out of the record what has expired, a bounded piece at a time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from redis.exceptions import ResponseError

from feedback.retention import (
    COUNTED_EVENTS,
    RecordHealth,
    Rewrite,
    SweepReport,
    next_rewrite,
    trim_mark,
)
from feedback.store import keys
from feedback.store.client import fields
from feedback.store.codec import HashCodec, flat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.settings import FeedbackSettings
    from feedback.store.client import Client
    from feedback.store.votes import Votes

_CODEC = HashCodec(SweepReport, without={"rewrite"})

PIECE = 500
"""Entries that one script handles: about a millisecond in which Redis serves nobody else."""

_SCANNED = 1000
_USERS = 20
"""Users whose lists one script reads."""
_WHOLE_SCAN = "0"


class Retention:
    """Keeps one Redis in bounds. Any number may sweep at once; each piece is one script."""

    def __init__(self, client: Client, votes: Votes, settings: FeedbackSettings) -> None:
        self._client = client
        self._votes = votes
        self._completion_ttl = settings.completion_ttl.total_seconds()
        self._vote_ttl_ms = round(settings.vote_ttl.total_seconds() * 1000)
        self._trim_unexported = settings.trim_unexported
        self._audit_events = settings.audit_events

    async def sweep(self, *, now: float, seconds: float) -> SweepReport:
        """Do what there is to do, as far as the time allows, and write down what was done.

        A sweep that is cut off has done whole pieces; the next one goes on.

        Args:
            now: Seconds since the epoch.
            seconds: For each of the four long parts; what is left over comes next time.

        Raises:
            StoreUnavailableError: Redis is away.
        """
        began = time.monotonic()
        expired, all_expired = await _repeat(lambda: self._votes.expire(PIECE, now), seconds)
        returned, all_returned = await _repeat(self._votes.return_rolled_back, seconds)
        trimmed, all_trimmed = await self._trim_log(seconds)
        forgotten, cursor = await self._forget_ids(now, seconds)
        swept = SweepReport(
            at=now,
            expired_votes=expired,
            returned_runs=returned,
            trimmed_events=trimmed,
            trimmed_audit=await self._trim_audit(),
            forgotten_ids=forgotten,
            log_events=int(await self._client.command("XLEN", keys.FEEDBACK_LOG)),
            unexported_events=await self._count_unexported(),
            finished=all_expired and all_returned and all_trimmed and cursor == _WHOLE_SCAN,
            rewrite=await self.rewrite_file(),
        )
        swept = replace(swept, seconds=time.monotonic() - began)
        await self._remember(swept, cursor)
        return swept

    async def last(self) -> SweepReport | None:
        """Return the last sweep; None before the first."""
        return _decode(await self._client.hash(keys.RETENTION))

    async def health(self) -> RecordHealth:
        """Return whether workers check for work, and whether the record is kept in bounds."""
        checked, waiting, events, swept = await self._client.script(
            "health", [keys.LOOKED, keys.READY, keys.FEEDBACK_LOG, keys.RETENTION]
        )
        return RecordHealth(
            last_look=None if checked is None else float(checked),
            waiting_votes=int(waiting),
            log_events=int(events),
            swept=_decode(fields(swept)),
        )

    async def rewrite_file(self) -> Rewrite:
        """Go on with the rewrite of the append-only file that a deletion asked for.

        Deleted bytes stay in that file until Redis writes it anew. One that runs already may have
        begun before the deletion, so another follows it.

        Returns:
            The state of the rewrite; ``wanted`` also while Redis refuses, as it does to users
            without the right to it.
        """
        stored = await self._client.command("HGET", keys.RETENTION, "rewrite")
        if not stored:
            return ""
        found = await self._client.command("INFO", "persistence")
        running = bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])
        well = found["aof_last_bgrewrite_status"] == "ok"
        rewrite = next_rewrite(
            cast("Rewrite", stored),
            running=running,
            completed=well and found["aof_last_rewrite_time_sec"] >= 0,
            enabled=bool(found["aof_enabled"]),
        )
        if rewrite == "wanted" and not running and await self._start_rewrite():
            rewrite = "started"
        await self._client.command("HSET", keys.RETENTION, "rewrite", rewrite)
        return rewrite

    async def _start_rewrite(self) -> bool:
        try:
            await self._client.command("BGREWRITEAOF")
        except ResponseError:
            return False
        return True

    async def _trim_log(self, seconds: float) -> tuple[int, bool]:
        server_seconds, micros = await self._client.command("TIME")
        mark = trim_mark(
            exported=await self._client.command("GET", keys.EXPORTED),
            now_ms=int(server_seconds) * 1000 + int(micros) // 1000,
            vote_ttl_ms=self._vote_ttl_ms,
            trim_unexported=self._trim_unexported,
        )
        if mark is None:
            return 0, True

        async def trim() -> int:
            return int(
                await self._client.script(
                    "log_trim",
                    [keys.FEEDBACK_LOG, keys.EXPORTED],
                    [mark, PIECE, int(self._trim_unexported)],
                )
            )

        return await _repeat(trim, seconds)

    async def _trim_audit(self) -> int:
        words = ("XTRIM", keys.EVENTS, "MAXLEN", "~", self._audit_events)
        return int(await self._client.command(*words))

    async def _count_unexported(self) -> int:
        after = await self._client.command("GET", keys.EXPORTED) or "0-0"
        counted, found = 0, PIECE
        while found == PIECE and counted < COUNTED_EVENTS:
            found, after = await self._client.script(
                "log_count", [keys.FEEDBACK_LOG], [after, PIECE]
            )
            counted += found
        return counted

    async def _forget_ids(self, now: float, seconds: float) -> tuple[int, str]:
        """Go through the lists of users, from where the last sweep stopped.

        Returns:
            How many ids were forgotten, and where to go on; ``"0"`` after a whole walk.
        """
        deadline = time.monotonic() + seconds
        cursor = await self._client.command("HGET", keys.RETENTION, "cursor") or _WHOLE_SCAN
        forgotten = 0
        while True:
            cursor, found = await self._client.command(
                "SCAN", cursor, "MATCH", keys.user("*", "*"), "COUNT", _SCANNED
            )
            for start in range(0, len(found), _USERS):
                old = now - self._completion_ttl
                forgotten += await self._forget_of(found[start : start + _USERS], old)
            if str(cursor) == _WHOLE_SCAN or time.monotonic() > deadline:
                return forgotten, str(cursor)

    async def _forget_of(self, users: list[str], old: float) -> int:
        """Forget ids of some users; the rest of long lists is done user by user."""
        most = PIECE // _USERS
        forgotten, *ranks = await self._client.script("user_forget", users, [0, most, old])
        for key, rank in zip(users, ranks, strict=True):
            following = int(rank)
            while following >= 0:
                removed, following = await self._client.script(
                    "user_forget", [key], [following, PIECE, old]
                )
                forgotten += removed
        return int(forgotten)

    async def _remember(self, swept: SweepReport, cursor: str) -> None:
        words = flat(_CODEC.encode(swept) | {"cursor": cursor})
        await self._client.command("HSET", keys.RETENTION, *words)


async def _repeat(piece: Callable[[], Awaitable[int]], seconds: float) -> tuple[int, bool]:
    """Do one piece after the other until nothing is left or the time is up.

    Returns:
        How much was done, and whether it was all.
    """
    deadline = time.monotonic() + seconds
    total = 0
    while True:
        done = await piece()
        total += done
        if done == 0:
            return total, True
        if time.monotonic() > deadline:
            return total, False


def _decode(found: dict[str, str]) -> SweepReport | None:
    if "at" not in found:
        return None
    return _CODEC.decode(found, rewrite=found.get("rewrite", ""))
