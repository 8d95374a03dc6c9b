"""A taste: how much one kind of people likes a reply, and where each of them draws the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Half = Literal["choosing", "telling", "control"]
"""What the laboratory uses a taste for: to choose how to learn; to tell, once, how well that goes;
or to compare with figures of earlier versions of Thumbloop."""

FEWEST_WORDS = 3
"""A shorter reply says nothing and pleases nobody."""
_WORTHLESS = -1000.0


@dataclass(frozen=True, slots=True)
class Taste:
    """What one kind of people likes.

    The utility is smooth: one word more or less changes it a little. The thresholds were set so
    that the default base pleases people now and then, with replies of at most ``tokens`` tokens.

    Attributes:
        utility: How much a reply to a question is liked, in the taste's own unit.
        thresholds: The range of the users' thresholds, in the same unit.
        scale: How far around the threshold a user's clicks waver, in the same unit; above 0.
        tokens: The most tokens of a reply at which the thresholds were set.
        half: What the laboratory uses the taste for.
        others: What every second user likes instead; None where all agree.
        topics: The topics of the built-in questions; none for all.
    """

    name: str
    utility: Callable[[str, str], float]
    thresholds: tuple[float, float]
    scale: float
    tokens: int = 48
    half: Half = "control"
    others: Taste | None = None
    topics: frozenset[str] = frozenset()

    def worth(self, question: str, reply: str) -> float:
        """Return the utility of a reply; far below every threshold if it says nothing."""
        spoken = len(reply.split()) >= FEWEST_WORDS
        return self.utility(question, reply) if spoken else _WORTHLESS
