"""Simulated users and their turns: pure functions of a plan, its seed and a turn's number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.simulate.tastes import Taste

Thumb = Literal["up", "down"]

_STEEPEST = 500.0
"""Beyond this the logistic function is 0 or 1 in a float, and exp would overflow."""


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """Someone with a taste; likes a reply when its utility is above the threshold."""

    name: str
    taste: Taste
    threshold: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of one user, and whether the user will vote on the answer.

    Attributes:
        number: Counts from 0.
        draw: Uniform in [0, 1); decides the click once the answer is known.
        flipped: Whether the user's finger slips.
    """

    number: int
    user: SimulatedUser
    prompt: str
    rated: bool
    draw: float
    flipped: bool
    seed: int


def make_users(taste: Taste, count: int, *, seed: int) -> tuple[SimulatedUser, ...]:
    """Return ``count`` users whose thresholds spread evenly over the taste's range.

    Even spacing, in an order drawn by ``seed``, makes two simulations comparable: no seed draws
    stricter people than another.
    """
    low, high = taste.thresholds
    places = list(range(count))
    Random(f"users-{seed}").shuffle(places)  # noqa: S311 - simulated people, not secrets
    return tuple(
        SimulatedUser(f"sim-{seed}-{number}", taste, low + (high - low) * (place + 0.5) / count)
        for number, place in enumerate(places)
    )


def make_turn(
    number: int,
    users: Sequence[SimulatedUser],
    prompts: Sequence[str],
    *,
    seed: int,
    rate: float,
    flip: float,
) -> Turn:
    """Return turn ``number``: users in turn, each round of prompts in an order of its own."""
    rng = Random(f"turn-{seed}-{number}")  # noqa: S311 - simulated people, not secrets
    round_number, place = divmod(number, len(prompts))
    order = list(prompts)
    Random(f"prompts-{seed}-{round_number}").shuffle(order)  # noqa: S311 - as above
    return Turn(
        number=number,
        user=users[number % len(users)],
        prompt=order[place],
        rated=rng.random() < rate,
        draw=rng.random(),
        flipped=rng.random() < flip,
        seed=rng.randrange(2**31),
    )


def approves(user: SimulatedUser, text: str) -> bool:
    """Whether the user truly likes the reply: its utility is above the threshold."""
    return user.taste.utility(text) > user.threshold


def click_probability(user: SimulatedUser, text: str) -> float:
    """Return the chance of a thumb up in [0, 1], before any slip of the finger.

    It is the logistic function of (utility - threshold) / scale.
    """
    margin = (user.taste.utility(text) - user.threshold) / user.taste.scale
    return 1.0 / (1.0 + math.exp(-max(-_STEEPEST, min(_STEEPEST, margin))))


def click(turn: Turn, text: str) -> Thumb:
    """Return the thumb that the turn's user clicks on the reply."""
    up = turn.draw < click_probability(turn.user, text)
    return "up" if up != turn.flipped else "down"
