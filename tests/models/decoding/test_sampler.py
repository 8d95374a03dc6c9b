from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.decoding.adjusting import Adjuster
from models.decoding.sampler import Draw, sample
from models.types import Sampling

PROBS = [0.5, 0.3, 0.15, 0.05]
LOGITS = torch.tensor([PROBS]).log()
ALMOST_ONE = math.nextafter(1.0, 0.0)


def _draw(uniform: float, **fields: Any) -> Draw:
    return Draw(**{"temperature": 1.0, "top_p": 1.0, "top_logprobs": 0, **fields}, uniform=uniform)


def _random_logits(vocabulary: int, seed: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed))


def _shares(logits: torch.Tensor, points: int, **fields: Any) -> dict[int, float]:
    """Return how much of [0, 1) draws each token, measured at equally spaced random numbers."""
    draws = [_draw((point + 0.5) / points, **fields) for point in range(points)]
    shares: dict[int, float] = {}
    for token in sample(logits.repeat(points, 1), draws):
        shares[token.id] = shares.get(token.id, 0.0) + 1 / points
    return shares


@pytest.mark.parametrize(
    ("uniform", "expected"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2), (0.96, 3)]
)
def test_the_uniform_number_picks_the_token_by_mass(uniform: float, expected: int) -> None:
    token = sample(LOGITS, [_draw(uniform)])[0]
    assert token.id == expected
    assert token.logprob == pytest.approx(math.log(PROBS[expected]), abs=1e-6)


def test_temperature_divides_the_logits() -> None:
    # at temperature 0.5 the odds of the first two tokens are squared: 0.25 : 0.09 : ...
    token = sample(LOGITS, [_draw(0.0, temperature=0.5)])[0]
    squares = [p * p for p in PROBS]
    assert token.logprob == pytest.approx(math.log(squares[0] / sum(squares)), abs=1e-6)


def test_greedy_takes_the_mode_and_reports_its_log_prob_at_temperature_one() -> None:
    token = sample(LOGITS, [_draw(0.99, temperature=0.0, top_k=2, top_p=0.5)])[0]
    assert token.id == 0
    assert token.logprob == pytest.approx(math.log(0.5), abs=1e-6)


@pytest.mark.parametrize("vocabulary", [1, 255, 256, 257, 1000])
def test_greedy_is_torchs_argmax_in_a_vocabulary_of_any_size(vocabulary: int) -> None:
    logits = _random_logits(vocabulary, seed=0).repeat(8, 1).roll(3)
    for row in range(8):
        logits[row] = logits[row].roll(row * vocabulary // 8)
    logits[:, -1] = logits.max()  # a tie, which the first one wins
    tokens = sample(logits, [_draw(0.5, temperature=0.0)] * 8)
    assert [token.id for token in tokens] == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_p": 0.7}, [0.5 / 0.8, 0.3 / 0.8]),
        ({"top_p": 0.4}, [1.0]),
        ({"top_k": 3}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95]),
        ({"top_k": 9}, PROBS),
        ({"top_k": 10**30}, PROBS),
        # top_p is of what top_k left: 0.5 / 0.8 = 0.625 of two tokens.
        ({"top_k": 2, "top_p": 0.6}, [1.0]),
        ({"top_k": 2, "top_p": 0.65}, [0.5 / 0.8, 0.3 / 0.8]),
        # Odds squared by the temperature, before anything is dropped: 0.25 of 0.365 is 0.685.
        ({"temperature": 0.5, "top_p": 0.68}, [1.0]),
    ],
)
def test_truncation_keeps_the_most_probable_and_renormalises(
    fields: dict[str, Any], expected: list[float]
) -> None:
    shares = _shares(LOGITS, 1000, **fields)
    assert [shares.get(i, 0.0) for i in range(len(expected))] == pytest.approx(expected, abs=1e-3)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) <= set(range(len(expected)))
    last = sample(LOGITS, [_draw(ALMOST_ONE, **fields)])[0]
    assert last.id == len(expected) - 1
    assert last.logprob == pytest.approx(math.log(expected[-1]), abs=1e-6)


def _kept(probs: list[float], top_k: int, top_p: float) -> dict[int, float]:
    """Return the truncated distribution, worked out one token after the other."""
    best = sorted(enumerate(probs), key=lambda pair: -pair[1])[: top_k or None]
    total = sum(p for _, p in best)
    kept: dict[int, float] = {}
    for index, p in best:
        reached = sum(kept.values()) / total
        assume(abs(reached - top_p) > 1e-5)
        if reached < top_p:
            kept[index] = p
    return {index: p / sum(kept.values()) for index, p in kept.items()}


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.sampled_from([2, 7, 65, 300]),
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.3, 2.0),
    top_k=st.integers(0, 320),
    top_p=st.floats(0.05, 1.0),
)
def test_each_token_is_drawn_by_as_much_as_it_is_probable(
    vocabulary: int, seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits = _random_logits(vocabulary, seed)
    probs = (logits.double() / temperature).softmax(-1)[0].tolist()
    expected = _kept(probs, top_k, top_p)
    fields = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    shares = _shares(logits, 400, **fields)
    for index in range(vocabulary):
        # A token's part of [0, 1) is one interval; counting points errs by at most one of them.
        assert abs(shares.get(index, 0.0) - expected.get(index, 0.0)) <= 1.01 / 400
    token = sample(logits, [_draw(0.7, **fields)])[0]
    assert token.logprob == pytest.approx(math.log(expected[token.id]), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(40, 1.0), (0, 0.9), (100, 0.8), (2000, 0.95)])
