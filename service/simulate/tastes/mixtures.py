"""Utilities of two tastes at once, each in units of how much the base's replies differ in it."""

from __future__ import annotations

from service.simulate.tastes.content import examples
from service.simulate.tastes.form import short_sentences
from service.simulate.tastes.tone import confidence, sobriety

_SOBER, _CONFIDENT, _SHORT, _EXAMPLES = 0.30, 0.29, 0.57, 0.18
"""Standard deviations over the default base's replies of 48 tokens."""


def sober_and_confident(question: str, reply: str) -> float:
    """Return the sum of sobriety and confidence."""
    return sobriety(question, reply) / _SOBER + confidence(question, reply) / _CONFIDENT


def short_with_examples(question: str, reply: str) -> float:
    """Return the sum of short sentences and examples."""
    return short_sentences(question, reply) / _SHORT + examples(question, reply) / _EXAMPLES
