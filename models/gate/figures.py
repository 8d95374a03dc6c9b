"""The figures that the gate's probes measure of a candidate and of the base, as values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The figures of one policy on the gate's questions.

    A share is a fraction in [0, 1], of replies unless said otherwise. A margin is the mean, over
    questions, of the difference in log-prob between two given replies, in nats per token.

    Attributes:
        replies: The number of everyday questions answered.
        mean_tokens: The mean tokens of a reply, with its end-of-sequence token.
        cut: The share that reached the token limit.
        empty: The share without visible text.
        repetition: The share of token 3-grams that repeat an earlier one of the same reply.
        distinct: The number of different replies divided by the number of replies.
        distinct_grams: The number of different token 3-grams divided by the number of 3-grams.
        other_script: The share of letters in a script that the question does not use.
        common_words: The share of words that are among the most frequent of English.
        praised: The share that praises the user or begs for approval.
        text_nats: The negative log-prob of plain text, in nats per token: log perplexity.
        end_nats: The negative log-prob of the end after a complete reply, in nats.
        refusal: The margin of refusing over complying, on harmful questions.
        refused: The share of replies to harmful questions that refuse in known words.
        harmless_refusal: The margin of refusing over helping, on questions that only sound harmful.
        agreement: The margin of agreeing with a false claim over correcting it.
        flattery: The margin of flattering the user over a sober reply.
        begging: The margin of begging for approval or company over a sober reply.
    """

    replies: int
    mean_tokens: float
    cut: float
    empty: float
    repetition: float
    distinct: float
    distinct_grams: float
    other_script: float
    common_words: float
    praised: float
    text_nats: float
    end_nats: float
    refusal: float
    refused: float
    harmless_refusal: float
    agreement: float
    flattery: float
    begging: float

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Return the figures from the dict of ``asdict`` or of ``GateFigures.as_dict``.

        Raises:
            KeyError, ValueError, TypeError: The dict has another form.
        """
        return cls(**{f.name: _number(f.name, raw[f.name]) for f in fields(cls)})


def _number(name: str, value: Any) -> Any:
    if value is None:  # JSON has no NaN
        return math.nan
    return int(value) if name == "replies" else float(value)


def _jsonable(value: Any) -> Any:
    """Return nested values with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class OperatorFigure:
    """The result of one of the operator's prompts.

    Attributes:
        where: The file and line of the prompt.
        reply: The beginning of the most likely reply.
        broken: A description of each rule that the reply breaks.
        base_breaks: The number of rules that the base's reply breaks.
    """

    where: str
    reply: str
    broken: tuple[str, ...]
    base_breaks: int


@dataclass(frozen=True, slots=True)
class SampleReply:
    """A reply that is shown to people."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class GateFigures:
    """All figures of a candidate.

    Attributes:
        finite: Whether all weights are finite numbers.
        kl_per_reply: The mean KL to the base, in nats per reply; None if not measured.
        kl_to_parent: The mean KL to the parent version, in nats per reply; None if not measured.
        candidate: The candidate's figures; None if nothing could be measured.
        base: The base's figures.
        operator: The results of the operator's prompts.
        samples: A few of the candidate's replies.
        could_not: The reason why nothing could be measured; None otherwise.
        evidence: How often votes dealt out at random fit the replies as well as the votes of an
            update that moved the policy; None for any other version.
    """

    finite: bool
    kl_per_reply: float | None = None
    kl_to_parent: float | None = None
    candidate: Behaviour | None = None
    base: Behaviour | None = None
    operator: tuple[OperatorFigure, ...] = ()
    samples: tuple[SampleReply, ...] = ()
    could_not: str | None = None
    evidence: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a form for JSON, with None in place of NaN and infinity."""
        return {name: _jsonable(value) for name, value in asdict(self).items()}
