"""POST /v1/signals/{completion_id}: what a reader did with a reply, beside or without a vote."""

import time
from typing import Any

from fastapi import APIRouter

from service.chat.replies import on_replies
from service.routes.dependencies import CallerDep, RuntimeDep
from service.schemas.chat import SignalRequest

router = APIRouter(prefix="/v1/signals")


@router.post("/{completion_id}")
async def note(
    completion_id: str, body: SignalRequest, runtime: RuntimeDep, caller: CallerDep
) -> dict[str, Any]:
    """Keep a signal; nothing is learned from it, and the judge does not count it."""
    person, completions = caller.person(body.user), runtime.store.completions
    signals = await on_replies(
        runtime,
        person,
        (completion_id,),
        lambda: completions.note_signal(completion_id, person, body.signal, now=time.time()),
        wait=True,
    )
    return {"completion_id": completion_id, "signals": signals}
