"""Turns replies into OpenAI's shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.chat.reading import read_reply
from service.schemas.chat import (
    LEAST_LOGPROB,
    ChatChunkOut,
    ChatCompletionOut,
    ChoiceOut,
    ChunkChoice,
    Delta,
    Finish,
    FunctionOut,
    LogprobsOut,
    ReplyMessage,
    TokenLogprobOut,
    ToolCallDelta,
    ToolCallOut,
    TopLogprobOut,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.types import Completion
    from models.backends import Generator
    from models.types import FinishReason, Token, ToolCall, TopLogprob
    from service.chat.answer import Answer
    from service.chat.reading import ReplyParts

_HOLE = "\ue000"  # a private-use character: nothing else in a chunk holds one


def _top(generator: Generator, token: Token | TopLogprob, token_id: int) -> TopLogprobOut:
    return TopLogprobOut(
        token=generator.token_text(token_id),
        logprob=max(token.logprob, LEAST_LOGPROB),
        bytes=list(generator.token_bytes(token_id)),
    )


def logprobs(generator: Generator, tokens: Sequence[Token]) -> LogprobsOut:
    """Return the log-probs of ``tokens`` with the alternatives to each."""
    content = [
        TokenLogprobOut(
            **_top(generator, token, token.id).model_dump(),
            top_logprobs=[_top(generator, other, other.token_id) for other in token.top],
        )
        for token in tokens
    ]
    return LogprobsOut(content=content)


def usage(answer: Answer) -> Usage:
    """Return the token counts of an answer."""
    prompt = len(answer.question.prompt_ids)
    completion = answer.completion_tokens
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def message(parts: ReplyParts) -> ReplyMessage:
    """Return the assistant's turn; fields of thoughts and calls only where there are such."""
    turn = ReplyMessage(content=parts.content or (None if parts.calls else ""), refusal=None)
    if parts.reasoning:
        turn.reasoning_content = parts.reasoning
    if parts.calls:
        turn.tool_calls = [
            ToolCallOut(id=each.id, function=_function(each)) for each in parts.calls
        ]
    return turn


def finish(reason: FinishReason, parts: ReplyParts) -> Finish:
    """Return why a reply ended, as OpenAI says it: a reply may end with the calls of tools."""
    return "tool_calls" if reason == "stop" and parts.calls else reason


def _function(call: ToolCall) -> FunctionOut:
    return FunctionOut(name=call.name, arguments=call.arguments)


def completion(answer: Answer, generator: Generator | None) -> ChatCompletionOut:
    """Return a finished answer; with log-probs if a ``generator`` knows the tokens' texts."""
    question = answer.question
    choices = [
        ChoiceOut(
            index=index,
            completion_id=reply.id,
            feedback_token=answer.token(index),
            message=message(reply.parts),
            logprobs=logprobs(generator, reply.tokens) if generator else None,
            finish_reason=finish(reply.finish_reason or "stop", reply.parts),
        )
        for index, reply in enumerate(answer.replies)
    ]
    return ChatCompletionOut(
        id=question.id,
        created=question.created,
        model=question.model,
        system_fingerprint=question.version,
        choices=choices,
        usage=usage(answer),
        recorded=answer.recorded,
    )


def stored(record: Completion) -> ChatCompletionOut:
    """Return a completion as it was recorded."""
    prompt, reply = len(record.prompt_ids), len(record.response_ids)
    parts = read_reply(record.text, record.style, record.tools or (), record.id)
    choice = ChoiceOut(
        index=0,
        completion_id=record.id,
        message=message(parts),
        finish_reason=finish(record.finish_reason, parts),
    )
    return ChatCompletionOut(
        id=record.id,
        created=int(record.created_at),
        model=f"policy@{record.version}",
        system_fingerprint=record.version,
        choices=[choice],
        usage=Usage(prompt_tokens=prompt, completion_tokens=reply, total_tokens=prompt + reply),
        recorded=True,
        metadata=record.metadata,
    )


