"""/admin/updates: the runs that turn votes into versions, and asking for one now."""

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.types import Run
from service.errors import NotFoundError
from service.routes.dependencies import CallerDep, RuntimeDep
from service.routes.learning import learning
from service.schemas.admin import ListParams

router = APIRouter(prefix="/updates")


@router.post("", status_code=202)
async def request_update(runtime: RuntimeDep, caller: CallerDep) -> dict[str, Any]:
    """Ask for an update now. A worker answers within seconds."""
    return asdict(await runtime.store.learning.request_update(caller.owner, now=time.time()))


@router.get("")
async def updates(runtime: RuntimeDep, params: Annotated[ListParams, Query()]) -> dict[str, Any]:
    """List the update runs, newest first, with the state of learning."""
    store = runtime.store
    return {
        "data": [_row(run) for run in await store.runs.list(params.limit)],
        "requests": [asdict(request) for request in await store.learning.waiting_requests()],
        "learning": await learning(runtime),
    }


@router.get("/requests/{request_id}")
async def update_request(request_id: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Return a request for an update, with the worker's answer once there is one."""
    request = await runtime.store.learning.get_request(request_id)
    if request is None:
        raise NotFoundError(f"There is no request {request_id!r}; they are kept for a week.")
    return asdict(request)


@router.get("/{number}")
async def update(number: int, runtime: RuntimeDep) -> dict[str, Any]:
    """Return one update run with its frozen batch."""
    run = await runtime.store.runs.get(number)
    return _row(run) | {"batch": [asdict(vote) for vote in run.votes]}


def _row(run: Run) -> dict[str, Any]:
    return asdict(run) | {"votes": len(run.votes)}
