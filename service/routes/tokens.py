"""POST /tokenize and /detokenize, as vLLM's server has them."""

import asyncio
from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from service.chat.requests import LONG_TEXT, encode_messages
from service.routes.dependencies import RuntimeDep
from service.schemas.bodies import Body, without_nulls
from service.schemas.turns import MessageIn

router = APIRouter()


class TokenizeRequest(Body):
    """A text, or the messages of a chat."""

    model: str = ""
    prompt: str | None = None
    messages: list[MessageIn] | None = None
    return_token_strs: bool = False

    _lenient = model_validator(mode="before")(without_nulls)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("Send either `prompt` or `messages`.")
        return self


class DetokenizeRequest(Body):
    """Token ids."""

    model: str = ""
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=100_000)]


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, runtime: RuntimeDep) -> dict[str, Any]:
    """Return the token ids of a text, or of the prompt that messages make."""
    generator = runtime.serving().generator
    if body.messages is not None:
        ids = await encode_messages(generator, tuple(each.value() for each in body.messages))
    elif len(body.prompt or "") > LONG_TEXT:
        ids = await asyncio.to_thread(generator.encode_text, body.prompt or "")
    else:
        ids = generator.encode_text(body.prompt or "")
    texts = [generator.token_text(each) for each in ids] if body.return_token_strs else None
    return {
        "tokens": list(ids),
        "count": len(ids),
        "max_model_len": generator.context_length,
        "token_strs": texts,
    }


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, runtime: RuntimeDep) -> dict[str, str]:
    """Return the text of token ids."""
    return {"prompt": runtime.serving().generator.decode(tuple(body.tokens))}
