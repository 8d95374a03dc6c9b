"""PUT, GET and DELETE /v1/comparisons/{chosen_id}."""

import time
from typing import Any

from fastapi import APIRouter

from feedback.types import CurrentComparison
from service.chat.replies import on_replies
from service.routes.dependencies import CallerDep, RuntimeDep, UserQuery
from service.routes.feedback import shape
from service.schemas.chat import ComparisonOut, ComparisonRequest

router = APIRouter(prefix="/v1/comparisons")


@router.put("/{chosen_id}")
async def put(
    chosen_id: str, body: ComparisonRequest, runtime: RuntimeDep, caller: CallerDep
) -> ComparisonOut:
    """Record that a user likes one reply better than another to the same conversation."""
    person = caller.person(body.user)
    pair = await on_replies(
        runtime,
        person,
        (chosen_id, body.rejected_id),
        lambda: runtime.store.votes.compare(
            chosen_id, body.rejected_id, person, body.comment, runtime.scale, now=time.time()
        ),
        wait=True,
    )
    runtime.metrics.votes.labels("comparison").inc()
    return _shape(pair)


@router.get("/{chosen_id}")
async def read(
    chosen_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> ComparisonOut:
    """Return a comparison, with the current vote on either side."""
    person = caller.person(user)
    votes = runtime.store.votes
    return _shape(
        await on_replies(
            runtime, person, (chosen_id,), lambda: votes.get_comparison(chosen_id, person)
        )
    )


@router.delete("/{chosen_id}")
async def withdraw(
    chosen_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> dict[str, Any]:
    """Withdraw a comparison from the sides that no other vote has replaced since."""
    person = caller.person(user)
    votes, now = runtime.store.votes, time.time()
    await on_replies(
        runtime, person, (chosen_id,), lambda: votes.withdraw_comparison(chosen_id, person, now=now)
    )
    return {"chosen_id": chosen_id, "withdrawn": True}


def _shape(pair: CurrentComparison) -> ComparisonOut:
    return ComparisonOut(
        chosen_id=pair.chosen.completion_id,
        rejected_id=pair.rejected_id,
        comment=pair.chosen.vote.comment,
        whole=pair.whole,
        chosen=shape(pair.chosen),
        rejected=shape(pair.rejected) if pair.rejected else None,
    )
