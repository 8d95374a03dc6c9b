"""PUT, GET and DELETE /v1/feedback/{completion_id}."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Path

from feedback.rewards import reward
from feedback.types import Feedback, Vote
from service.chat.replies import find_external, on_replies
from service.routes.dependencies import CallerDep, RuntimeDep, UserQuery
from service.runtime.auth import Caller
from service.runtime.runtime import Runtime
from service.schemas.chat import ComparedOut, FeedbackOut, FeedbackRequest

router = APIRouter(prefix="/v1/feedback")

ExternalId = Annotated[str, Path(max_length=600)]


@router.put("/{completion_id}")
async def put(
    completion_id: str, body: FeedbackRequest, runtime: RuntimeDep, caller: CallerDep
) -> FeedbackOut:
    """Set a user's vote on a reply, in place of the vote before."""
    return await put_vote(runtime, caller, completion_id, body)


@router.put("/external/{external_id:path}")
async def put_external(
    external_id: ExternalId, body: FeedbackRequest, runtime: RuntimeDep, caller: CallerDep
) -> FeedbackOut:
    """Set a user's vote on the reply that a front end knows by an id of its own."""
    found = await find_external(runtime, caller.person(body.user), external_id)
    return await put_vote(runtime, caller, found, body)


@router.get("/external/{external_id:path}")
async def read_external(
    external_id: ExternalId, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> FeedbackOut:
    """Return the current vote on such a reply."""
    found = await find_external(runtime, caller.person(user), external_id)
    return await read(found, runtime, caller, user)


@router.delete("/external/{external_id:path}")
async def withdraw_external(
    external_id: ExternalId, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> dict[str, Any]:
    """Withdraw the vote on such a reply."""
    found = await find_external(runtime, caller.person(user), external_id)
    return await withdraw(found, runtime, caller, user)


async def put_vote(
    runtime: Runtime, caller: Caller, completion_id: str, body: FeedbackRequest
) -> FeedbackOut:
    """Put a vote into the record; one on a reply that is being written waits for its end.

    Raises:
        NotFoundError: The caller has no such completion.
        FeedbackError: The vote makes no sense, or Redis cannot keep it.
    """
    vote = Vote(
        thumb=body.thumb,
        rating=body.rating,
        comment=body.comment,
        tags=tuple(body.tags),
        correction=body.correction,
    )
    person = caller.person(body.user)
    score = reward(vote, runtime.scale)
    found = await on_replies(
        runtime,
        person,
        (completion_id,),
        lambda: runtime.store.votes.put(completion_id, person, vote, score, now=time.time()),
        wait=True,
    )
    runtime.metrics.votes.labels(_kind(vote)).inc()
    return shape(found)


@router.get("/{completion_id}")
async def read(
    completion_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> FeedbackOut:
    """Return the current vote on a reply."""
    person = caller.person(user)
    votes = runtime.store.votes
    return shape(
        await on_replies(
            runtime, person, (completion_id,), lambda: votes.get(completion_id, person)
        )
    )


@router.delete("/{completion_id}")
async def withdraw(
    completion_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> dict[str, Any]:
    """Withdraw the vote on a reply."""
    person = caller.person(user)
    votes, now = runtime.store.votes, time.time()
    await on_replies(
        runtime, person, (completion_id,), lambda: votes.withdraw(completion_id, person, now=now)
    )
    return {"completion_id": completion_id, "withdrawn": True}


def _kind(vote: Vote) -> str:
    if vote.thumb is not None:
        return vote.thumb
    return "rating" if vote.rating is not None else "remark"


def shape(found: Feedback) -> FeedbackOut:
    """Return a vote in the shape of an answer."""
    vote, compared = found.vote, found.vote.comparison
    return FeedbackOut(
        completion_id=found.completion_id,
        thumb=vote.thumb,
        rating=vote.rating,
        comparison=ComparedOut(side=compared.side, other=compared.other) if compared else None,
        comment=vote.comment,
        tags=list(vote.tags),
        correction=vote.correction,
        score=found.score,
        revision=found.revision,
        state=found.state,
        version=found.version,
        reason=found.reason,
        updated_at=found.updated_at,
    )
