"""Making a chat request ready for the engine."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError, UnknownVersionError
from feedback.types import counted_as
from models.errors import PromptTooLongError
from models.types import BASE, Message, ReplyStyle
from models.versions import is_version_id
from service.chat.tool_calls import calls_schema
from service.errors import InvalidRequestError, ModelNotFoundError
from service.timeouts import within

if TYPE_CHECKING:
    from feedback.types import Person
    from models.backends import Generator
    from models.types import Sampling, Tool
    from models.versions import VersionState
    from service.chat.front_ends import FrontEnd
    from service.following.watcher import RolloutWatcher
    from service.runtime.auth import Caller
    from service.runtime.runtime import Runtime
    from service.schemas.chat import ChatRequest, TextRequest
    from service.schemas.sampled import Sampled

LONG_TEXT = 20_000
"""Characters of a prompt that take long enough to encode to keep others waiting."""

POLICY = "policy"
PIN = "policy@"
OFFERED: frozenset[VersionState] = frozenset(
    {"approved", "canary", "live", "retired", "rolled_back"}
)
"""States of versions that are listed; the others only operators can name."""


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A chat request made ready for the engine: everything that all its replies share."""

    id: str
    created: int
    model: str
    version: str
    person: Person
    conversation: str
    external_id: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    n: int
    metadata: dict[str, str]
    keep: bool
    messages: tuple[Message, ...] = ()
    schema: str = ""
    tools: tuple[Tool, ...] = ()
    style: ReplyStyle | None = None
    top_logprobs: int = 0

    @property
    def pinned(self) -> bool:
        """Whether the caller named the version; the judge does not count such replies."""
        return self.model != POLICY


async def ask(
    runtime: Runtime, caller: Caller, body: ChatRequest, front_end: FrontEnd
) -> PreparedChat:
    """Encode the messages, and choose the version and the sampling.

    Raises:
        NotReadyError: The model is still being loaded.
        ModelNotFoundError: The request names a model that there is not.
        PromptTooLongError: Messages and reply do not fit the context.
        ToolsUnsupportedError: The request has tools, and the base none.
    """
    generator = runtime.serving().generator
    messages = tuple(message.value() for message in body.messages)
    tools = body.may_call
    prompt_ids = await encode_messages(generator, messages, tools)
    prepared = await _prepare(runtime, caller, body, body.reply_limit, prompt_ids, front_end)
    return replace(
        prepared,
        messages=messages,
        schema=calls_schema(tools) if body.forces_call else body.schema_of_reply,
        tools=tools,
        style=_style(generator, body, prompt_ids),
        top_logprobs=body.top_logprobs,
    )


async def ask_text(
    runtime: Runtime, caller: Caller, body: TextRequest, front_end: FrontEnd
) -> PreparedChat:
    """Encode a text to go on with; the record has it as what a user said.

    Raises:
        NotReadyError: The model is still being loaded.
        ModelNotFoundError: The request names a model that there is not.
        PromptTooLongError: Text and reply do not fit the context.
    """
    generator = runtime.serving().generator
    if len(body.prompt) > LONG_TEXT:
        prompt_ids = await asyncio.to_thread(generator.encode_text, body.prompt)
    else:
        prompt_ids = generator.encode_text(body.prompt)
    prepared = await _prepare(runtime, caller, body, body.reply_limit, prompt_ids, front_end)
    return replace(
        prepared, messages=(Message("user", body.prompt),), top_logprobs=body.logprobs or 0
    )


