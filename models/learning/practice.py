"""Replies that nobody voted on: the policy's own, learned by what a model of the votes expects.

What people said of some replies tells something of all others. So after the votes of an update the
policy answers questions of theirs several times each, and learns from how much better one answer
would be liked than another to the same question. As with Dyna (Sutton, 1990), experience trains
the policy, and a model that makes more of it; here the world's answer is known, and only the reward
is modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from models.decoding.offline import generate_offline
from models.learning.features import reply_features
from models.learning.iterations import Iteration, among
from models.learning.reward_model import fit_reward_model
from models.ppo.advantages import among_replies
from models.probes.texts import shared_grams
from models.types import Sample, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.base.loading import Base
    from models.learning.iterations import Iterations
    from models.learning.reward_model import RewardModel
    from models.learning.state import LearnerState
    from models.policy.policy import Policy
    from models.recipe import Recipe
    from models.settings import LearnerSettings
    from models.timing import Stopwatch
    from models.types import Progress

LEAST_VOTES = 12
"""Fewer tell next to nothing."""
SPREAD, SPREAD_FLOOR = 0.7, 0.15
"""Standard deviation of a round's advantages; less where expectations differ by less than that."""
ENOUGH = 0.5
"""Mean worth from which on nothing more is learned: three of four replies are liked."""
SHARED_FREE, SHARED_COST = 0.1, 2.0
"""How much of a reply may be said to other questions too, and what each unit beyond takes off."""


@dataclass(frozen=True, slots=True)
class PracticePrompt:
    """A prompt, and the temperature at which somebody was answered."""

    prompt_ids: tuple[int, ...]
    temperature: float


@dataclass(frozen=True, slots=True)
class PracticeRound:
    """Replies to learn from.

    Attributes:
        part: The replies, each with how much more it is worth than others to the same question.
        expected: Mean reward that the votes let expect.
        shared: Mean share of a reply that is said to other questions too.
        worth: Mean of what is expected, less what is taken off for that.
    """

    part: Iteration
    expected: float
    shared: float
    worth: float


