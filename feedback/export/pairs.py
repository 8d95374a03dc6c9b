"""Finds pairs of a better and a worse reply to one prompt: pure, in bounded memory.

A pair comes from a comparison, from a correction (over the reply), and from an approved and a
disapproved reply to the same messages, whoever asked. For the last kind votes wait for their
opposite, at most ``WINDOW`` of them; each is used once, and the oldest is given up for a new one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from feedback.export.records import as_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.types import Completion
    from feedback.vote_record import VoteRecord
    from models.types import Message

WINDOW = 10_000
"""Votes that wait for an opposite one on the same prompt. About a megabyte."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two replies to one prompt, the better one first."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Match:
    """A vote whose reply makes a pair with the one of another completion."""

    completion: Completion
    other: str
    better: bool


Found = PreferencePair | Match


class Pairing:
    """Finds pairs among votes that come one by one."""

    def __init__(self, waiting: Sequence[tuple[str, str, bool]] = ()) -> None:
        self._waiting: dict[tuple[str, bool], list[str]] = {}
        self._order: dict[str, tuple[str, bool]] = {}
        for completion_id, prompt, liked in waiting:
            self._wait(completion_id, (prompt, liked))

    @classmethod
    def restored(cls, state: Sequence[Sequence[object]]) -> Self:
        """Return one that goes on where ``state()`` was taken."""
        return cls([(str(each[0]), str(each[1]), bool(each[2])) for each in state])

    def state(self) -> list[tuple[str, str, bool]]:
        """Return the votes that wait, oldest first: id, digest of the prompt, liked or not."""
        return [(each, *key) for each, key in self._order.items()]

    def take(self, record: VoteRecord) -> list[Found]:
        """Return the pairs that a vote makes with itself or with one that came before."""
        reply, vote = record.completion, record.vote
        if reply is None or vote is None:
            return []
        found: list[Found] = []
        if vote.correction and vote.correction != reply.text:
            found.append(PreferencePair(reply.messages, vote.correction, reply.text))
        if vote.comparison is not None:
            # Both sides have the comparison; one is enough.
            if vote.comparison.side == "chosen":
                found.append(Match(reply, vote.comparison.other, better=True))
        elif record.score:
            found += self._oppose(reply, liked=record.score > 0)
        return found

    def _oppose(self, reply: Completion, *, liked: bool) -> list[Found]:
        prompt = digest(reply.messages)
        others = self._waiting.get((prompt, not liked))
        if not others:
            self._wait(reply.id, (prompt, liked))
            return []
        other = others[0]
        self._forget(other)
        return [Match(reply, other, better=liked)]

    def _wait(self, completion_id: str, key: tuple[str, bool]) -> None:
        if len(self._order) == WINDOW:
            self._forget(next(iter(self._order)))
        self._waiting.setdefault(key, []).append(completion_id)
        self._order[completion_id] = key

    def _forget(self, completion_id: str) -> None:
        key = self._order.pop(completion_id)
        self._waiting[key].remove(completion_id)
        if not self._waiting[key]:
            del self._waiting[key]


def resolve(match: Match, other: Completion | None) -> PreferencePair | None:
    """Return the pair of a match; None if the other reply is gone, alike, or to another prompt."""
    mine = match.completion
    if other is None or other.messages != mine.messages or other.text == mine.text:
        return None
    better, worse = (mine, other) if match.better else (other, mine)
    return PreferencePair(mine.messages, better.text, worse.text)


def digest(messages: tuple[Message, ...]) -> str:
    """Return 16 hex digits that equal messages share; a match is still compared in full."""
    text = json.dumps(as_messages(messages)).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()
