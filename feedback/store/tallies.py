"""Tallies: what the judge counts of the versions that it compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feedback.judging import FIRST_TOKEN_EDGES, Replies, VersionTally
from feedback.store import keys
from feedback.store.client import fields

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from feedback.store.client import Client

_TRIAL = ("canary", "control")
"""The two sides of a trial, since it began: the canary, and the live version as its control."""

_READ_AT_ONCE = 4
"""Tallies that one script reads: each may be a megabyte, and Redis serves nobody else meanwhile."""

_COUNTERS = ("requests", "errors", "tokens", "squared_tokens", "cut")
_BUCKETS = tuple(f"first_token_{bucket}" for bucket in range(len(FIRST_TOKEN_EDGES) + 1))


class Tallies:
    """The tallies of one Redis: of the versions live, confirmed and canary, and of those between.

    Votes are counted by the scripts that change votes, so that the two never differ. A version is
    counted from the moment that it is served, until ``keep`` drops it; of at most 10,000 people.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, names: Sequence[str]) -> list[VersionTally]:
        """Return the tallies of versions, in order; empty ones for what is not counted."""
        found: list[Any] = []
        for start in range(0, len(names), _READ_AT_ONCE):
            piece = names[start : start + _READ_AT_ONCE]
            found += await self._client.script("tally_read", [], piece)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [_decode(fields(votes), fields(replies)) for votes, replies in pairs]

    async def trial(self) -> tuple[VersionTally, VersionTally]:
        """Return the tallies of the canary, and of the live version since the canary began."""
        canary, control = await self.read(_TRIAL)
        return canary, control

    async def add(self, replies: Mapping[str, Replies]) -> None:
        """Count how replies went, by version; of versions that are not counted they are ignored."""
        words: list[str | int] = []
        for version, counts in replies.items():
            counted = _encode(counts)
            words += [version, len(counted), *counted]
        if words:
            await self._client.script("tally_add", [keys.ROLLOUT], words)

    async def keep(self, versions: Collection[str]) -> int:
        """Drop the tallies of all other versions that are not served; returns how many."""
        tables = [keys.TALLIES, keys.ROLLOUT, keys.TRIAL]
        return int(await self._client.script("tally_keep", tables, versions))


def _encode(replies: Replies) -> list[str | int]:
    """Return the counters that are not 0, name after value."""
    counts = {name: getattr(replies, name) for name in _COUNTERS}
    counts |= dict(zip(_BUCKETS, replies.first_token, strict=True))
    return [word for pair in counts.items() if pair[1] for word in pair]


def _decode(votes: Mapping[str, str], replies: Mapping[str, str]) -> VersionTally:
    counted = {}
    for person, counts in votes.items():
        up, down, withdrawn = map(int, counts.split())
        counted[person] = (up, down, withdrawn)
    counters = {name: int(replies.get(name, 0)) for name in _COUNTERS}
    buckets = tuple(int(replies.get(name, 0)) for name in _BUCKETS)
    return VersionTally(counted, Replies(**counters, first_token=buckets))
