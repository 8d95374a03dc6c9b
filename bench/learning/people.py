"""The simulated people who vote, and when each vote arrives: pure functions of a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from bench.learning.questions import questions_of
from service.simulate.people import Turn, approves, click, make_turn, make_users, margin_of
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.simulate.people import SimulatedUser

Form = Literal["thumbs", "ratings", "comparisons", "corrections"]
"""What people say of replies: a thumb; 0 to 5 stars; which of two replies is the better one; or a
thumb and, of some disliked replies, what they would rather have read."""
USERS = 40
"""People with a taste, in every run."""
REVERSED_AFTER = 3
"""Rounds after which a user takes back a vote that was not meant."""
LONGEST_DELAY = 3


@dataclass(frozen=True, slots=True)
class Habits:
    """How people vote.

    Attributes:
        flip: Share of clicks that slip.
        reversal: Share of votes that are first cast the wrong way and put right later.
        late: Share of votes that arrive one to three rounds after their reply.
        adversaries: Share of the users who always click against what they like.
        lag: Rounds by which the version that people chat with is behind the newest.
        form: What they say.
        writes: Share of disliked replies that people correct, where they do.
    """

    flip: float = 0.1
    reversal: float = 0.05
    late: float = 0.3
    adversaries: float = 0.0
    lag: int = 0
    form: Form = "thumbs"
    writes: float = 0.3


@dataclass(frozen=True, slots=True)
class Cast:
    """What was said of one reply, and the round in which that arrives.

    Attributes:
        side: Which of the turn's replies it is about.
        reward: In [-1, 1].
    """

    turn: Turn
    side: int
    reward: float
    arrives: int

    @property
    def up(self) -> bool:
        """Whether the reply was liked."""
        return self.reward > 0


class World:
    """Users with one taste, and the prompts they ask about; some prompts are held out."""

    def __init__(self, taste: str, seed: int, users: int, habits: Habits) -> None:
        self.habits = habits
        self.seed = seed
        self.taste = TASTES[taste]
        self.users = make_users(self.taste, users, seed=seed)
        prompts = questions_of(self.taste)
        self._asked, self.held_out = prompts.chat, prompts.score
        enemies = round(habits.adversaries * users)
        self._enemies = {user.name for user in self.users[:enemies]}

    def turn(self, number: int) -> Turn:
        """Return the question of turn ``number``. Turns that nobody rates teach nothing: left out.

        A user's share of adversaries is exact only where ``users`` allows it.
        """
        return make_turn(
            number, self.users, self._asked, seed=self.seed, rate=1.0, flip=self.habits.flip
        )

    @property
    def sides(self) -> int:
        """Replies to one question: two where people compare, at the cost of one label."""
        return 2 if self.habits.form == "comparisons" else 1

    def votes(self, turn: Turn, texts: Sequence[str], round_number: int) -> list[Cast]:
        """Return what a turn's user says of the replies, or first the contrary, put right later."""
        dice = Random(f"habits-{self.seed}-{turn.number}")
        late = dice.random() < self.habits.late
        arrives = round_number + (dice.randint(1, LONGEST_DELAY) if late else 0)
        sign = -1 if turn.user.name in self._enemies else 1
        meant = [sign * reward for reward in said_of(turn, texts, self.habits.form)]
        right = [Cast(turn, side, reward, arrives) for side, reward in enumerate(meant)]
        if dice.random() >= self.habits.reversal:
            return right
        return [Cast(turn, each.side, -each.reward, arrives) for each in right] + [
            Cast(turn, each.side, each.reward, arrives + REVERSED_AFTER) for each in right
        ]

    def corrects(self, cast: Cast) -> bool:
        """Whether the user writes what should have been said instead."""
        if self.habits.form != "corrections" or cast.up:
            return False
        return Random(f"writes-{self.seed}-{cast.turn.number}").random() < self.habits.writes

    def approval(self, question: str, reply: str) -> float:
        """Return the share of the honest users who would truly like a reply, in [0, 1]."""
        honest = [user for user in self.users if user.name not in self._enemies]
        return share_of_approval(honest, question, reply)


def share_of_approval(users: Sequence[SimulatedUser], question: str, reply: str) -> float:
    """Return how many of the users would like a reply, as a share; 1 for no users."""
    return sum(approves(user, question, reply) for user in users) / max(1, len(users))


def said_of(turn: Turn, texts: Sequence[str], form: Form) -> list[float]:
    """Return the reward that a turn's user gives each reply, in [-1, 1], slips included.

    All forms come from the same opinion: how far the utility is above the user's threshold, with
    logistic noise. A thumb is its sign, stars are its logistic function in half stars, and of two
    replies the likelier to be liked wins more often (Bradley and Terry's model).
    """
    if form not in {"ratings", "comparisons"}:
        return [1.0 if click(turn, text) == "up" else -1.0 for text in texts]
    slip = -1.0 if turn.flipped else 1.0
    noise = -math.log(1 / max(turn.draw, 1e-9) - 1)
    if form == "ratings":
        return [
            slip * (round(10 * _logistic(margin_of(turn.user, turn.prompt, t) - noise)) / 5 - 1)
            for t in texts
        ]
    first, second = (margin_of(turn.user, turn.prompt, text) for text in texts)
    better = slip if first - second > noise else -slip
    return [better, -better]


def _logistic(margin: float) -> float:
    return (1 + math.tanh(margin / 2)) / 2