class Practice:
    """Takes a policy through the rounds of one update.

    Args:
        policy: What replies, and learns.
        base: Encodes and decodes.
        recipe: How many replies, how long, and how they are learned.
        settings: What drawing them may take.
        order: Draws the questions, and the replies' seeds.
        stopwatch: Counts the seconds of each phase.
    """

    def __init__(
        self,
        policy: Policy,
        base: Base,
        recipe: Recipe,
        settings: LearnerSettings,
        order: torch.Generator,
        stopwatch: Stopwatch,
    ) -> None:
        self._policy, self._base = policy, base
        self._recipe, self._settings = recipe, settings
        self._order, self._stopwatch = order, stopwatch

    def run(
        self,
        votes: Sequence[Sample],
        iterations: Iterations,
        state: LearnerState,
        progress: Callable[[Progress], None],
    ) -> dict[str, Any]:
        """Learn rounds until enough is expected to be liked; return figures, JSON-able, or none.

        There are as many as the recipe asks for, at most.

        Args:
            votes: What the reward model is fitted to: the last ``reward_model_votes`` of them.
            iterations: Of the votes; a round is learned with a recipe of its own.
            state: The learner's, after the votes.
            progress: Told how far it is.

        Raises:
            EngineError: The model cannot be decoded, or gives no numbers.
            LearningError: A gradient is not finite.
        """
        rounds = self._recipe.practice_rounds
        if not rounds:
            return {}
        votes = votes[-self._recipe.reward_model_votes :]
        with self._stopwatch.phase("reward_model"):
            model = self._fit(votes)
        figures: dict[str, Any] = {
            "votes": len(votes),
            "replies": 0,
            "steps": 0,
            "expected": [],
            "shared": [],
            "kl_per_reply": [],
        }
        if model is None:
            return figures
        figures |= {"correlation": model.correlation, "explained": model.explained}
        again = iterations.with_recipe(_of_practice(self._recipe))
        for number in range(rounds):
            with self._stopwatch.phase("practice"):
                drawn = self._draw(votes)
                if not drawn:
                    break
                judged = self._judge(model, drawn)
            figures["replies"] += len(drawn)
            figures["expected"].append(judged.expected)
            figures["shared"].append(judged.shared)
            if judged.worth >= ENOUGH:
                break
            if number == 0:
                again.come_to_rest()
            tell = among(_of_rounds(progress), number, rounds)
            _, found = again.run(judged.part, state, tell)
            figures["steps"] += found["steps"]
            figures["kl_per_reply"].append(found["kl_per_reply"])
        return figures

    def _fit(self, votes: Sequence[Sample]) -> RewardModel | None:
        """Fit a reward model to votes; None where they are too few, or all alike."""
        rewards = torch.tensor([vote.reward for vote in votes])
        if len(votes) < LEAST_VOTES or len(rewards.unique()) == 1:  # type: ignore[no-untyped-call]
            return None
        return fit_reward_model(
            reply_features(votes, self._policy),
            rewards,
            [vote.user for vote in votes],
        )

    def _draw(self, votes: Sequence[Sample]) -> list[Sample]:
        """Return several replies to each of some of the votes' questions, a question's together.

        Questions are drawn without preference; one that leaves no room for a reply as long as those
        that were voted on is left out.

        Raises:
            EngineError: The model cannot be decoded, or gives no numbers.
        """
        tokens = self._longest(votes)
        asked = self._questions(votes, room=self._settings.context_length - tokens)
        asked = [question for question in asked for _ in range(self._recipe.practice_replies)]
        if not asked:
            return []
        samplings = [Sampling(q.temperature, max_tokens=tokens, seed=self._seed()) for q in asked]
        prompts = [question.prompt_ids for question in asked]
        engine = self._settings.model_copy(
            update={"engine_threads": self._settings.learner_threads}
        )
        with TemporaryDirectory(prefix="thumbloop-practice-") as folder:
            self._policy.save(Path(folder))
            drawn = generate_offline(
                self._base, Path(folder), list(zip(prompts, samplings, strict=True)), engine
            )
        return [
            Sample(
                completion_id=f"practice-{number}",
                user="",
                prompt_ids=question.prompt_ids,
                response_ids=tuple(token.id for token in tokens_of_reply),
                behaviour_logprobs=tuple(token.logprob for token in tokens_of_reply),
                temperature=question.temperature,
                reward=0.0,
                version="",
                ended=tokens_of_reply[-1].id in self._base.end_ids,
            )
            for number, (question, tokens_of_reply) in enumerate(zip(asked, drawn, strict=True))
        ]

    def _judge(self, model: RewardModel, drawn: Sequence[Sample]) -> PracticeRound:
        """Return what such replies are worth: what is expected, less for what is said to all.

        Votes are on one reply each, and cannot tell that a liked phrase has become the answer to
        everything. Quality and diversity in one reward: Darling, arXiv 2509.02534.
        """
        replies = self._recipe.practice_replies
        expected = model.expect(reply_features(drawn, self._policy))
        said = [sample.response_ids for sample in drawn]
        shared = expected.new_tensor(shared_grams(said, to_each=replies))
        worth = expected - SHARED_COST * (shared - SHARED_FREE).clamp(min=0)
        scores = among_replies(worth, replies=replies, spread=SPREAD, floor=SPREAD_FLOOR)
        judged = [
            replace(sample, reward=score)
            for sample, score in zip(drawn, scores.tolist(), strict=True)
        ]
        return PracticeRound(
            part=Iteration(judged, replies),
            expected=float(expected.mean()),
            shared=float(shared.mean()),
            worth=float(worth.mean()),
        )

    def _longest(self, votes: Sequence[Sample]) -> int:
        longest = max(len(vote.response_ids) for vote in votes)
        return min(longest, self._recipe.practice_tokens)

    def _questions(self, votes: Sequence[Sample], *, room: int) -> list[PracticePrompt]:
        of_prompt = {vote.prompt_ids: vote.temperature or 1.0 for vote in votes}
        fitting = [PracticePrompt(*each) for each in of_prompt.items() if len(each[0]) <= room]
        chosen = torch.randperm(len(fitting), generator=self._order)
        return [fitting[number] for number in chosen[: self._recipe.practice_prompts]]

    def _seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self._order))


def _of_rounds(progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return what tells of progress in phases of other names than the votes' ones."""

    def tell(at: Progress) -> None:
        progress(replace(at, phase=f"practice {at.phase}"))

    return tell


def _of_practice(recipe: Recipe) -> Recipe:
    """Return the recipe of a round: its rewards are advantages already."""
    return replace(recipe, advantage="none", epochs=recipe.practice_epochs)
