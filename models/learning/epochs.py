"""The passes over a scored batch: minibatches, gradients and optimiser steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from models.errors import LearningError
from models.learning.corrections import Corrections
from models.learning.objective import objective
from models.policy.batch import micro_batches, token_count
from models.policy.gradients import MasterGradients, SeparateGradients
from models.policy.policy import spread
from models.policy.workers import Workers, divide
from models.ppo import kl
from models.ppo.lengths import length_divisors
from models.ppo.likelihood import likelihood_loss
from models.ppo.masked import masked_mean
from models.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.optim.lr_scheduler import LRScheduler

    from models.learning.scored_batch import ScoredBatch
    from models.policy.batch import MicroBatch
    from models.policy.gradients import Gradients
    from models.policy.policy import Policy, ReplyScores
    from models.ppo.critic import ValueHead
    from models.recipe import Recipe
    from models.settings import LearnerSettings
    from models.types import Sample


@dataclass(slots=True)
class EpochsTrace:
    """Figures of each optimiser step, and of each epoch."""

    losses: list[float] = field(default_factory=list)
    clip_fractions: list[float] = field(default_factory=list)
    ratio_means: list[float] = field(default_factory=list)
    ratio_maxima: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    step_kls: list[float] = field(default_factory=list)
    stopped_early: bool = False


@dataclass(frozen=True, slots=True)
class ReplyFigures:
    """The loss, the ratios, and the KL per token to the start policy of some replies."""

    loss: float
    clip_fraction: float
    ratio_mean: float
    ratio_max: float
    step_kl: float


def sum_of(parts: Sequence[ReplyFigures]) -> ReplyFigures:
    """Combine the figures of parts, which are already weighted by the parts' shares."""
    return ReplyFigures(
        loss=sum(part.loss for part in parts),
        clip_fraction=sum(part.clip_fraction for part in parts),
        ratio_mean=sum(part.ratio_mean for part in parts),
        ratio_max=max(part.ratio_max for part in parts),
        step_kl=sum(part.step_kl for part in parts),
    )


