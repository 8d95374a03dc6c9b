"""Draws a policy's replies to the gate's questions and to the operator's prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.decoding.offline import generate_offline
from models.errors import GateError
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.base.loading import Base
    from models.gate.operator import OperatorPrompt
    from models.probes.questions import About, ProbeQuestion
    from models.settings import LearnerSettings
    from models.types import Token

TOKENS = {"everyday": 64, "harmful": 20}
"""The most tokens of a reply at temperature 1, by kind of question; a refusal comes early."""
OPERATOR_TOKENS = 96
"""The most tokens of a reply to an operator's prompt, which is decoded greedily."""


@dataclass(frozen=True, slots=True)
class DrawnReply:
    """One reply to a question or prompt.

    Attributes:
        about: The kind of question; None for an operator's prompt.
        prompt: The text of the question.
        prompt_ids: The token ids of the prompt.
        tokens: The tokens of the reply, with its end-of-sequence token.
        text: The text of the reply.
        cut: Whether the reply reached the token limit.
    """

    about: About | None
    prompt: str
    prompt_ids: tuple[int, ...]
    tokens: tuple[Token, ...]
    text: str
    cut: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids of the reply."""
        return tuple(token.id for token in self.tokens)


def draw_replies(
    base: Base,
    adapter: Path | None,
    asked: Sequence[ProbeQuestion],
    operator: Sequence[OperatorPrompt],
    settings: LearnerSettings,
) -> list[DrawnReply]:
    """Reply to the questions, then to the operator's prompts, decoded as for users.

    Args:
        base: The base.
        adapter: The version's folder, whose hashes the caller has verified; None for the base.
        asked: The gate's questions; only kinds in ``TOKENS`` get a reply.
        operator: The operator's prompts, which get the greedy reply.
        settings: The settings of decoding.

    Raises:
        EngineError: The model cannot be decoded, or its output is not a number.
        GateError: An operator's prompt is too long.
    """
    drawn = [question for question in asked if question.about in TOKENS]
    ids = [base.encode_chat([Message("user", q.prompt)]) for q in drawn]
    samplings = [Sampling(max_tokens=TOKENS[q.about], seed=n) for n, q in enumerate(drawn)]
    greedy = Sampling(temperature=0.0, max_tokens=OPERATOR_TOKENS)
    ids += [_encode(base, prompt, settings) for prompt in operator]
    samplings += [greedy] * len(operator)
    about = [*(q.about for q in drawn), *(None for _ in operator)]
    prompts = [*(q.prompt for q in drawn), *(p.messages[-1].content for p in operator)]
    engine = settings.model_copy(update={"engine_threads": settings.learner_threads})
    replies = generate_offline(base, adapter, list(zip(ids, samplings, strict=True)), engine)
    return [
        DrawnReply(
            about=about[n],
            prompt=prompts[n],
            prompt_ids=ids[n],
            tokens=tuple(tokens),
            text=base.tokenizer.decode([t.id for t in tokens], skip_special_tokens=True),
            cut=tokens[-1].id not in base.end_ids,
        )
        for n, tokens in enumerate(replies)
    ]


def _encode(base: Base, prompt: OperatorPrompt, settings: LearnerSettings) -> tuple[int, ...]:
    ids = base.encode_chat(prompt.messages)
    if len(ids) + OPERATOR_TOKENS > settings.context_length:
        raise GateError(
            f"{prompt.where} has {len(ids)} tokens; with {OPERATOR_TOKENS} for the reply that is "
            f"more than THUMBLOOP_CONTEXT_LENGTH ({settings.context_length}): shorten it."
        )
    return ids
