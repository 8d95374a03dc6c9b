"""Sends an answer, at once or as a stream, in whichever of OpenAI's shapes was asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from fastapi.responses import JSONResponse, Response

from models.errors import ModelsError
from service.chat.answer import Answer
from service.chat.event_stream import EventStream, left
from service.errors import ApiError
from service.schemas.error_answers import describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from fastapi import Request

    from models.types import FinishReason, Token
    from service.chat.reading import ReplyParts
    from service.chat.requests import PreparedChat
    from service.runtime.runtime import Runtime

BEGIN_SECONDS = 1.0
"""How long a stream waits for its first token, so that a refusal still gets a status of its own."""

CLIENT_CLOSED = 499


class Chunks(Protocol):
    """Makes the chunks of one streamed answer, ready to send."""

    def opening(self, index: int) -> str | None:
        """Return the chunk that opens a reply, if there is one."""
        ...

    def step(self, index: int, parts: ReplyParts, tokens: Sequence[Token]) -> str | None:
        """Return the chunk for a decode step; None if it has no text yet."""
        ...

    def ending(self, index: int, finish_reason: FinishReason) -> str:
        """Return the chunk that ends a reply; the reply must be recorded by now."""
        ...

    def usage(self) -> str:
        """Return the chunk with the token counts."""
        ...


class Shape(Protocol):
    """One of OpenAI's shapes of answers."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a finished answer."""
        ...

    def chunks(self, answer: Answer, *, with_usage: bool) -> Chunks:
        """Return what makes the chunks of a streamed answer."""
        ...


async def respond(
    request: Request,
    runtime: Runtime,
    question: PreparedChat,
    shape: Shape,
    *,
    stream: bool,
    with_usage: bool,
    headers: dict[str, str],
) -> Response:
    """Decode the replies to a question, and send them."""
    answer = Answer(runtime, question)
    headers = {"x-policy-version": question.version, **headers}
    if not stream:
        return await _whole(request, answer, shape, headers)
    try:
        waited = await _unless_gone(request, answer.begun(BEGIN_SECONDS))
    except BaseException:
        await answer.close()
        raise
    if not waited:
        await answer.close()
        return Response(status_code=CLIENT_CLOSED)
    return EventStream(
        _events(answer, shape.chunks(answer, with_usage=with_usage), with_usage=with_usage),
        headers=headers,
        ping=runtime.settings.heartbeat.total_seconds(),
        close=answer.leave,
    )


async def _whole(
    request: Request, answer: Answer, shape: Shape, headers: dict[str, str]
) -> Response:
    """Answer without streaming; a client that goes away cancels the decoding."""
    try:
        if not await _unless_gone(request, _collect(answer)):
            return Response(status_code=CLIENT_CLOSED)
    finally:
        await answer.close()
    return JSONResponse(shape.whole(answer), headers=headers)


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
        if (opening := chunks.opening(index)) is not None:
            yield opening
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