async def _prepare(
    runtime: Runtime,
    caller: Caller,
    body: Sampled,
    wanted: int | None,
    prompt_ids: tuple[int, ...],
    front_end: FrontEnd,
) -> PreparedChat:
    """Return what chats and texts have alike, with the version that is chosen."""
    serving = runtime.serving()
    limit = _reply_limit(
        len(prompt_ids),
        wanted,
        runtime.settings.default_max_tokens,
        serving.generator.context_length,
        cut=runtime.settings.long_replies == "cut",
    )
    completion_id = f"chatcmpl-{uuid.uuid4().hex}"
    person = caller.person(body.person or front_end.user)
    conversation = body.metadata.get("conversation_id", "") or front_end.chat
    key = counted_as(person, conversation, completion_id)
    # The version is chosen last, so that it is still loaded when the engine takes the request.
    if body.model.startswith(PIN) and "admin" not in caller.scopes:
        await _must_be_offered(runtime, body.model)
    version = await choose_version(serving, body.model, key)
    return PreparedChat(
        id=completion_id,
        created=int(time.time()),
        model=body.model,
        version=version,
        person=person,
        conversation=conversation,
        external_id=body.metadata.get("external_id", "") or front_end.message,
        prompt_ids=prompt_ids,
        sampling=body.sampling(limit),
        n=body.n,
        metadata=body.metadata,
        keep=body.store and not front_end.is_task,
    )


async def encode_messages(
    generator: Generator, messages: tuple[Message, ...], tools: tuple[Tool, ...] = ()
) -> tuple[int, ...]:
    """Return the prompt's token ids; a long one is encoded aside, so that nobody waits."""
    texts = sum(len(message.content) for message in messages)
    if texts + sum(len(str(each)) for each in tools) > LONG_TEXT:
        return await asyncio.to_thread(generator.encode_chat, messages, tools)
    return generator.encode_chat(messages, tools)


def _style(
    generator: Generator, body: ChatRequest, prompt_ids: tuple[int, ...]
) -> ReplyStyle | None:
    """Return how the replies are to be read; None where all of their text is what is said."""
    if body.forces_call:
        return ReplyStyle(tools="json", parallel=False)
    if body.schema_of_reply:  # the grammar begins with the first token: there is no thought
        return None
    found = generator.reply_style(prompt_ids, tools=bool(body.may_call))
    found = replace(found, parallel=body.parallel_tool_calls)
    return found if found.thinks or found.tools else None


def _reply_limit(prompt: int, wanted: int | None, default: int, context: int, *, cut: bool) -> int:
    """Return the most tokens that the reply may have.

    Raises:
        PromptTooLongError: A single token does not fit, or what is wanted does not and is not cut.
    """
    limit = wanted or default
    if cut or wanted is None:
        limit = max(1, min(limit, context - prompt))
    if prompt + limit > context:
        raise PromptTooLongError(prompt, limit, context)
    return limit


async def _must_be_offered(runtime: Runtime, model: str) -> None:
    """Keep versions that the gate has not passed from all but operators.

    One that gives no numbers would end the replies of all who are decoded together with it.

    Raises:
        ModelNotFoundError: There is no such version, or the gate has not passed it.
    """
    version = model.removeprefix(PIN)
    if version == BASE or not is_version_id(version):
        return
    try:
        record = runtime.store.versions.get(version)
        offered = (await within(runtime.settings.record_timeout, record)).state in OFFERED
    except UnknownVersionError:
        offered = False
    except StoreUnavailableError:
        offered = version in runtime.serving().generator.loaded()
    if not offered:
        raise ModelNotFoundError(model)


async def choose_version(serving: RolloutWatcher, model: str, key: str) -> str:
    """Return the loaded version that a request for ``model`` gets.

    Args:
        serving: What is loaded and who gets it.
        model: The request's field of that name.
        key: Whom the request counts as.

    Raises:
        ModelNotFoundError: There is none.
        InvalidRequestError: What is named cannot be a version's id.
    """
    if model == POLICY:
        return serving.version_for(key)
    if model == BASE:
        return BASE
    if not model.startswith(PIN):
        raise ModelNotFoundError(model)
    version = model.removeprefix(PIN)
    if not is_version_id(version):
        raise InvalidRequestError(
            f"{version!r} is not a version's id, such as v000012-3fa9c1d2e4b7. GET /v1/models "
            "lists the versions that can be asked for.",
            code="invalid_version",
            param="model",
        )
    await serving.pin(version)
    return version
