from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.adapters import AdapterStore
from models.base import load_base
from models.batch import collate
from models.decoding.aside import reply_aside
from models.gate import GateFigures
from models.policy import Policy
from models.probes import _sample, held_out_prompts, probe_policy, repetition, summarise
from models.types import Message, Progress, Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.settings import LearnerSettings

PROMPTS = [(5, 6, 7), (8, 9), (5, 6, 7, 10, 11)]


def test_repetition_counts_three_grams_seen_before_in_the_same_reply() -> None:
    # 1 2 3 | 2 3 1 | 3 1 2 | 1 2 3 again: one of four
    assert repetition([[1, 2, 3, 1, 2, 3]]) == 0.25
    assert repetition([[1, 2, 3], [1, 2, 3]]) == 0.0
    assert repetition([[7] * 10]) == pytest.approx(7 / 8)
    assert repetition([[1, 2]]) == 0.0


def test_the_figures_are_of_the_replies() -> None:
    replies, texts = [[1, 2, 3, 1, 2, 3], [4], [4], [2]], ["abc", "d", " d", "\n"]
    assert summarise(replies, texts, 1.5) == GateFigures(
        replies=4,
        finite=True,
        kl_per_reply=1.5,
        repetition=0.25,
        empty=0.25,
        distinct=0.75,
        mean_tokens=2.25,
    )


def test_the_held_out_prompts_are_all_different() -> None:
    prompts = held_out_prompts()
    assert len(prompts) == len(set(prompts)) == 16


@pytest.mark.parametrize("runner", ["native", "transformers"])
def test_a_probe_gives_the_same_figures_every_time_and_leaves_the_policy_as_it_was(
    runner: str, settings: LearnerSettings, make_version: Callable[[int], str]
) -> None:
    settings = settings.model_copy(update={"runner": runner})
    folder = AdapterStore(settings.adapters_dir).path(make_version(1))
    policy = Policy(load_base(settings), settings)
    policy.load(folder)
    batch = collate([_sample((5, 6), [Token(7, 0.0), Token(8, 0.0)])], [0], device="cpu")
    before = policy.logprobs(batch).detach()
    seen: list[Progress] = []
    first = probe_policy(policy, folder, settings, seen.append)
    assert torch.equal(policy.logprobs(batch), before)
    assert seen == [Progress("probe", 1, 2), Progress("probe", 2, 2)]
    assert (first.replies, first.finite) == (16, True)
    assert 0 < first.mean_tokens <= 40
    assert probe_policy(policy, folder, settings, seen.append) == first


def test_both_runners_reply_alike(
    settings: LearnerSettings, make_version: Callable[[int], str]
) -> None:
    folder = AdapterStore(settings.adapters_dir).path(make_version(1))
    base = load_base(settings)
    native, generic = (
        reply_aside(base, folder, PROMPTS, settings.model_copy(update=changes), max_tokens=12)
        for changes in ({"runner": "native"}, {"runner": "transformers"})
    )
    for ours, theirs in zip(native, generic, strict=True):
        assert [t.id for t in ours] == [t.id for t in theirs]
        assert [t.logprob for t in ours] == pytest.approx([t.logprob for t in theirs], abs=1e-4)
        assert len(ours) == 12 or ours[-1].id in base.end_ids


def test_the_adapter_decides_what_is_replied(
    settings: LearnerSettings, make_version: Callable[[int], str]
) -> None:
    store, base = AdapterStore(settings.adapters_dir), load_base(settings)
    one, two = (
        reply_aside(base, store.path(make_version(n)), PROMPTS, settings, max_tokens=12)
        for n in (1, 2)
    )
    assert one != two


def test_the_distance_is_that_of_the_drawn_tokens_summed_over_a_reply(
    settings: LearnerSettings, make_version: Callable[[int], str]
) -> None:
    folder = AdapterStore(settings.adapters_dir).path(make_version(1))
    policy = Policy(load_base(settings), settings)
    policy.load(folder)
    found = probe_policy(policy, folder, settings, lambda _: None).kl_per_reply
    prompts = [policy.base.encode_chat([Message("user", p)]) for p in held_out_prompts()]
    total = 0.0
    replies = reply_aside(policy.base, folder, prompts, settings, max_tokens=40)
    for prompt, reply in zip(prompts, replies, strict=True):
        drawn = torch.tensor([token.id for token in reply])
        total += _logprob(policy.model, prompt, drawn)
        with policy.model.disable_adapter():
            total -= _logprob(policy.model, prompt, drawn)
    assert found == pytest.approx(total / 16, rel=1e-3)
    assert found > 0.01


@torch.no_grad()
def _logprob(model: Any, prompt: tuple[int, ...], reply: torch.Tensor) -> float:
    """Return the log-prob of a reply by transformers' own pass."""
    ids = torch.cat([torch.tensor(prompt), reply])[None]
    logprobs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, reply[:, None]).sum())
