"""Utilities of a reply's form: its length, its sentences and its layout."""

from __future__ import annotations

import math
import re

from service.simulate.tastes.words import count, sentences, words

LIST_ITEM = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s", re.MULTILINE)
_BREAK = re.compile(r"\n+")
_AFTER_LAST_END = re.compile(r"[^.!?]*$")
_SHORTEST = 3


def thoroughness(_question: str, reply: str) -> float:
    """Return the logarithm of the number of words."""
    return math.log(max(_SHORTEST, len(reply.split())))


def short_sentences(_question: str, reply: str) -> float:
    """Return minus the logarithm of the mean number of words of a sentence."""
    length = len(words(reply)) / max(1, len(sentences(reply)))
    return -math.log(max(_SHORTEST, length))


def completeness(_question: str, reply: str) -> float:
    """Return minus the number of words after the last end of a sentence, in tens."""
    found = _AFTER_LAST_END.search(reply.strip())
    return -len(words(found.group())) / 10 if found else 0.0


def one_paragraph(_question: str, reply: str) -> float:
    """Return 1 for a single paragraph, and less with each line break."""
    return math.exp(-count(_BREAK, reply.strip()) / 2)
