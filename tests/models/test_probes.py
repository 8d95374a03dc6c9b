from __future__ import annotations

import pytest

from models.probes import _until, held_out_prompts, repetition


def test_repetition_counts_three_grams_seen_before_in_the_same_reply() -> None:
    # 1 2 3 | 2 3 1 | 3 1 2 | 1 2 3 again: one of four
    assert repetition([[1, 2, 3, 1, 2, 3]]) == 0.25
    assert repetition([[1, 2, 3], [1, 2, 3]]) == 0.0
    assert repetition([[7] * 10]) == pytest.approx(7 / 8)
    assert repetition([[1, 2]]) == 0.0


def test_a_reply_ends_with_its_first_end_token() -> None:
    assert _until([4, 5, 2, 2, 9], frozenset({2})) == (4, 5, 2)
    assert _until([4, 5], frozenset({2})) == (4, 5)


def test_the_held_out_prompts_are_all_different() -> None:
    prompts = held_out_prompts()
    assert len(prompts) == len(set(prompts)) == 16
