"""Utilities of what a reply says."""

from __future__ import annotations

import math
import re

from service.simulate.tastes.words import any_of, count, rate, words

_EXAMPLE = any_of(r"for example|for instance|such as|like|e\.g|including|imagine|suppose")
_REASON = any_of(
    "because|since|so that|therefore|as a result|thus|due to|in order to|which means|leads? to|"
    "causes?|allows?|ensures?|by"
)
_CONTRAST = any_of(
    "but|however|although|while|though|on the other hand|instead|despite|whereas|yet|rather"
)
_NAME_OR_NUMBER = re.compile(r"\d+|(?<=[a-z,] )[A-Z][a-z]+")
_COMMON_WORDS = (
    "the a an of to in on for and or is are was were be been do does did what which who whom whose "
    "how why when where can could would should will shall may might i you he she it we they me my "
    "your his her its our their this that these those with from by as at if then than so not no "
    "yes please about into over give write following one some any have has had there here also "
    "more most other each make using use"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_SHORTEST = 3


def _telling(text: str) -> list[str]:
    """Return the words that carry meaning."""
    return [w for w in words(text) if w not in _COMMON and len(w) >= _SHORTEST]


def examples(_question: str, reply: str) -> float:
    """Return the number of examples, which counts less from one to the next."""
    return 1 - math.exp(-count(_EXAMPLE, reply))


def reasons(_question: str, reply: str) -> float:
    """Return the number of reasons given, which counts less from one to the next."""
    return 1 - math.exp(-count(_REASON, reply) / 1.5)


def contrasts(_question: str, reply: str) -> float:
    """Return the number of contrasts drawn, which counts less from one to the next."""
    return 1 - math.exp(-count(_CONTRAST, reply))


def concreteness(_question: str, reply: str) -> float:
    """Return the logarithm of how often there are numbers and names."""
    return math.log1p(rate(_NAME_OR_NUMBER, reply))


def own_words(question: str, reply: str) -> float:
    """Return how many of the question's words come back, over the root of their number."""
    asked = set(_telling(question))
    return len(asked & set(_telling(reply))) / math.sqrt(len(asked)) if asked else 0.0
