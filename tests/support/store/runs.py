"""What tests of runs do with them, and ask of their votes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from feedback.store import keys
from feedback.types import Person

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Run

ANN = Person("k1", "ann")
V1, V2, V3, V4, V5 = (f"v00000{i}-0123456789ab" for i in range(1, 6))


async def let_the_lease_run_out(raw_redis: Redis) -> None:
    await raw_redis.delete(keys.LEASE)


async def commit(store: Store, run: Run, version: str = V1) -> None:
    await store.runs.commit(
        run, version=version, manifest={"run": run.number}, report={"loss": 0.5}, now=3100.0
    )


async def finish(
    store: Store, run: Run, state: Literal["approved", "rejected"], reason: str | None = None
) -> None:
    await store.runs.finish(run, state, figures={"kl": 1.5}, reason=reason, now=3200.0)


async def states(store: Store, *ids: str) -> list[str]:
    return [(await store.votes.get(each, ANN)).state for each in ids]
