"""GET /v1/models."""

from typing import Any

from fastapi import APIRouter

from feedback.errors import StoreUnavailableError
from models.types import BASE
from service.chat.requests import OFFERED, PIN
from service.errors import ModelNotFoundError
from service.routes.dependencies import RuntimeDep
from service.runtime.runtime import Runtime

router = APIRouter(prefix="/v1/models")


@router.get("")
async def models(runtime: RuntimeDep) -> dict[str, Any]:
    """List the values that the field ``model`` of a chat request may have."""
    return {"object": "list", "data": await _models(runtime)}


@router.get("/{model}")
async def model(model: str, runtime: RuntimeDep) -> dict[str, Any]:
    """Return one model of the list."""
    for found in await _models(runtime):
        if found["id"] == model:
            return found
    raise ModelNotFoundError(model)


async def _models(runtime: Runtime) -> list[dict[str, Any]]:
    generator = runtime.serving().generator
    loaded, length = generator.loaded(), generator.context_length
    created = dict.fromkeys(sorted(loaded), 0.0)
    try:
        records = await runtime.store.versions.list()
    except StoreUnavailableError:
        records = []
    for record in records:  # what operators try is no offer to others
        if record.state not in OFFERED:
            created.pop(record.version, None)
    offered = (each for each in records if each.state in OFFERED and not each.removed)
    created |= {record.version: record.created_at for record in offered}
    created.pop(BASE, None)
    named = {"policy": 0.0, BASE: 0.0} | {f"{PIN}{name}": at for name, at in created.items()}
    return [
        {
            "id": name,
            "object": "model",
            "created": int(at or runtime.started_at),
            "owned_by": "thumbloop",
            "max_model_len": length,
        }
        for name, at in named.items()
    ]
