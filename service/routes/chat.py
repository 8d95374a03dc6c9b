"""POST /v1/chat/completions, and the stored completions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.chat import openai_shapes
from service.chat.fields import as_headers, ignored_fields
from service.chat.front_ends import read_headers
from service.chat.openai_shapes import ChatShape
from service.chat.replies import on_replies
from service.chat.requests import ask
from service.chat.responding import respond
from service.routes.dependencies import CallerDep, RuntimeDep, UserQuery
from service.schemas.chat import ChatCompletionOut, ChatRequest

router = APIRouter(prefix="/v1/chat/completions")


@router.post("", response_model=ChatCompletionOut)
async def create(
    body: ChatRequest, request: Request, runtime: RuntimeDep, caller: CallerDep
) -> Response:
    """Answer a conversation, at once or as a stream."""
    ignored = ignored_fields(body, refuse=runtime.settings.unknown_fields == "refuse")
    question = await ask(runtime, caller, body, read_headers(request.headers))
    return await respond(
        request,
        runtime,
        question,
        ChatShape(runtime.serving().generator if body.logprobs else None),
        stream=body.stream,
        with_usage=body.stream_options.include_usage,
        headers=as_headers(ignored),
    )


@router.get("/{completion_id}")
async def read(
    completion_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> ChatCompletionOut:
    """Return a stored completion to its owner."""
    person = caller.person(user)
    completions = runtime.store.completions
    record = await on_replies(
        runtime, person, (completion_id,), lambda: completions.get_owned(completion_id, person)
    )
    return openai_shapes.stored(record)


@router.delete("/{completion_id}")
async def delete(
    completion_id: str, runtime: RuntimeDep, caller: CallerDep, user: UserQuery = ""
) -> dict[str, Any]:
    """Remove a stored completion and the vote on it."""
    person = caller.person(user)
    completions = runtime.store.completions
    await on_replies(
        runtime, person, (completion_id,), lambda: completions.delete(completion_id, person)
    )
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}
