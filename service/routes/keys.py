"""POST, GET and DELETE /admin/keys: who may use the API."""

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from feedback.types import ApiKey
from service.errors import NotFoundError
from service.routes.dependencies import RuntimeDep
from service.schemas.admin import KeyRequest

router = APIRouter(prefix="/keys")


@router.post("", status_code=201)
async def create_key(body: KeyRequest, runtime: RuntimeDep) -> dict[str, Any]:
    """Create an API key; this answer is the only one that shows it whole."""
    key, whole = await runtime.store.keys.create(body.name, frozenset(body.scopes), now=time.time())
    await runtime.authenticator.refresh()
    return _row(key) | {"key": whole}


@router.get("")
async def list_keys(runtime: RuntimeDep) -> dict[str, Any]:
    """List the API keys, without their secrets."""
    return {"data": [_row(key) for key in await runtime.store.keys.list()]}


@router.delete("/{public_id}")
async def revoke_key(public_id: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Revoke an API key for good."""
    if not await runtime.store.keys.revoke(public_id):
        raise NotFoundError(f"There is no API key {public_id!r}.")
    return {"public_id": public_id, "revoked": True}


def _row(key: ApiKey) -> dict[str, Any]:
    return asdict(key) | {"scopes": sorted(key.scopes)}
