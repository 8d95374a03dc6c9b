"""The loop that every arm with its own votes goes through: chat, vote, learn, measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from models.types import BASE, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from learn.people import Cast, World
    from learn.remembered import Reply
    from learn.replies import Replies


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
    """Labels in one update."""

    def learn(self, batch: Sequence[Voted], parent: str, number: int) -> tuple[str, dict[str, Any]]:
        """Return the version that comes after ``parent``, and figures of the update."""
        ...


def rounds(student: Student, world: World, replies: Replies, labels: int) -> Iterator[Learned]:
    """Let people chat and vote, and a student learn, until it has had so many labels."""
    versions, learned, asked, number = [BASE], 0, 0, 0
    coming: list[tuple[int, Voted]] = []
    while learned + student.every <= labels:
        served = versions[max(0, len(versions) - 1 - world.habits.lag)]
        turns = [world.turn(asked + i) for i in range(student.every)]
        asked += len(turns)
        answers = replies.ask([t.prompt for t in turns], served, [t.seed for t in turns])
        for turn, reply in zip(turns, answers, strict=True):
            casts = world.votes(turn, reply.text, number)
            coming += [(cast.arrives, _voted(reply, cast, served)) for cast in casts]
        here = [arrival for arrival in coming if arrival[0] <= number][: student.every]
        number += 1
        if len(here) < student.every:
            continue
        coming = [arrival for arrival in coming if arrival not in here]
        batch = [voted for _, voted in here]
        version, report = student.learn(batch, versions[-1], len(versions))
        versions.append(version)
        learned += len(batch)
        yield Learned(learned, version, report)


def _voted(reply: Reply, cast: Cast, version: str) -> Voted:
    sample = Sample(
        completion_id=f"t{cast.turn.number}",
        user=cast.turn.user.name,
        prompt_ids=reply.prompt_ids,
        response_ids=reply.ids,
        behaviour_logprobs=reply.logprobs,
        temperature=1.0,
        reward=1.0 if cast.up else -1.0,
        version=version,
        ended=reply.ended,
    )
    return Voted(reply, sample)
