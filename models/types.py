"""Frozen value types that all folders share (no torch).

A *row* is one generation in flight. Token ids are vocabulary indices. Log-probs are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

BASE = "base"
"""The name of the policy version without an adapter: the frozen base model."""

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]
ToolStyle = Literal["hermes", "llama", "mistral", "json"]
"""How a model writes the call of a tool; ``json`` is an object alone, as a grammar holds it to."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the assistant; ``arguments`` is JSON, as the client or model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the assistant may call; ``parameters`` is the JSON schema of an object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        content: The text.
        reasoning: What the assistant thought first; most templates leave it out of a prompt.
        tool_calls: The tools that the assistant called.
        tool_call_id: The call that a tool answers.
    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class ReplyStyle:
    """How a reply is to be read.

    Attributes:
        thinks: Whether it may begin with a thought, ``<think>…</think>``.
        opened: Whether the prompt ends with the sign that opens the thought.
        tools: How it calls tools; None where none were offered.
        parallel: Whether it may have several calls.
    """

    thinks: bool = False
    opened: bool = False
    tools: ToolStyle | None = None
    parallel: bool = True


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
            applies to the mass that ``top_k`` and ``min_p`` leave.
        min_p: The least probability that a token needs, as a share of the greatest one.
        presence_penalty: What is subtracted from the logit of each token that the reply has.
        frequency_penalty: What is subtracted for each time that the reply has it.
        repetition_penalty: What the logits of tokens of prompt and reply are divided by, or
            multiplied by where they are negative; 1 changes nothing.
        logit_bias: What is added to the logits of some tokens, as pairs of an id and a number.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)

    @property
    def adjusts(self) -> bool:
        """Whether logits are changed by more than the temperature."""
        return bool(
            self.presence_penalty
            or self.frequency_penalty
            or self.repetition_penalty != 1
            or self.logit_bias
        )


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
        choice: The number of the reply among those to one request; each has random numbers of its
            own, from the same seed.
        schema: The JSON schema that the reply holds to, as JSON; empty for any text.
        shown: The control tokens whose text is part of the reply's text, such as those of a call.
    """

    id: str
    prompt_ids: tuple[int, ...]
    version: str = BASE
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    user: str = ""
    choice: int = 0
    schema: str = ""
    shown: tuple[str, ...] = ()


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
        logprob: The log-prob under the distribution that was sampled from, after penalties, bias,
            temperature, min_p, top_k and top_p. At temperature 0, the log-prob at temperature 1.
        top: The most probable tokens under the same distribution, best first.
        policy_logprob: The log-prob under the policy at the temperature, before all else; None
            where that is ``logprob``.
        forced: Whether a grammar allowed no other token, so that the policy had no choice.
    """

    id: int
    logprob: float
    top: tuple[TopLogprob, ...] = ()
    policy_logprob: float | None = None
    forced: bool = False


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
        behaviour_logprobs: The log-probs of ``response_ids`` under the policy that wrote them, at
            the temperature; empty where they have to be computed.
        temperature: The sampling temperature.
        reward: The vote as a scalar in [-1, 1].
        version: The policy version that wrote the reply.
        ended: Whether the reply ended by itself rather than at ``max_tokens``.
        correction: The better answer that the voter wrote; empty without one.
        forced: The places in the reply of tokens that a grammar forced, which teach nothing.
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
    forced: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a long operation: ``done`` of ``total`` units of ``phase``."""

    phase: str
    done: int
    total: int
