"""Voted replies in micro-batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.policy.batch import micro_batches
from models.types import Sample


def _sample(name: str, response: tuple[int, ...], prompt: tuple[int, ...] = (5, 6, 7)) -> Sample:
    logprobs = (-1.0,) * len(response)
    return Sample(name, "user", prompt, response, logprobs, 1.0, 1.0, "base", ended=True)


def test_micro_batches_put_replies_of_similar_length_together() -> None:
    samples = [_sample(str(n), tuple(range(1, n + 1))) for n in (1, 9, 2, 8)]
    groups = micro_batches(samples, range(4), tokens=24, device="cpu")
    assert [g.rows for g in groups] == [(1, 3), (2, 0)]
    assert groups[0].mask.sum(-1).tolist() == [9, 8]
    assert groups[1].ids.tolist() == [[5, 6, 7, 1, 2], [5, 6, 7, 1, 0]]
    assert groups[1].reply_positions.tolist() == [[2, 3], [2, 0]]


def test_micro_batches_put_replies_to_one_prompt_together() -> None:
    lengths = {"a": (9, 3), "b": (8, 8), "c": (7,)}
    samples = [
        _sample(f"{prompt}{n}", tuple(range(1, n + 1)), prompt=(5, 6, ord(prompt)))
        for prompt, of_prompt in lengths.items()
        for n in of_prompt
    ]
    mixed = [samples[i] for i in (1, 2, 4, 3, 0)]  # a3 b8 c7 b8 a9
    groups = micro_batches(mixed, range(5), tokens=24, device="cpu")
    assert [g.rows for g in groups] == [(4, 0), (1, 3), (2,)]
    assert [g.rows for g in micro_batches(mixed, range(5), tokens=1000, device="cpu")] == [
        (4, 0, 1, 3, 2)
    ]


@given(
    lengths=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=20),
    tokens=st.integers(1, 100),
)
def test_micro_batches_have_every_row_once_and_stay_within_their_tokens(
    lengths: list[tuple[int, int]], tokens: int
) -> None:
    samples = [
        _sample(str(n), (1,) * length, prompt=(5, 6, prompt))
        for n, (prompt, length) in enumerate(lengths)
    ]
    groups = micro_batches(samples, range(len(samples)), tokens=tokens, device="cpu")
    assert sorted(row for g in groups for row in g.rows) == list(range(len(samples)))
    assert all(g.ids.numel() <= tokens or len(g.rows) == 1 for g in groups)
