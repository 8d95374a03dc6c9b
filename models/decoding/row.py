"""One reply in flight: what was asked, what has come so far, and whether it is finished."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from models.decoding.sampler import Draw
from models.decoding.text import TextStream
from models.types import BASE, GenerationChunk

if TYPE_CHECKING:
    from models.types import FinishReason, GenerationRequest, Token


class Row:
    """The state of one request in the engine."""

    def __init__(self, request: GenerationRequest, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self.request = request
        self.id = request.id
        self.prompt_length = len(request.prompt_ids)
        self.generated: list[int] = []
        self._end_ids = end_ids
        self._text = TextStream(tokenizer, request.sampling.stop)
        # Not for secrets: a seed must give the same reply again.
        self._random = random.Random(request.sampling.seed)  # noqa: S311

    @property
    def adapter(self) -> str | None:
        """The version whose adapter this row wants; None wants the base."""
        return None if self.request.version == BASE else self.request.version

    @property
    def position(self) -> int:
        """The position of the newest token, which the next decode step writes to its slot."""
        return self.prompt_length + len(self.generated) - 1

    def draw(self) -> Draw:
        """Return how to draw the next token, with the row's next random number."""
        sampling = self.request.sampling
        return Draw(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_logprobs=self.request.top_logprobs,
            uniform=self._random.random(),
        )

    def accept(self, token: Token) -> GenerationChunk:
        """Take a sampled token; return what it adds to the reply."""
        self.generated.append(token.id)
        text = self._text.push(token.id)
        reason = self._finish_reason(token)
        if reason is not None and not self._text.stopped:
            text += self._text.finish()
        return GenerationChunk(text=text, tokens=(token,), finish_reason=reason)

    def _finish_reason(self, token: Token) -> FinishReason | None:
        if token.id in self._end_ids or self._text.stopped:
            return "stop"
        if len(self.generated) >= self.request.sampling.max_tokens:
            return "length"
        return None
