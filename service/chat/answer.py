"""Answering one chat request: the replies as they grow, their deadlines, and their record."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError
from feedback.types import Completion, counted_as
from models.errors import QueueFullError
from models.types import GenerationRequest
from service.chat.merging import Merged
from service.chat.reading import ReplyParts, make_reader, shown_tokens
from service.chat.replies import external
from service.errors import QueueTimeoutError, RequestTimeoutError
from service.timeouts import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from models.types import FinishReason, GenerationChunk, Token
    from service.chat.reading import ReplyReader
    from service.chat.requests import PreparedChat
    from service.errors import ApiError
    from service.runtime.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(slots=True)
class GrowingReply:
    """One reply as it grows: its whole text, and what was read in it."""

    id: str
    reader: ReplyReader | None = None
    text: str = ""
    parts: ReplyParts = field(default_factory=ReplyParts)
    tokens: list[Token] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    kept: bool = False
    recorded: bool = False
    begun_at: float | None = None

    def add(self, chunk: GenerationChunk) -> Step:
        """Take in what a decode step gave."""
        self.text += chunk.text
        self.tokens.extend(chunk.tokens)
        self.finish_reason = chunk.finish_reason
        parts = ReplyParts(chunk.text)
        if self.reader is not None:
            parts = self.reader.push(chunk.text)
            if chunk.finish_reason is not None:
                parts.add(self.reader.finish())
        self.parts.add(parts)
        return Step(parts, chunk.tokens, chunk.finish_reason)


@dataclass(frozen=True, slots=True)
class Step:
    """What a decode step added to a reply."""

    parts: ReplyParts
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None


class Answer:
    """The replies to one question, decoded at the same time and recorded as each one ends."""

    def __init__(self, runtime: Runtime, question: PreparedChat) -> None:
        self.question = question
        self.replies = _replies(question)
        self._runtime = runtime
        generator = runtime.serving().generator
        self._stats = generator.stats
        self._asked_at = time.perf_counter()
        for reply in self.replies:
            runtime.in_flight.begin(reply.id, question.person)
        if question.external_id:
            runtime.in_flight.begin(external(question.external_id), question.person)
        self._merged = Merged(
            [
                generator.generate(_request(question, reply, choice))
                for choice, reply in enumerate(self.replies)
            ]
        )
        loop, settings = asyncio.get_running_loop(), runtime.settings
        self._deadlines = (
            loop.call_later(settings.queue_timeout.total_seconds(), self._not_begun),
            loop.call_later(settings.request_timeout.total_seconds(), self._not_complete),
        )

    @property
    def recorded(self) -> bool:
        """Whether all replies were recorded."""
        return all(reply.recorded for reply in self.replies)

    @property
    def completion_tokens(self) -> int:
        """Tokens of all replies together."""
        return sum(len(reply.tokens) for reply in self.replies)

    def token(self, index: int) -> str | None:
        """Return the feedback token of a reply; None where it cannot be voted on."""
        reply = self.replies[index]
        return self._runtime.tokens.make(reply.id, self.question.person) if reply.recorded else None

    async def begun(self, seconds: float) -> None:
        """Wait for the first token, at most so long, and raise if there will be none."""
        with self._counting_failures():
            await self._merged.begun(seconds)

    async def events(self) -> AsyncIterator[tuple[int, Step]]:
        """Yield each step of each reply by the reply's index, after adding it to the reply.

        Raises:
            QueueTimeoutError: The first token did not come in time.
            RequestTimeoutError: The last one did not.
            ModelsError: The engine refused or failed.
        """
        with self._counting_failures():
            async for index, chunk in self._merged:
                self._time(self.replies[index], chunk)
                yield index, self.replies[index].add(chunk)

    async def finish(self, index: int) -> None:
        """Record a reply that has ended, and count it. Redis being away is no reason to fail."""
        reply = self.replies[index]
        if not self.question.pinned:
            self._runtime.tally.ended(
                self.question.version,
                self._who(reply),
                first_token=None if reply.begun_at is None else reply.begun_at - self._asked_at,
                tokens=len(reply.tokens),
                cut=reply.finish_reason == "length",
            )
        if reply.reader is not None and reply.finish_reason == "stop":
            self._runtime.metrics.malformed_calls.labels(self.question.version).inc(
                reply.reader.malformed
            )
        await self._keep(reply)

    async def leave(self) -> None:
        """Close a stream; what was sent of replies that are not finished is recorded."""
        try:
            for reply in self.replies:
                if reply.tokens and not reply.kept:
                    reply.finish_reason = reply.finish_reason or "length"
                    await self._keep(reply)
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel the replies that are not finished."""
        for deadline in self._deadlines:
            deadline.cancel()
        await self._merged.close()
        for reply in self.replies:
            self._runtime.in_flight.end(reply.id, self.question.person)
        self._runtime.in_flight.end(external(self.question.external_id), self.question.person)

    async def _keep(self, reply: GrowingReply) -> None:
        """Record a reply and count it; if this is cancelled, ``leave`` does it once more."""
        metrics = self._runtime.metrics
        reply.recorded = self.question.keep and await self._record(reply)
        reply.kept = True
        metrics.tokens.labels("prompt").inc(len(self.question.prompt_ids))
        metrics.tokens.labels("completion").inc(len(reply.tokens))
        metrics.replies.labels(self.question.version).inc()
        if not reply.recorded:
            metrics.unrecorded.inc()
            self._runtime.unrecorded.add(reply.id, self.question.person)
        self._runtime.in_flight.end(reply.id, self.question.person)

    def _not_begun(self) -> None:
        if not self._merged.has_begun:
            limit, retry_after = self._runtime.settings.queue_timeout, self._runtime.retry_after()
            self._give_up("queue", QueueTimeoutError(limit, retry_after=retry_after))

    def _not_complete(self) -> None:
        self._give_up("request", RequestTimeoutError(self._runtime.settings.request_timeout))

    def _give_up(self, kind: str, error: ApiError) -> None:
        if self._merged.fail(error):
            self._runtime.metrics.timeouts.labels(kind).inc()

    @contextmanager
    def _counting_failures(self) -> Iterator[None]:
        try:
            yield
        except QueueFullError:
            self._runtime.metrics.refused.inc()
            raise
        except Exception:
            for reply in self.replies:
                if reply.finish_reason is None and not self.question.pinned:
                    self._runtime.tally.failed(self.question.version, self._who(reply))
            raise

    def _who(self, reply: GrowingReply) -> str:
        return counted_as(self.question.person, self.question.conversation, reply.id)

    def _time(self, reply: GrowingReply, chunk: GenerationChunk) -> None:
        """Measure the time to the first token, and that of each reply."""
        now = time.perf_counter()
        if all(each.begun_at is None for each in self.replies):
            self._runtime.metrics.first_token.observe(now - self._asked_at)
        if reply.begun_at is None:
            reply.begun_at = now
        if chunk.finish_reason is not None:
            stats = self._stats()
            self._runtime.pace.ended(
                now - reply.begun_at, running=stats.running, waiting=stats.waiting
            )

    async def _record(self, reply: GrowingReply) -> bool:
        completion = _completion(self.question, reply)
        try:
            await within(self._runtime.settings.record_timeout, self._write(completion))
        except StoreUnavailableError as error:
            log.warning("A reply was served without a record: %s", error)
            return False
        return True

    async def _write(self, completion: Completion) -> None:
        store, question = self._runtime.store, self.question
        await store.completions.record(completion)
        if question.external_id:
            await store.external.note(question.external_id, question.person, completion.id)
        await self._runtime.tokens.prepare()