@dataclass(frozen=True, slots=True)
class OptimiserStep:
    """What all parts of a minibatch have in common.

    Attributes:
        count: The number of its rows.
        scored: The batch, with the divisors of this minibatch.
        divisors: The divisors of its corrections, by the index of the correction.
    """

    count: int
    scored: ScoredBatch
    divisors: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class MinibatchPart:
    """Some rows of a minibatch, the tokens of their passes, and where their gradients go."""

    rows: Sequence[int]
    tokens: int
    gradients: Gradients


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a minibatch: some are computed in parallel, the others one after another."""

    parallel: Sequence[MinibatchPart]
    alone: Sequence[MinibatchPart]


class Epochs:
    """Takes a policy through the epochs of one update.

    Args:
        policy: The policy that learns, with the weights of the start policy.
        samples: The batch.
        scored: The scores of the batch at the start.
        schedule: Sets the rates of an optimiser over the masters of the policy and the critic.
        order: Draws the order of the minibatches.
        recipe: How the policy learns.
        settings: How much memory the passes may use.
        critic: Learns with the policy; None without one.
        corrections: Become likelier in the steps of the votes that they belong to.
    """

    def __init__(
        self,
        policy: Policy,
        samples: Sequence[Sample],
        scored: ScoredBatch,
        schedule: LRScheduler,
        order: torch.Generator,
        recipe: Recipe,
        settings: LearnerSettings,
        *,
        critic: ValueHead | None = None,
        corrections: Corrections | None = None,
    ) -> None:
        self._corrections = corrections or Corrections()
        self._critic = critic
        self._policy, self._samples, self._scored = policy, samples, scored
        self._optimizer, self._schedule = schedule.optimizer, schedule
        self._order, self._recipe, self._settings = order, recipe, settings
        self._trace = EpochsTrace()
        # The critic's gradients come from autograd, which adds them up in any order.
        self._workers = policy.workers if critic is None else Workers()
        apart = [SeparateGradients() for _ in range(self._workers.count - 1)]
        self._gradients: list[Gradients] = [MasterGradients(), *apart]

    def run(self, progress: Callable[[Progress], None]) -> EpochsTrace:
        """Learn for N epochs, or until the policy has gone far enough.

        Raises:
            LearningError: A gradient is not finite.
        """
        count, trace = len(self._samples), self._trace
        size = self._recipe.minibatch or count
        for epoch in range(self._recipe.epochs):
            shuffled = self._shuffled()
            minibatches = [shuffled[i : i + size] for i in range(0, count, size)]
            total = self._recipe.epochs * len(minibatches)
            kls = []
            for number, rows in enumerate(minibatches, start=epoch * len(minibatches) + 1):
                kls.append(self._step(rows))
                progress(Progress("learn", number, total))
            trace.step_kls.append(sum(kls) / len(kls))
            if trace.step_kls[-1] > self._recipe.max_step_kl:
                trace.stopped_early = epoch + 1 < self._recipe.epochs
                break
        return trace

    def _shuffled(self) -> list[int]:
        """Return all rows in a new order, in which those of a question stay together."""
        rows, size = range(len(self._samples)), self._scored.together
        questions = [rows[first : first + size] for first in rows[::size]]
        shuffled = torch.randperm(len(questions), generator=self._order).tolist()
        return [row for number in shuffled for row in questions[number]]

    def _step(self, rows: Sequence[int]) -> float:
        """Take one optimiser step on ``rows``; return the KL per token to the start policy."""
        masters = self._policy.master.values()
        # 1. The gradient of the minibatch, in parts that fit into memory.
        self._optimizer.zero_grad()
        figures = self.add_gradients(rows)
        # 2. Bound it, and step.
        norm = torch.nn.utils.clip_grad_norm_(masters, self._recipe.max_grad_norm)
        if not norm.isfinite():
            raise LearningError(
                "The gradient is not finite: the batch or the parent's weights hold something "
                "extreme. Discard the votes of this run, or activate an earlier version."
            )
        self._optimizer.step()
        self._schedule.step()
        self._policy.publish_master()
        # 3. Remember what it was like.
        self._trace.losses.append(figures.loss)
        self._trace.clip_fractions.append(figures.clip_fraction)
        self._trace.ratio_means.append(figures.ratio_mean)
        self._trace.ratio_maxima.append(figures.ratio_max)
        self._trace.grad_norms.append(norm.item())
        return figures.step_kl

    def add_gradients(self, rows: Sequence[int]) -> ReplyFigures:
        """Add the gradients of the mean loss of ``rows`` to the masters'.

        The result is the same, but for rounding, however the rows are divided; the division does
        not depend on how fast anyone is.
        """
        step = OptimiserStep(
            len(rows), self._scored.minibatch(rows, self._recipe), self._divisors(rows)
        )
        of_part, parts = partial(self._of_part, step), self._parts(rows)
        found = list(self._workers.map(of_part, parts.parallel))
        for part in parts.parallel:
            if isinstance(part.gradients, SeparateGradients):
                part.gradients.add_to_masters()
        return sum_of([*found, *map(of_part, parts.alone)])

    def _parts(self, rows: Sequence[int]) -> Parts:
        """Divide ``rows`` among the workers; too long ones are passed through after the others."""
        most = self._settings.micro_batch_tokens // self._workers.count
        fits = {row: self._token_count(row) <= most or self._workers.count == 1 for row in rows}
        short = [row for row in rows if fits[row]]
        size = self._scored.together
        questions = [list(block) for _, block in groupby(short, lambda row: row // size)]
        lengths = [sum(map(self._token_count, block)) for block in questions]
        parallel = [
            MinibatchPart([row for i in share for row in questions[i]], most, gradients)
            for share, gradients in zip(
                divide(lengths, self._workers.count), self._gradients, strict=False
            )
        ]
        alone = [
            MinibatchPart([row], self._settings.micro_batch_tokens, self._gradients[0])
            for row in rows
            if not fits[row]
        ]
        return Parts(parallel, alone)

    def _token_count(self, row: int) -> int:
        """Return the length of a row, or of its correction if that is longer."""
        samples = [self._corrections.samples[i] for i in self._corrections.among([row])]
        return max(map(token_count, [self._samples[row], *samples]))

    def _divisors(self, rows: Sequence[int]) -> dict[int, float]:
        """Return what the log-probs of each correction in a minibatch are divided by."""
        among = self._corrections.among(rows)
        lengths = torch.tensor([len(self._corrections.samples[i].response_ids) for i in among])
        if not among:
            return {}
        divisors = length_divisors(
            torch.arange(int(lengths.max())) < lengths[:, None],
            form=self._recipe.length_form,
            constant=self._recipe.length_constant,
        )
        return dict(zip(among, divisors.tolist(), strict=True))

    def _of_part(self, step: OptimiserStep, part: MinibatchPart) -> ReplyFigures:
        """Add the gradients of a part of a minibatch."""
        device = self._settings.device
        micros = micro_batches(self._samples, part.rows, tokens=part.tokens, device=device)
        found = sum_of([self._of_micro(step, micro, part.gradients) for micro in micros])
        corrected = micro_batches(
            self._corrections.samples,
            self._corrections.among(part.rows),
            tokens=part.tokens,
            device=device,
        )
        more = sum(self._of_corrections(step, micro, part.gradients) for micro in corrected)
        return replace(found, loss=found.loss + more)

    def _of_corrections(
        self, step: OptimiserStep, micro: MicroBatch, gradients: Gradients
    ) -> float:
        """Add the gradients of corrections; return their part of the loss."""
        scores = self._policy.score(micro, gradients=gradients)
        divisors = torch.tensor([step.divisors[row] for row in micro.rows], device=micro.ids.device)
        loss = likelihood_loss(scores.logprobs, micro.mask, length_constant=divisors)
        loss = self._recipe.corrections * loss * (len(micro.rows) / step.count)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _of_micro(
        self, step: OptimiserStep, micro: MicroBatch, gradients: Gradients
    ) -> ReplyFigures:
        share, cut = len(micro.rows) / step.count, step.scored.cut(micro)
        scores = self._policy.score(micro, cut.reference_hidden(), gradients)
        found = objective(cut, scores, self._recipe, self._values(scores, micro))
        (found.loss * share).backward()  # type: ignore[no-untyped-call]
        step_kl = masked_mean(kl.k3(cut.at_start.start, scores.logprobs.detach()), cut.kept)
        return ReplyFigures(
            loss=found.loss.item() * share,
            clip_fraction=found.policy.clip_fraction.item() * share,
            ratio_mean=found.policy.ratio_mean.item() * share,
            ratio_max=found.policy.ratio_max.item(),
            step_kl=step_kl.item() * share,
        )

    def _values(self, scores: ReplyScores, micro: MicroBatch) -> torch.Tensor | None:
        return None if self._critic is None else spread(self._critic(scores.states), micro)
