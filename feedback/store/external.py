"""Replies by the ids that front ends give them, and the secret that signs feedback tokens."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from feedback.store import keys

if TYPE_CHECKING:
    from datetime import timedelta

    from feedback.store.client import Client
    from feedback.types import Person


class ExternalIds:
    """The replies that a front end knows by an id of its own; each lives as long as its reply."""

    def __init__(self, client: Client, ttl: timedelta) -> None:
        self._client = client
        self._ttl_ms = round(ttl.total_seconds() * 1000)

    async def note(self, external_id: str, person: Person, completion_id: str) -> None:
        """Remember which reply an id is of; of two with one id, the later one counts."""
        key = keys.external(person.owner, person.user, external_id)
        await self._client.command("SET", key, completion_id, "PX", self._ttl_ms)

    async def find(self, external_id: str, person: Person) -> str | None:
        """Return the id of the reply; None if this person has none of that id."""
        key = keys.external(person.owner, person.user, external_id)
        found: str | None = await self._client.command("GET", key)
        return found


class TokenSecret:
    """The secret of all replicas, which is made once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self) -> str:
        """Return the secret, after making it if there is none."""
        await self._client.command("SET", keys.TOKEN_SECRET, secrets.token_hex(32), "NX")
        found: str = await self._client.command("GET", keys.TOKEN_SECRET)
        return found
