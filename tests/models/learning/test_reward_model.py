"""The reward model is the Gaussian process that it says it is, and tells likes from dislikes."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
import torch

from models.learning.reward_model import (
    COMMON,
    FORM_WEIGHTS,
    NOISES,
    USERS,
    FeatureScale,
    ReplyFeatures,
    alike,
    fit_reward_model,
)

if TYPE_CHECKING:
    from models.learning.reward_model import RewardModel

COUNT, WIDTH = 24, 6


def _features(seed: int, count: int = COUNT) -> ReplyFeatures:
    random = torch.Generator().manual_seed(seed)
    content = torch.randn(count, WIDTH, generator=random, dtype=torch.float64) * 3 + 1
    form = torch.randn(count, 2, generator=random, dtype=torch.float64)
    words = torch.randn(count, WIDTH, generator=random, dtype=torch.float64)
    return ReplyFeatures(words, content, form)


def _votes(features: ReplyFeatures) -> torch.Tensor:
    return (features.content[:, 0] > 1).double() * 2 - 1


USER_NAMES = [f"user-{number % 5}" for number in range(COUNT)]


def _covariance(features: ReplyFeatures, form_weight: float, noise: float) -> torch.Tensor:
    """Write the votes' covariance out, entry by entry, but for its scale."""
    scaled = FeatureScale.of(features).apply(features)
    out = torch.empty(COUNT, COUNT, dtype=torch.float64)
    for i in range(COUNT):
        for j in range(COUNT):
            words = ((scaled.words[i] - scaled.words[j]) ** 2).mean()
            content = ((scaled.content[i] - scaled.content[j]) ** 2).mean()
            form = ((scaled.form[i] - scaled.form[j]) ** 2).mean()
            apart = ((words + content) / 2 + form_weight * form) / (1 + form_weight) / 2
            same_user = USERS * (USER_NAMES[i] == USER_NAMES[j])
            out[i, j] = torch.exp(-apart / 2) / noise + COMMON + same_user + (i == j)
    return out


def _log_density(covariance: torch.Tensor, votes: torch.Tensor) -> float:
    scale = float(votes @ covariance.inverse() @ votes) / COUNT
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(COUNT, dtype=torch.float64), covariance * scale
    )
    return float(normal.log_prob(votes))


def _settings(
    features: ReplyFeatures, votes: torch.Tensor
) -> list[tuple[float, float, torch.Tensor, float]]:
    """Return what a form counts for, the noise, the covariance and its share of the say."""
    pairs = [(form_weight, noise) for form_weight in FORM_WEIGHTS for noise in NOISES]
    covariances = [_covariance(features, *pair) for pair in pairs]
    densities = torch.tensor([_log_density(each, votes) for each in covariances]).double()
    shares = (densities.exp() / densities.exp().sum()).tolist()
    return [
        (*pair, covariance, share)
        for pair, covariance, share in zip(pairs, covariances, shares, strict=True)
    ]


@pytest.fixture
def features() -> ReplyFeatures:
    return _features(0)


@pytest.fixture
def votes(features: ReplyFeatures) -> torch.Tensor:
    return _votes(features)


@pytest.fixture
def model(features: ReplyFeatures, votes: torch.Tensor) -> RewardModel:
    return fit_reward_model(features, votes, USER_NAMES)


def test_its_expectation_is_the_mean_of_what_is_likely_given_the_votes(
    model: RewardModel, features: ReplyFeatures, votes: torch.Tensor
) -> None:
    # A vote by somebody new on the first reply: no noise, no user, but the same content.
    scaled = FeatureScale.of(features).apply(features)
    first = scaled[:1]
    expected = 0.0
    for form_weight, noise, covariance, share in _settings(features, votes):
        shared = alike(first, scaled, form_weight=form_weight)[0] / noise + COMMON
        expected += share * float(shared @ covariance.inverse() @ votes)
    assert model.expect(features)[0] == pytest.approx(expected, rel=1e-5)


def test_it_says_how_well_the_other_votes_tell_each_one(
    model: RewardModel, features: ReplyFeatures, votes: torch.Tensor
) -> None:
    found = torch.zeros(COUNT, dtype=torch.float64)
    for _, _, covariance, share in _settings(features, votes):
        for left_out in range(COUNT):
            others = [each for each in range(COUNT) if each != left_out]
            inverse = covariance[others][:, others].inverse()
            found[left_out] += share * (covariance[left_out, others] @ inverse @ votes[others])
    assert model.left_out.tolist() == pytest.approx(found.tolist(), rel=1e-4)
    assert model.correlation == pytest.approx(
        float(torch.corrcoef(torch.stack([found, votes]))[0, 1])
    )
    assert model.correlation > 0.3


def test_it_says_how_much_of_the_votes_is_the_replies_own(
    model: RewardModel, features: ReplyFeatures, votes: torch.Tensor
) -> None:
    settings = _settings(features, votes)
    explained = sum(share / (1 + noise) for _, noise, _, share in settings)
    assert model.explained == pytest.approx(explained, rel=1e-5)


