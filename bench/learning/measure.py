"""Measures a version: how many honest users like its replies to held-out prompts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.learning.people import World
    from bench.learning.remembered import Reply
    from bench.learning.replies import Replies

HELD_OUT = 128
"""Replies on which a version is measured, to as many held-out questions as there are."""
CEILING_OF = 16
"""Replies of the base from which the ceiling takes the best."""
_FIRST_SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """A version on held-out prompts.

    Attributes:
        approval: Mean share of honest users who like a reply, in [0, 1].
        win: Share of replies that more users like than the base's to the same prompt; ties half.
        kl: Nats from the base a reply, estimated from the drawn tokens; about 0 for the base.
        perplexity: The base's, of all replies' tokens: how strange it would find them.
        distinct: Share of different 3-grams of words among all replies.
        words: Mean words of a reply.
        cut: Share of replies that ran into the token limit.
    """

    approval: float
    win: float
    kl: float
    perplexity: float
    distinct: float
    words: float
    cut: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures, rounded to what they are good for."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Yardstick:
    """Asks every version the same held-out questions with the same seeds."""

    def __init__(self, world: World, replies: Replies, count: int) -> None:
        self._world, self._replies = world, replies
        held_out = world.held_out
        self._prompts = [held_out[number % len(held_out)] for number in range(count)]
        self._base = [world.approval(r.prompt, r.text) for r in self._ask(BASE)]

    def measure(self, version: str) -> Measured:
        """Measure one version."""
        replies = self._ask(version)
        approval = [self._world.approval(r.prompt, r.text) for r in replies]
        wins = [(a > b) + (a == b) / 2 for a, b in zip(approval, self._base, strict=True)]
        own = [sum(reply.logprobs) for reply in replies]
        base = self._replies.base_logprobs(replies)
        tokens = sum(len(reply.ids) for reply in replies)
        return Measured(
            approval=fmean(approval),
            win=fmean(wins),
            kl=fmean(own) - fmean(base),
            perplexity=math.exp(-sum(base) / tokens),
            distinct=distinct([reply.text for reply in replies]),
            words=fmean(len(reply.text.split()) for reply in replies),
            cut=fmean(not reply.ended for reply in replies),
        )

    def bounds(self) -> tuple[float, float]:
        """Return the base's mean approval, and that of the best of its replies to each prompt.

        The base's is the mean over the same sixteen replies: few replies with the versions' own
        seeds may be lucky ones, and a version is soon too far from the base to share their luck.
        """
        prompts = list(dict.fromkeys(self._prompts))
        often = [prompt for prompt in prompts for _ in range(CEILING_OF)]
        seeds = range(2 * _FIRST_SEED, 2 * _FIRST_SEED + len(often))
        approval = [
            self._world.approval(r.prompt, r.text)
            for r in self._replies.ask(often, BASE, list(seeds))
        ]
        best = [max(approval[i : i + CEILING_OF]) for i in range(0, len(approval), CEILING_OF)]
        return fmean(approval), fmean(best)

    def _ask(self, version: str) -> list[Reply]:
        seeds = [_FIRST_SEED + number for number in range(len(self._prompts))]
        return self._replies.ask(self._prompts, version, seeds)


def distinct(texts: Sequence[str]) -> float:
    """Return the share of different word 3-grams among all of the texts' 3-grams; 1 for none."""
    grams = [
        gram
        for words in (text.lower().split() for text in texts)
        for gram in zip(words, words[1:], words[2:], strict=False)
    ]
    return len(set(grams)) / len(grams) if grams else 1.0
