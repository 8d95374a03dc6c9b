"""/admin/rollout: what is served and by whom, and every change of it that operators can ask for."""

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.errors import StoreUnavailableError
from feedback.types import Audit
from models.errors import AdapterError, AdapterStoreUnavailableError
from models.versions import Activate, Confirm, Kill, Rollback, StartCanary, StopCanary
from service.errors import ConflictError
from service.operating.changes import Asked, carry_out, described
from service.operating.convergence import converged
from service.routes.dependencies import CallerDep, RuntimeDep
from service.runtime.auth import Caller
from service.runtime.runtime import Runtime
from service.schemas.admin import (
    ActivateRequest,
    CanaryRequest,
    ConfirmRequest,
    KillRequest,
    RollbackRequest,
    StopCanaryParams,
)

router = APIRouter(prefix="/rollout")


@router.get("")
async def rollout(runtime: RuntimeDep) -> dict[str, Any]:
    """Say what is live, confirmed and tried, what the judge last found, and what replicas serve.

    While Redis is away it is what this replica last knew, with ``stale`` set.
    """
    watcher, store = runtime.serving(), runtime.store
    known: dict[str, Any] = {"live": watcher.serving}
    if watcher.rollout is not None:
        known = asdict(watcher.rollout)
    found: dict[str, Any] = {"replicas": [], "judgement": None, "paused": None, "stale": True}
    try:
        known = asdict(await store.rollout.get())
        judgement = await store.judging.last()
        found = {
            "replicas": [asdict(replica) for replica in await store.replicas.list()],
            "judgement": asdict(judgement) if judgement else None,
            "paused": await store.learning.paused(),
            "stale": False,
        }
    except StoreUnavailableError:
        pass
    here = {
        "replica": watcher.replica_id,
        "serving": watcher.serving,
        "problem": watcher.problem,
    }
    return known | found | here


@router.post("/activate")
async def activate(body: ActivateRequest, runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Make a version live, and confirm it."""
    asked = Activate(body.version, body.expected_live)
    return await _change(runtime, caller, asked, body.why, body.wait)


@router.post("/rollback")
async def rollback(
    runtime: RuntimeDep, caller: CallerDep, body: RollbackRequest | None = None
) -> dict[str, Any]:
    """Go back to the version before, or to a named one; what was built on since is rolled back."""
    body = body or RollbackRequest()
    asked = Rollback(body.to, body.expected_live)
    return await _change(runtime, caller, asked, body.why, body.wait, dry_run=body.dry_run)


@router.post("/confirm")
async def confirm(body: ConfirmRequest, runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Let the live version be what later ones are judged against."""
    asked = Confirm(body.version, body.expected_confirmed)
    return await _change(runtime, caller, asked, body.why, body.wait)


@router.post("/canary")
async def start_canary(
    body: CanaryRequest, runtime: RuntimeDep, caller: CallerDep
) -> dict[str, Any]:
    """Let a version serve a share of the users; again to change the share."""
    asked = StartCanary(body.version, body.fraction, body.expected_live)
    return await _change(runtime, caller, asked, body.why, body.wait)


@router.delete("/canary")
async def stop_canary(
    runtime: RuntimeDep, caller: CallerDep, params: Annotated[StopCanaryParams, Query()]
) -> dict[str, Any]:
    """End the canary without a verdict."""
    asked = StopCanary(params.expected)
    return await _change(runtime, caller, asked, params.why, params.wait, dry_run=params.dry_run)


@router.post("/kill")
async def kill(
    runtime: RuntimeDep, caller: CallerDep, body: KillRequest | None = None
) -> dict[str, Any]:
    """Serve the base to everyone, end the canary and pause learning, all at once."""
    body = body or KillRequest()
    return await _change(runtime, caller, Kill(), body.why, body.wait, dry_run=body.dry_run)


async def _change(
    runtime: Runtime,
    caller: Caller,
    asked: Asked,
    why: str,
    wait: float,
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Carry a change out, and say what is served then; with a wait, by which replicas."""
    store, now = runtime.store, time.time()
    if dry_run:
        change = await store.rollout.preview(asked, who=caller.owner, now=now)
        return described(change, await store.rollout.get())

    async def check(version: str) -> None:
        await _load(runtime, version)

    changed = await carry_out(store, asked, Audit(caller.owner, why, now), check=check)
    if not wait:
        return asdict(changed)
    return asdict(changed) | {"settled": asdict(await converged(store, changed.generation, wait))}


async def _load(runtime: Runtime, version: str) -> None:
    """Load a version on this replica before all replicas are to serve it.

    Raises:
        ConflictError: It cannot be loaded; nothing was changed.
        AdapterStoreUnavailableError: Its folder cannot be had now.
    """
    try:
        await runtime.serving().generator.load(version)
    except AdapterStoreUnavailableError:
        raise
    except (AdapterError, OSError) as error:
        raise ConflictError(
            f"{version} cannot be served, so nothing was changed: {error}",
            code="version_unavailable",
        ) from error
