"""The figures in the report of an update."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING, Any

from models.learning.scoring import without_logprobs
from models.ppo.masked import effective_sample_size, masked_sum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.learning.epochs import EpochsTrace
    from models.learning.scored_batch import ScoredBatch
    from models.types import Sample


def vote_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how many votes there are, and of which kind, JSON-able."""
    rewards = [s.reward for s in samples]
    return {
        "votes": len(samples),
        "up": sum(r > 0 for r in rewards),
        "down": sum(r < 0 for r in rewards),
        "reward_mean": sum(rewards) / len(rewards),
        "tokens": sum(len(s.response_ids) for s in samples),
    }


def batch_figures(samples: Sequence[Sample], scored: ScoredBatch) -> dict[str, Any]:
    """Return figures of the votes that an iteration learned from, JSON-able."""
    mask = scored.batch.mask
    kl_per_reply = masked_sum(scored.at_start.kl, mask)
    return {
        **vote_figures(samples),
        "dropped_as_stale": int((~scored.kept.any(-1)).sum()),
        "tokens_read": int(scored.batch.attention.sum()),
        "reply_tokens_mean": float(mask.sum() / len(samples)),
        "kl_per_reply": kl_per_reply.mean().item(),
        "beta": scored.beta,
        "effective_sample_size": effective_sample_size(scored.weights, scored.kept).item(),
    }


def recovery_figures(given: Sequence[Sample], known: Sequence[Sample]) -> dict[str, Any]:
    """Return how many votes without log-probs were recovered or dropped, JSON-able.

    Args:
        given: All votes.
        known: Those whose log-probs were there or could be computed.
    """
    dropped = len(given) - len(known)
    recovered = len(without_logprobs(given)) - dropped
    return {"recovered": recovered, "dropped_without_logprobs": dropped}


def learning_figures(trace: EpochsTrace) -> dict[str, Any]:
    """Return figures of an iteration's epochs, JSON-able."""
    return {
        "clip_fraction": _mean(trace.clip_fractions),
        "ratio_mean": _mean(trace.ratio_means),
        "ratio_max": max(trace.ratio_maxima),
        "loss_first": trace.losses[0],
        "loss_last": trace.losses[-1],
        "grad_norm": _mean(trace.grad_norms),
        "step_kl": trace.step_kls[-1],
        "epochs": len(trace.step_kls),
        "steps": len(trace.losses),
        "stopped_early": trace.stopped_early,
    }


_SUMS = frozenset(
    {
        "votes",
        "dropped_as_stale",
        "up",
        "down",
        "tokens",
        "tokens_read",
        "steps",
        "corrections",
        "corrections_cut",
    }
)
_MAXIMA = frozenset({"ratio_max", "step_kl", "epochs", "stopped_early"})


def update_figures(iterations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the figures of an update's iterations, JSON-able.

    Counts are summed. The largest ratio and the largest KL to the start are kept. The report has
    the loss of the first and of the last step, and β of the last iteration. All other figures are
    means over votes.
    """
    votes = [each["votes"] for each in iterations]

    def together(name: str) -> Any:
        values = [each[name] for each in iterations]
        if name in _SUMS:
            return sum(values)
        if name in _MAXIMA:
            return max(values)
        if name in {"loss_last", "beta"}:
            return values[-1]
        if name == "loss_first":
            return values[0]
        return sum(map(mul, values, votes)) / sum(votes)

    return {"iterations": len(iterations), **{name: together(name) for name in iterations[0]}}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
