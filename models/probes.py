"""Measures what the gate judges: replies to held-out prompts, and their distance from the base."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import torch

from models.batch import collate
from models.gate import GateFigures
from models.ppo.kl import k1
from models.ppo.masked import masked_sum
from models.types import Message, Progress, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.policy import Policy

REPLY_TOKENS = 40
_PROMPTS_FILE = "gate_prompts.txt"


def probe_policy(policy: Policy, progress: Callable[[Progress], None]) -> GateFigures:
    """Answer the held-out prompts with the policy as it is loaded now, and measure the answers."""
    finite = all(bool(m.isfinite().all()) for m in policy.master.values())
    prompts = held_out_prompts()
    if not finite:
        return GateFigures(0, False, float("nan"), float("nan"), 1.0, 0.0, 0.0)
    replies = _answer(policy, prompts)
    progress(Progress("probe", 1, 2))
    kl = _kl_per_reply(policy, replies)
    progress(Progress("probe", 2, 2))
    texts = [
        policy.base.tokenizer.decode(r.response_ids, skip_special_tokens=True) for r in replies
    ]
    return GateFigures(
        replies=len(replies),
        finite=True,
        kl_per_reply=kl,
        repetition=repetition([r.response_ids for r in replies]),
        empty=sum(not t.strip() for t in texts) / len(texts),
        distinct=len({t.strip() for t in texts}) / len(texts),
        mean_tokens=sum(len(r.response_ids) for r in replies) / len(replies),
    )


def held_out_prompts() -> list[str]:
    """Return the prompts that the gate asks; nobody learns from them."""
    text = resources.files("models").joinpath(_PROMPTS_FILE).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def repetition(replies: Sequence[Sequence[int]]) -> float:
    """Return the share of 3-grams that repeat an earlier one of the same reply, in [0, 1]."""
    total = repeated = 0
    for ids in replies:
        grams = list(zip(ids, ids[1:], ids[2:], strict=False))
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0


def _answer(policy: Policy, prompts: Sequence[str]) -> list[Sample]:
    """Sample a reply to each prompt at temperature 1, as users would get it."""
    encoded = [policy.base.encode_chat([Message("user", p)]) for p in prompts]
    longest = max(len(ids) for ids in encoded)
    end = min(policy.base.end_ids)
    ids = torch.full((len(encoded), longest), end)
    attention = torch.zeros(len(encoded), longest, dtype=torch.long)
    for row, prompt in enumerate(encoded):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    device = policy.base.model.device
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = policy.generate(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            max_new_tokens=REPLY_TOKENS,
            do_sample=True,
            top_k=0,
            pad_token_id=end,
        )[:, longest:].tolist()
    return [_sample(p, _until(r, policy.base.end_ids)) for p, r in zip(encoded, out, strict=True)]


def _until(ids: Sequence[int], end_ids: frozenset[int]) -> tuple[int, ...]:
    """Cut after the first end-of-sequence token."""
    for index, token in enumerate(ids):
        if token in end_ids:
            return tuple(ids[: index + 1])
    return tuple(ids)


def _sample(prompt: tuple[int, ...], reply: tuple[int, ...]) -> Sample:
    return Sample(
        completion_id="gate",
        user="gate",
        prompt_ids=prompt,
        response_ids=reply,
        behaviour_logprobs=(0.0,) * len(reply),
        temperature=1.0,
        reward=0.0,
        version="",
        ended=True,
    )


def _kl_per_reply(policy: Policy, replies: Sequence[Sample]) -> float:
    batch = collate(replies, range(len(replies)), device=str(policy.base.model.device))
    with torch.no_grad():
        gap = k1(policy.logprobs(batch), policy.reference_logprobs(batch))
    return float(masked_sum(gap, batch.mask).mean())