def test_log_probs_are_those_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = _random_logits(6000, seed=1)
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    expected = TopPLogitsWarper(top_p)(None, warped).log_softmax(-1)[0]
    fields = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "top_logprobs": 20}
    for token in sample(logits.repeat(9, 1), [_draw(n / 9, **fields) for n in range(9)]):
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        values, indices = expected.topk(min(20, int(expected.isfinite().sum())))
        assert [other.token_id for other in token.top] == indices.tolist()
        found = [other.logprob for other in token.top]
        assert found == pytest.approx(values.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, 5000),
        ({"top_p": 0.01}, 50),
        ({"top_p": 0.1}, 500),
        ({"top_p": 0.9}, 4500),
        ({"top_k": 64}, 64),
        ({"top_k": 1024}, 1024),
        ({"top_k": 3000}, 3000),
        ({"top_k": 9000}, 5000),
        ({"top_k": 3000, "top_p": 0.5}, 1500),
    ],
)
def test_a_flat_distribution_is_cut_exactly_however_many_are_kept(
    fields: dict[str, Any], kept: int
) -> None:
    # Hardly sloped, so that it is no matter of rounding where the cut lies.
    logits = torch.linspace(1e-3, 0, 5000)[None]
    for uniform in (0.0, 0.5, ALMOST_ONE):
        token = sample(logits, [_draw(uniform, **fields)])[0]
        assert token.logprob == pytest.approx(-math.log(kept), abs=2e-3)
        assert token.id == pytest.approx(uniform * kept, abs=0.002 * kept + 1)


