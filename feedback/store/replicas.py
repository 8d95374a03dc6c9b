"""Replicas: what each API process says that it serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from feedback.events import Replica
from feedback.store import keys
from feedback.store.client import fields

if TYPE_CHECKING:
    import builtins
    from datetime import timedelta

    from feedback.store.client import Client


class Replicas:
    """The replicas of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def report(self, replica: Replica, ttl: timedelta) -> None:
        """Write what a replica serves; it is forgotten ``ttl`` after its last report."""
        spelled = {
            "id": replica.id,
            "serving": replica.serving,
            "loaded": json.dumps(replica.loaded),
            "generation": str(replica.generation),
            "seen_at": repr(replica.seen_at),
            "problem": replica.problem or "",
        }
        await self._client.script(
            "replica_report",
            [keys.replica(replica.id), keys.REPLICAS],
            [
                replica.id,
                round(ttl.total_seconds() * 1000),
                *(word for pair in spelled.items() for word in pair),
            ],
        )

    async def list(self) -> builtins.list[Replica]:
        """Return the replicas that reported lately, by id."""
        found = await self._client.script("replicas", [keys.REPLICAS])
        return sorted((_decode(fields(each)) for each in found), key=lambda replica: replica.id)


def _decode(found: dict[str, str]) -> Replica:
    return Replica(
        id=found["id"],
        serving=found["serving"],
        loaded=tuple(json.loads(found["loaded"])),
        generation=int(found["generation"]),
        seen_at=float(found["seen_at"]),
        problem=found["problem"] or None,
    )
