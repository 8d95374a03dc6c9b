"""Who votes in the learning benchmark, and when each vote arrives: pure functions of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from service.simulate.people import Turn, approves, click, make_turn, make_users
from service.simulate.prompts import builtin_prompts
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.simulate.people import SimulatedUser
    from service.simulate.tastes import TasteName

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
    """

    flip: float = 0.1
    reversal: float = 0.05
    late: float = 0.3
    adversaries: float = 0.0
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Cast:
    """A vote and the round in which it arrives; ``up`` is what was clicked."""

    turn: Turn
    up: bool
    arrives: int


class World:
    """Users with one taste, and the prompts they ask about; some prompts are held out."""

    def __init__(self, taste: TasteName, seed: int, users: int, habits: Habits) -> None:
        self.habits = habits
        self.seed = seed
        self.taste = TASTES[taste]
        self.users = make_users(self.taste, users, seed=seed)
        prompts = builtin_prompts(self.taste)
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

    def votes(self, turn: Turn, text: str, round_number: int) -> list[Cast]:
        """Return what a turn's user says of the reply: one vote, or a wrong one put right later."""
        dice = Random(f"habits-{self.seed}-{turn.number}")
        late = dice.random() < self.habits.late
        arrives = round_number + (dice.randint(1, LONGEST_DELAY) if late else 0)
        up = (click(turn, text) == "up") != (turn.user.name in self._enemies)
        if dice.random() >= self.habits.reversal:
            return [Cast(turn, up, arrives)]
        return [Cast(turn, not up, arrives), Cast(turn, up, arrives + REVERSED_AFTER)]

    def gold(self, text: str) -> float:
        """Return the share of the honest users who would truly like a reply, in [0, 1]."""
        honest = [user for user in self.users if user.name not in self._enemies]
        return share_of_approval(honest, text)


def share_of_approval(users: Sequence[SimulatedUser], text: str) -> float:
    """Return how many of the users would like a text, as a share; 1 for no users."""
    return sum(approves(user, text) for user in users) / max(1, len(users))
