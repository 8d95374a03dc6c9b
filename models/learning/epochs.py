"""The passes over a scored batch: minibatches, gradients and optimiser steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from models.batch import micro_batches
from models.errors import LearningError
from models.learning.objective import objective
from models.policy import spread
from models.ppo import kl
from models.ppo.masked import masked_mean
from models.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.batch import MicroBatch
    from models.policy import Policy, ReplyScores
    from models.ppo.critic import ValueHead
    from models.scored_batch import ScoredBatch
    from models.settings import LearnerSettings
    from models.types import Sample


@dataclass(slots=True)
class Trace:
    """What the epochs saw, step by step."""

    losses: list[float] = field(default_factory=list)
    clip_fractions: list[float] = field(default_factory=list)
    ratio_means: list[float] = field(default_factory=list)
    ratio_maxima: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    step_kls: list[float] = field(default_factory=list)
    stopped_early: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """Of some replies: the loss, the ratios, and the KL per token to the start policy."""

    loss: float
    clip_fraction: float
    ratio_mean: float
    ratio_max: float
    step_kl: float


class Epochs:
    """Takes a policy through the epochs of one update.

    Args:
        policy: What learns; at the start policy's weights.
        samples: The batch.
        scored: The same, as it was at the start.
        optimizer: Over the policy's masters.
        order: Draws the order of the minibatches.
        settings: How much and how far.
        critic: Learns beside the policy; its parameters are the optimizer's too.
    """

    def __init__(
        self,
        policy: Policy,
        samples: Sequence[Sample],
        scored: ScoredBatch,
        optimizer: torch.optim.Optimizer,
        order: torch.Generator,
        settings: LearnerSettings,
        critic: ValueHead | None = None,
    ) -> None:
        self._critic = critic
        self._policy, self._samples, self._scored = policy, samples, scored
        self._optimizer, self._order, self._settings = optimizer, order, settings
        self._trace = Trace()

    def run(self, progress: Callable[[Progress], None]) -> Trace:
        """Learn for N epochs, or until the policy has gone far enough.

        Raises:
            LearningError: A gradient is not finite.
        """
        count, trace = len(self._samples), self._trace
        size = self._settings.minibatch or count
        for epoch in range(self._settings.epochs):
            shuffled = torch.randperm(count, generator=self._order).tolist()
            minibatches = [shuffled[i : i + size] for i in range(0, count, size)]
            total = self._settings.epochs * len(minibatches)
            kls = []
            for number, rows in enumerate(minibatches, start=epoch * len(minibatches) + 1):
                kls.append(self._step(rows))
                progress(Progress("learn", number, total))
            trace.step_kls.append(sum(kls) / len(kls))
            if trace.step_kls[-1] > self._settings.max_step_kl:
                trace.stopped_early = True
                break
        return trace

    def _step(self, rows: Sequence[int]) -> float:
        """Take one optimiser step on ``rows``; return the KL per token to the start policy."""
        masters = self._policy.master.values()
        # 1. The gradient of the minibatch, in parts that fit into memory.
        self._optimizer.zero_grad()
        figures = self.add_gradients(rows)
        # 2. Bound it, and step.
        norm = torch.nn.utils.clip_grad_norm_(masters, self._settings.max_grad_norm)
        if not norm.isfinite():
            raise LearningError(
                "The gradient is not finite: the batch or the parent's weights hold something "
                "extreme. Discard the votes of this run, or activate an earlier version."
            )
        self._optimizer.step()
        self._policy.publish_master()
        # 3. Remember what it was like.
        self._trace.losses.append(figures.loss)
        self._trace.clip_fractions.append(figures.clip_fraction)
        self._trace.ratio_means.append(figures.ratio_mean)
        self._trace.ratio_maxima.append(figures.ratio_max)
        self._trace.grad_norms.append(norm.item())
        return figures.step_kl

    def add_gradients(self, rows: Sequence[int]) -> Figures:
        """Add the gradients of the mean loss of ``rows`` to the masters'.

        The result is the same, but for rounding, however the rows are divided.
        """
        loss_sum = clip_sum = ratio_sum = kl_sum = ratio_max = 0.0
        scored = self._scored.minibatch(rows, self._settings)
        for micro in micro_batches(
            self._samples,
            rows,
            tokens=self._settings.micro_batch_tokens,
            device=self._settings.device,
        ):
            share = len(micro.rows) / len(rows)
            part = scored.cut(micro)
            scores = self._policy.score(micro, part.reference_hidden())
            found = objective(part, scores, self._settings, self._values(scores, micro))
            (found.loss * share).backward()  # type: ignore[no-untyped-call]
            loss_sum += found.loss.item() * share
            clip_sum += found.policy.clip_fraction.item() * share
            ratio_sum += found.policy.ratio_mean.item() * share
            ratio_max = max(ratio_max, found.policy.ratio_max.item())
            step_kl = masked_mean(kl.k3(part.at_start.start, scores.logprobs.detach()), part.kept)
            kl_sum += step_kl.item() * share
        return Figures(loss_sum, clip_sum, ratio_sum, ratio_max, kl_sum)

    def _values(self, scores: ReplyScores, micro: MicroBatch) -> torch.Tensor | None:
        return None if self._critic is None else spread(self._critic(scores.states), micro)
