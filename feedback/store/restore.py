"""Brings votes, and the completions that they are about, back into the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.codec import flat
from feedback.store.completions import encode_completion
from feedback.store.vote_codec import encode_vote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.settings import FeedbackSettings
    from feedback.store.client import Client
    from feedback.vote_record import VoteRecord


class Restore:
    """Writes votes as an import has them; their times to live begin anew."""

    def __init__(self, client: Client, settings: FeedbackSettings) -> None:
        self._client = client
        reply_ms = round(settings.completion_ttl.total_seconds() * 1000)
        vote_ms = round(settings.vote_ttl.total_seconds() * 1000)
        self._ttls_ms = (reply_ms, vote_ms, reply_ms + vote_ms)

    async def add(self, records: Sequence[VoteRecord]) -> list[bool]:
        """Write votes that stand, all of them in one script.

        Returns:
            For each whether it was written; a completion or vote that is there is left alone.

        Raises:
            StoreUnavailableError: Redis is away or cannot write to disk; either all was
                written, or nothing.
        """
        words = [word for record in records for word in _words(record)]
        done = await self._client.durable_script(
            "votes_restore", [keys.FEEDBACK_LOG], [*self._ttls_ms, *words]
        )
        return [each == 1 for each in done]

    async def there(self, ids: Sequence[str]) -> list[bool]:
        """Return for each id whether its completion or a vote on it exists."""
        names = [name for each in ids for name in (keys.completion(each), keys.feedback(each))]
        found = await self._client.hashes(names)
        return [bool(found[i] or found[i + 1]) for i in range(0, len(found), 2)]


def _words(record: VoteRecord) -> list[str | int | float]:
    """Return what ``votes_restore.lua`` needs of one vote.

    Raises:
        ValueError: It is a tombstone: nothing is left to be written.
    """
    if record.person is None or record.version is None or record.vote is None:
        raise ValueError(f"{record.id} is a tombstone")
    reply = record.completion
    reply_words = flat(encode_completion(reply)) if reply else []
    vote_words = _vote_words(record)
    time = reply.created_at if reply else record.updated_at
    return [
        record.id,
        record.person.owner,
        record.person.user,
        record.version,
        time,
        len(reply_words),
        *reply_words,
        len(vote_words),
        *vote_words,
    ]


def _vote_words(record: VoteRecord) -> list[str]:
    """Return the fields of the hash ``tl:feedback:{id}``, name after value."""
    vote, person = record.vote, record.person
    if vote is None or person is None:
        return []
    text, score = encode_vote(vote, record.score)
    whole = {
        "vote": text,
        "score": score,
        "revision": str(record.revision),
        "scored": str(record.scored_revision),
        "state": record.state,
        "updated_at": repr(record.updated_at),
        "voted_at": repr(record.voted_at),
        "owner": person.owner,
        "user": person.user,
        "made_by": str(record.version),
        "version": record.learned_by,
        "reason": record.reason,
        "returned": str(record.returned) if record.returned else None,
    }
    return [word for name, value in whole.items() if value is not None for word in (name, value)]
