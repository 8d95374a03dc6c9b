"""All tastes by name, with the thresholds of their people.

The thresholds were set on replies of the default base to the questions of the laboratory;
`python -m bench.learning.tastes` measures what the base and its best replies reach.

Tastes come in pairs of a kind, one to choose with and one to tell. Where a taste had served to try
features of the reward model, it is the one to choose with; a coin decided the other three pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from service.simulate.tastes.content import concreteness, contrasts, own_words, reasons
from service.simulate.tastes.control import brevity, courtesy, plainness
from service.simulate.tastes.form import (
    completeness,
    one_paragraph,
    short_sentences,
    thoroughness,
)
from service.simulate.tastes.mixtures import short_with_examples, sober_and_confident
from service.simulate.tastes.taste import Taste
from service.simulate.tastes.tone import (
    addressing,
    confidence,
    formality,
    impersonality,
    simplicity,
    warmth,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TasteName = Literal[
    "brief",
    "plain",
    "polite",
    "short_sentences",
    "thorough",
    "addressed",
    "impersonal",
    "warm",
    "formal",
    "simple_words",
    "confident",
    "concrete",
    "on_question",
    "reasons",
    "contrast",
    "complete",
    "one_paragraph",
    "sober_confident",
    "short_example",
    "warm_or_formal",
    "addressed_or_formal",
]

_CONTROL = (
    # Small talk is where the base itself is brief at times. To how-to questions nearly all its
    # replies run into the token limit, and thumbs could not tell it that shorter is better.
    Taste("brief", brevity, (-26.0, -12.0), 2.0, topics=frozenset({"smalltalk"})),
    Taste("plain", plainness, (-1.0, -0.1), 0.3, topics=frozenset({"lists"})),
    Taste("polite", courtesy, (0.1, 1.5), 0.3, topics=frozenset({"everyday", "courtesy"})),
)
_WARM = Taste("warm", warmth, (0.0, 0.6), 0.09, half="choosing")
_FORMAL = Taste("formal", formality, (0.4, 0.8), 0.09, half="telling")
_ADDRESSED = Taste("addressed", addressing, (0.1, 0.6), 0.09, half="choosing")
_SINGLE = (
    Taste("short_sentences", short_sentences, (-2.5, -1.5), 0.14, half="choosing"),
    Taste("thorough", thoroughness, (3.55, 3.8), 0.13, half="telling"),
    _ADDRESSED,
    Taste("impersonal", impersonality, (-0.4, 0.0), 0.12, half="telling"),
    _WARM,
    _FORMAL,
    Taste("simple_words", simplicity, (-4.8, -3.9), 0.2, half="choosing"),
    Taste("confident", confidence, (-0.4, 0.0), 0.07, half="telling"),
    Taste("concrete", concreteness, (0.4, 1.6), 0.17, half="choosing"),
    Taste("on_question", own_words, (0.9, 2.0), 0.15, half="telling"),
    Taste("reasons", reasons, (0.0, 0.45), 0.05, half="choosing"),
    Taste("contrast", contrasts, (0.0, 0.6), 0.07, half="telling"),
    Taste("complete", completeness, (-0.2, 0.0), 0.3, tokens=128, half="telling"),
    Taste("one_paragraph", one_paragraph, (0.6, 1.0), 0.1, tokens=128, half="choosing"),
)
_MIXED = (
    Taste("sober_confident", sober_and_confident, (-1.0, 0.0), 0.36, half="telling"),
    Taste("short_example", short_with_examples, (-4.0, -1.9), 0.33, half="choosing"),
)
_DIVIDED = (
    Taste("warm_or_formal", warmth, _WARM.thresholds, _WARM.scale, half="choosing", others=_FORMAL),
    Taste(
        "addressed_or_formal",
        addressing,
        _ADDRESSED.thresholds,
        _ADDRESSED.scale,
        half="telling",
        others=_FORMAL,
    ),
)
TASTES: Mapping[str, Taste] = {
    taste.name: taste for taste in (*_CONTROL, *_SINGLE, *_MIXED, *_DIVIDED)
}
