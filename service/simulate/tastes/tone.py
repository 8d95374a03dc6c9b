"""Utilities of a reply's tone: how it speaks to its reader."""

from __future__ import annotations

import math
import re

from service.simulate.tastes.words import any_of, count, rate, share, words

_SECOND_PERSON = any_of("you|your|yours|yourself|you're|you'll|you've")
_PERSONS = any_of("you|your|yours|i|i'm|we|our|my|me|us|let's")
_WARM = any_of(
    "glad|happy|hope|love|lovely|great|wonderful|enjoy|welcome|thank|thanks|sorry|care|friend|"
    "friends|family|kind|help|feel|sure|please|support|together|excited|congratulations|proud"
)
_EXCLAMATION = re.compile("!")
_CONTRACTION = re.compile(r"n't|'re|'ll|'ve|'m\b|!")
_CASUAL = any_of("ok|okay|yeah|hey|hi|kinda|lot|lots|stuff|thing|things|really|pretty|get|got")
_GUSHING = any_of(
    "very|really|extremely|incredibly|amazing|great|wonderful|perfect|essential|crucial|vital|"
    "powerful|best|most|truly|absolutely|highly|unique|rich|vibrant|stunning"
)
_HEDGE = any_of(
    "may|might|can|could|perhaps|maybe|possibly|likely|often|sometimes|generally|usually|"
    "typically|seem|seems|would|should|probably|potentially|some|various|many"
)
_LONG_WORD = 8


def addressing(_question: str, reply: str) -> float:
    """Return the logarithm of how often the reader is spoken to."""
    return math.log1p(rate(_SECOND_PERSON, reply))


def impersonality(_question: str, reply: str) -> float:
    """Return minus the logarithm of how often a person is spoken of as I, we or you."""
    return -math.log1p(rate(_PERSONS, reply))


def warmth(_question: str, reply: str) -> float:
    """Return the logarithm of how often there are kind words and exclamation marks."""
    return math.log1p(rate(_WARM, reply) + rate(_EXCLAMATION, reply))


def formality(_question: str, reply: str) -> float:
    """Return three times the share of long words, less the logarithm of the casual ones."""
    long = sum(len(word) >= _LONG_WORD for word in words(reply))
    casual = count(_CONTRACTION, reply) + count(_CASUAL, reply)
    return 3 * share(long, reply) - math.log1p(10 * share(casual, reply))


def sobriety(_question: str, reply: str) -> float:
    """Return minus the logarithm of how often the reply gushes."""
    return -math.log1p(rate(_EXCLAMATION, reply) + rate(_GUSHING, reply))


def confidence(_question: str, reply: str) -> float:
    """Return minus the logarithm of how often the reply hedges."""
    return -math.log1p(rate(_HEDGE, reply))


def simplicity(_question: str, reply: str) -> float:
    """Return minus the mean number of letters of a word."""
    said = words(reply)
    return -sum(map(len, said)) / (len(said) + 1)
