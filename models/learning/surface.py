"""What can be counted in a reply's text: features that no model has to compute.

Most are logarithms of one plus a count, because the second comma tells more than the tenth. They
are the usual surface features of readability and essay scoring, and know nothing of a taste.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.types import Sample

_COUNTED = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"\n",
        r"\n[^\S\n]*\n",
        r"^[^\S\n]*(?:[-*•+]|\d+[.)])\s",  # list items
        r"[*#_`|]",  # markup
        r"[,;\u3001]",
        r"[.\u3002]",
        r"!",
        r"\?",
        r":",
        r"[\"\u201c\u201d\u00ab\u00bb]",
        r"['\u2019]",
        r"[()]",
        r"\d",
        r"\b[A-ZÀ-Þ]\w",
    )
)
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?\u3002\n]+")
_ENDS = frozenset('.!?")\u201d\u3002')
_LONG_WORD = 8


def surface_counts(sample: Sample, tokenizer: Any) -> list[float]:
    """Return the features of one reply; their number is the same for all replies."""
    text = _text(sample.response_ids, tokenizer)
    question = _text(sample.prompt_ids, tokenizer)
    words = _WORD.findall(text.lower())
    asked = set(_WORD.findall(question.lower()))
    sentences = sum(1 for part in _SENTENCE_END.split(text) if part.strip())
    many = len(words) + 1
    return [
        math.log(len(sample.response_ids)),
        float(sample.ended),
        float(text.rstrip()[-1:] in _ENDS),
        math.log(many),
        math.log(many / (sentences + 1)),
        sum(map(len, words)) / many,
        sum(len(word) >= _LONG_WORD for word in words) / many,
        len(set(words)) / many,
        math.log1p(sum(word in asked for word in words)),
        *(math.log1p(len(pattern.findall(text))) for pattern in _COUNTED),
    ]


def _text(ids: Sequence[int], tokenizer: Any) -> str:
    """Return the text of tokens, with full-width punctuation marks as plain ones."""
    return unicodedata.normalize("NFKC", tokenizer.decode(ids, skip_special_tokens=True))
