"""How replies went, counted for the judge: in memory, and written to the record in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError
from feedback.judging import FIRST_TOKEN_EDGES, Replies, first_token_bucket
from service.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedback.store import Store

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
MOST_VERSIONS = 64
"""Versions that are counted while Redis is away; a pinned one beyond them is not."""

MOST_PER_MINUTE = 3
"""Replies of one person that count in a minute, so that nobody decides what replies are like."""

MOST_PEOPLE = 10_000
"""People that are counted in a minute; the replies of others do not count."""

_PATIENCE = timedelta(seconds=2)


class ReplyTally:
    """Counts replies by version, and writes the counts down every two seconds.

    While Redis is away they grow on and nothing waits for it. When a write's answer is lost the
    counts are written again, so a broken connection may count two seconds of replies twice; and a
    killed process loses the last two seconds. The judge compares shares, which this hardly changes.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[str, Replies] = {}
        self._minute = -1
        self._heard: Counter[tuple[str, str]] = Counter()

    def ended(
        self, version: str, who: str, *, first_token: float | None, tokens: int, cut: bool
    ) -> None:
        """Count a reply that ended well.

        Args:
            version: What replied.
            who: Whom the reply counts as: ``feedback.types.counted_as``.
            first_token: Seconds to its first token; None where another reply's were measured.
            tokens: Its length.
            cut: Whether it ended because it was as long as it may be.
        """
        buckets = [0] * (len(FIRST_TOKEN_EDGES) + 1)
        if first_token is not None:
            buckets[first_token_bucket(first_token)] = 1
        self._count(version, who, Replies(1, 0, tokens, tokens**2, int(cut), tuple(buckets)))

    def failed(self, version: str, who: str) -> None:
        """Count a reply that failed, or came too late."""
        self._count(version, who, Replies(requests=1, errors=1))

    async def run(self) -> None:
        """Write the counts down until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                log.exception("The counts of replies were not written; the next attempt follows")

    async def flush(self) -> None:
        """Write down what was counted; what cannot be written now is kept."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await within(_PATIENCE, self._store.tallies.add(counts))
        except BaseException as error:
            for version, replies in counts.items():
                self._add(version, replies)
            if not isinstance(error, StoreUnavailableError):
                raise

    def _count(self, version: str, who: str, replies: Replies) -> None:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute, self._heard = minute, Counter()
        key = (version, who)
        if key not in self._heard and len(self._heard) >= MOST_PEOPLE:
            return
        self._heard[key] += 1
        if self._heard[key] <= MOST_PER_MINUTE:
            self._add(version, replies)

    def _add(self, version: str, replies: Replies) -> None:
        before = self._counts.get(version)
        if before is None and len(self._counts) >= MOST_VERSIONS:
            return
        self._counts[version] = replies if before is None else before + replies
