"""Each field of a recipe does on a tiny model what it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.base.loading import load_base
from models.learning.learner import Learner
from models.learning.state import load_state
from models.policy.batch import collate
from models.policy.policy import Policy
from models.types import Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import LearnerSettings

LIKED, DISLIKED = (40, 41, 42, 2), (50, 51, 52, 53, 54)
VOTES = ((LIKED, 1.0), (DISLIKED, -1.0), (LIKED, 1.0), (DISLIKED, -1.0))


@pytest.fixture
def make_learner(settings: LearnerSettings) -> Callable[..., Learner]:
    """Makes a learner at the base with a recipe of its own."""

    def make(**changes: Any) -> Learner:
        given = {"learning_rate": 0.01, "minibatch": 2}
        learner = Learner(changed(settings, **(given | changes)))
        learner._policy.reset(0)
        return learner

    return make


def _samples(learner: Learner, votes: Sequence[tuple[tuple[int, ...], float]]) -> list[Sample]:
    """Return votes with the log-probs that the policy as it stands would have sampled with."""
    samples = [
        Sample(
            completion_id=str(number),
            user=f"user-{number}",
            prompt_ids=(5, 6, 7),
            response_ids=response,
            behaviour_logprobs=(0.0,) * len(response),
            temperature=1.0,
            reward=reward,
            version="base",
            ended=True,
        )
        for number, (response, reward) in enumerate(votes)
    ]
    batch = collate(samples, range(len(samples)), device="cpu")
    with torch.no_grad():
        logprobs = learner._policy.logprobs(batch)
    return [
        replace(s, behaviour_logprobs=tuple(row[: len(s.response_ids)].tolist()))
        for s, row in zip(samples, logprobs, strict=True)
    ]


def _learn(learner: Learner, samples: Sequence[Sample], parent: str = "base", seed: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return learner.learn(samples, parent=parent, seed=seed, progress=lambda _: None)


def _publish(learner: Learner, learned: Any, sequence: int, parent: str = "base") -> str:
    manifest = learner.publish(
        learned, sequence=sequence, parent=parent, batch_hash="", fence=1, now=0.0
    )
    return manifest.version


def _logprob(learner: Learner, response: tuple[int, ...]) -> float:
    sample = Sample("x", "x", (5, 6, 7), response, (), 1.0, 0.0, "base", ended=True)
    with torch.no_grad():
        return learner._policy.logprobs(collate([sample], [0], device="cpu")).sum().item()


def _moves(learner: Learner, samples: Sequence[Sample]) -> tuple[float, float]:
    """Return by how much the liked and the disliked reply became likelier."""
    before = _logprob(learner, LIKED), _logprob(learner, DISLIKED)
    _learn(learner, samples)
    return _logprob(learner, LIKED) - before[0], _logprob(learner, DISLIKED) - before[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "article"},
        {"recipe": "article", "kl_estimate": "full", "kl_form": "added"},
        {"advantage": "critic"},
        {"advantage": "critic", "kl_form": "reward"},
        {"advantage": "none"},
        {"stale_votes": "none", "max_drift": math.inf},
        {"length_form": "token"},
        {"kl_form": "reward", "kl_estimate": "full"},
        {"clip_high": 2.0},
    ],
    ids=str,
)
def test_with_any_recipe_thumbs_teach(
    make_learner: Callable[..., Learner], changes: dict[str, Any]
) -> None:
    learner = make_learner(**changes)
    liked, disliked = _moves(learner, _samples(learner, VOTES))
    assert liked > 0.1
    assert disliked < -0.1


@pytest.mark.parametrize(("max_drift", "dropped"), [(0.5, 1), (2.0, 0), (math.inf, 0)])
def test_a_disliked_reply_that_the_policy_left_behind_is_dropped(
    make_learner: Callable[..., Learner], max_drift: float, dropped: int
) -> None:
    learner = make_learner(max_drift=max_drift)
    samples = _samples(learner, VOTES)
    likelier_once = tuple(x + 1.0 for x in samples[1].behaviour_logprobs)
    samples[1] = replace(samples[1], behaviour_logprobs=likelier_once)
    assert _learn(learner, samples).report["dropped_as_stale"] == dropped


@pytest.mark.parametrize("form", ["constant", "token"])
def test_a_batch_of_which_nothing_is_kept_teaches_nothing(
    make_learner: Callable[..., Learner], form: str
) -> None:
    learner = make_learner(length_form=form)
    sample = _samples(learner, [(DISLIKED, -1.0)])[0]
    drifted = tuple(x + 1.0 for x in sample.behaviour_logprobs)
    moves = _moves(learner, [replace(sample, behaviour_logprobs=drifted)])
    assert moves == pytest.approx((0.0, 0.0), abs=1e-4)


@pytest.mark.parametrize("advantage", ["leave_one_out", "critic", "none"])
def test_one_vote_is_learned_from_whatever_it_is_compared_with(
    make_learner: Callable[..., Learner], advantage: str
) -> None:
    learner = make_learner(advantage=advantage)
    liked, _ = _moves(learner, _samples(learner, [(LIKED, 1.0)]))
    assert liked > 0.1


@pytest.mark.parametrize("form", ["constant", "token"])
def test_however_a_minibatch_is_divided_the_gradients_are_the_same(
    make_learner: Callable[..., Learner], form: str
) -> None:
    found = []
    for tokens in (1, 1024):
        learner = make_learner(
            micro_batch_tokens=tokens,
            minibatch=0,
            epochs=1,
            max_grad_norm=1e9,
            length_form=form,
            advantage="critic",
        )
        samples = _samples(learner, VOTES)
        drifted = tuple(x + 1.0 for x in samples[1].behaviour_logprobs)
        report = _learn(
            learner, [samples[0], replace(samples[1], behaviour_logprobs=drifted), *samples[2:]]
        ).report
        assert report["dropped_as_stale"] == 1
        found.append({k: v.grad for k, v in learner._learned().items()})
    for key, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][key], rtol=1e-3, atol=1e-6), key
        # a new adapter's first halves have no gradient, as the second halves are 0
        assert gradient.any() != (".lora_A." in key)


def test_the_critic_learns_what_replies_are_worth_and_is_carried_on(
    make_learner: Callable[..., Learner], settings: LearnerSettings
) -> None:
    changes = {"advantage": "critic", "critic_rate": 0.01}
    learner = make_learner(**changes)
    samples = _samples(learner, [(LIKED, 1.0), (LIKED, 1.0)])
    first = _publish(learner, _learn(learner, samples), 1)
    saved = load_state(settings.adapters_dir / first).critic
    weight, bias = saved["value.weight"], saved["value.bias"]
    with torch.no_grad():
        states = learner._policy.measure(collate(samples, [0, 1], device="cpu")).states
    values = states @ weight + bias
    # from 0 towards the votes, which are all 1
    assert (values > 0.05).all()
    # another learner goes on from the version with the same bits
    again = make_learner(**changes)
    direct = _publish(learner, _learn(learner, samples, first, seed=2), 2, first)
    assert _publish(again, _learn(again, samples, first, seed=2), 2, first) == direct
    # a learner without a critic goes on from it too, and one with a critic from a version without
    plain = _publish(make_learner(), _learn(make_learner(), samples, first), 3, first)
    assert load_state(settings.adapters_dir / plain).critic == {}
    _learn(learner, samples, plain)


@pytest.mark.parametrize("form", ["weighted", "added"])
@pytest.mark.parametrize("estimate", ["sampled", "full"])
def test_the_articles_six_steps_give_the_same_weights(
    make_learner: Callable[..., Learner],
    make_version: Callable[..., str],
    settings: LearnerSettings,
    form: str,
    estimate: str,
) -> None:
    parent = make_version(1, 0.05)
    learner = make_learner(recipe="article", kl_form=form, kl_estimate=estimate, minibatch=0)
    samples = _samples(learner, VOTES)
    report = _learn(learner, samples, parent).report
    assert report["steps"] == 4
    assert report["kl_per_reply"] != pytest.approx(0.0, abs=1e-3)
    plain = _plain_article(settings, parent, samples, form, estimate)
    for key, master in learner._policy.master.items():
        assert torch.allclose(master, plain[key], atol=1e-4), key


def _plain_article(
    settings: LearnerSettings, parent: str, samples: Sequence[Sample], form: str, estimate: str
) -> dict[str, torch.Tensor]:
    """The article's steps as a bare loop; of the project it has only the forward pass."""
    policy = Policy(load_base(settings), settings)
    policy.load(settings.adapters_dir / parent)
    optimizer = torch.optim.Adam(policy.master.values(), lr=0.01, eps=1e-5)
    batch = collate(samples, range(len(samples)), device="cpu")
    frozen = policy.reference_logprobs(batch)
    votes = torch.tensor([[s.reward] for s in samples])
    initial = policy.logprobs(batch).detach()  # 1.
    drift = initial - frozen if estimate == "sampled" else _full_kl(policy, batch)
    returns = 0.8 * votes + 0.2 * -drift if form == "weighted" else votes - drift
    for _ in range(4):  # 6.
        ratio = (policy.logprobs(batch) - initial).exp()  # 5. and 2.
        held = ratio.clamp(0.8, 1.2)
        loss = -torch.minimum(ratio * returns, held * returns)[batch.mask].mean()  # 3.
        optimizer.zero_grad()
        loss.backward()  # 4.
        torch.nn.utils.clip_grad_norm_(policy.master.values(), 1.0)
        optimizer.step()
        policy.publish_master()
    return {key: master.detach() for key, master in policy.master.items()}


def _full_kl(policy: Policy, batch: Any) -> torch.Tensor:
    """KL to the base over the vocabulary, from transformers' own logits."""
    rows = torch.arange(len(batch.ids))[:, None]

    def distributions() -> torch.Tensor:
        logits = policy.model(input_ids=batch.ids, attention_mask=batch.attention).logits
        return logits[rows, batch.reply_positions].log_softmax(-1)

    with torch.no_grad():
        new = distributions()
        with policy.model.disable_adapter():
            base = distributions()
    return (new.exp() * (new - base)).sum(-1)
