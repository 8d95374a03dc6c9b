"""POST /v1/completions: texts that go on with a prompt, without a chat template."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.chat.fields import as_headers, ignored_fields
from service.chat.front_ends import read_headers
from service.chat.requests import ask_text
from service.chat.responding import respond
from service.chat.text_shapes import TextShape
from service.routes.dependencies import CallerDep, RuntimeDep
from service.schemas.chat import TextCompletionOut, TextRequest

router = APIRouter(prefix="/v1/completions")


@router.post("", response_model=TextCompletionOut)
async def create(
    body: TextRequest, request: Request, runtime: RuntimeDep, caller: CallerDep
) -> Response:
    """Go on with a text, at once or as a stream; what is written can be voted on, like a reply."""
    ignored = ignored_fields(body, refuse=runtime.settings.unknown_fields == "refuse")
    question = await ask_text(runtime, caller, body, read_headers(request.headers))
    return await respond(
        request,
        runtime,
        question,
        TextShape(runtime.serving().generator if body.logprobs is not None else None),
        stream=body.stream,
        with_usage=body.stream_options.include_usage,
        headers=as_headers(ignored),
    )
