from __future__ import annotations

import math

import pytest
import torch

from models.decoding.sampler import Draw, sample, truncate

PROBS = [0.5, 0.3, 0.15, 0.05]
LOGITS = torch.tensor([PROBS]).log()


def _draw(uniform: float, *, temperature: float = 1.0, top_p: float = 1.0, top: int = 0) -> Draw:
    return Draw(temperature=temperature, top_p=top_p, top_logprobs=top, uniform=uniform)


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
    token = sample(LOGITS, [_draw(0.99, temperature=0.0)])[0]
    assert token.id == 0
    assert token.logprob == pytest.approx(math.log(0.5), abs=1e-6)


def test_truncation_keeps_the_smallest_set_that_reaches_the_mass() -> None:
    kept = truncate(LOGITS[0], 0.7).exp().tolist()
    assert kept == pytest.approx([0.5 / 0.8, 0.3 / 0.8, 0.0, 0.0], abs=1e-6)


def test_truncated_tokens_are_never_drawn_and_log_probs_are_renormalised() -> None:
    token = sample(LOGITS, [_draw(0.999999, top_p=0.7)])[0]
    assert token.id == 1
    assert token.logprob == pytest.approx(math.log(0.3 / 0.8), abs=1e-6)


def test_alternatives_come_best_first_and_only_from_the_kept_set() -> None:
    token = sample(LOGITS, [_draw(0.0, top_p=0.7, top=3)])[0]
    assert [t.token_id for t in token.top] == [0, 1]


def test_rows_do_not_touch_each_other() -> None:
    together = sample(LOGITS.repeat(3, 1), [_draw(0.9), _draw(0.1, top_p=0.5), _draw(0.6)])
    alone = [sample(LOGITS, [d])[0] for d in (_draw(0.9), _draw(0.1, top_p=0.5), _draw(0.6))]
    assert together == alone
