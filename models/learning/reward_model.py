"""The reward model of practice: a Gaussian process that predicts people's votes on replies.

Votes are few, so the model is small. Far from all replies that were voted on, where it knows
nothing, it predicts the mean vote. It knows a reply by its words, by features that the frozen base
computes and by what can be counted in it, and has nothing that is specific to a taste. The
equations are those of Rasmussen and Williams, Gaussian Processes for Machine Learning (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORM_WEIGHTS = (0.0, 0.3, 1.0, 3.0)
"""Weights of a reply's form, where its words and its content weigh 1 together."""
NOISES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Variances of a vote's noise, as multiples of the variance that the features explain."""
SETTINGS = tuple(product(FORM_WEIGHTS, NOISES))
"""All pairs of a form weight and a noise, ordered by form weight."""
USERS = 0.3
"""The variance between the means of users, as a multiple of a vote's noise."""
COMMON = 100.0
"""The variance of the common mean, likewise: so large that it may be anything."""
SHUFFLES = 199
"""How many times the votes are dealt out to the replies at random."""
_LEAST_SPREAD = 1e-3
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ReplyFeatures:
    """The features of ``N`` replies, fp64.

    Attributes:
        words: Logarithms of one plus the count of each token, hashed to columns, ``[N, W]``.
        content: Means of the base's states in a middle layer, ``[N, H]``.
        form: What can be counted in a reply's text, ``[N, F]``.
    """

    words: torch.Tensor
    content: torch.Tensor
    form: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> ReplyFeatures:
        """Return all three after the same change."""
        return ReplyFeatures(change(self.words), change(self.content), change(self.form))

    def __getitem__(self, rows: Sequence[int] | slice) -> ReplyFeatures:
        """Return the features of some replies."""
        return self.map(lambda each: each[rows])


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Means and standard deviations of features, by which all features are scaled."""

    mean: ReplyFeatures
    spread: ReplyFeatures

    @classmethod
    def of(cls, features: ReplyFeatures) -> FeatureScale:
        """Return the scale that gives each feature the mean 0 and the standard deviation 1.

        All words have one scale, so that a rare word does not count more than a common one.
        """
        spread = features.map(lambda each: each.std(0, correction=0) + _LEAST_SPREAD)
        together = spread.words.square().mean().sqrt().expand_as(spread.words)
        return cls(features.map(lambda each: each.mean(0)), replace(spread, words=together))

    def apply(self, features: ReplyFeatures) -> ReplyFeatures:
        """Return scaled features."""
        return ReplyFeatures(
            (features.words - self.mean.words) / self.spread.words,
            (features.content - self.mean.content) / self.spread.content,
            (features.form - self.mean.form) / self.spread.form,
        )


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Predicts the vote on a reply.

    The model averages over ``SETTINGS``, which say how noisy votes are and how much a reply's form
    counts. Each pair is weighted by the likelihood of the votes under it.

    Attributes:
        scale: The scale of the features of the replies that were voted on.
        known: The scaled features of these replies.
        weights: What each of these replies adds to the expectation of a reply like it, for each of
            the ``SETTINGS``, ``[S, N]``.
        constant: The expectation of a reply that is like none of them.
        left_out: The prediction of each vote from all other votes, ``[N]``.
        correlation: The correlation of the votes with these; 0 if the predictions are all equal.
        explained: The expected share of the votes' differences that comes from the replies.
        bits: By how many bits the replies make the votes likelier than users and chance alone.
        chance: How often votes that are dealt out to the replies at random reach as many bits, in
            (0, 1].
    """

    scale: FeatureScale
    known: ReplyFeatures
    weights: torch.Tensor
    constant: float
    left_out: torch.Tensor
    correlation: float
    explained: float
    bits: float
    chance: float

    def expect(self, features: ReplyFeatures) -> torch.Tensor:
        """Return the expected reward of each of ``M`` replies, ``[M]`` (equation 2.25)."""
        scaled = self.scale.apply(features)
        alike_by_weight = {
            each: alike(scaled, self.known, form_weight=each) for each in FORM_WEIGHTS
        }
        out = torch.zeros(len(features.form), dtype=torch.float64)
        for (form_weight, noise), weights in zip(SETTINGS, self.weights, strict=True):
            out += alike_by_weight[form_weight] @ weights / noise
        return out + self.constant


def alike(one: ReplyFeatures, other: ReplyFeatures, *, form_weight: float) -> torch.Tensor:
    """Return how alike scaled replies are, ``[M, N]``: 1 for the same, towards 0 from afar.

    The squared exponential kernel (equation 4.9) of the mean squared difference, divided by what it
    is between two random replies: they are 0.6 alike.
    """
    apart = _mean_squares(one.words, other.words) + _mean_squares(one.content, other.content)
    apart = apart / 2 + form_weight * _mean_squares(one.form, other.form)
    return torch.exp(-apart / (4 * (1 + form_weight)))


