"""The PPO maths once more, in NumPy float64 and plain loops, written from the papers alone.

Nothing of ``models.ppo`` is used here. Masks are True where an entry counts.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def kept(values: Array, mask: Array) -> list[float]:
    return [float(v) for v, m in zip(values.ravel(), mask.ravel(), strict=True) if m]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def variance(values: list[float]) -> float:
    centre = mean(values)
    return mean([(v - centre) ** 2 for v in values])


def whiten(values: Array, mask: Array, floor: float, centre: bool) -> Array:
    found = kept(values, mask)
    middle = mean(found) if centre else 0.0
    divisor = max(math.sqrt(variance(found)), floor)
    out = np.zeros(values.shape)
    out[mask] = (values[mask] - middle) / divisor
    return out


def effective_sample_size(weights: list[float]) -> float:
    largest = max(weights, default=0.0)
    if largest == 0.0:
        return 0.0
    shares = [w / largest for w in weights]
    return sum(shares) ** 2 / (len(shares) * sum(w * w for w in shares))


def token_rewards(scores: Array, start: Array, reference: Array, mask: Array, beta: float) -> Array:
    out = np.zeros(mask.shape)
    for b in range(len(mask)):
        tokens = np.flatnonzero(mask[b])
        for t in tokens:
            out[b, t] = -beta * (start[b, t] - reference[b, t])
        if len(tokens):
            out[b, tokens[-1]] += scores[b]
    return out


def discounted(rewards: list[float], gamma: float) -> list[float]:
    """The sum of what is still to come, from the definition: no recursion."""
    return [
        sum(gamma**k * reward for k, reward in enumerate(rewards[t:])) for t in range(len(rewards))
    ]


def gae(rewards: Array, values: Array, mask: Array, gamma: float, lam: float) -> Array:
    """Eq. 16 of arXiv 1506.02438 as the explicit sum of (γλ)^k δ_{t+k}."""
    out = np.zeros(mask.shape)
    for b in range(len(mask)):
        tokens = np.flatnonzero(mask[b])
        v = [*values[b, tokens], 0.0]
        deltas = [rewards[b, t] + gamma * v[i + 1] - v[i] for i, t in enumerate(tokens)]
        out[b, tokens] = discounted(deltas, gamma * lam)
    return out


def leave_one_out(rewards: Array) -> Array:
    if len(rewards) == 1:
        return np.zeros(1)
    return np.array([np.delete(rewards, b).mean() for b in range(len(rewards))])


def faded_mean(votes: list[float], ages: list[int], decay: float) -> tuple[float, float]:
    """A user's votes of earlier batches, each worth decay to the power of its batches' age."""
    worth = [decay**age for age in ages]
    return sum(w * v for w, v in zip(worth, votes, strict=True)), sum(worth)


def default_scores(
    rewards: Array,
    users: list[str],
    past: dict[str, tuple[float, float]],
    prior: float,
    least_votes: int,
    floor: float,
) -> Array:
    """How much better each vote is than what its user and the others of the batch usually say."""
    found = []
    for b, user in enumerate(users):
        total, count = past.get(user, (0.0, 0.0))
        others = mean([float(r) for i, r in enumerate(rewards) if i != b])
        found.append(float(rewards[b]) - (total + prior * others) / (count + prior))
    if len(found) >= least_votes:
        divisor = max(math.sqrt(variance(found)), floor)
        found = [score / divisor for score in found]
    return np.array(found)


def reply_scales(mask: Array, form: str, constant: float) -> list[float]:
    """What each token of a reply is multiplied by in a loss; replies that keep nothing left out."""
    lengths = [int(row.sum()) for row in mask]
    rows = sum(n > 0 for n in lengths)
    if form == "constant":
        return [1 / (rows * constant) if n else 0.0 for n in lengths]
    return [1 / sum(lengths) if n else 0.0 for n in lengths]


def policy_loss(
    new: Array,
    start: Array,
    advantages: Array,
    weights: Array,
    mask: Array,
    clip: tuple[float, float],
    scales: list[float],
) -> float:
    total = 0.0
    for b, t in zip(*np.nonzero(mask), strict=True):
        ratio = math.exp(new[b, t] - start[b, t])
        held = min(max(ratio, 1 - clip[0]), 1 + clip[1])
        a = advantages[b, t]
        total -= scales[b] * weights[b, t] * min(ratio * a, held * a)
    return total


def critic_loss(
    values: Array, old: Array, returns: Array, mask: Array, clip: float, scales: list[float]
) -> float:
    total = 0.0
    for b, t in zip(*np.nonzero(mask), strict=True):
        v, o, g = values[b, t], old[b, t], returns[b, t]
        held = min(max(v, o - clip), o + clip)
        total += scales[b] * 0.5 * max((v - g) ** 2, (held - g) ** 2)
    return total


def kept_sequences(
    scores: Array, start: Array, behaviour: Array, mask: Array, limit: float
) -> list[bool]:
    out = []
    for b in range(len(mask)):
        drift = mean(kept(behaviour[b] - start[b], mask[b]))
        out.append(bool(scores[b] >= 0 or drift <= limit))
    return out
