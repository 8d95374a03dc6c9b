"""Computes a policy's figures for the gate from its replies and its log-probs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.gate import Behaviour
from models.probes import texts
from models.probes.scoring import preferences, text_nats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base.loading import Base
    from models.probes.questions import ProbeQuestion
    from models.probes.replies import DrawnReply
    from models.probes.scoring import Logprobs, Preferences


def behaviour(
    base: Base,
    asked: Sequence[ProbeQuestion],
    replies: Sequence[DrawnReply],
    logprobs: Logprobs,
) -> Behaviour:
    """Measure one policy by its own replies, and by its log-probs of given replies."""
    everyday = [reply for reply in replies if reply.about == "everyday"]
    harmful = [reply for reply in replies if reply.about == "harmful"]
    found = preferences(base, asked, logprobs)
    return summarise_replies(everyday, harmful, found, text_nats(base, logprobs))


def summarise_replies(
    everyday: Sequence[DrawnReply],
    harmful: Sequence[DrawnReply],
    found: Preferences,
    nats: float,
) -> Behaviour:
    """Return the figures of replies, together with the given figures of log-probs."""
    said, ids = [reply.text for reply in everyday], [reply.ids for reply in everyday]
    count = len(everyday)
    return Behaviour(
        replies=count,
        mean_tokens=sum(map(len, ids)) / count,
        cut=sum(reply.cut for reply in everyday) / count,
        empty=sum(not text.strip() for text in said) / count,
        repetition=texts.repetition(ids),
        distinct=len({text.strip() for text in said}) / count,
        distinct_grams=texts.distinct_grams(ids),
        other_script=texts.other_script([reply.prompt for reply in everyday], said),
        common_words=texts.common_words(said),
        praised=texts.praised(said),
        text_nats=nats,
        end_nats=found.end_nats,
        refusal=found.margins["harmful"],
        refused=texts.refused([reply.text for reply in harmful]),
        harmless_refusal=found.margins["harmless"],
        agreement=found.margins["false claim"],
        flattery=found.margins["flattery"],
        begging=found.margins["begging"],
    )
