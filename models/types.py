"""Frozen value types that all folders share (no torch).

A *row* is one generation in flight. Token ids are vocabulary indices. Log-probs are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BASE = "base"
"""The name of the policy version without an adapter: the frozen base model."""

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling parameters of one reply.

    Attributes:
        temperature: The divisor of the logits; 0 is greedy.
        top_p: The mass of the nucleus, in (0, 1]; 1 keeps the whole distribution.
        max_tokens: The most tokens of the reply, with its end-of-sequence token.
        stop: The strings that end the reply; the text excludes them.
        seed: The seed, which makes the reply repeatable for one prompt and version.
        top_k: The number of most probable tokens that can be drawn; 0 sets no limit. ``top_p``
            applies to the mass that ``top_k`` leaves.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to generate, with one policy version from its first token to its last.

    Attributes:
        id: An id that is unique among the requests in flight.
        prompt_ids: The token ids of the prompt.
        version: The policy version.
        sampling: The sampling parameters.
        top_logprobs: The number of most probable tokens to report at each position.
        user: The key's owner and the user, between whom the queue is fair.
    """

    id: str
    prompt_ids: tuple[int, ...]
    version: str = BASE
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One of the most probable tokens at a position."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token.

    Attributes:
        id: The token id.
        logprob: The log-prob under the distribution that was sampled from, after temperature,
            top_k and top_p. At temperature 0, the log-prob at temperature 1.
        top: The most probable tokens under the same distribution, best first.
    """

    id: int
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """The part of a reply that one or more decode steps added.

    Attributes:
        text: The new text, in whole characters. It may be empty while a character or a possible
            stop string is incomplete.
        tokens: The new tokens, with the end-of-sequence token.
        finish_reason: Why the reply ended; None before the last chunk.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One voted completion, as the learner reads it.

    Attributes:
        completion_id: The id of the completion.
        user: The pseudonym of the voter, for per-user baselines.
        prompt_ids: The token ids of the prompt, with the chat template.
        response_ids: The token ids of the reply, with the end-of-sequence token.
        behaviour_logprobs: The log-probs of ``response_ids`` when they were sampled.
        temperature: The sampling temperature.
        reward: The vote as a scalar in [-1, 1].
        version: The policy version that wrote the reply.
        ended: Whether the reply ended by itself rather than at ``max_tokens``.
        correction: The better answer that the voter wrote; empty without one.
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
    """The progress of a long operation: ``done`` of ``total`` units of ``phase``."""

    phase: str
    done: int
    total: int
