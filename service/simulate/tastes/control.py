"""The utilities of the three tastes that earlier figures of Thumbloop are about."""

from __future__ import annotations

import re

from service.simulate.tastes.form import LIST_ITEM

_HEADING = re.compile(r"^\s*#{1,6}\s", re.MULTILINE)
_MARKUP = re.compile(r"\*\*|__|`|\|.*\|")
_LEAD_IN = re.compile(r":\s*(?:\n|$)")
_MARKS = (LIST_ITEM, _HEADING, _MARKUP, _LEAD_IN)

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


def brevity(_question: str, reply: str) -> float:
    """Return minus the number of words."""
    return -float(len(reply.split()))


def plainness(_question: str, reply: str) -> float:
    """Return minus the number of list items, headings, markup signs and announced lists."""
    return -float(sum(len(mark.findall(reply)) for mark in _MARKS))


def courtesy(_question: str, reply: str) -> float:
    """Return the number of different kinds of courteous words."""
    return float(sum(bool(words.search(reply)) for words in _COURTESIES))
