"""Frozen value types that every folder shares; imports no torch.

A *row* is one generation in flight. Token ids are vocabulary indices. Log-probs are natural
logarithms (nats).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BASE = "base"
"""The policy version that is the frozen base model with no adapter."""

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of one reply are drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        top_p: Mass of the nucleus, in (0, 1]; 1 keeps the whole distribution.
        max_tokens: Most tokens in the reply, end-of-sequence included.
        stop: Strings that end the reply; they are not part of its text.
        seed: Makes the draw repeatable for the same prompt and version.
        top_k: Most tokens that can be drawn, the most probable ones; 0 sets no limit. The nucleus
            is of what is left.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to generate, pinned to one policy version for its whole life.

    Attributes:
        user: Who asks (owner and user); users who wait take turns.
    """

    id: str
    prompt_ids: tuple[int, ...]
    version: str = BASE
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """An alternative at one position."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token.

    Attributes:
        id: The token.
        logprob: Its log-prob under the distribution that was sampled from (temperature, top_k and
            top_p applied); at temperature 0, under the distribution at temperature 1.
        top: The most probable alternatives under the same distribution, best first.
    """

    id: int
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """What one or more decode steps add to a reply.

    Attributes:
        text: New text, whole characters only; may be empty while a character, or a possible stop
            string, is incomplete.
        tokens: New tokens, the end-of-sequence token included.
        finish_reason: Set on the last chunk.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One voted completion, as the learner takes it.

    Attributes:
        completion_id: The completion that was voted on.
        user: Who voted, by a pseudonym, for per-user baselines.
        prompt_ids: Ids of the prompt, chat template included.
        response_ids: Ids of the reply as generated, end-of-sequence included.
        behaviour_logprobs: Log-probs of ``response_ids`` when they were sampled; same length.
        temperature: The temperature at which they were sampled.
        reward: The vote as a scalar in [-1, 1].
        version: The policy version that wrote the reply.
        ended: Whether the reply ended by itself rather than at ``max_tokens``.
        correction: What the person would rather have read; empty without one.
    """

    completion_id: str
    user: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    temperature: float
    reward: float
    version: str
    ended: bool
    correction: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long operation is: ``done`` of ``total`` units of ``phase``."""

    phase: str
    done: int
    total: int
