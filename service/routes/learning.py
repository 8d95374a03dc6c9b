"""POST /admin/learning/pause and /resume, and the state of learning."""

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from service.routes.dependencies import CallerDep, RuntimeDep
from service.runtime.record_health import seconds_since
from service.runtime.runtime import Runtime

router = APIRouter(prefix="/learning")


@router.post("/pause")
async def pause(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Claim no more batches until learning is resumed."""
    await runtime.store.learning.pause(caller.owner)
    return await learning(runtime)


@router.post("/resume")
async def resume(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Resume learning: batches are claimed again."""
    await runtime.store.learning.resume(caller.owner)
    return await learning(runtime)


async def learning(runtime: Runtime) -> dict[str, Any]:
    """Return the state of learning."""
    store = runtime.store
    health = await store.retention.health()
    return {
        "paused": await store.learning.paused(),
        "waiting_votes": health.waiting_votes,
        "min_votes": runtime.settings.min_votes,
        "seconds_since_last_look": seconds_since(health.last_look, time.time()),
        "retention": asdict(health.swept) if health.swept else None,
    }
