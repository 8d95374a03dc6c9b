"""The operator's routes: versions, rollout, updates, learning, audit and keys."""

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.errors import StoreUnavailableError
from feedback.events import ApiKey, Rollout, Run, VersionRecord
from service.errors import NotFoundError
from service.record_health import seconds_since
from service.runtime import CallerDep, Runtime, RuntimeDep
from service.schemas import ActivateRequest, KeyRequest, RollbackRequest

router = APIRouter(prefix="/admin")

Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/versions")
async def versions(runtime: RuntimeDep, limit: Limit = 100) -> dict[str, Any]:
    """List the policy versions, newest first."""
    rollout = await runtime.store.rollout.get()
    records = await runtime.store.versions.list(limit)
    return {"data": [_version(record, rollout) for record in records]}


@router.get("/versions/{version}")
async def version(version: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Return one policy version with its manifest."""
    record = await runtime.store.versions.get(version)
    return _version(record, await runtime.store.rollout.get()) | {"manifest": record.manifest}


@router.get("/rollout")
async def rollout(runtime: RuntimeDep) -> dict[str, Any]:
    """Say what is live, and what every replica serves.

    While Redis is away it is what this replica last knew, with ``stale`` set.
    """
    watcher = runtime.serving()
    found, stale, replicas = watcher.rollout, False, []
    try:
        found = await runtime.store.rollout.get()
        replicas = [asdict(replica) for replica in await runtime.store.replicas.list()]
    except StoreUnavailableError:
        stale = True
    known = asdict(found) if found else {"live": watcher.serving}
    return known | {
        "replicas": replicas,
        "replica": watcher.replica_id,
        "serving": watcher.serving,
        "problem": watcher.problem,
        "stale": stale,
    }


@router.post("/rollout/activate")
async def activate(body: ActivateRequest, runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Make a version live."""
    changed = await runtime.store.rollout.activate(
        body.version,
        who=caller.owner,
        why=body.why,
        expected_live=body.expected_live,
        now=time.time(),
    )
    return asdict(changed)


@router.post("/rollout/rollback")
async def rollback(
    runtime: RuntimeDep, caller: CallerDep, body: RollbackRequest | None = None
) -> dict[str, Any]:
    """Go back to the version before, or to a named one."""
    body = body or RollbackRequest()
    changed = await runtime.store.rollout.rollback(
        to=body.to, who=caller.owner, why=body.why, now=time.time()
    )
    return asdict(changed)


@router.post("/updates", status_code=202)
async def request_update(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Ask for an update now; the worker's next look answers."""
    return asdict(await runtime.store.learning.request_update(caller.owner, now=time.time()))


@router.get("/updates")
async def updates(runtime: RuntimeDep, limit: Limit = 50) -> dict[str, Any]:
    """List the update runs, newest first, and say how learning stands."""
    store = runtime.store
    return {
        "data": [_run(run) for run in await store.runs.list(limit)],
        "requests": [asdict(request) for request in await store.learning.waiting_requests()],
        "learning": await _learning(runtime),
    }


@router.get("/updates/requests/{request_id}")
async def update_request(request_id: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Return a request for an update, with the worker's answer once there is one."""
    request = await runtime.store.learning.get_request(request_id)
    if request is None:
        raise NotFoundError(f"There is no request {request_id!r}; they are kept for a week.")
    return asdict(request)


@router.get("/updates/{number}")
async def update(number: int, runtime: RuntimeDep) -> dict[str, Any]:
    """Return one update run with its frozen batch."""
    run = await runtime.store.runs.get(number)
    return _run(run) | {"batch": [asdict(vote) for vote in run.votes]}


@router.post("/learning/pause")
async def pause(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Claim no more batches until learning is resumed."""
    await runtime.store.learning.pause(caller.owner)
    return await _learning(runtime)


@router.post("/learning/resume")
async def resume(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Go on claiming batches."""
    await runtime.store.learning.resume(caller.owner)
    return await _learning(runtime)


@router.get("/audit")
async def audit(runtime: RuntimeDep, limit: Limit = 100) -> dict[str, Any]:
    """List who changed the rollout, when, from what to what and why; newest first."""
    return {"data": [asdict(event) for event in await runtime.store.rollout.events(limit)]}


@router.post("/keys", status_code=201)
async def create_key(body: KeyRequest, runtime: RuntimeDep) -> dict[str, Any]:
    """Create an API key; this answer is the only one that shows it whole."""
    key, whole = await runtime.store.keys.create(body.name, frozenset(body.scopes), now=time.time())
    await runtime.authenticator.refresh()
    return _key(key) | {"key": whole}


@router.get("/keys")
async def list_keys(runtime: RuntimeDep) -> dict[str, Any]:
    """List the API keys, without their secrets."""
    return {"data": [_key(key) for key in await runtime.store.keys.list()]}


@router.delete("/keys/{public_id}")
async def revoke_key(public_id: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Revoke an API key for good."""
    if not await runtime.store.keys.revoke(public_id):
        raise NotFoundError(f"There is no API key {public_id!r}.")
    return {"public_id": public_id, "revoked": True}


async def _learning(runtime: Runtime) -> dict[str, Any]:
    store = runtime.store
    health = await store.retention.health()
    return {
        "paused": await store.learning.paused(),
        "waiting_votes": health.waiting_votes,
        "min_votes": runtime.settings.min_votes,
        "seconds_since_last_look": seconds_since(health.last_look, time.time()),
        "retention": asdict(health.swept) if health.swept else None,
    }


def _version(record: VersionRecord, rollout: Rollout) -> dict[str, Any]:
    row = asdict(record)
    del row["manifest"]
    return row | {"approval": record.approval, "live": record.version == rollout.live}


def _run(run: Run) -> dict[str, Any]:
    return asdict(run) | {"votes": len(run.votes)}


def _key(key: ApiKey) -> dict[str, Any]:
    return asdict(key) | {"scopes": sorted(key.scopes)}
