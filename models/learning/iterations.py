"""The PPO iterations of an update: a large batch is learned in several parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from models.learning.corrections import find_corrections
from models.learning.epochs import Epochs
from models.learning.report import batch_figures, learning_figures
from models.learning.scoring import score_samples
from models.learning.state import adam_moments
from models.memory import give_back_freed_memory
from models.ppo.advantages import update_user_means
from models.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim.lr_scheduler import LRScheduler

    from models.base.loading import Base
    from models.learning.state import LearnerState
    from models.policy.policy import Policy
    from models.ppo.critic import ValueHead
    from models.recipe import Recipe
    from models.settings import LearnerSettings
    from models.timing import Stopwatch
    from models.types import Sample

USER_DECAY = 0.95
"""A user's past votes are multiplied by this in each iteration."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration learns from.

    Attributes:
        votes: Its share of the batch.
        together: How many votes in a row are on replies to the same question.
    """

    votes: Sequence[Sample]
    together: int = 1
    baselines: Sequence[float] | None = None


def divide(
    batch: Sequence[Sample], *, votes: int, baselines: Sequence[float] | None = None
) -> Sequence[Iteration]:
    """Deal a batch out to as many iterations of at least ``votes`` votes as possible.

    The iterations differ in size by one vote at most. There is a single one if the batch is smaller
    or ``votes`` is 0. Votes that came one after another, such as those of a user in a hurry, go to
    different iterations.
    """
    count = max(1, len(batch) // votes) if votes else 1
    return [
        Iteration(batch[number::count], baselines=baselines and baselines[number::count])
        for number in range(count)
    ]


def as_part(
    progress: Callable[[Progress], None], number: int, count: int
) -> Callable[[Progress], None]:
    """Return a function that reports the progress of one of ``count`` parts as that of all."""

    def report(at: Progress) -> None:
        progress(Progress(at.phase, number * at.total + at.done, count * at.total))

    return report


class Iterations:
    """Takes a policy through the iterations of one update.

    Args:
        policy: The policy that learns, with its parent's weights.
        base: Its tokenizer encodes corrections.
        recipe: How the policy learns.
        settings: How much memory the passes may use.
        schedule: Sets the rates of an optimiser over the masters of the policy and the critic.
        order: Draws the order of the minibatches.
        stopwatch: Measures the seconds of each phase.
        critic: Learns with the policy; None without one.
    """

    def __init__(
        self,
        policy: Policy,
        base: Base,
        recipe: Recipe,
        settings: LearnerSettings,
        schedule: LRScheduler,
        order: torch.Generator,
        stopwatch: Stopwatch,
        critic: ValueHead | None,
    ) -> None:
        self._policy, self._base = policy, base
        self._recipe, self._settings = recipe, settings
        self._schedule, self._order = schedule, order
        self._stopwatch, self._critic = stopwatch, critic

    def with_recipe(self, recipe: Recipe) -> Iterations:
        """Return iterations of the same policy with another recipe and no critic."""
        return Iterations(
            self._policy,
            self._base,
            recipe,
            self._settings,
            self._schedule,
            self._order,
            self._stopwatch,
            critic=None,
        )

    def drop_momentum(self) -> None:
        """Set Adam's first moments to 0, so that earlier gradients move the policy no further."""
        momentum, _ = adam_moments(self._schedule.optimizer, self._policy.master)
        for moment in momentum.values():
            moment.zero_()

    def run_all(
        self,
        parts: Sequence[Iteration],
        state: LearnerState,
        progress: Callable[[Progress], None],
    ) -> tuple[LearnerState, list[dict[str, Any]]]:
        """Learn from one part after another; see ``run``."""
        found = []
        for number, part in enumerate(parts):
            state, figures = self.run(part, state, as_part(progress, number, len(parts)))
            found.append(figures)
        return state, found

    def run(
        self, part: Iteration, state: LearnerState, progress: Callable[[Progress], None]
    ) -> tuple[LearnerState, dict[str, Any]]:
        """Learn from one part; return the state with the new means of the users, and figures.

        Raises:
            LearningError: A gradient is not finite.
        """
        batch, recipe = part.votes, self._recipe
        give_back_freed_memory()  # passes of other sizes left it, and it grows with each part
        # 1. Score the votes at the start: log-probs, KL, weights and advantages.
        with self._stopwatch.phase("score"):
            scored = score_samples(
                batch, self._policy, state, recipe, progress, self._critic, part.baselines
            )
            scored = replace(scored, together=part.together)
        # 2. Learn from them for N epochs.
        with self._stopwatch.phase("learn"):
            corrections = find_corrections(batch, self._base, recipe)
            epochs = Epochs(
                self._policy,
                batch,
                scored,
                self._schedule,
                self._order,
                recipe,
                self._settings,
                critic=self._critic,
                corrections=corrections,
            )
            trace = epochs.run(progress)
        # 3. Report the figures, and update the users' means.
        with self._stopwatch.phase("measure"):
            figures = {
                **batch_figures(batch, scored),
                **learning_figures(trace),
                **corrections.figures(),
            }
        return after_votes(batch, state), figures


def after_votes(votes: Sequence[Sample], state: LearnerState) -> LearnerState:
    """Return the state with these votes in the users' means."""
    users = [vote.user for vote in votes]
    rewards = torch.tensor([vote.reward for vote in votes]).tolist()  # fp32, as in baselines
    return replace(state, users=update_user_means(state.users, users, rewards, decay=USER_DECAY))
