"""GET /admin/audit: who changed the rollout, when, from what to what, and why."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.store import Store
from service.routes.dependencies import RuntimeDep
from service.schemas.admin import AuditParams, VersionAuditParams

router = APIRouter(prefix="/audit")


@router.get("")
async def audit(
    runtime: RuntimeDep, params: Annotated[VersionAuditParams, Query()]
) -> dict[str, Any]:
    """List the entries, newest first; of one version, if one is named."""
    if params.version is not None:
        await runtime.store.versions.get(params.version)
    return await page(runtime.store, params, params.version)


async def page(store: Store, params: AuditParams, version: str | None) -> dict[str, Any]:
    """Return one page of the audit; ``next`` is null on the last one."""
    events = await store.rollout.events(params.limit, version=version, before=params.before)
    whole = len(events) == params.limit
    return {"data": [asdict(event) for event in events], "next": events[-1].id if whole else None}