@pytest.mark.parametrize("vocabulary", [6, 700])
@pytest.mark.parametrize("fields", [{}, {"top_k": 5}, {"top_p": 0.99}, {"top_k": 5, "top_p": 0.9}])
def test_a_token_without_probability_is_never_drawn(
    vocabulary: int, fields: dict[str, Any]
) -> None:
    possible = {vocabulary // 2: 0.0, vocabulary - 2: 0.1}
    logits = torch.full((1, vocabulary), -torch.inf)
    for index, value in possible.items():
        logits[0, index] = value
    uniforms = [0.0, 5e-324, 1e-9, 0.25, 0.475, 0.5, 0.525, 0.75, 1 - 1e-9, ALMOST_ONE]
    for token in sample(logits.repeat(10, 1), [_draw(u, **fields) for u in uniforms]):
        assert token.id in possible
        assert math.isfinite(token.logprob)


def test_a_larger_random_number_never_picks_an_earlier_token() -> None:
    logits = _random_logits(3000, seed=2, scale=1.0)
    draws = [_draw(point / 997) for point in range(997)]
    ids = [token.id for token in sample(logits.repeat(997, 1), draws)]
    assert all(a <= b for a, b in pairwise(ids))


def test_alternatives_come_best_first_and_only_from_the_kept_set() -> None:
    token = sample(LOGITS, [_draw(0.0, top_p=0.7, top_logprobs=3)])[0]
    assert [t.token_id for t in token.top] == [0, 1]


def test_alternatives_of_a_whole_distribution_name_what_could_hardly_be_drawn() -> None:
    # e^-200 is 0 in fp32; its log-prob is -200 none the less.
    token = sample(torch.tensor([[0.0, -200.0]]), [_draw(0.3, top_logprobs=5)])[0]
    assert [(t.token_id, t.logprob) for t in token.top] == [(0, 0.0), (1, -200.0)]


def test_half_precision_logits_are_worked_on_in_full() -> None:
    logits = _random_logits(500, seed=3).bfloat16()
    draws = [_draw(0.4), _draw(0.4, top_k=20, temperature=0.7)]
    assert sample(logits.repeat(2, 1), draws) == sample(logits.float().repeat(2, 1), draws)


@pytest.mark.parametrize("vocabulary", [4, 2000])
def test_rows_do_not_touch_each_other(vocabulary: int) -> None:
    draws = [
        _draw(0.9),
        _draw(0.1, top_p=0.5),
        _draw(0.6, temperature=0.0, top_logprobs=2),
        _draw(0.8, top_k=3, top_logprobs=4),
        _draw(0.7, temperature=1.8, top_p=0.999),
        _draw(0.3, temperature=0.6, top_logprobs=3),
    ]
    logits = torch.cat([_random_logits(vocabulary, seed) for seed in range(len(draws))])
    alone = [sample(logits[row : row + 1], [draw])[0] for row, draw in enumerate(draws)]
    assert sample(logits, draws) == alone


@pytest.mark.parametrize("fields", [{}, {"top_k": 2}, {"top_p": 0.9}, {"temperature": 0.0}])
def test_a_row_of_nonsense_spoils_no_other(fields: dict[str, Any]) -> None:
    logits = _random_logits(300, seed=4).repeat(2, 1)
    logits[0] = torch.nan
    spoilt, sound = sample(logits, [_draw(0.9, **fields)] * 2)
    assert 0 <= spoilt.id < 300
    assert sound == sample(logits[1:], [_draw(0.9, **fields)])[0]


PROMPT, REPLY = [5, 9, 9, 700], [3, 9, 3, 3, 41]


def _adjusted(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return what a reply's next logits are by the formulas of OpenAI's API and transformers."""
    out = logits[0].clone()
    if sampling.repetition_penalty != 1:
        penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        out = penalty(torch.tensor([[*PROMPT, *REPLY]]), logits)[0]
    for said in set(REPLY):
        out[said] -= sampling.presence_penalty + REPLY.count(said) * sampling.frequency_penalty
    for biased, bias in sampling.logit_bias:
        out[biased] += bias
    return out[None]


ADJUSTED = [
    {"presence_penalty": 1.5},
    {"frequency_penalty": -0.7},
    {"repetition_penalty": 1.3},
    {"logit_bias": ((3, 4.0), (800, -100.0))},
    {"min_p": 0.05},
    {"presence_penalty": 2.0, "frequency_penalty": 0.4, "repetition_penalty": 0.8},
    {"repetition_penalty": 1.2, "logit_bias": ((9, 2.0),), "min_p": 0.02, "top_p": 0.9},
    {"frequency_penalty": 1.0, "top_k": 30, "min_p": 0.01, "top_p": 0.8},
]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("options", ADJUSTED)
def test_penalties_bias_and_min_p_are_those_of_openai_and_transformers(
    options: dict[str, Any], temperature: float
) -> None:
    logits = _random_logits(2000, seed=2)
    sampling = Sampling(temperature=temperature, **options)
    warped = TemperatureLogitsWarper(temperature)(None, _adjusted(logits, sampling))
    if sampling.min_p:
        warped = MinPLogitsWarper(sampling.min_p)(None, warped)
    if sampling.top_k:
        warped = TopKLogitsWarper(sampling.top_k)(None, warped)
    if sampling.top_p < 1:
        warped = TopPLogitsWarper(sampling.top_p)(None, warped)
    expected = warped.log_softmax(-1)[0]
    policy = (logits / temperature).log_softmax(-1)[0]
    adjuster = Adjuster(sampling, PROMPT)
    for token_id in REPLY:
        adjuster.accept(token_id)
    fields = {
        "temperature": temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "adjuster": adjuster if sampling.adjusts else None,
        "top_logprobs": 5,
    }
    before = logits.clone()
    for token in sample(logits.repeat(9, 1), [_draw(n / 9, **fields) for n in range(9)]):
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        assert token.policy_logprob == pytest.approx(float(policy[token.id]), abs=1e-4)
        values, indices = expected.topk(min(5, int(expected.isfinite().sum())))
        assert [other.token_id for other in token.top] == indices.tolist()
        found = [other.logprob for other in token.top]
        assert found == pytest.approx(values.tolist(), abs=1e-4)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    "fields", [{"top_k": 1}, {"top_p": 0.05}, {"top_p": 0.5}, {"top_k": 20}, {"min_p": 0.3}]
)
def test_a_token_of_a_truncated_distribution_knows_its_log_prob_under_the_policy(
    fields: dict[str, Any],
) -> None:
    logits = _random_logits(2000, seed=3)
    policy = logits.log_softmax(-1)[0]
    for token in sample(logits.repeat(5, 1), [_draw(n / 5, **fields) for n in range(5)]):
        assert token.policy_logprob == pytest.approx(float(policy[token.id]), abs=1e-5)
        assert token.logprob > token.policy_logprob


def test_a_token_of_the_policy_itself_has_one_log_prob() -> None:
    draws = [_draw(0.3), _draw(0.3, temperature=0.5), _draw(0.3, temperature=0.0, top_k=3)]
    assert [t.policy_logprob for t in sample(LOGITS.repeat(3, 1), draws)] == [None] * 3


def test_greedy_takes_the_mode_of_the_adjusted_logits() -> None:
    adjuster = Adjuster(Sampling(temperature=0.0, logit_bias=((0, -100.0),)), [])
    (token,) = sample(LOGITS, [_draw(0.0, temperature=0.0, adjuster=adjuster)])
    assert token.id == 1
    assert token.logprob == pytest.approx(math.log(0.6), abs=1e-5)
    assert token.policy_logprob == pytest.approx(math.log(0.3), abs=1e-5)
