"""POST /v1/chat/completions, and the stored completions."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from models.backends import Generator
from models.errors import ModelsError
from service.chat import openai_shapes
from service.chat.answer import Answer
from service.chat.event_stream import EventStream, left
from service.chat.fields import as_headers, ignored_fields
from service.chat.front_ends import read_headers
from service.chat.openai_shapes import Chunks
from service.chat.replies import on_replies
from service.chat.requests import ask
from service.errors import ApiError
from service.routes.dependencies import CallerDep, RuntimeDep, UserQuery
from service.schemas.chat import ChatCompletionOut, ChatRequest
from service.schemas.error_answers import describe

router = APIRouter(prefix="/v1/chat/completions")

BEGIN_SECONDS = 1.0
"""How long a stream waits for its first token, so that a refusal still gets a status of its own."""

CLIENT_CLOSED = 499


@router.post("", response_model=ChatCompletionOut)
async def create(
    body: ChatRequest, request: Request, runtime: RuntimeDep, caller: CallerDep
) -> Response:
    """Answer a conversation, at once or as a stream."""
    ignored = ignored_fields(body, refuse=runtime.settings.unknown_fields == "refuse")
    question = await ask(runtime, caller, body, read_headers(request.headers))
    logprobs_from = runtime.serving().generator if body.logprobs else None
    answer = Answer(runtime, question)
    headers = {"x-policy-version": question.version, **as_headers(ignored)}
    if not body.stream:
        return await _whole(request, answer, logprobs_from, headers)
    try:
        waited = await _unless_gone(request, answer.begun(BEGIN_SECONDS))
    except BaseException:
        await answer.close()
        raise
    if not waited:
        await answer.close()
        return Response(status_code=CLIENT_CLOSED)
    chunks = Chunks(answer, logprobs_from, with_usage=body.stream_options.include_usage)
    return EventStream(
        _events(answer, chunks, with_usage=body.stream_options.include_usage),
        headers=headers,
        ping=runtime.settings.heartbeat.total_seconds(),
        close=answer.leave,
    )


async def _whole(
    request: Request, answer: Answer, logprobs_from: Generator | None, headers: dict[str, str]
) -> Response:
    """Answer without streaming; a client that goes away cancels the decoding."""
    try:
        if not await _unless_gone(request, _collect(answer)):
            return Response(status_code=CLIENT_CLOSED)
    finally:
        await answer.close()
    body = openai_shapes.completion(answer, logprobs_from)
    return JSONResponse(body.model_dump(exclude={"metadata"}), headers=headers)


async def _collect(answer: Answer) -> None:
    async for _ in answer.events():
        pass
    await asyncio.gather(*(answer.finish(index) for index in range(len(answer.replies))))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work and return True; or, if the client goes away first, stop it and return False."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        working.cancel()
        leaving.cancel()


async def _events(answer: Answer, chunks: Chunks, *, with_usage: bool) -> AsyncIterator[str]:
    """Yield the data of each event; an error in the middle becomes the last one."""
    for index in range(len(answer.replies)):
        yield chunks.opening(index)
    try:
        async for index, step in answer.events():
            chunk = chunks.step(index, step.parts, step.tokens)
            if chunk is not None:
                yield chunk
            if step.finish_reason is not None:
                await answer.finish(index)
                yield chunks.ending(index, step.finish_reason)
    except (ApiError, ModelsError) as error:
        yield describe(error).text()
        return
    if with_usage:
        yield chunks.usage()
    yield "[DONE]"


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
