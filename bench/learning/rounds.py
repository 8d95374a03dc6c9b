"""The loop of every arm that learns from votes: chat, vote, learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bench.learning.measure import CEILING_OF
from bench.learning.remembered import as_sample
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.learning.people import Cast, World
    from bench.learning.remembered import Reply
    from bench.learning.replies import Replies
    from models.types import Sample
    from service.simulate.people import Turn


@dataclass(frozen=True, slots=True)
class Voted:
    """A reply and the vote on it, as it arrived."""

    reply: Reply
    sample: Sample

    @property
    def liked(self) -> bool:
        """Whether it is a thumb up."""
        return self.sample.reward > 0


@dataclass(frozen=True, slots=True)
class Learned:
    """A version and the number of labels that were learned on the way to it."""

    labels: int
    version: str
    report: dict[str, Any]


class Student(Protocol):
    """What makes versions from votes."""

    every: int
    """Votes in one update."""

    def learn(self, batch: Sequence[Voted], parent: str, number: int) -> tuple[str, dict[str, Any]]:
        """Return the version that comes after ``parent``, and figures of the update."""
        ...


def rounds(student: Student, world: World, replies: Replies, labels: int) -> Iterator[Learned]:
    """Let people chat and vote, and a student learn, until it has had so many labels."""
    versions, learned, asked, number = [BASE], 0, 0, 0
    coming: list[tuple[int, Voted]] = []
    fresh = student.every // world.sides
    while learned + fresh <= labels:
        served = versions[max(0, len(versions) - 1 - world.habits.lag)]
        turns = [world.turn(asked + i) for i in range(fresh)]
        asked += len(turns)
        for turn, answers in zip(turns, _answers(world, replies, turns, served), strict=True):
            for cast in world.votes(turn, [reply.text for reply in answers], number):
                better = _best(replies, turn) if world.corrects(cast) else ""
                voted = _voted(answers[cast.side], cast, served, better)
                coming.append((cast.arrives, voted))
        here = [arrival for arrival in coming if arrival[0] <= number][: student.every]
        number += 1
        if len(here) < student.every:
            continue
        coming = [arrival for arrival in coming if arrival not in here]
        batch = [voted for _, voted in here]
        version, report = student.learn(batch, versions[-1], len(versions))
        versions.append(version)
        learned += len(batch) // world.sides
        yield Learned(learned, version, report)


def _answers(
    world: World, replies: Replies, turns: Sequence[Turn], version: str
) -> list[list[Reply]]:
    """Return the replies of each turn, one for each side."""
    asked = [(turn.prompt, turn.seed + side) for turn in turns for side in range(world.sides)]
    drawn = replies.ask([prompt for prompt, _ in asked], version, [seed for _, seed in asked])
    return [drawn[start : start + world.sides] for start in range(0, len(drawn), world.sides)]


def _best(replies: Replies, turn: Turn) -> str:
    """Return what a turn's user would rather have read: the best of the base's sixteen replies."""
    seeds = [turn.seed + number for number in range(CEILING_OF)]
    texts = [reply.text for reply in replies.ask([turn.prompt] * CEILING_OF, BASE, seeds)]
    return max(texts, key=partial(turn.user.taste.worth, turn.prompt))


def _voted(reply: Reply, cast: Cast, version: str, correction: str) -> Voted:
    sample = replace(
        as_sample(reply, f"t{cast.turn.number}-{cast.side}", version),
        user=cast.turn.user.name,
        reward=cast.reward,
        correction=correction,
    )
    return Voted(reply, sample)
