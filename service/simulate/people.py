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
    """Someone with a taste; likes a reply that is worth more than the threshold."""

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
    stricter people than another. Every second user has the taste of the others, if there is one.
    """
    places = list(range(count))
    Random(f"users-{seed}").shuffle(places)  # noqa: S311 - simulated people, not secrets
    tastes = [taste if place % 2 else taste.others or taste for place in places]
    return tuple(
        SimulatedUser(f"sim-{seed}-{number}", own, _threshold(own, (place + 0.5) / count))
        for number, (place, own) in enumerate(zip(places, tastes, strict=True))
    )


def _threshold(taste: Taste, share: float) -> float:
    """Return the threshold at a share of the way from the lowest to the highest."""
    low, high = taste.thresholds
    return low + (high - low) * share


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


def approves(user: SimulatedUser, question: str, reply: str) -> bool:
    """Whether the user truly likes the reply: it is worth more than the threshold."""
    return user.taste.worth(question, reply) > user.threshold


def margin_of(user: SimulatedUser, question: str, reply: str) -> float:
    """Return how far above the user's threshold a reply is, in scales of the taste."""
    return (user.taste.worth(question, reply) - user.threshold) / user.taste.scale


def click_probability(user: SimulatedUser, question: str, reply: str) -> float:
    """Return the chance of a thumb up in [0, 1], before any slip of the finger.

    It is the logistic function of the margin.
    """
    margin = margin_of(user, question, reply)
    return 1.0 / (1.0 + math.exp(-max(-_STEEPEST, min(_STEEPEST, margin))))


def click(turn: Turn, reply: str) -> Thumb:
    """Return the thumb that the turn's user clicks on the reply."""
    up = turn.draw < click_probability(turn.user, turn.prompt, reply)
    return "up" if up != turn.flipped else "down"
