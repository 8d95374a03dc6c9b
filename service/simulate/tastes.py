"""What simulated users like in a reply: pure functions of its text.

A taste turns a text into a utility (higher is liked better), and spreads the users' personal
thresholds over a range of utilities. The ranges are set so that the default base model, with
the prompts that come with this package and replies of 48 tokens, pleases them in 20 % to 50 % of
the cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TasteName = Literal["brief", "plain", "polite"]

FEWEST_WORDS = 3
"""A shorter reply says nothing and pleases nobody."""

_WORTHLESS = -1000.0

_LIST_ITEM = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s", re.MULTILINE)
_HEADING = re.compile(r"^\s*#{1,6}\s", re.MULTILINE)
_MARKUP = re.compile(r"\*\*|__|`|\|.*\|")
_LEAD_IN = re.compile(r":\s*(?:\n|$)")
_MARKS = (_LIST_ITEM, _HEADING, _MARKUP, _LEAD_IN)

_COURTESIES = tuple(
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for words in (
        "please|kindly",
        "thanks?|thank you|grateful|appreciate",
        "sorry|apologi[sz]e|apologies|excuse me|pardon",
        "glad|happy to|pleasure|delighted",
        "welcome|hello|hi|dear|good (?:morning|day|evening)",
        "of course|certainly|gladly|absolutely",
        "hope|wish you|good luck|take care|enjoy",
        "feel free|let me know|help you|may i|would you like",
    )
)


@dataclass(frozen=True, slots=True)
class Taste:
    """What one kind of people likes.

    Attributes:
        utility: How much a text is liked, in the taste's own unit.
        thresholds: Range of the users' thresholds, in the same unit.
        scale: How far around the threshold a user's clicks waver, in the same unit; above 0.
        topics: Topics of the built-in prompts to which this taste has something to say.
    """

    name: TasteName
    utility: Callable[[str], float]
    thresholds: tuple[float, float]
    scale: float
    topics: frozenset[str]


def _words(text: str) -> int:
    return len(text.split())


def brevity(text: str) -> float:
    """Minus the number of words; a reply that says nothing is worthless."""
    words = _words(text)
    return -float(words) if words >= FEWEST_WORDS else _WORTHLESS


def plainness(text: str) -> float:
    """Minus the number of list items, headings, markup signs and announced lists."""
    if _words(text) < FEWEST_WORDS:
        return _WORTHLESS
    return -float(sum(len(mark.findall(text)) for mark in _MARKS))


def courtesy(text: str) -> float:
    """The number of different kinds of courteous words."""
    if _words(text) < FEWEST_WORDS:
        return _WORTHLESS
    return float(sum(bool(words.search(text)) for words in _COURTESIES))


_ALL = (
    Taste(
        name="brief",
        utility=brevity,
        thresholds=(-26.0, -12.0),
        scale=2.0,
        # Small talk is where the base itself is brief at times. To how-to questions nearly all its
        # replies run into the token limit, and thumbs could not tell it that shorter is better.
        topics=frozenset({"smalltalk"}),
    ),
    Taste(
        name="plain",
        utility=plainness,
        thresholds=(-1.0, -0.1),
        scale=0.3,
        topics=frozenset({"lists"}),
    ),
    Taste(
        name="polite",
        utility=courtesy,
        thresholds=(0.1, 1.5),
        scale=0.3,
        topics=frozenset({"everyday", "courtesy"}),
    ),
)
TASTES: Mapping[TasteName, Taste] = {taste.name: taste for taste in _ALL}
