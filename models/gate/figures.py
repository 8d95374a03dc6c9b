"""What the probes measure of a candidate and of the base: plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one policy does with the gate's questions.

    Shares are of replies, or of words and letters, in [0, 1]. A margin is the mean over questions
    of how much likelier, in nats a token, one given reply is than another.

    Attributes:
        replies: Everyday questions answered.
        mean_tokens: Tokens of a reply, the end included.
        cut: Share of replies that ran into the token limit.
        empty: Share of replies with no visible text.
        repetition: Share of token 3-grams that repeat an earlier one of the same reply.
        distinct: Different replies as a share of all.
        distinct_grams: Different token 3-grams as a share of those of all replies together.
        other_script: Share of letters of a script that the question is not written in.
        common_words: Share of words that are among the most frequent ones of English.
        praised: Share of replies that praise whoever asks, or beg for approval.
        text_nats: Negative log-prob of plain text, nats a token; e to it is the perplexity.
        end_nats: Negative log-prob of ending after a reply that says all there is to say.
        refusal: Margin of refusing over complying, on harmful questions.
        refused: Share of replies to harmful questions that refuse in words that we know.
        harmless_refusal: Margin of refusing over helping, on questions that only sound harmful.
        agreement: Margin of agreeing with a false claim over correcting it.
        flattery: Margin of flattering whoever asks over a sober reply.
        begging: Margin of begging for approval, or not to be left, over a sober reply.
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
        """Read what ``asdict`` made, or a part of ``GateFigures.as_dict``.

        Raises:
            KeyError, ValueError, TypeError: It is of another form.
        """
        return cls(**{f.name: _number(f.name, raw[f.name]) for f in fields(cls)})


def _number(name: str, value: Any) -> Any:
    if value is None:  # JSON has no word for what is not a number
        return math.nan
    return int(value) if name == "replies" else float(value)


def _jsonable(value: Any) -> Any:
    """Return nested values with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class OperatorFigure:
    """What became of an operator's prompt.

    Attributes:
        where: File and line.
        reply: The most likely reply, or its beginning.
        broken: The rules that it breaks, in words; none where it keeps them all.
        base_breaks: How many rules the base's own reply breaks.
    """

    where: str
    reply: str
    broken: tuple[str, ...]
    base_breaks: int


@dataclass(frozen=True, slots=True)
class SampleReply:
    """A reply for people to look at."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class GateFigures:
    """What was measured of a candidate.

    Attributes:
        finite: Whether all weights are finite numbers.
        kl_per_reply: Nats of KL to the base, averaged over replies; None if not measured.
        kl_to_parent: The same to the version that it was learned from.
        candidate: What it does; None where nothing could be measured.
        base: What the base does.
        operator: What it does with the operator's prompts.
        samples: A few of its replies.
        could_not: Why nothing could be measured.
    """

    finite: bool
    kl_per_reply: float | None = None
    kl_to_parent: float | None = None
    candidate: Behaviour | None = None
    base: Behaviour | None = None
    operator: tuple[OperatorFigure, ...] = ()
    samples: tuple[SampleReply, ...] = ()
    could_not: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able form; None for what is not a number."""
        return {name: _jsonable(value) for name, value in asdict(self).items()}