def _replies(question: PreparedChat) -> list[GrowingReply]:
    if question.n == 1:
        return [_begin(question, question.id)]
    return [_begin(question, f"{question.id}.{index}") for index in range(question.n)]


def _begin(question: PreparedChat, reply_id: str) -> GrowingReply:
    return GrowingReply(reply_id, make_reader(question.style, question.tools, reply_id))


def _request(question: PreparedChat, reply: GrowingReply, choice: int) -> GenerationRequest:
    return GenerationRequest(
        id=reply.id,
        prompt_ids=question.prompt_ids,
        version=question.version,
        sampling=question.sampling,
        top_logprobs=question.top_logprobs,
        user=question.person.name,
        choice=choice,
        schema=question.schema,
        shown=shown_tokens(question.style) if question.style else (),
    )


def _completion(question: PreparedChat, reply: GrowingReply) -> Completion:
    if reply.finish_reason is None:
        raise AssertionError("Only a reply that has ended is recorded.")
    return Completion(
        id=reply.id,
        person=question.person,
        conversation=question.conversation,
        version=question.version,
        messages=question.messages,
        text=reply.text,
        prompt_ids=question.prompt_ids,
        response_ids=tuple(token.id for token in reply.tokens),
        behaviour_logprobs=tuple(token.logprob for token in reply.tokens),
        policy_logprobs=_policy_logprobs(reply.tokens),
        forced=tuple(place for place, token in enumerate(reply.tokens) if token.forced),
        sampling=question.sampling,
        finish_reason=reply.finish_reason,
        created_at=float(question.created),
        metadata=question.metadata,
        pinned=question.pinned,
        tools=question.tools or None,
        style=question.style,
    )


def _policy_logprobs(tokens: Sequence[Token]) -> tuple[float, ...]:
    """Return the log-probs under the policy alone; none where the tokens were drawn from it."""
    if all(token.policy_logprob is None for token in tokens):
        return ()
    return tuple(
        token.logprob if token.policy_logprob is None else token.policy_logprob for token in tokens
    )
