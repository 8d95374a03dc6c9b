"""What utilities count: words, sentences and how often a pattern occurs."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z']+")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_FEW = 5
"""Added to the number of words, so that one word of a very short reply is no extreme rate."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; a line break ends one too."""
    return [part for part in _SENTENCE.findall(text) if _WORD.search(part)]


def any_of(alternatives: str) -> re.Pattern[str]:
    """Return a pattern of whole words or phrases, which ``|`` separates, in any case."""
    return re.compile(rf"\b(?:{alternatives})\b", re.IGNORECASE)


def count(pattern: re.Pattern[str], text: str) -> int:
    """Return how often a pattern occurs."""
    return len(pattern.findall(text))


def rate(pattern: re.Pattern[str], text: str) -> float:
    """Return how often a pattern occurs in twenty words."""
    return 20 * count(pattern, text) / (len(words(text)) + _FEW)


def share(some: int, text: str) -> float:
    """Return a number of words as a share of all."""
    return some / (len(words(text)) + _FEW)
