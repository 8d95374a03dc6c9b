"""Replicas: what each API process says that it serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.client import fields
from feedback.types import Replica

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
        await self._client.script(
            "replica_report",
            [keys.replica(replica.id), keys.REPLICAS],
            [
                replica.id,
                round(ttl.total_seconds() * 1000),
                *(word for pair in _encode(replica).items() for word in pair),
            ],
        )

    async def remove(self, replica_id: str) -> None:
        """Forget a replica that stops."""
        await self._client.script(
            "replica_remove", [keys.replica(replica_id), keys.REPLICAS], [replica_id]
        )

    async def list(self) -> builtins.list[Replica]:
        """Return the replicas that reported lately, by id."""
        found = await self._client.script("replicas", [keys.REPLICAS])
        return sorted((_decode(fields(each)) for each in found), key=lambda replica: replica.id)


def _encode(replica: Replica) -> dict[str, str]:
    return {
        "id": replica.id,
        "serving": replica.serving,
        "loaded": json.dumps(replica.loaded),
        "generation": str(replica.generation),
        "seen_at": repr(replica.seen_at),
        "problem": replica.problem or "",
        "canary": replica.canary or "",
        "read_generation": str(replica.read_generation),
        "started_at": repr(replica.started_at),
        "url": replica.url,
    }


def _decode(found: dict[str, str]) -> Replica:
    """Read a report; one of an older Thumbloop, which may run beside ours, says less."""
    return Replica(
        id=found["id"],
        serving=found["serving"],
        loaded=tuple(json.loads(found["loaded"])),
        generation=int(found["generation"]),
        seen_at=float(found["seen_at"]),
        problem=found["problem"] or None,
        canary=found.get("canary") or None,
        read_generation=int(found.get("read_generation", found["generation"])),
        started_at=float(found.get("started_at", 0)),
        url=found.get("url", ""),
    )
