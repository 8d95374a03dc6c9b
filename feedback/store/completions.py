"""Completions: the replies that were served, as feedback and the learner need them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from feedback.errors import UnknownCompletionError
from feedback.store import keys
from feedback.store.codec import HashCodec, flat
from feedback.types import Completion, Person
from models.types import Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from feedback.store.client import Client
    from feedback.types import Signal

_LOGPROBS = ("behaviour_logprobs", "policy_logprobs")
_CODEC = HashCodec(Completion, without={"person", "messages", *_LOGPROBS})
_MESSAGES = TypeAdapter(tuple[Message, ...])


class Completions:
    """The completions of one Redis; each lives for ``ttl``, the vote on it for ``vote_ttl``.

    A version's count of completions is of those that were recorded, less those that were deleted.
    One that expires stays counted, as its vote does: what people thought of a version is not
    forgotten with the texts.
    """

    def __init__(self, client: Client, ttl: timedelta, vote_ttl: timedelta) -> None:
        self._client = client
        self._ttl_ms = round(ttl.total_seconds() * 1000)
        self._vote_ttl_ms = round(vote_ttl.total_seconds() * 1000)

    async def record(self, completion: Completion) -> None:
        """Write a completion; an id that is already there is left as it is."""
        person, version = completion.person, completion.version
        await self._client.script(
            "completion_record",
            [
                keys.completion(completion.id),
                keys.user(person.owner, person.user),
                keys.version(version),
            ],
            [
                completion.id,
                self._ttl_ms,
                self._ttl_ms + self._vote_ttl_ms,
                completion.created_at,
                *flat(encode_completion(completion)),
            ],
        )

    async def get(self, completion_id: str) -> Completion | None:
        """Return a completion, whoever it belongs to."""
        return (await self.get_many([completion_id]))[0]

    async def get_many(self, ids: Sequence[str]) -> list[Completion | None]:
        """Return completions in the order of ``ids``; None for those that are gone."""
        found = await self._client.hashes([keys.completion(each) for each in ids])
        return [decode_completion(each) if each else None for each in found]

    async def get_owned(self, completion_id: str, person: Person) -> Completion:
        """Return a completion of one person.

        Raises:
            UnknownCompletionError: There is none, or it is someone else's; the error is the same.
        """
        found = await self.get(completion_id)
        if found is None or found.person != person:
            raise unknown(completion_id)
        return found

    async def note_signal(
        self, completion_id: str, person: Person, signal: Signal, *, now: float
    ) -> dict[str, float]:
        """Note what its reader did with a completion; return all signals with their first times.

        Raises:
            UnknownCompletionError: There is none, or it is someone else's.
        """
        check_id(completion_id)
        found = await self._client.script(
            "signal_note",
            [keys.completion(completion_id)],
            [person.owner, person.user, signal, now],
        )
        if found is None:
            raise unknown(completion_id)
        signals: dict[str, float] = json.loads(found)
        return signals

    async def delete(self, completion_id: str, person: Person) -> None:
        """Delete a completion and the vote on it; also a vote that outlived its completion.

        Raises:
            UnknownCompletionError: There is none, or it is someone else's.
        """
        check_id(completion_id)
        deleted = await self._client.durable_script(
            "completion_delete", args=[completion_id, person.owner, person.user]
        )
        if not deleted:
            raise unknown(completion_id)


def check_id(completion_id: str) -> None:
    """Refuse an id such as ``log``, whose vote would have the key of another record.

    Raises:
        UnknownCompletionError: It is such an id.
    """
    if not keys.can_be_vote(completion_id):
        raise unknown(completion_id)


def unknown(completion_id: str) -> UnknownCompletionError:
    """Return the error for a completion that this person does not have."""
    return UnknownCompletionError(
        f"There is no completion {completion_id!r} of yours. Check the id, and that you use the "
        "key and the user that asked for it; a reply marked as not recorded cannot be voted on."
    )


def encode_completion(completion: Completion) -> dict[str, str]:
    """Return the fields of a completion's hash."""
    person = completion.person
    out = {
        **_CODEC.encode(completion),
        "owner": person.owner,
        "user": person.user,
        "messages": json.dumps(_MESSAGES.dump_python(completion.messages, exclude_defaults=True)),
        "behaviour_logprobs": _as_json(completion.behaviour_logprobs),
    }
    if completion.policy_logprobs:
        out["policy_logprobs"] = _as_json(completion.policy_logprobs)
    return out


def decode_completion(found: dict[str, str]) -> Completion:
    """Return the completion that a hash holds."""
    return _CODEC.decode(
        found,
        person=Person(found["owner"], found["user"]),
        messages=json.loads(found["messages"]),
        **{name: json.loads(found.get(name, "[]")) for name in _LOGPROBS},
    )


def _as_json(logprobs: Sequence[float]) -> str:
    return f"[{','.join(map(_short, logprobs))}]"


def _short(logprob: float) -> str:
    """Return a log-prob with nine digits, which distinguish any two float32 numbers.

    Engines compute in float32; as a double such a number takes up to twice the digits.
    """
    return repr(float(f"{logprob:.9g}")) if math.isfinite(logprob) else json.dumps(logprob)
