"""Measures how well a reward model of few votes rates the replies to a question.

Simulated people with a hidden taste vote on replies of the base; the model that is fitted to their
votes rates sixteen replies to each held-out question. Its figure is the correlation, within
questions, of what it expects with the share of people who like a reply; a guess has 0. Replies are
drawn once, which takes minutes, and kept.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise, product
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from bench.learning.people import USERS, Habits, World
from bench.learning.remembered import as_sample
from bench.learning.replies import MEMORY, TOKENS, Replies
from bench.learning.results import SEARCH_SEED
from bench.support.machine import describe, write_results
from bench.support.paths import ROOT
from models.learning.features import reply_features
from models.learning.reward_model import ReplyFeatures, fit_reward_model
from models.settings import LearnerSettings
from models.types import BASE
from service.simulate.people import click
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.learning.remembered import Reply

VOTES = (16, 32, 64, 128)
OF_QUESTION = 16
"""Replies to each question."""
FIRST_SEED = 4_000_000
"""No other bench draws replies with such seeds."""
EXPLAINED = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)
"""Bounds of the groups of models, by what they hold to be the replies' own."""


CONTROL = tuple(name for name, taste in TASTES.items() if taste.half == "control")


@dataclass(frozen=True, slots=True)
class Pool:
    """Some replies of the base to each question, and what is known of them."""

    replies: Sequence[Reply]
    features: ReplyFeatures
    rows: dict[str, range]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a model of so many votes made of held-out replies."""

    taste: str
    votes: int
    explained: float
    spread: float
    within: float


def draw(questions: Sequence[str]) -> Pool:
    """Let the base answer each question sixteen times."""
    settings = LearnerSettings(data_dir=ROOT / "var")
    replies = Replies(settings, TOKENS, MEMORY)
    often = [question for question in questions for _ in range(OF_QUESTION)]
    drawn = replies.ask(often, BASE, range(FIRST_SEED, FIRST_SEED + len(often)))
    samples = [as_sample(reply, str(number)) for number, reply in enumerate(drawn)]
    features = reply_features(samples, replies.policy)
    starts = range(0, len(often), OF_QUESTION)
    rows = {often[start]: range(start, start + OF_QUESTION) for start in starts}
    return Pool(drawn, features, rows)


def fit(world: World, pool: Pool, votes: int) -> tuple[float, float, float] | None:
    """Return what a model explains of its votes, and spread and correlation within questions.

    None where all votes are alike, so that nothing can be fitted.
    """
    turns = [world.turn(number) for number in range(votes)]
    rows = [Random(turn.seed).choice(pool.rows[turn.prompt]) for turn in turns]
    clicks = [click(turn, pool.replies[row].text) for turn, row in zip(turns, rows, strict=True)]
    if len(set(clicks)) == 1:
        return None
    rewards = torch.tensor([1.0 if each == "up" else -1.0 for each in clicks])
    model = fit_reward_model(pool.features[rows], rewards, [turn.user.name for turn in turns])
    held_out = [row for question in dict.fromkeys(world.held_out) for row in pool.rows[question]]
    expected = model.expect(pool.features[held_out])
    approval = torch.tensor(
        [world.approval(pool.replies[row].prompt, pool.replies[row].text) for row in held_out]
    ).double()
    return model.explained, float(_apart(expected).std()), within(expected, approval)


def within(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the correlation of two figures of replies, question by question."""
    first, second = (_apart(each).flatten() for each in (one, other))
    return float(torch.cosine_similarity(first, second, dim=0))


def _apart(figures: torch.Tensor) -> torch.Tensor:
    """Return how far each figure is from the mean of its question's, ``[questions, 16]``."""
    of_questions = figures.view(-1, OF_QUESTION)
    return of_questions - of_questions.mean(1, keepdim=True)


def summary(fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Return how many models there are, and the means of their figures."""
    if not fitted:
        return {"models": 0}
    return {
        "models": len(fitted),
        **{
            name: round(fmean(getattr(each, name) for each in fitted), 3)
            for name in ("within", "explained", "spread")
        },
    }


def main() -> int:
    """Fit models to votes of many groups of people; print the figures and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=40, help="groups of people with each taste")
    options = parser.parse_args()
    seeds = range(SEARCH_SEED, SEARCH_SEED + options.groups)
    worlds = {key: World(*key, USERS, Habits()) for key in product(CONTROL, seeds)}
    turns = [world.turn(number) for world in worlds.values() for number in range(max(VOTES))]
    held_out = [question for world in worlds.values() for question in world.held_out]
    pool = draw(list(dict.fromkeys([*(turn.prompt for turn in turns), *held_out])))
    fitted = [
        Fitted(taste, votes, *found)
        for (taste, _), world in worlds.items()
        for votes in VOTES
        if (found := fit(world, pool, votes)) is not None
    ]
    figures: dict[str, Any] = {}
    for votes in VOTES:
        of_votes = [each for each in fitted if each.votes == votes]
        figures[f"{votes} votes"] = {
            "all": summary(of_votes),
            **{taste: summary([f for f in of_votes if f.taste == taste]) for taste in CONTROL},
            **{
                f"explained {low} to {high}": summary(
                    [each for each in of_votes if low <= each.explained < high]
                )
                for low, high in pairwise(EXPLAINED)
            },
        }
    write_results("reward-model", {**describe(), **figures})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