class ChatShape:
    """The shape of chats; with log-probs if a ``generator`` knows the tokens' texts."""

    def __init__(self, generator: Generator | None) -> None:
        self._generator = generator

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a finished answer."""
        return completion(answer, self._generator).model_dump(exclude={"metadata"})

    def chunks(self, answer: Answer, *, with_usage: bool) -> ChatChunks:
        """Return what makes the chunks of a streamed answer."""
        return ChatChunks(answer, self._generator, with_usage=with_usage)


class ChatChunks:
    """Makes the chunks of one streamed answer, ready to send."""

    def __init__(self, answer: Answer, generator: Generator | None, *, with_usage: bool) -> None:
        self._answer = answer
        self._generator = generator
        self._with_usage = with_usage
        self._frames: dict[int, tuple[str, str]] = {}

    def opening(self, index: int) -> str:
        """Return the chunk that opens a reply."""
        return self._chunk(index, Delta(role="assistant", content=""))

    def step(self, index: int, parts: ReplyParts, tokens: Sequence[Token]) -> str | None:
        """Return the chunk for a decode step; None if it has no text yet."""
        if self._generator is None and not parts.reasoning and not parts.calls:
            return self._text(index, parts.content) if parts.content else None
        delta = self._delta(index, parts)
        if self._generator is None:
            return self._chunk(index, delta)
        found = logprobs(self._generator, tokens)
        return self._chunk(index, delta, found) if tokens else None

    def _delta(self, index: int, parts: ReplyParts) -> Delta:
        delta = Delta()
        if parts.content or not (parts.reasoning or parts.calls):
            delta.content = parts.content
        if parts.reasoning:
            delta.reasoning_content = parts.reasoning
        if parts.calls:
            first = len(self._answer.replies[index].parts.calls) - len(parts.calls)
            delta.tool_calls = [
                ToolCallDelta(index=number, id=each.id, type="function", function=_function(each))
                for number, each in enumerate(parts.calls, first)
            ]
        return delta

    def ending(self, index: int, finish_reason: FinishReason) -> str:
        """Return the chunk that ends a reply; the reply must be recorded by now."""
        reply = self._answer.replies[index]
        reason = finish(finish_reason, reply.parts)
        return self._chunk(index, Delta(), finish_reason=reason, recorded=reply.recorded)

    def usage(self) -> str:
        """Return the chunk with the token counts."""
        chunk = self._bare([])
        chunk.usage = usage(self._answer)
        chunk.recorded = self._answer.recorded
        return chunk.model_dump_json(exclude_unset=True)

    def _text(self, index: int, text: str) -> str:
        """Return a chunk that only adds text. It is frequent, so only the text is encoded."""
        frame = self._frames.get(index)
        if frame is None:
            whole = self._chunk(index, Delta(content=_HOLE))
            before, _, after = whole.partition(f'"{_HOLE}"')
            frame = self._frames[index] = (before, after)
        return frame[0] + json.dumps(text, ensure_ascii=False) + frame[1]

    def _chunk(
        self,
        index: int,
        delta: Delta,
        found: LogprobsOut | None = None,
        finish_reason: Finish | None = None,
        *,
        recorded: bool | None = None,
    ) -> str:
        choice = ChunkChoice(
            index=index,
            completion_id=self._answer.replies[index].id,
            delta=delta,
            logprobs=found,
            finish_reason=finish_reason,
        )
        if recorded is not None and (token := self._answer.token(index)):
            choice.feedback_token = token
        chunk = self._bare([choice])
        if recorded is not None:
            chunk.recorded = recorded
        if self._with_usage:
            chunk.usage = None
        return chunk.model_dump_json(exclude_unset=True)

    def _bare(self, choices: list[ChunkChoice]) -> ChatChunkOut:
        question = self._answer.question
        return ChatChunkOut(
            id=question.id,
            object="chat.completion.chunk",
            created=question.created,
            model=question.model,
            system_fingerprint=question.version,
            choices=choices,
        )
