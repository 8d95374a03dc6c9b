"""Practice: the policy learns from replies of its own, which a model of the votes rates.

Votes on some replies say something about all replies. After the votes of an update, the policy
answers people's questions several times each. It learns how much better one answer is expected to
be liked than the others to the same question. As in Dyna (Sutton, 1990), experience trains both the
policy and a model, and the model trains the policy further. Here only the reward is modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from models.decoding.offline import generate_offline
from models.learning.features import reply_features
from models.learning.iterations import Iteration, as_part
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

SPREAD, SPREAD_FLOOR = 0.7, 0.15
"""The standard deviation of a round's advantages, and the least one that is scaled up to it."""
ENOUGH = 0.5
"""The mean worth at which practice ends: people would like three of four replies."""
SHARED_FREE, SHARED_COST = 0.1, 2.0
"""The share of a reply that may also answer other questions, and the cost of each unit beyond."""


@dataclass(frozen=True, slots=True)
class PracticePrompt:
    """A prompt, and the temperature of a reply that somebody voted on."""

    prompt_ids: tuple[int, ...]
    temperature: float


@dataclass(frozen=True, slots=True)
class PracticeRound:
    """The rated replies of a round.

    Attributes:
        part: The replies; each has as its reward how much more it is worth than the others to the
            same question.
        expected: The mean reward that the model expects.
        shared: The mean share of a reply that also answers other questions.
        worth: The mean of the expected rewards, less the cost of what is shared.
    """

    part: Iteration
    expected: float
    shared: float
    worth: float


class Practice:
    """Takes a policy through the rounds of one update.

    Args:
        policy: The policy that replies and learns.
        base: Its model and tokenizer draw the replies.
        recipe: How many replies there are, how long they may be, and how they are learned.
        settings: How many threads and how much memory drawing them may use.
        order: Draws the questions and the seeds of the replies.
        stopwatch: Measures the seconds of each phase.
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
        model: RewardModel,
        iterations: Iterations,
        state: LearnerState,
        progress: Callable[[Progress], None],
    ) -> dict[str, Any]:
        """Practise for the recipe's rounds, or until enough replies would be liked.

        Args:
            votes: Their questions are asked again.
            model: Rates the replies.
            iterations: The iterations of the votes; a round has a recipe of its own.
            state: The learner's state after the votes.
            progress: Is called with the progress of the rounds.

        Returns:
            Figures for the report, JSON-able.

        Raises:
            EngineError: The model cannot be decoded, or gives no numbers.
            LearningError: A gradient is not finite.
        """
        rounds = self._recipe.practice_rounds
        figures: dict[str, Any] = {
            "replies": 0,
            "steps": 0,
            "expected": [],
            "shared": [],
            "kl_per_reply": [],
        }
        learning = iterations.with_recipe(_of_a_round(self._recipe))
        for number in range(rounds):
            with self._stopwatch.phase("practice"):
                drawn = self._draw(votes)
                if not drawn:
                    break
                rated = self._rate(model, drawn)
            figures["replies"] += len(drawn)
            figures["expected"].append(rated.expected)
            figures["shared"].append(rated.shared)
            if rated.worth >= ENOUGH:
                break
            if number == 0:
                learning.drop_momentum()
            report = as_part(_of_practice(progress), number, rounds)
            _, found = learning.run(rated.part, state, report)
            figures["steps"] += found["steps"]
            figures["kl_per_reply"].append(found["kl_per_reply"])
        return figures

    def _draw(self, votes: Sequence[Sample]) -> list[Sample]:
        """Draw several replies to each of some questions; replies to one question stay together.

        All questions of the votes are equally likely. A question is left out if the context has no
        room for a reply as long as those that were voted on.

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

    def _rate(self, model: RewardModel, drawn: Sequence[Sample]) -> PracticeRound:
        """Rate replies by their expected reward, less a cost for what also answers other questions.

        A vote is on one reply, and cannot say that a liked phrase has become the answer to every
        question. Darling also has quality and diversity in one reward (arXiv 2509.02534).
        """
        replies = self._recipe.practice_replies
        expected = model.expect(reply_features(drawn, self._policy))
        said = [sample.response_ids for sample in drawn]
        shared = expected.new_tensor(shared_grams(said, to_each=replies))
        worth = expected - SHARED_COST * (shared - SHARED_FREE).clamp(min=0)
        scores = among_replies(worth, replies=replies, spread=SPREAD, floor=SPREAD_FLOOR)
        rated = [
            replace(sample, reward=score)
            for sample, score in zip(drawn, scores.tolist(), strict=True)
        ]
        return PracticeRound(
            part=Iteration(rated, replies),
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


def _of_practice(progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a function that reports progress under names that differ from those for votes."""

    def report(at: Progress) -> None:
        progress(replace(at, phase=f"practice {at.phase}"))

    return report


def _of_a_round(recipe: Recipe) -> Recipe:
    """Return the recipe of a round, in which the rewards are already advantages."""
    return replace(recipe, advantage="none", epochs=recipe.practice_epochs)
