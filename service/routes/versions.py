"""GET /admin/versions: learned and imported versions, their approval, and what made them."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.tracing import made
from service.operating.approval import version_row
from service.routes.audit import page
from service.routes.dependencies import RuntimeDep
from service.schemas.admin import AuditParams, ListParams, TextParams

router = APIRouter(prefix="/versions")


@router.get("")
async def versions(runtime: RuntimeDep, params: Annotated[ListParams, Query()]) -> dict[str, Any]:
    """List the policy versions, newest first."""
    rollout = await runtime.store.rollout.get()
    records = await runtime.store.versions.list(params.limit)
    return {"data": [version_row(record, rollout) for record in records]}


@router.get("/{version}")
async def version(
    version: str, runtime: RuntimeDep, params: Annotated[TextParams, Query()]
) -> dict[str, Any]:
    """Return one version with its manifest, what it was built on, and the votes that made it."""
    record = await runtime.store.versions.get(version)
    row = version_row(record, await runtime.store.rollout.get())
    trace = await made(runtime.store, version, texts=params.texts)
    return row | {"manifest": record.manifest, "made": asdict(trace)}


@router.get("/{version}/history")
async def history(
    version: str, runtime: RuntimeDep, params: Annotated[AuditParams, Query()]
) -> dict[str, Any]:
    """List all that was done with one version, newest first."""
    await runtime.store.versions.get(version)
    return await page(runtime.store, params, version)
