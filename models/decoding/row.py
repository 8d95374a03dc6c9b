"""The state of one reply while it decodes: its request and the tokens so far."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from models.decoding.adjusting import Adjuster
from models.decoding.sampler import Draw
from models.types import BASE

if TYPE_CHECKING:
    from models.decoding.adjusting import Matcher
    from models.types import FinishReason, GenerationRequest, Token


class Row:
    """The state of one request in the engine, in token ids; ``TextStream`` makes the text."""

    def __init__(
        self,
        request: GenerationRequest,
        end_ids: frozenset[int],
        matcher: Matcher | None = None,
    ) -> None:
        self.request = request
        self.id = request.id
        self.user = request.user
        self.prompt_length = len(request.prompt_ids)
        self.generated: list[int] = []
        self._end_ids = end_ids
        self._matcher = matcher
        self._adjuster = (
            Adjuster(request.sampling, request.prompt_ids, matcher)
            if matcher or request.sampling.adjusts
            else None
        )
        self._random = _random_of(request.sampling.seed, request.choice)

    @property
    def adapter(self) -> str | None:
        """The version whose adapter the row decodes with; None means the base."""
        return None if self.request.version == BASE else self.request.version

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the prompt and of the reply so far."""
        return (*self.request.prompt_ids, *self.generated)

    @property
    def position(self) -> int:
        """The position of the newest token; the next decode step writes its keys and values."""
        return self.prompt_length + len(self.generated) - 1

    def draw(self) -> Draw:
        """Return the sampling parameters of the next token; advances the row's random numbers."""
        sampling = self.request.sampling
        return Draw(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            adjuster=self._adjuster,
            top_logprobs=self.request.top_logprobs,
            uniform=self._random.random(),
        )

    def accept(self, token: Token) -> FinishReason | None:
        """Append a token; return the finish reason, or None while the reply continues."""
        self.generated.append(token.id)
        if self._adjuster:
            self._adjuster.accept(token.id)
        if token.id in self._end_ids:
            return "length" if self._matcher and self._matcher.failed else "stop"
        if len(self.generated) >= self.request.sampling.max_tokens:
            return "length"
        return None


def _random_of(seed: int | None, choice: int) -> random.Random:
    """Return the random numbers of one reply; no two pairs of seed and choice share them.

    Python's generator takes a negative number as its absolute value, so that only the first choice
    of a seed from 0 on has the number itself. They need not be cryptographic: a seeded request
    repeats its reply.
    """
    if seed is None or (seed >= 0 and choice == 0):
        return random.Random(seed)  # noqa: S311
    return random.Random(f"{seed}:{choice}")  # noqa: S311
