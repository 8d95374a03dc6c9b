"""The PPO iterations of an update: a large batch is learned part by part."""

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
"""What a user's past counts for after each further iteration."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration learns from.

    Attributes:
        votes: Its share of the batch.
        together: So many of its votes after one another are on replies to one question.
    """

    votes: Sequence[Sample]
    together: int = 1


def divide(batch: Sequence[Sample], *, votes: int) -> Sequence[Iteration]:
    """Deal a batch out to iterations of at least ``votes`` votes each.

    As many as there can be, and all of nearly one size; a single one where the batch is smaller,
    or ``votes`` is 0. Votes that came one after another, as of a user in haste, go to different
    iterations.
    """
    count = max(1, len(batch) // votes) if votes else 1
    return [Iteration(batch[number::count]) for number in range(count)]


def among(
    progress: Callable[[Progress], None], number: int, count: int
) -> Callable[[Progress], None]:
    """Return what tells of the progress of iteration ``number`` as a part of all ``count``."""

    def tell(at: Progress) -> None:
        progress(Progress(at.phase, number * at.total + at.done, count * at.total))

    return tell


class Iterations:
    """Takes a policy through the iterations of one update.

    Args:
        policy: What learns; at the parent's weights.
        base: Encodes what people wrote.
        recipe: How the policy learns.
        settings: What the passes may take.
        schedule: Sets the rates of an optimiser over the policy's masters, and the critic's.
        order: Draws the order of the minibatches.
        stopwatch: Counts the seconds of each phase.
        critic: Learns beside the policy.
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
        """Return the same with another recipe, and without a critic."""
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

    def come_to_rest(self) -> None:
        """Take the policy's momentum away: what comes next moves it by its own gradients alone."""
        momentum, _ = adam_moments(self._schedule.optimizer, self._policy.master)
        for moment in momentum.values():
            moment.zero_()

    def run_all(
        self,
        parts: Sequence[Iteration],
        state: LearnerState,
        progress: Callable[[Progress], None],
    ) -> tuple[LearnerState, list[dict[str, Any]]]:
        """Learn from the parts, each from where the one before it ended; see ``run``."""
        found = []
        for number, part in enumerate(parts):
            state, figures = self.run(part, state, among(progress, number, len(parts)))
            found.append(figures)
        return state, found

    def run(
        self, part: Iteration, state: LearnerState, progress: Callable[[Progress], None]
    ) -> tuple[LearnerState, dict[str, Any]]:
        """Learn from one part; return the state with the users' means after it, and figures.

        Raises:
            LearningError: A gradient is not finite.
        """
        batch, recipe = part.votes, self._recipe
        give_back_freed_memory()  # what passes of other sizes left, which grows part by part
        # 1. Fix what the batch looks like at the start.
        with self._stopwatch.phase("score"):
            scored = score_samples(batch, self._policy, state, recipe, progress, self._critic)
            scored = replace(scored, together=part.together)
        # 2. Learn for N epochs.
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
        # 3. Tell where it went, and what that means for the next one.
        with self._stopwatch.phase("measure"):
            figures = {
                **batch_figures(batch, scored),
                **learning_figures(trace),
                **corrections.figures(),
            }
        return _after(batch, state), figures


def _after(votes: Sequence[Sample], state: LearnerState) -> LearnerState:
    """Return the state with the users' means after these votes."""
    users = [vote.user for vote in votes]
    rewards = torch.tensor([vote.reward for vote in votes]).tolist()  # fp32, as baselines see them
    return replace(state, users=update_user_means(state.users, users, rewards, decay=USER_DECAY))
