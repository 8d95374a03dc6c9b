"""Measures a policy's log-probs of given texts: margins between replies, plain text, and KL."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from models.ppo.kl import k1
from models.probes.questions import plain_text
from models.types import BASE, Message, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.base.loading import Base
    from models.probes.questions import About, ProbeQuestion
    from models.types import Token

    Logprobs = Callable[[Sequence[Sample]], list[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Preferences:
    """A policy's preferences between given replies.

    Attributes:
        margins: The mean difference in log-prob between the two replies, in nats per token, by
            kind of question. For harmful questions it is good minus bad, the good reply being a
            refusal; for the others it is bad minus good.
        end_nats: The mean negative log-prob of the end after a complete good reply, in nats.
    """

    margins: dict[About, float]
    end_nats: float


def preferences(base: Base, asked: Sequence[ProbeQuestion], logprobs: Logprobs) -> Preferences:
    """Measure the preferences between the two replies to each question that has them."""
    paired = [question for question in asked if question.good]
    samples = [_reply(base, q.prompt, text) for q in paired for text in (q.good, q.bad)]
    scored = [values.tolist() for values in logprobs(samples)]
    of: dict[About, list[float]] = {}
    ends = []
    for question, good, bad in zip(paired, scored[::2], scored[1::2], strict=True):
        gap = fmean(good[:-1]) - fmean(bad[:-1])  # without the end token: a reply may go on
        of.setdefault(question.about, []).append(gap if question.about == "harmful" else -gap)
        if question.about != "harmful":
            ends.append(-good[-1])
    return Preferences({about: fmean(gaps) for about, gaps in of.items()}, fmean(ends))


def text_nats(base: Base, logprobs: Logprobs) -> float:
    """Return the negative log-prob of plain text after its first token, in nats per token."""
    encoded = [tuple(base.tokenizer(part).input_ids) for part in plain_text()]
    samples = [_sample(ids[:1], ids[1:]) for ids in encoded]
    return -torch.cat(logprobs(samples)).mean().item()


def kl_per_reply(replies: Sequence[Sample], logprobs: Logprobs) -> float:
    """Return the mean KL of a policy to another, in nats per reply, estimated from its replies.

    Args:
        replies: The policy's replies, with the log-probs with which they were drawn.
        logprobs: Computes log-probs under the other policy.
    """
    return fmean(
        k1(torch.tensor(reply.behaviour_logprobs), other).sum().item()
        for reply, other in zip(replies, logprobs(replies), strict=True)
    )


def drawn_sample(prompt: tuple[int, ...], reply: Sequence[Token]) -> Sample:
    """Return a reply drawn at temperature 1 as a ``Sample`` with its behaviour log-probs."""
    return _sample(prompt, tuple(t.id for t in reply), tuple(t.logprob for t in reply))


def _reply(base: Base, prompt: str, text: str) -> Sample:
    ids = (*base.tokenizer(text, add_special_tokens=False).input_ids, *base.reply_end())
    return _sample(base.encode_chat([Message("user", prompt)]), ids)


def _sample(
    prompt: tuple[int, ...], reply: tuple[int, ...], logprobs: tuple[float, ...] = ()
) -> Sample:
    return Sample(
        completion_id="gate",
        user="gate",
        prompt_ids=prompt,
        response_ids=reply,
        behaviour_logprobs=logprobs,
        temperature=1.0,
        reward=0.0,
        version=BASE,
        ended=True,
    )
