"""Each function against the independent float64 implementation, on random batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ppo import kl
from models.ppo.advantages import (
    UserMean,
    leave_one_out,
    reward_to_go,
    scale_scores,
    shrunken_baseline,
    token_advantages,
    update_user_means,
)
from models.ppo.critic import critic_loss, gae
from models.ppo.lengths import length_divisors
from models.ppo.likelihood import likelihood_loss
from models.ppo.losses import MAX_LOG_RATIO, behaviour_weights, keep_sequences, policy_loss
from models.ppo.masked import effective_sample_size, masked_mean, masked_variance, whiten
from models.ppo.rewards import article_returns, token_rewards
from tests.support.models import ppo_oracle as oracle
from tests.support.models.random_batches import Batch, batches

FORMS = st.sampled_from(["constant", "token"])
often = settings(max_examples=150, deadline=None)


def same(found: torch.Tensor, expected: object, rel: float = 1e-9) -> None:
    array = np.asarray(expected, dtype=float)
    assert np.isfinite(array).all()
    np.testing.assert_allclose(found.numpy(), array, rtol=rel, atol=1e-11 if rel < 1e-7 else 1e-6)


@often
@given(batches(), st.floats(0.01, 1), st.booleans())
def test_statistics(batch: Batch, floor: float, centre: bool) -> None:
    values, mask = batch.tensor("values"), batch.tensor("mask")
    found = oracle.kept(batch.values, batch.mask)
    same(masked_mean(values, mask), oracle.mean(found))
    same(masked_variance(values, mask), oracle.variance(found))
    whitened = whiten(values, mask, floor=floor, centre=centre)
    same(whitened, oracle.whiten(batch.values, batch.mask, floor, centre))
    weights = [abs(v) for v in found]
    same(effective_sample_size(values.abs(), mask), oracle.effective_sample_size(weights))


@often
@given(batches(), st.floats(0, 2))
def test_rewards_and_what_is_to_come(batch: Batch, beta: float) -> None:
    mask, rewards = batch.tensor("mask"), batch.tensor("rewards")
    drift = kl.k1(batch.tensor("start"), batch.tensor("reference"))
    found = token_rewards(rewards, drift, mask, beta=beta)
    expected = oracle.token_rewards(batch.rewards, batch.start, batch.reference, batch.mask, beta)
    same(found, expected)
    to_go = np.zeros(mask.shape)
    for b in range(len(expected)):
        tokens = np.flatnonzero(batch.mask[b])
        to_go[b, tokens] = oracle.discounted(list(expected[b, tokens]), 1.0)
    same(reward_to_go(found, mask), to_go)


@often
@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_generalised_advantages(batch: Batch, gamma: float, lam: float) -> None:
    rewards = oracle.token_rewards(batch.rewards, batch.start, batch.reference, batch.mask, 0.1)
    found = gae(
        torch.from_numpy(rewards),
        batch.tensor("values"),
        batch.tensor("mask"),
        gamma=gamma,
        lam=lam,
    )
    same(found, oracle.gae(rewards, batch.values, batch.mask, gamma, lam))


@often
@given(
    votes=st.lists(
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.sampled_from([-1.0, -0.2, 0.4, 1.0])),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=4,
    ),
    prior=st.floats(0.1, 10),
    decay=st.floats(0.5, 1),
    least_votes=st.integers(1, 6),
)
def test_scores_of_a_batch_after_others(
    votes: list[list[tuple[str, float]]], prior: float, decay: float, least_votes: int
) -> None:
    *earlier, batch = votes
    means: dict[str, UserMean] = {}
    for some in earlier:
        means = update_user_means(means, *zip(*some, strict=True), decay=decay)
    past = {}
    for user in "abcd":
        known = [
            (vote, len(earlier) - 1 - number)
            for number, some in enumerate(earlier)
            for name, vote in some
            if name == user
        ]
        past[user] = oracle.faded_mean([v for v, _ in known], [age for _, age in known], decay)
    users, rewards = [user for user, _ in batch], torch.tensor([v for _, v in batch]).double()
    baseline = shrunken_baseline(leave_one_out(rewards), users, means, prior=prior)
    found = scale_scores(rewards - baseline, least_votes=least_votes, floor=0.25)
    same(found, oracle.default_scores(rewards.numpy(), users, past, prior, least_votes, 0.25))


@often
@given(batches())
def test_scores_and_kl_become_advantages_of_tokens(batch: Batch) -> None:
    rewards, mask = batch.tensor("rewards"), batch.tensor("mask")
    found = token_advantages(rewards, batch.tensor("values"), mask)
    centre = oracle.mean(oracle.kept(batch.values, batch.mask))
    expected = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(batch.mask), strict=True):
        expected[b, t] = batch.rewards[b] + batch.values[b, t] - centre
    same(found, expected)


@often
@given(batches())
def test_the_baseline(batch: Batch) -> None:
    same(leave_one_out(batch.tensor("rewards")), oracle.leave_one_out(batch.rewards))


@often
@given(batches(), FORMS, st.floats(1, 5), st.floats(0.1, 4))
def test_the_policy_loss(batch: Batch, form: str, cap: float, high: float) -> None:
    mask, start = batch.tensor("mask"), batch.tensor("start")
    # what is further apart than the bound of the log-ratio is another test's business
    new = np.clip(batch.new, batch.start - MAX_LOG_RATIO, batch.start + MAX_LOG_RATIO)
    weights = behaviour_weights(start, batch.tensor("behaviour"), cap=cap)
    # written as a bound of the logarithm, so that exp never overflows
    capped = np.exp(np.minimum(batch.start - batch.behaviour, math.log(cap)))
    same(weights[mask], capped[batch.mask])
    divisors = length_divisors(mask, form=form, constant=7.0)  # type: ignore[arg-type]
    result = policy_loss(
        torch.from_numpy(new),
        start,
        batch.tensor("values"),
        weights,
        mask,
        clip=0.2,
        clip_high=high,
        length_constant=divisors.double(),
    )
    scales = oracle.reply_scales(batch.mask, form, 7.0)
    bounds = (0.2, high)
    expected = oracle.policy_loss(
        new, batch.start, batch.values, capped, batch.mask, bounds, scales
    )
    same(result.loss, expected, rel=1e-5)
    seen = [math.exp(x) for x in oracle.kept(new - batch.start, batch.mask)]
    same(result.ratio_mean, oracle.mean(seen))
    same(result.ratio_max, max(seen, default=0.0))


@often
@given(batches(), FORMS, st.floats(0.01, 1))
def test_the_critics_loss(batch: Batch, form: str, clip: float) -> None:
    mask = batch.tensor("mask")
    divisors = length_divisors(mask, form=form, constant=7.0)  # type: ignore[arg-type]
    found = critic_loss(
        batch.tensor("values"),
        batch.tensor("new"),
        batch.tensor("start"),
        mask,
        clip=clip,
        length_constant=divisors.double(),
    )
    scales = oracle.reply_scales(batch.mask, form, 7.0)
    expected = oracle.critic_loss(batch.values, batch.new, batch.start, batch.mask, clip, scales)
    same(found, expected, rel=1e-5)


@often
@given(batches(), FORMS)
def test_the_likelihood_of_corrections(batch: Batch, form: str) -> None:
    mask = batch.tensor("mask")
    divisors = length_divisors(mask, form=form, constant=7.0)  # type: ignore[arg-type]
    found = likelihood_loss(batch.tensor("new"), mask, length_constant=divisors.double())
    scales = oracle.reply_scales(batch.mask, form, 7.0)
    expected = -sum(
        scales[b] * batch.new[b, t] for b, t in zip(*np.nonzero(batch.mask), strict=True)
    )
    same(found, expected, rel=1e-5)


@often
@given(batches(), st.floats(0, 3))
def test_which_replies_are_kept(batch: Batch, limit: float) -> None:
    found = keep_sequences(
        batch.tensor("rewards"),
        batch.tensor("start"),
        batch.tensor("behaviour"),
        batch.tensor("mask"),
        limit=limit,
    )
    expected = oracle.kept_sequences(batch.rewards, batch.start, batch.behaviour, batch.mask, limit)
    assert found.tolist() == expected


@often
@given(batches(), st.sampled_from(["added", "weighted"]), st.floats(0, 2))
def test_the_articles_returns(batch: Batch, form: str, beta: float) -> None:
    mask = batch.tensor("mask")
    drift = kl.k1(batch.tensor("start"), batch.tensor("reference"))
    found = article_returns(batch.tensor("rewards"), drift, mask, form=form, beta=beta)  # type: ignore[arg-type]
    expected = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(batch.mask), strict=True):
        term = -(batch.start[b, t] - batch.reference[b, t])
        vote = batch.rewards[b]
        expected[b, t] = 0.8 * vote + 0.2 * term if form == "weighted" else vote + beta * term
    same(found, expected)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_the_estimators_agree_with_sums_over_the_distribution(size: int) -> None:
    rng = np.random.default_rng(size)
    p, q = rng.dirichlet(np.ones(size), 2)
    exact = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    log_p, log_q = torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q))
    weights = torch.from_numpy(p)
    same((weights * kl.k1(log_p, log_q)).sum(), exact)
    same((weights * kl.k3(log_p, log_q)).sum(), exact)
    same(kl.full(log_p, log_q), exact)
