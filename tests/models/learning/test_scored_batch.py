"""What the recipe makes of a batch at the start of an update, with values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.learning.scored_batch import ScoredBatch, StartScores, score_batch
from models.learning.state import LearnerState
from models.policy.batch import collate
from models.ppo.advantages import UserMean
from models.recipe import THUMBLOOP
from models.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence


def _sample(name: str, reward: float, behaviour: Sequence[float], **changes: Any) -> Sample:
    sample = Sample(
        completion_id=name,
        user=f"user-{name}",
        prompt_ids=(5, 6, 7),
        response_ids=tuple(range(40, 40 + len(behaviour))),
        behaviour_logprobs=tuple(behaviour),
        temperature=1.0,
        reward=reward,
        version="base",
        ended=True,
    )
    return replace(sample, **changes)


def _score(
    samples: Sequence[Sample],
    start: Sequence[Sequence[float]],
    *,
    kl: Sequence[Sequence[float]] | None = None,
    values: Sequence[Sequence[float]] | None = None,
    users: dict[str, UserMean] | None = None,
    **changes: Any,
) -> ScoredBatch:
    given = torch.tensor(start)
    at_start = StartScores(
        given,
        given * 0 if kl is None else torch.tensor(kl),
        given * 0 if values is None else torch.tensor(values),
    )
    batch = collate(samples, range(len(samples)), device="cpu")
    state = LearnerState(users=users or {})
    chosen = {"kl_coefficient": 0.1, "kl_power": 0.0, **changes}
    return score_batch(samples, batch, at_start, state, replace(THUMBLOOP, **chosen))


STALE = [_sample("a", 1.0, (-1.0, -4.0)), _sample("b", -1.0, (-1.0, -1.0))]
MOVED = [[-1.0, -1.0], [-2.0, -2.0]]


def test_stale_samples_are_weighted_and_capped() -> None:
    scored = _score(STALE, MOVED)
    # the second token is e^3 likelier now than when it was sampled: capped at 2
    assert scored.weights[0].tolist() == pytest.approx([1.0, 2.0])
    # a disliked reply that the policy left behind by 1 nat a token is dropped
    assert scored.kept.tolist() == [[True, True], [False, False]]
    # leave-one-out, each mixed with a user that has no past: 1 - (-1) and -1 - 1
    assert scored.advantages.tolist() == [[2.0, 2.0], [-2.0, -2.0]]


def test_tokens_that_a_grammar_forced_teach_nothing() -> None:
    samples = [
        _sample("a", 1.0, (-1.0, -1.0, -1.0), forced=(0, 2)),
        _sample("b", -1.0, (-1.0,) * 3),
    ]
    scored = _score(samples, [[-9.0, -1.0, -9.0], [-1.0] * 3])
    assert scored.kept.tolist() == [[False, True, False], [True] * 3]
    # Nor do they count as drift: a disliked reply stays, whatever became of them.
    samples[0] = replace(samples[0], reward=-1.0)
    samples[1] = replace(samples[1], reward=1.0)
    assert _score(samples, [[-9.0, -1.0, -9.0], [-1.0] * 3]).kept[0].tolist() == [
        False,
        True,
        False,
    ]


def test_without_correction_votes_count_as_if_they_were_fresh() -> None:
    scored = _score(STALE, MOVED, stale_votes="none", max_drift=math.inf)
    assert scored.weights.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert scored.kept.all()


def test_greedy_replies_have_weight_one() -> None:
    samples = [_sample("a", 1.0, (-0.1,), temperature=0.0)]
    scored = _score(samples, [[-3.0]])
    assert scored.weights.tolist() == [[1.0]]
    assert scored.batch.temperature.tolist() == [1.0]


ONE = [_sample("a", 1.0, (-1.0, -1.0))]
DRIFT = {"start": [[-1.0, -1.0]], "kl": [[1.0, 3.0]]}


def test_drifting_from_the_base_is_paid_for_from_where_it_happens() -> None:
    scored = _score(ONE, kl_form="reward", **DRIFT)
    assert scored.loss_beta == 0
    # rewards -0.1 and -0.3; to go -0.4 and -0.3; centred -0.05 and +0.05; the score is 1
    assert scored.advantages[0].tolist() == pytest.approx([0.95, 1.05])


def test_in_loss_form_the_kl_is_not_in_the_advantages() -> None:
    scored = _score(ONE, **DRIFT)
    assert scored.loss_beta == scored.beta == 0.1
    assert scored.advantages.tolist() == [[1.0, 1.0]]


def test_beta_follows_the_mean_distance_of_the_batch_from_the_base() -> None:
    samples = [_sample("a", 1.0, (-1.0, -1.0)), _sample("b", -1.0, (-1.0,))]
    start, kl = [[-1.0, -1.0], [-1.0, 0.0]], [[1.0, 3.0], [2.0, 99.0]]  # 4 and 2 nats
    scored = _score(samples, start, kl=kl, kl_target=6.0, kl_power=2.0)
    assert scored.loss_beta == pytest.approx(0.1 * 0.5**2)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("weighted", [0.8 - 0.2 * 1, 0.8 - 0.2 * 3]),
        ("added", [1 - 0.1 * 1, 1 - 0.1 * 3]),
    ],
)
def test_the_articles_returns(form: str, expected: list[float]) -> None:
    scored = _score(ONE, kl_form=form, **DRIFT)
    assert scored.loss_beta == 0
    assert scored.advantages[0].tolist() == pytest.approx(expected)


THREE = [_sample("a", 1.0, (-1.0,)), _sample("b", 1.0, (-1.0,)), _sample("c", -0.2, (-1.0,))]


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        # the others' means are 0.4, 0.4 and 1; user-a's past, one vote of -1, is mixed with two
        # of the batch's: (-1 + 2 · 0.4) / 3
        ("leave_one_out", [1 + 0.2 / 3, 0.6, -1.2]),
        ("none", [1.0, 1.0, -0.2]),
    ],
)
def test_what_a_vote_is_compared_with(advantage: str, expected: list[float]) -> None:
    users = {"user-a": UserMean(-1.0, 1.0)}
    scored = _score(THREE, [[-1.0]] * 3, users=users, advantage=advantage)
    assert scored.advantages[:, 0].tolist() == pytest.approx(expected)


def test_a_critic_is_what_each_token_is_compared_with() -> None:
    scored = _score(ONE, [[-1.0, -1.0]], values=[[0.5, 0.4]], advantage="critic")
    # δ = 0.4 - 0.5 and 1 - 0.4; the first token has 0.95 of the second's too
    assert scored.advantages[0].tolist() == pytest.approx([-0.1 + 0.95 * 0.6, 0.6])
    assert scored.returns[0].tolist() == pytest.approx([0.4 + 0.57, 1.0])


def test_sixteen_likes_under_a_critic_stay_likes() -> None:
    many = [_sample(str(n), 1.0, (-1.0,)) for n in range(16)]
    scored = _score(many, [[-1.0]] * 16, advantage="critic")
    # all alike, so their spread is 0, and 0.25 is the least that they are divided by
    assert scored.advantages[:, 0].tolist() == [4.0] * 16


@pytest.mark.parametrize(
    ("form", "divisors", "all_divisors"),
    [
        # of the minibatch (the last three), one of one token is dropped: 10 · 2/3
        ("constant", [1.0, 20 / 3, 1.0, 20 / 3], [1.0, 10.0, 10.0, 10.0]),
        ("token", [1.0, 1.0, 1.0, 1.0], [1.0, 4 / 3, 4 / 3, 4 / 3]),
    ],
)
def test_a_minibatch_divides_by_what_it_keeps(
    form: str, divisors: list[float], all_divisors: list[float]
) -> None:
    samples = [
        _sample("out", 1.0, (-1.0, -1.0)),
        _sample("long", 1.0, (-1.0, -1.0)),
        _sample("left", -1.0, (-1.0,)),
        _sample("short", 1.0, (-1.0,)),
    ]
    start = [[-1.0, -1.0], [-1.0, -1.0], [-9.0, 0.0], [-1.0, 0.0]]
    recipe = replace(THUMBLOOP, length_form=form, length_constant=10.0)  # type: ignore[arg-type]
    scored = _score(samples, start).minibatch([3, 1, 2], recipe)
    assert scored.divisors.tolist() == pytest.approx(divisors)
    assert scored.all_divisors.tolist() == pytest.approx(all_divisors)
