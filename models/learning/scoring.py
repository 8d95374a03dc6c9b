"""Scoring at the start of an update: log-probs of the replies, and their KL to the base."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from models.errors import AdapterError
from models.learning.scored_batch import StartScores, score_batch
from models.policy.batch import collate
from models.policy.policy import spread
from models.types import BASE, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.adapters import AdapterStore
    from models.learning.scored_batch import ScoredBatch
    from models.learning.state import LearnerState
    from models.policy.policy import Policy
    from models.ppo.critic import ValueHead
    from models.recipe import Recipe
    from models.types import Sample


def without_logprobs(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without recorded behaviour log-probs."""
    return [s for s in samples if not s.behaviour_logprobs]


def recover_behaviour(
    samples: Sequence[Sample], policy: Policy, store: AdapterStore
) -> list[Sample]:
    """Compute behaviour log-probs that are missing, under the versions that wrote the replies.

    The log-probs are of the whole distribution at the sample's temperature. Afterwards the policy
    has the weights of another version.

    Returns:
        The samples, in order, without those whose version is gone, broken or of another shape.
    """
    found: dict[int, tuple[float, ...]] = {}
    missing = [row for row, s in enumerate(samples) if not s.behaviour_logprobs]
    for version in sorted({samples[row].version for row in missing}):
        rows = [row for row in missing if samples[row].version == version]
        try:
            if version != BASE:
                store.verify(version)
                policy.load(store.path(version))
        except AdapterError:
            continue
        scored = policy.reply_logprobs([samples[r] for r in rows], reference=version == BASE)
        found |= {row: tuple(values.tolist()) for row, values in zip(rows, scored, strict=True)}
    return [
        replace(sample, behaviour_logprobs=found.get(row, sample.behaviour_logprobs))
        for row, sample in enumerate(samples)
        if sample.behaviour_logprobs or row in found
    ]


def score_samples(
    samples: Sequence[Sample],
    policy: Policy,
    state: LearnerState,
    recipe: Recipe,
    progress: Callable[[Progress], None],
    critic: ValueHead | None = None,
    baselines: Sequence[float] | None = None,
) -> ScoredBatch:
    """Compute start log-probs, KL to the base, weights and advantages of the whole batch."""
    whole = collate(samples, range(len(samples)), device=str(policy.base.model.device))
    at_start = StartScores(*torch.zeros(3, *whole.behaviour.shape, device=whole.ids.device))
    states = [torch.empty(0)] * len(samples)
    sampled_kl = recipe.kl_estimate == "sampled" and recipe.kl_form != "loss"
    done = 0
    measure = partial(policy.measure, sampled_kl=sampled_kl)
    for micro, measured in policy.passes(measure, samples):
        rows, width = list(micro.rows), micro.mask.shape[1]
        at_start.start[rows, :width] = measured.start
        at_start.kl[rows, :width] = measured.kl
        if critic is not None:
            at_start.values[rows, :width] = spread(critic(measured.states).detach(), micro)
        of_rows = torch.split(measured.reference_states, micro.mask.sum(-1).tolist())
        for row, of_row in zip(rows, of_rows, strict=True):
            states[row] = of_row.clone()
        done += len(rows)
        progress(Progress("score", done, len(samples)))
    at_start = replace(at_start, reference_states=states)
    return score_batch(samples, whole, at_start, state, recipe, baselines)
