"""Measures how much a model of the votes takes away of a gradient's noise.

People with a taste vote on replies of the base. From eight groups of 64 votes each come two
gradients: that of the votes against the mean of the others, and that of the votes against what a
model of the other votes expects, with what the model expects of practice replies added back. Both
are held against the gradient of 2,000 other votes. The command prints their cosines and writes
them to ``gradient.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from bench.learning.people import USERS, Habits, World
from bench.learning.remembered import as_sample
from bench.learning.replies import MEMORY, Replies
from bench.learning.results import SEARCH_SEED
from bench.support.machine import describe, write_results
from bench.support.paths import ROOT
from bench.support.progress import say
from models.learning.evidence import weigh
from models.learning.features import reply_features
from models.policy.batch import micro_batches
from models.ppo.advantages import among_replies, leave_one_out
from models.settings import LearnerSettings
from models.types import BASE
from service.simulate.people import click
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.learning.evidence import Evidence
    from models.policy.policy import Policy
    from models.types import Sample

GROUPS, VOTES, MANY = 8, 64, 2000
QUESTIONS, REPLIES = 48, 4
"""Practice of one update: three rounds of sixteen questions with four replies each."""
_FIRST_SEED = 6_000_000
"""No other bench draws replies with such seeds."""


def voted(world: World, replies: Replies, count: int) -> list[Sample]:
    """Return so many votes on replies of the base."""
    turns = [world.turn(number) for number in range(count)]
    drawn = replies.ask([t.prompt for t in turns], BASE, [t.seed for t in turns])
    return [
        replace(
            as_sample(reply, str(number)),
            user=turn.user.name,
            reward=1.0 if click(turn, reply.text) == "up" else -1.0,
        )
        for number, (turn, reply) in enumerate(zip(turns, drawn, strict=True))
    ]


def practised(votes: Sequence[Sample], world: World, replies: Replies) -> list[Sample]:
    """Return replies of the base to questions that the votes are on, a question's together."""
    first = int(votes[0].completion_id)
    prompts = list(dict.fromkeys(world.turn(first + i).prompt for i in range(len(votes))))
    asked = [prompt for prompt in prompts[:QUESTIONS] for _ in range(REPLIES)]
    start = _FIRST_SEED + first * REPLIES
    drawn = replies.ask(asked, BASE, range(start, start + len(asked)))
    return [as_sample(reply, str(number)) for number, reply in enumerate(drawn)]


def gradient(
    policy: Policy, samples: Sequence[Sample], advantages: torch.Tensor, settings: LearnerSettings
) -> torch.Tensor:
    """Return the mean of advantage times the gradient of a reply's log-prob, as one vector."""
    policy.reset(0)
    for master in policy.master.values():
        master.grad = None
    rows = range(len(samples))
    for micro in micro_batches(
        samples, rows, tokens=settings.micro_batch_tokens, device=settings.device
    ):
        scores = policy.score(micro)
        of_replies = (scores.logprobs * micro.mask).sum(-1)
        loss = (of_replies * advantages[list(micro.rows)].float()).sum() / len(samples)
        loss.backward()  # type: ignore[no-untyped-call]
    grads = [master.grad for master in policy.master.values() if master.grad is not None]
    return torch.cat([grad.flatten() for grad in grads]).clone()


def corrected(
    policy: Policy,
    evidence: Evidence,
    votes: Sequence[Sample],
    drawn: Sequence[Sample],
    settings: LearnerSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both terms of the corrected gradient: of the votes, and of practice replies."""
    if evidence.model is None:
        raise SystemExit("All votes of a group are alike: choose another taste.")
    left = torch.tensor([vote.reward for vote in votes]) - torch.tensor(evidence.baselines)
    expected = evidence.model.expect(reply_features(drawn, policy))
    better = among_replies(expected, replies=REPLIES, spread=1.0, floor=1.0)
    of_votes = gradient(policy, votes, left, settings)
    return of_votes, gradient(policy, drawn, better, settings)


def measure(taste: str, seed: int) -> dict[str, Any]:
    """Return the cosines of a taste's gradients to that of many votes, and how they scatter."""
    settings = LearnerSettings(data_dir=ROOT / "var")
    world = World(taste, seed, USERS, Habits())
    replies = Replies(settings, TASTES[taste].tokens, MEMORY)
    policy = replies.policy
    votes = voted(world, replies, GROUPS * VOTES + MANY)
    many = votes[GROUPS * VOTES :]
    rewards = torch.tensor([vote.reward for vote in many])
    truth = gradient(policy, many, rewards - rewards.mean(), settings)
    plain, both, first = [], [], []
    for number in range(GROUPS):
        group = votes[number * VOTES : (number + 1) * VOTES]
        rewards = torch.tensor([vote.reward for vote in group])
        plain.append(gradient(policy, group, rewards - leave_one_out(rewards), settings))
        evidence = weigh(group, policy, most=VOTES)
        of_votes, of_practice = corrected(
            policy, evidence, group, practised(group, world, replies), settings
        )
        first.append(of_votes)
        both.append(of_votes + of_practice)
        cosines = [_cosine(found[-1], truth) for found in (plain, both)]
        say(f"{taste}, group {number}: {cosines[0]:.3f}, {cosines[1]:.3f}")
    return {
        name: {
            "cosine": round(fmean(_cosine(each, truth) for each in found), 4),
            "variance": round(_scatter(found) / _scatter(plain), 4),
        }
        for name, found in (("votes", plain), ("votes less expected", first), ("both terms", both))
    }


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.cosine_similarity(one, other, dim=0))


def _scatter(found: Sequence[torch.Tensor]) -> float:
    """Return the variance of vectors: the mean squared distance from their mean, unbiased."""
    stacked = torch.stack(list(found))
    return float((stacked - stacked.mean(0)).square().sum() / (len(found) - 1))


def main() -> int:
    """Measure some tastes; print the figures and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tastes", nargs="+", choices=list(TASTES), default=["formal"])
    parser.add_argument("--seed", type=int, default=SEARCH_SEED)
    options = parser.parse_args()
    found = {taste: measure(taste, options.seed) for taste in options.tastes}
    write_results("gradient", {**describe(), "tastes": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