def test_it_says_by_how_much_the_replies_make_the_votes_likelier(
    model: RewardModel, features: ReplyFeatures, votes: torch.Tensor
) -> None:
    with_replies = fmean(
        math.exp(_log_density(_covariance(features, form_weight, noise), votes))
        for form_weight in FORM_WEIGHTS
        for noise in NOISES
    )
    # A covariance whose replies count for nothing: chance, who votes, and a common mean.
    without = math.exp(_log_density(_covariance(features, 0.0, math.inf), votes))
    assert model.bits == pytest.approx(math.log2(with_replies / without), rel=1e-5)
    assert model.bits > 1


def test_as_many_votes_by_chance_pass_as_the_test_says(features: ReplyFeatures) -> None:
    random = torch.Generator().manual_seed(0)
    drawn = (torch.rand(100, COUNT, generator=random) < 0.3).double() * 2 - 1
    chances = [fit_reward_model(features, votes, USER_NAMES).chance for votes in drawn]
    # Of 100 such draws, three standard errors.
    assert sum(each <= 0.2 for each in chances) == pytest.approx(20, abs=12)
    assert sum(each <= 0.5 for each in chances) == pytest.approx(50, abs=15)


def test_votes_for_what_replies_differ_in_are_told_from_chance(model: RewardModel) -> None:
    assert model.chance < 0.05


def test_what_is_told_does_not_depend_on_how_votes_are_counted(
    model: RewardModel, features: ReplyFeatures, votes: torch.Tensor
) -> None:
    stars = fit_reward_model(features, 2.5 + 1.5 * votes, USER_NAMES)
    assert stars.chance == model.chance
    assert stars.bits == pytest.approx(model.bits, abs=0.05)


def test_users_who_like_all_or_nothing_tell_no_reply_from_another() -> None:
    # Each of five asks about a matter of their own, and the replies' content follows that.
    passed = 0
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        features = _features(seed)
        features.content[:, 0] = torch.tensor([float(name[-1]) for name in USER_NAMES])
        likes = (torch.rand(5, generator=random) < 0.5).tolist()
        if len(set(likes)) == 1:
            continue
        votes = torch.tensor([1.0 if likes[int(name[-1])] else -1.0 for name in USER_NAMES])
        passed += fit_reward_model(features, votes, USER_NAMES).chance <= 0.2
    assert passed <= 6


def test_a_rare_word_counts_no_more_than_a_common_one() -> None:
    features = _features(0)
    features.words[:, 0] = 0.0
    features.words[3, 0] = 1.0  # one reply of all has it
    scaled = FeatureScale.of(features).apply(features)
    rare, common = scaled.words[:, 0].std(), scaled.words[:, 1].std()
    assert rare / common == pytest.approx(
        float(features.words[:, 0].std() / features.words[:, 1].std())
    )


def test_it_tells_other_replies_apart(model: RewardModel) -> None:
    others = _features(1, count=400)
    both = torch.stack([model.expect(others), _votes(others)])
    assert float(torch.corrcoef(both)[0, 1]) > 0.5


def test_of_a_reply_that_is_like_none_it_expects_the_mean(model: RewardModel) -> None:
    away = torch.full((1, WIDTH), 1e3).double()
    far = ReplyFeatures(away, away, torch.zeros(1, 2).double())
    assert model.expect(far).item() == pytest.approx(model.constant)


def test_votes_that_nothing_explains_teach_little(
    model: RewardModel, features: ReplyFeatures
) -> None:
    random = torch.Generator().manual_seed(0)
    drawn = (torch.rand(9, COUNT, generator=random) < 0.5).double() * 2 - 1
    models = [fit_reward_model(features, votes, USER_NAMES) for votes in drawn]
    spreads = sorted(float(each.expect(features).std()) for each in models)
    assert spreads[4] < 0.5 * float(model.expect(features).std())
    assert sorted(each.correlation for each in models)[4] < 0.2
    assert sorted(each.explained for each in models)[4] < 0.6 * model.explained


def test_what_a_user_says_of_everything_is_the_users_and_not_the_replies(
    features: ReplyFeatures,
) -> None:
    # Votes are nothing but their user's: the last of five dislikes all.
    votes = torch.tensor([-1.0 if name == "user-4" else 1.0 for name in USER_NAMES])
    with_names = fit_reward_model(features, votes, USER_NAMES)
    without = fit_reward_model(features, votes, [str(number) for number in range(COUNT)])
    disliked = votes < 0
    expected = [model.expect(features)[disliked].mean().item() for model in (with_names, without)]
    assert expected[0] > expected[1]


def test_features_that_never_differ_are_no_matter() -> None:
    features = _features(0)
    features.form[:, 1] = 1.0
    model = fit_reward_model(features, _votes(features), USER_NAMES)
    assert model.expect(features).isfinite().all()
