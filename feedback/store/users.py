"""Users: what the record has of each, and how all of it is deleted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from feedback.errors import OwnerNeededError, StoreUnavailableError, UnknownUserError
from feedback.retention import DeletedUser
from feedback.store import keys
from feedback.store.client import fields
from feedback.types import OPEN_OWNER, Person

if TYPE_CHECKING:
    from feedback.store.api_keys import ApiKeys
    from feedback.store.client import Client
    from feedback.store.retention import Retention

PIECE = 50
"""Replies that one script deletes: a few milliseconds in which Redis serves nobody else."""

_NOTE_TTL = timedelta(days=7)
_RUNS = 100


class Users:
    """The users of one Redis: those whom requests named in ``user``, each API key's apart."""

    def __init__(self, client: Client, api_keys: ApiKeys, retention: Retention) -> None:
        self._client = client
        self._api_keys = api_keys
        self._retention = retention

    async def owners(self, user: str) -> list[str]:
        """Return the API keys, revoked ones too, under which there is something of ``user``."""
        known = [OPEN_OWNER, *(key.public_id for key in await self._api_keys.list())]
        return [owner for owner in known if await self._known(owner, user)]

    async def person(self, user: str, owner: str | None) -> Person:
        """Return who is meant by a name; without keys, only one can be.

        Raises:
            OwnerNeededError: There are API keys, and no owner is named.
            UnknownUserError: No owner can be called that.
        """
        if owner is None and not await self._api_keys.any():
            owner = OPEN_OWNER
        if owner is None:
            found = ", ".join(await self.owners(user)) or "none"
            raise OwnerNeededError(
                f"Each API key has users of its own, and {user!r} may be another person under "
                f"another. Name the owner, the public id of the key; found under: {found}."
            )
        if ":" in owner:  # It would be another owner's key, and the user's name begin in it.
            raise _unknown(Person(owner, user))
        return Person(owner, user)

    async def find(self, person: Person) -> DeletedUser:
        """Return what a deletion would delete, and what was learned from it; nothing changes.

        Raises:
            UnknownUserError: There is nothing of this person.
            StoreUnavailableError: Redis is away.
        """
        ids = await self._ids(person)
        note = await self._client.hash(keys.deleting(person.owner, person.user))
        if not ids and not note:
            raise _unknown(person)
        learned = await self._learned_from(frozenset(ids))
        completions = votes = 0
        for start in range(0, len(ids), PIECE):
            _, replies, piece = await self._client.script(
                "user_count", [keys.user(person.owner, person.user)], [start, PIECE]
            )
            completions += replies
            votes += piece
        counts = {"completions": str(completions), "votes": str(votes)}
        return _decode(person, {**note, **dict.fromkeys(learned, "0"), **counts})

    async def delete(self, person: Person, *, who: str) -> DeletedUser:
        """Delete all completions and votes of a person, a bounded piece at a time.

        What goes is out of the counts too, and the log says of each id that it was deleted. When
        Redis goes away midway, the same call again goes on, and returns the whole sum. Runs that
        have a vote of the person in their batch go on without it.

        Args:
            person: Whose.
            who: Who wants it, for the audit, which does not name the person.

        Raises:
            UnknownUserError: There is nothing of this person.
            StoreUnavailableError: Redis is away.
        """
        ids = await self._ids(person)
        note = keys.deleting(person.owner, person.user)
        if not ids and not await self._client.command("EXISTS", note):
            raise _unknown(person)
        learned = await self._learned_from(frozenset(ids))
        while await self._client.durable_script(
            "user_delete",
            [keys.user(person.owner, person.user), note],
            [
                person.owner,
                person.user,
                PIECE,
                round(_NOTE_TTL.total_seconds() * 1000),
                *learned,
            ],
        ):
            learned = ()
        flat = await self._client.durable_script(
            "user_deleted", [note, keys.RETENTION], [who, person.owner, person.user]
        )
        try:
            rewrite = await self._retention.rewrite_file()
        except StoreUnavailableError:
            rewrite = "wanted"  # All is deleted, and that is noted; the next sweep goes on with it.
        return replace(_decode(person, fields(flat)), rewrite=rewrite)

    async def _ids(self, person: Person) -> list[str]:
        key = keys.user(person.owner, person.user)
        found: list[str] = await self._client.command("ZRANGE", key, 0, -1)
        return found

    async def _known(self, owner: str, user: str) -> bool:
        names = (keys.user(owner, user), keys.deleting(owner, user))
        return bool(await self._client.command("EXISTS", *names))

    async def _learned_from(self, ids: frozenset[str]) -> tuple[str, ...]:
        """Return the runs that have one of these in their batch, and the versions they became."""
        numbers = await self._client.command("ZRANGE", keys.RUNS, 0, -1) if ids else []
        names: list[str] = []
        for start in range(0, len(numbers), _RUNS):
            piece = numbers[start : start + _RUNS]
            for run in await self._client.hashes([keys.run(int(each)) for each in piece]):
                if any(vote[0] in ids for vote in json.loads(run["votes"])):
                    names.append(f"run:{run['number']}")
                    names += [f"version:{run['version']}"] if "version" in run else []
        return tuple(names)


def _unknown(person: Person) -> UnknownUserError:
    return UnknownUserError(
        f"Nothing is recorded of a user {person.user!r} under {person.owner!r}. Check the name and "
        "the owner: the public id of an API key, or `open` for what was said without keys."
    )


def _decode(person: Person, note: dict[str, str]) -> DeletedUser:
    def named(kind: str) -> list[str]:
        return sorted(n.removeprefix(f"{kind}:") for n in note if n.startswith(f"{kind}:"))

    return DeletedUser(
        user=person.user,
        owner=person.owner,
        completions=int(note.get("completions", 0)),
        votes=int(note.get("votes", 0)),
        versions=tuple(named("version")),
        runs=tuple(sorted(int(number) for number in named("run"))),
    )
