"""GET /admin/explain/{completion_id}: the version that wrote a reply, and what learned its vote."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from feedback.tracing import explain
from service.routes.dependencies import RuntimeDep
from service.schemas.admin import TextParams

router = APIRouter(prefix="/explain")


@router.get("/{completion_id:path}")
async def explain_reply(
    completion_id: str, runtime: RuntimeDep, params: Annotated[TextParams, Query()]
) -> dict[str, Any]:
    """Explain a reply; what people wrote is shown only where ``texts`` asks for it."""
    return asdict(await explain(runtime.store, completion_id, texts=params.texts))
