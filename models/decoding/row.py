"""One reply in flight: what was asked, which tokens have come, and whether it is finished."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from models.decoding.sampler import Draw
from models.types import BASE

if TYPE_CHECKING:
    from models.types import FinishReason, GenerationRequest, Token


class Row:
    """The state of one request in the engine: token ids only, its text is made elsewhere."""

    def __init__(self, request: GenerationRequest, end_ids: frozenset[int]) -> None:
        self.request = request
        self.id = request.id
        self.user = request.user
        self.prompt_length = len(request.prompt_ids)
        self.generated: list[int] = []
        self._end_ids = end_ids
        # Not for secrets: a seed must give the same reply again.
        self._random = random.Random(request.sampling.seed)  # noqa: S311

    @property
    def adapter(self) -> str | None:
        """The version whose adapter this row wants; None wants the base."""
        return None if self.request.version == BASE else self.request.version

    @property
    def ids(self) -> tuple[int, ...]:
        """The prompt and what has come of the reply."""
        return (*self.request.prompt_ids, *self.generated)

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
            top_k=sampling.top_k,
            top_logprobs=self.request.top_logprobs,
            uniform=self._random.random(),
        )

    def accept(self, token: Token) -> FinishReason | None:
        """Take a drawn token; return why the reply ends with it, None when it goes on."""
        self.generated.append(token.id)
        if token.id in self._end_ids:
            return "stop"
        if len(self.generated) >= self.request.sampling.max_tokens:
            return "length"
        return None
