"""Measures what the gate judges: replies to held-out prompts, and their distance from the base."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from models.batch import micro_batches
from models.decoding.aside import reply_aside
from models.gate import GateFigures
from models.ppo.kl import k1
from models.ppo.masked import masked_sum
from models.types import Message, Progress, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.policy import Policy
    from models.settings import LearnerSettings
    from models.types import Token

REPLY_TOKENS = 40
_PROMPTS_FILE = "gate_prompts.txt"


def probe_policy(
    policy: Policy,
    folder: Path,
    settings: LearnerSettings,
    progress: Callable[[Progress], None],
) -> GateFigures:
    """Answer the held-out prompts with a version as users would get it, and measure the answers.

    Args:
        policy: Has the version's weights.
        folder: The version's folder; our own engine decodes with what it reads there.
        settings: How to decode and to measure.
        progress: Told how far it is.

    Raises:
        EngineError: The model cannot be decoded, or gives no numbers.
    """
    if not all(bool(m.isfinite().all()) for m in policy.master.values()):
        return GateFigures(0, False, float("nan"), float("nan"), 1.0, 0.0, 0.0)
    prompts = [policy.base.encode_chat([Message("user", p)]) for p in held_out_prompts()]
    engine = settings.model_copy(update={"engine_threads": settings.learner_threads})
    drawn = reply_aside(policy.base, folder, prompts, engine, max_tokens=REPLY_TOKENS)
    progress(Progress("probe", 1, 2))
    replies = [_sample(p, tokens) for p, tokens in zip(prompts, drawn, strict=True)]
    kl = _kl_per_reply(policy, replies, settings)
    progress(Progress("probe", 2, 2))
    ids = [r.response_ids for r in replies]
    texts = [policy.base.tokenizer.decode(i, skip_special_tokens=True) for i in ids]
    return summarise(ids, texts, kl)


def held_out_prompts() -> list[str]:
    """Return the prompts that the gate asks; nobody learns from them."""
    text = resources.files("models").joinpath(_PROMPTS_FILE).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def summarise(
    replies: Sequence[Sequence[int]], texts: Sequence[str], kl_per_reply: float
) -> GateFigures:
    """Return the figures of replies, given as tokens and as text, of a policy that is finite."""
    return GateFigures(
        replies=len(replies),
        finite=True,
        kl_per_reply=kl_per_reply,
        repetition=repetition(replies),
        empty=sum(not t.strip() for t in texts) / len(texts),
        distinct=len({t.strip() for t in texts}) / len(texts),
        mean_tokens=sum(map(len, replies)) / len(replies),
    )


def repetition(replies: Sequence[Sequence[int]]) -> float:
    """Return the share of 3-grams that repeat an earlier one of the same reply, in [0, 1]."""
    total = repeated = 0
    for ids in replies:
        grams = list(zip(ids, ids[1:], ids[2:], strict=False))
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0


def _kl_per_reply(policy: Policy, replies: Sequence[Sample], settings: LearnerSettings) -> float:
    """Return the mean over replies of what they say, in nats, of the distance to the base.

    Their log-probs under the policy are those that they were drawn with, so that only the base is
    still to be asked.
    """
    total = 0.0
    for batch in micro_batches(
        replies,
        range(len(replies)),
        tokens=settings.micro_batch_tokens,
        device=settings.device,
    ):
        gap = k1(batch.behaviour, policy.reference_logprobs(batch))
        total += masked_sum(gap, batch.mask).sum().item()
    return total / len(replies)


def _sample(prompt: tuple[int, ...], reply: Sequence[Token]) -> Sample:
    return Sample(
        completion_id="gate",
        user="gate",
        prompt_ids=prompt,
        response_ids=tuple(token.id for token in reply),
        behaviour_logprobs=tuple(token.logprob for token in reply),
        temperature=1.0,
        reward=0.0,
        version="",
        ended=True,
    )
