"""The reward model of practice: a Gaussian process that predicts people's votes on replies.

Votes are few, so the model is small. Far from all replies that were voted on, where it knows
nothing, it predicts the mean vote. It knows a reply by features that the frozen base computes, and
has nothing that is specific to a taste. The equations are those of Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
"""The variance between the means of users, as a share of a vote's noise."""
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class ReplyFeatures:
    """The features of ``N`` replies, fp64.

    Attributes:
        words: Means of the base's embeddings over a reply's tokens, ``[N, H]``.
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
        """Return the scale that gives each feature the mean 0 and the standard deviation 1."""
        return cls(
            features.map(lambda each: each.mean(0)),
            features.map(lambda each: each.std(0, correction=0) + _LEAST_SPREAD),
        )

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
    """

    scale: FeatureScale
    known: ReplyFeatures
    weights: torch.Tensor
    constant: float
    left_out: torch.Tensor
    correlation: float
    explained: float
    bits: float

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
    same_NN = rewards_N.new_tensor([[float(a == b) for b in users] for a in users])
    rest_NN = torch.eye(len(users), dtype=torch.float64) + USERS * same_NN + 1.0
    by_weight = {each: alike(known, known, form_weight=each) for each in FORM_WEIGHTS}
    fits = [
        _Fit.to(rewards_N, by_weight[form_weight] / noise + rest_NN)
        for form_weight, noise in SETTINGS
    ]
    likelihoods_S = rewards_N.new_tensor([fit.log_likelihood for fit in fits])
    shares_S = likelihoods_S.softmax(0)
    noises_S = shares_S.new_tensor([noise for _, noise in SETTINGS])
    weights_SN = torch.stack([fit.weights for fit in fits]) * shares_S[:, None]
    left_out_N = shares_S @ torch.stack([fit.left_out(rewards_N) for fit in fits])
    together = float(likelihoods_S.logsumexp(0)) - math.log(len(SETTINGS))
    return RewardModel(
        scale=scale,
        known=known,
        weights=weights_SN,
        constant=float(weights_SN.sum()),
        left_out=left_out_N,
        correlation=_correlation(left_out_N, rewards_N),
        explained=float(shares_S @ (1 / (1 + noises_S))),
        bits=(together - _Fit.to(rewards_N, rest_NN).log_likelihood) / math.log(2),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """Votes y under a covariance C.

    Attributes:
        weights: C⁻¹ y, ``[N]``.
        root: The Cholesky root of C, ``[N, N]``.
        log_likelihood: The logarithm of the votes' density at C's likeliest scale, but for a
            constant.
    """

    weights: torch.Tensor
    root: torch.Tensor
    log_likelihood: float

    @classmethod
    def to(cls, rewards_N: torch.Tensor, covariance_NN: torch.Tensor) -> _Fit:
        """Return the fit of a covariance that is known but for a factor."""
        root_NN = torch.linalg.cholesky(covariance_NN)
        weights_N = torch.cholesky_solve(rewards_N[:, None], root_NN)[:, 0]
        count, misfit = len(rewards_N), float(rewards_N @ weights_N)
        volume = float(root_NN.diagonal().log().sum())
        likelihood = -0.5 * count * math.log(misfit / count) - volume
        return cls(weights_N, root_NN, likelihood)

    def left_out(self, rewards_N: torch.Tensor) -> torch.Tensor:
        """Return the prediction of each vote from all other votes (equation 5.12)."""
        return rewards_N - self.weights / torch.cholesky_inverse(self.root).diagonal()


def _mean_squares(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one, other).square() / one.shape[1]


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([one, other]))[0, 1].nan_to_num().item()
