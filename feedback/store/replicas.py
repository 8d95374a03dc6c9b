"""Replicas: what each API process says that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.client import fields
from feedback.store.codec import HashCodec, flat
from feedback.types import Replica

if TYPE_CHECKING:
    import builtins
    from datetime import timedelta

    from feedback.store.client import Client

_CODEC = HashCodec(Replica)


class Replicas:
    """The replicas of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def report(self, replica: Replica, ttl: timedelta) -> None:
        """Write what a replica serves; it is forgotten ``ttl`` after its last report."""
        await self._client.script(
            "replica_report",
            [keys.replica(replica.id), keys.REPLICAS],
            [replica.id, round(ttl.total_seconds() * 1000), *flat(_CODEC.encode(replica))],
        )

    async def remove(self, replica_id: str) -> None:
        """Forget a replica that stops."""
        await self._client.script(
            "replica_remove", [keys.replica(replica_id), keys.REPLICAS], [replica_id]
        )

    async def list(self) -> builtins.list[Replica]:
        """Return the replicas that reported lately, by id."""
        found = await self._client.script("replicas", [keys.REPLICAS])
        return sorted(
            (_CODEC.decode(fields(each)) for each in found), key=lambda replica: replica.id
        )
