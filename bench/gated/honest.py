"""Honest adapters: what our learner makes of the votes of simulated people, at its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.gated.kept import Made
from bench.learning.people import USERS, Habits, World
from bench.learning.replies import TOKENS, Replies
from bench.learning.rounds import rounds
from bench.learning.students import Ours
from models.types import BASE

if TYPE_CHECKING:
    from pathlib import Path

    from models.settings import LearnerSettings
    from service.simulate.tastes import TasteName


@dataclass(frozen=True, slots=True)
class Chain:
    """Updates one after the other, each of so many votes; some of the versions are judged.

    Attributes:
        judged: Which ones, counted from 1; the last is where the chain ends.
    """

    taste: TasteName
    seed: int
    every: int
    judged: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return what the chain is known by."""
        return f"{self.taste}-{self.seed}x{self.every}"


CHAINS = (
    *(Chain(taste, 1, 16, (1, 4, 8)) for taste in ("brief", "plain", "polite")),
    Chain("brief", 2, 32, (3,)),
    # As far as people with one taste push a policy: every further vote says the same again.
    Chain("brief", 3, 16, (8, 16)),
    Chain("plain", 3, 16, (8, 16)),
    Chain("polite", 3, 16, (8, 12)),
)


def make_chain(chain: Chain, settings: LearnerSettings, memory: Path, first: int) -> list[Made]:
    """Let people chat and vote, and return the versions of the chain that are to be judged.

    Args:
        chain: Who votes, and how often the learner learns.
        settings: The learner's, and where the adapters go.
        memory: Where the base's replies are remembered.
        first: Sequence number from which the chain's versions may be numbered.
    """
    student = Numbered(Ours(settings, every=chain.every), first)
    world = World(chain.taste, chain.seed, USERS, Habits())
    replies = Replies(settings, TOKENS, memory)
    labels = chain.every * chain.judged[-1]
    made, parent = [], BASE
    for number, learned in enumerate(rounds(student, world, replies, labels), start=1):
        if number in chain.judged:
            made.append(Made("honest", f"{chain.name}-{number}", learned.version, parent))
        parent = learned.version
    return made


class Numbered:
    """A student whose versions are numbered from a number of ours."""

    def __init__(self, student: Ours, first: int) -> None:
        self.every = student.every
        self.learn = lambda batch, parent, number: student.learn(batch, parent, first + number - 1)
