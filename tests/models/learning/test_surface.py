"""Surface features of replies: counts worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from models.learning.surface import surface_counts
from models.types import Sample


class _Spelled:
    """A tokenizer whose tokens are the code points of a text."""

    def decode(self, ids: tuple[int, ...], **_: Any) -> str:
        return "".join(map(chr, ids))


def _counts(reply: str, question: str = "Why?", *, ended: bool = True) -> list[float]:
    sample = Sample(
        completion_id="c",
        user="",
        prompt_ids=tuple(map(ord, question)),
        response_ids=tuple(map(ord, reply)),
        behaviour_logprobs=(),
        temperature=1.0,
        reward=0.0,
        version="base",
        ended=ended,
    )
    return surface_counts(sample, _Spelled())


def test_a_reply_is_counted() -> None:
    reply = "Butter melts, usually.\n- It melts!"
    found = _counts(reply, "When does butter melt?")
    words = 5
    by_hand = [
        math.log(len(reply)),
        1.0,
        1.0,
        math.log(words + 1),
        math.log((words + 1) / 3),
        sum(map(len, ("butter", "melts", "usually", "it", "melts"))) / (words + 1),
        0.0,
        4 / (words + 1),
        math.log(2),  # butter
    ]
    assert found[:9] == pytest.approx(by_hand)
    line_breaks, paragraphs, items, _, commas, stops, exclamations = found[9:16]
    assert [line_breaks, items, commas, stops, exclamations] == pytest.approx([math.log(2)] * 5)
    assert paragraphs == 0.0


@pytest.mark.parametrize(
    ("reply", "ends"), [("Yes.", 1.0), ("Yes, it", 0.0), ('He said "no"', 1.0)]
)
def test_a_reply_ends_with_a_sentence_or_not(reply: str, ends: float) -> None:
    assert _counts(reply)[2] == ends


def test_full_width_marks_count_as_plain_ones() -> None:
    assert _counts("对,对!对?")[9:] == _counts("对\uff0c对\uff01对\uff1f")[9:]


@pytest.mark.parametrize("reply", ["\n", " ", "1", "...", "🙂"])
def test_a_reply_without_words_has_finite_counts(reply: str) -> None:
    found = _counts(reply)
    assert len(found) == len(_counts("A longer reply."))
    assert all(map(math.isfinite, found))
