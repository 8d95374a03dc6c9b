"""Turns replies into OpenAI's shapes of texts, those of /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.chat.openai_shapes import usage
from service.schemas.chat import LEAST_LOGPROB, TextChoice, TextCompletionOut, TextLogprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.backends import Generator
    from models.types import FinishReason, Token
    from service.chat.answer import Answer
    from service.chat.reading import ReplyParts


class TextShape:
    """The shape of texts; with log-probs if a ``generator`` knows the tokens' texts."""

    def __init__(self, generator: Generator | None) -> None:
        self._generator = generator

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a finished answer."""
        choices = [
            TextChoice(
                index=index,
                completion_id=reply.id,
                feedback_token=answer.token(index),
                text=reply.text,
                logprobs=_logprobs(self._generator, reply.tokens, 0) if self._generator else None,
                finish_reason=reply.finish_reason,
            )
            for index, reply in enumerate(answer.replies)
        ]
        out = _bare(answer, choices)
        out.usage, out.recorded = usage(answer), answer.recorded
        return out.model_dump()

    def chunks(self, answer: Answer, *, with_usage: bool) -> TextChunks:
        """Return what makes the chunks of a streamed answer."""
        return TextChunks(answer, self._generator, with_usage=with_usage)


class TextChunks:
    """Makes the chunks of one streamed answer, ready to send."""

    def __init__(self, answer: Answer, generator: Generator | None, *, with_usage: bool) -> None:
        self._answer, self._generator, self._with_usage = answer, generator, with_usage
        self._written = [0] * len(answer.replies)

    def opening(self, index: int) -> None:
        """Open nothing: the first chunk has text already."""
        del index

    def step(self, index: int, parts: ReplyParts, tokens: Sequence[Token]) -> str | None:
        """Return the chunk for a decode step; None if it has no text yet."""
        text = parts.content
        if not text and (self._generator is None or not tokens):
            return None
        found = None
        if self._generator is not None:
            found = _logprobs(self._generator, tokens, self._written[index])
        self._written[index] += len(text)
        return self._chunk(self._choice(index, text, found))

    def ending(self, index: int, finish_reason: FinishReason) -> str:
        """Return the chunk that ends a reply; the reply must be recorded by now."""
        choice = self._choice(index, "", None)
        choice.finish_reason = finish_reason
        choice.feedback_token = self._answer.token(index)
        return self._chunk(choice, recorded=self._answer.replies[index].recorded)

    def usage(self) -> str:
        """Return the chunk with the token counts."""
        out = _bare(self._answer, [])
        out.usage, out.recorded = usage(self._answer), self._answer.recorded
        return out.model_dump_json(exclude_unset=True)

    def _choice(self, index: int, text: str, found: TextLogprobs | None) -> TextChoice:
        return TextChoice(
            index=index,
            completion_id=self._answer.replies[index].id,
            text=text,
            logprobs=found,
            finish_reason=None,
        )

    def _chunk(self, choice: TextChoice, *, recorded: bool | None = None) -> str:
        out = _bare(self._answer, [choice])
        if recorded is not None:
            out.recorded = recorded
        if self._with_usage:
            out.usage = None
        return out.model_dump_json(exclude_unset=True)


def _bare(answer: Answer, choices: list[TextChoice]) -> TextCompletionOut:
    question = answer.question
    return TextCompletionOut(
        id=question.id,
        object="text_completion",
        created=question.created,
        model=question.model,
        system_fingerprint=question.version,
        choices=choices,
    )


def _logprobs(generator: Generator, tokens: Sequence[Token], offset: int) -> TextLogprobs:
    """Return the log-probs of tokens, the first of which stands at ``offset`` in the text."""
    texts = [generator.token_text(token.id) for token in tokens]
    offsets = [offset + sum(map(len, texts[:number])) for number in range(len(texts))]
    return TextLogprobs(
        tokens=texts,
        token_logprobs=[max(token.logprob, LEAST_LOGPROB) for token in tokens],
        top_logprobs=[
            {
                generator.token_text(other.token_id): max(other.logprob, LEAST_LOGPROB)
                for other in token.top
            }
            for token in tokens
        ],
        text_offset=offsets,
    )