def fit_reward_model(
    features: ReplyFeatures, rewards_N: torch.Tensor, users: Sequence[str]
) -> RewardModel:
    """Fit a common mean, a mean of each user, and the reply's own part to votes.

    Each pair of ``SETTINGS`` is weighted by the likelihood of the votes under it (equation 5.5 with
    equal priors; the marginal likelihood is equation 5.8 at its best scale).

    Args:
        features: The features of the replies, of which there are at least two.
        rewards_N: The votes.
        users: The user of each vote.
    """
    rewards_N = rewards_N.double()
    scale = FeatureScale.of(features)
    known = scale.apply(features)
    of_user_NN = torch.eye(len(users), dtype=torch.float64) + USERS * _same(users)
    rest_NN = of_user_NN + COMMON
    by_weight = {each: alike(known, known, form_weight=each) for each in FORM_WEIGHTS}
    fits = [_Fit.of(by_weight[weight] / noise + rest_NN) for weight, noise in SETTINGS]
    # The votes come first, and the shuffled ones behind them: B rows.
    dealt_BN = torch.stack([rewards_N, *_shuffled(rewards_N, of_user_NN)])
    likelihoods_SB = torch.stack([fit.log_likelihoods(dealt_BN) for fit in fits])
    together_B = likelihoods_SB.logsumexp(0) - math.log(len(SETTINGS))
    bits_B = (together_B - _Fit.of(rest_NN).log_likelihoods(dealt_BN)) / math.log(2)
    shares_S = likelihoods_SB[:, 0].softmax(0)
    noises_S = shares_S.new_tensor([noise for _, noise in SETTINGS])
    solved_SN = torch.stack([fit.solve(rewards_N) for fit in fits])
    left_out_N = shares_S @ torch.stack([fit.left_out(rewards_N) for fit in fits])
    weights_SN = solved_SN * shares_S[:, None]
    return RewardModel(
        scale=scale,
        known=known,
        weights=weights_SN,
        constant=COMMON * float(weights_SN.sum()),
        left_out=left_out_N,
        correlation=_correlation(left_out_N, rewards_N),
        explained=float(shares_S @ (1 / (1 + noises_S))),
        bits=float(bits_B[0]),
        chance=float((bits_B >= bits_B[0] - _ROUNDING).double().mean()),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """A covariance C of votes that is known but for a factor, by its Cholesky root ``[N, N]``."""

    root: torch.Tensor

    @classmethod
    def of(cls, covariance_NN: torch.Tensor) -> _Fit:
        return cls(torch.linalg.cholesky(covariance_NN))

    def solve(self, rewards_N: torch.Tensor) -> torch.Tensor:
        """Return C⁻¹ y, ``[N]``."""
        return torch.cholesky_solve(rewards_N[:, None], self.root)[:, 0]

    def log_likelihoods(self, rewards_BN: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the density of each row at its likeliest factor, ``[B]``.

        A constant is left out.
        """
        count = rewards_BN.shape[1]
        whitened_NB = torch.linalg.solve_triangular(self.root, rewards_BN.T, upper=False)
        misfit_B = whitened_NB.square().sum(0)
        volume = float(self.root.diagonal().log().sum())
        likelihood_B: torch.Tensor = -0.5 * count * (misfit_B / count).log() - volume
        return likelihood_B

    def left_out(self, rewards_N: torch.Tensor) -> torch.Tensor:
        """Return the prediction of each vote from all other votes (equation 5.12)."""
        inverse_N = torch.cholesky_inverse(self.root).diagonal()
        return rewards_N - self.solve(rewards_N) / inverse_N


def _shuffled(rewards_N: torch.Tensor, covariance_NN: torch.Tensor) -> list[torch.Tensor]:
    """Return votes that say nothing of the replies, but differ between users as these do.

    What is shuffled is the votes without their mean and made independent, as in permutation tests
    of correlated data (Huh and Jhun, 2001).
    """
    root_NN = torch.linalg.cholesky(covariance_NN)
    pulls_N = torch.cholesky_solve(torch.ones_like(rewards_N)[:, None], root_NN)[:, 0]
    mean = (pulls_N @ rewards_N) / pulls_N.sum()
    apart_N1 = (rewards_N - mean)[:, None]
    independent_N = torch.linalg.solve_triangular(root_NN, apart_N1, upper=False)[:, 0]
    order = torch.Generator().manual_seed(len(rewards_N))
    orders = [torch.randperm(len(rewards_N), generator=order) for _ in range(SHUFFLES)]
    return [mean + root_NN @ independent_N[each] for each in orders]


def _same(users: Sequence[str]) -> torch.Tensor:
    """Return 1 where two votes are of one user and 0 elsewhere, ``[N, N]`` fp64."""
    numbers = {user: number for number, user in enumerate(users)}
    of_vote = torch.tensor([numbers[user] for user in users])
    return (of_vote[:, None] == of_vote[None]).double()


def _mean_squares(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one, other).square() / one.shape[1]


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([one, other]))[0, 1].nan_to_num().item()
