"""Answering one chat request: what is asked of the engine, the replies, and their record."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError
from feedback.events import Completion
from models.errors import PromptTooLongError
from models.types import BASE, GenerationRequest
from service.errors import ModelNotFoundError
from service.merging import Merged
from service.waiting import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.events import Person
    from models.backends import Generator
    from models.types import FinishReason, GenerationChunk, Message, Sampling, Token
    from service.auth import Caller
    from service.rollout_watcher import RolloutWatcher
    from service.runtime import Runtime
    from service.schemas import ChatRequest

log = logging.getLogger(__name__)

LONG_TEXT = 20_000
"""Characters of a prompt that take long enough to encode to keep others waiting."""

PIN = "policy@"


@dataclass(slots=True)
class Reply:
    """One reply as it grows."""

    id: str
    sampling: Sampling
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    recorded: bool = False

    def add(self, chunk: GenerationChunk) -> None:
        """Take in what a decode step gave."""
        self.text += chunk.text
        self.tokens.extend(chunk.tokens)
        self.finish_reason = chunk.finish_reason


@dataclass(frozen=True, slots=True)
class Question:
    """A chat request made ready for the engine: everything that all its replies share."""

    id: str
    created: int
    model: str
    version: str
    person: Person
    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    n: int
    top_logprobs: int
    metadata: dict[str, str]
    keep: bool


async def ask(runtime: Runtime, caller: Caller, body: ChatRequest) -> Question:
    """Encode the messages and settle the version and the sampling.

    Raises:
        NotReadyError: The model is still being loaded.
        ModelNotFoundError: The request names a model that there is not.
        PromptTooLongError: Messages and reply do not fit the context.
    """
    serving = runtime.serving()
    messages = tuple(message.value() for message in body.messages)
    prompt_ids = await _encode(serving.generator, messages)
    limit = _reply_limit(
        len(prompt_ids),
        body.reply_limit,
        runtime.settings.default_max_tokens,
        serving.generator.context_length,
    )
    # The version is chosen last, so that it is still loaded when the engine takes the request.
    version = await choose_version(serving, body.model)
    return Question(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        version=version,
        person=caller.person(body.user),
        messages=messages,
        prompt_ids=prompt_ids,
        sampling=body.sampling(limit),
        n=body.n,
        top_logprobs=body.top_logprobs,
        metadata=body.metadata,
        keep=body.store,
    )


async def _encode(generator: Generator, messages: tuple[Message, ...]) -> tuple[int, ...]:
    if sum(len(message.content) for message in messages) > LONG_TEXT:
        return await asyncio.to_thread(generator.encode_chat, messages)
    return generator.encode_chat(messages)


def _reply_limit(prompt: int, wanted: int | None, default: int, context: int) -> int:
    """Return the most tokens that the reply may have.

    Raises:
        PromptTooLongError: What is wanted, or a single token, does not fit.
    """
    limit = wanted or max(1, min(default, context - prompt))
    if prompt + limit > context:
        raise PromptTooLongError(prompt, limit, context)
    return limit


async def choose_version(serving: RolloutWatcher, model: str) -> str:
    """Return the loaded version that a request for ``model`` gets.

    Raises:
        ModelNotFoundError: There is none.
    """
    if model == "policy" and serving.serving is not None:
        return serving.serving
    if model == BASE:
        return BASE
    if not model.startswith(PIN):
        raise ModelNotFoundError(model)
    version = model.removeprefix(PIN)
    await serving.pin(version)
    return version


class Answer:
    """The replies to one question, decoded at the same time and recorded as each one ends."""

    def __init__(self, runtime: Runtime, question: Question) -> None:
        self.question = question
        self.replies = _replies(question)
        self._runtime = runtime
        generator = runtime.serving().generator
        self._asked_at = time.perf_counter()
        self._merged = Merged(
            [generator.generate(_request(question, reply)) for reply in self.replies]
        )

    @property
    def recorded(self) -> bool:
        """Whether all replies were recorded."""
        return all(reply.recorded for reply in self.replies)

    @property
    def completion_tokens(self) -> int:
        """Tokens of all replies together."""
        return sum(len(reply.tokens) for reply in self.replies)

    async def begun(self, seconds: float) -> None:
        """Wait for the first token, at most so long, and raise if the engine refuses."""
        await self._merged.begun(seconds)

    async def events(self) -> AsyncIterator[tuple[int, GenerationChunk]]:
        """Yield each step of each reply by the reply's index, after adding it to the reply."""
        first = True
        async for index, chunk in self._merged:
            if first:
                self._runtime.metrics.first_token.observe(time.perf_counter() - self._asked_at)
                first = False
            self.replies[index].add(chunk)
            yield index, chunk

    async def finish(self, index: int) -> None:
        """Record a reply that has ended, and count it. Redis being away is no reason to fail."""
        reply = self.replies[index]
        metrics = self._runtime.metrics
        metrics.tokens.labels("prompt").inc(len(self.question.prompt_ids))
        metrics.tokens.labels("completion").inc(len(reply.tokens))
        metrics.replies.labels(self.question.version).inc()
        reply.recorded = self.question.keep and await self._record(reply)
        if not reply.recorded:
            metrics.unrecorded.inc()
            self._runtime.unrecorded.add(reply.id, self.question.person)

    async def close(self) -> None:
        """Cancel the replies that are not finished."""
        await self._merged.close()

    async def _record(self, reply: Reply) -> bool:
        completion = _completion(self.question, reply)
        try:
            await within(
                self._runtime.settings.record_timeout,
                self._runtime.store.completions.record(completion),
            )
        except StoreUnavailableError as error:
            log.warning("A reply was served without a record: %s", error)
            return False
        return True


def _replies(question: Question) -> list[Reply]:
    if question.n == 1:
        return [Reply(question.id, question.sampling)]
    return [
        Reply(f"{question.id}.{index}", _sampling(question.sampling, index))
        for index in range(question.n)
    ]


def _sampling(sampling: Sampling, index: int) -> Sampling:
    # The same seed for all would make all replies the same.
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + index)


def _request(question: Question, reply: Reply) -> GenerationRequest:
    return GenerationRequest(
        id=reply.id,
        prompt_ids=question.prompt_ids,
        version=question.version,
        sampling=reply.sampling,
        top_logprobs=question.top_logprobs,
        user=f"{question.person.owner}:{question.person.user}",
    )


def _completion(question: Question, reply: Reply) -> Completion:
    if reply.finish_reason is None:
        raise AssertionError("Only a reply that has ended is recorded.")
    return Completion(
        id=reply.id,
        person=question.person,
        conversation=question.metadata.get("conversation_id", ""),
        version=question.version,
        messages=question.messages,
        text=reply.text,
        prompt_ids=question.prompt_ids,
        response_ids=tuple(token.id for token in reply.tokens),
        behaviour_logprobs=tuple(token.logprob for token in reply.tokens),
        sampling=reply.sampling,
        finish_reason=reply.finish_reason,
        created_at=float(question.created),
        metadata=question.metadata,
    )
