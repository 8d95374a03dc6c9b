"""/livez, /readyz and /metrics."""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.following.watcher import RolloutWatcher
from service.metrics.rollout import RolloutSeen
from service.routes.dependencies import RuntimeDep
from service.runtime.record_health import describe
from service.runtime.runtime import Runtime

router = APIRouter()


@router.get("/livez")
async def live() -> dict[str, str]:
    """Say that the process answers. Nothing else is checked."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(runtime: RuntimeDep) -> JSONResponse:
    """Say whether requests can be served, and what is missing if not."""
    missing = runtime.missing()
    if runtime.lifecycle.draining:
        missing.append("the server is shutting down")
    watcher = runtime.watcher
    interval = runtime.settings.retention_interval
    body: dict[str, Any] = {
        "ready": not missing,
        "missing": missing,
        **_versions(watcher),
        "redis": "away" if watcher and watcher.store_away else "ok",
        **describe(runtime.record, now=time.time(), interval=interval),
    }
    return JSONResponse(body, 503 if missing else 200)


def _versions(watcher: RolloutWatcher | None) -> dict[str, Any]:
    """Say what is served; ``problem`` says why that is not what the rollout asks for."""
    rollout, route = (watcher.rollout, watcher.route) if watcher else (None, None)
    return {
        "serving": route.live if route else None,
        "live": rollout.live if rollout else None,
        "canary": route.canary if route else None,
        "generation": watcher.generation if watcher else None,
        "problem": watcher.problem if watcher else None,
    }


@router.get("/metrics")
async def metrics(runtime: RuntimeDep) -> Response:
    """Return the figures for Prometheus."""
    figures = runtime.metrics
    figures.ready.set(not runtime.missing() and not runtime.lifecycle.draining)
    if runtime.watcher is not None:
        figures.engine.stats = runtime.watcher.generator.stats()
    figures.record.health = runtime.record.health
    figures.record.now = now = time.time()
    figures.rollout.seen = _seen(runtime, now)
    return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)


def _seen(runtime: Runtime, now: float) -> RolloutSeen | None:
    watcher = runtime.watcher
    if watcher is None:
        return None
    return RolloutSeen(
        rollout=watcher.rollout,
        serving=watcher.serving,
        generation=watcher.generation,
        problem=watcher.problem is not None,
        judgement=runtime.record.judgement,
        now=now,
    )
