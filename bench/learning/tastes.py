"""Measures how far each taste lets the base and the best of its replies come.

The base answers each held-out question sixteen times. Its approval with a taste is the mean over
all replies, and its ceiling the mean over the best reply to each question, as in a run. A taste is
of use where the base pleases some people and its best replies please many more. The figures go to
``bench/results/tastes.json``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from bench.learning.measure import HELD_OUT, Yardstick
from bench.learning.people import USERS, Habits, World
from bench.learning.replies import MEMORY, Replies
from bench.support.machine import describe, write_results
from bench.support.paths import ROOT
from models.settings import LearnerSettings
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.simulate.tastes import Half, Taste

BASE_APPROVAL = (0.15, 0.6)
"""Between these bounds votes tell something, and leave something to learn."""
LEAST_GAP = 0.25
"""A smaller gap between base and ceiling would drown in the noise of a run's measurements."""
SEED = 1
"""Any seed has the same people: it decides their order only."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the base comes with a taste.

    Attributes:
        half: What the taste is for.
        base: Mean approval of the base's replies, in [0, 1].
        ceiling: Mean approval of the best of its sixteen replies to each question.
    """

    half: Half
    base: float
    ceiling: float

    @property
    def of_use(self) -> bool:
        """Whether a run with the taste can show what was learned; a control always counts."""
        least, most = BASE_APPROVAL
        wide_enough = self.ceiling - self.base >= LEAST_GAP
        return self.half == "control" or (least <= self.base <= most and wide_enough)


def reach(taste: str, replies: Replies) -> Reach:
    """Return how far the base comes with a taste."""
    world = World(taste, SEED, USERS, Habits())
    base, ceiling = Yardstick(world, replies, HELD_OUT).bounds()
    return Reach(world.taste.half, round(base, 4), round(ceiling, 4))


def reach_of_all(tastes: Iterable[Taste]) -> Mapping[str, Reach]:
    """Return how far the base comes with each taste, by name; replies are drawn once a length."""
    settings = LearnerSettings(data_dir=ROOT / "var")
    found: dict[str, Reach] = {}
    for tokens, alike in groupby(sorted(tastes, key=_tokens), key=_tokens):
        replies = Replies(settings, tokens, MEMORY)
        found |= {taste.name: reach(taste.name, replies) for taste in alike}
    return found


def _tokens(taste: Taste) -> int:
    return taste.tokens


def main() -> int:
    """Measure all tastes, print the figures and write them; fail if a taste is of no use."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    found = reach_of_all(TASTES.values())
    write_results("tastes", {**describe(), "tastes": {n: asdict(found[n]) for n in TASTES}})
    useless = [name for name, each in found.items() if not each.of_use]
    if useless:
        sys.stderr.write(f"Choose other thresholds for these tastes: {', '.join(useless)}.\n")
    return 1 if useless else 0


if __name__ == "__main__":
    sys.exit(main())
