from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ppo.advantages import (
    UserMean,
    among_replies,
    leave_one_out,
    reward_to_go,
    scale_scores,
    shrunken_baseline,
    token_advantages,
    update_user_means,
)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    # others of the first: (-1 + 1) / 2; of the second: (1 + 1) / 2; of the third: (1 - 1) / 2
    assert leave_one_out(torch.tensor([1.0, -1.0, 1.0])).tolist() == [0.0, 1.0, 0.0]


def test_leave_one_out_of_a_single_vote_is_zero() -> None:
    assert leave_one_out(torch.tensor([1.0])).tolist() == [0.0]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_leave_one_out_advantages_sum_to_zero(rewards: list[float]) -> None:
    r = torch.tensor(rewards, dtype=torch.float64)
    assert (r - leave_one_out(r)).sum().item() == pytest.approx(0.0, abs=1e-9)


def test_a_users_past_is_mixed_with_the_batch() -> None:
    past = {"ann": UserMean(total=-4.0, count=4.0)}
    mixed = shrunken_baseline(torch.tensor([0.5, 0.5]), ["ann", "bob"], past, prior=4.0)
    # ann: (-4 + 4 * 0.5) / (4 + 4); bob has no past
    assert mixed.tolist() == [-0.25, 0.5]


def test_user_means_decay_and_take_in_the_new_votes() -> None:
    means = update_user_means(
        {"ann": UserMean(2.0, 4.0)}, ["ann", "bob", "ann"], [1.0, -1.0, 1.0], decay=0.5
    )
    assert means == {"ann": UserMean(3.0, 4.0), "bob": UserMean(-1.0, 1.0)}


def test_a_user_who_has_not_voted_for_long_is_forgotten() -> None:
    past = {"ann": UserMean(0.019, 0.019), "bob": UserMean(0.021, 0.021)}
    assert update_user_means(past, [], [], decay=0.5).keys() == {"bob"}


def test_reward_to_go_sums_from_here_to_the_end() -> None:
    rewards = torch.tensor([[1.0, 2.0, 3.0], [5.0, 7.0, float("nan")]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert reward_to_go(rewards, mask).tolist() == [[6.0, 5.0, 3.0], [12.0, 7.0, 0.0]]


def test_token_advantages_join_the_score_and_the_centred_kl() -> None:
    to_go = torch.tensor([[-3.0, -1.0], [-2.0, 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    joined = token_advantages(torch.tensor([1.0, -1.0]), to_go, mask)
    # the kept KL terms average to -2
    assert joined.tolist() == [[0.0, 2.0], [-1.0, 0.0]]


def test_few_votes_are_not_scaled() -> None:
    scores = torch.tensor([0.5, -0.5])
    assert scale_scores(scores, least_votes=3, floor=0.25) is scores


def test_many_votes_are_divided_by_their_spread() -> None:
    scaled = scale_scores(torch.tensor([0.5, -0.5, 0.5, -0.5]), least_votes=4, floor=0.25)
    assert scaled.tolist() == [1.0, -1.0, 1.0, -1.0]


def test_nearly_equal_votes_are_not_blown_up() -> None:
    scaled = scale_scores(torch.tensor([0.01, -0.01]), least_votes=2, floor=0.25)
    assert scaled.tolist() == pytest.approx([0.04, -0.04])


def test_a_reply_is_compared_with_the_others_to_the_same_question() -> None:
    expected = torch.tensor([0.9, 0.1, 0.1, 0.5, 0.5, 0.5])
    better = among_replies(expected, replies=3, spread=1.0, floor=0.01)
    # 0.9 beside the mean of 0.1 and 0.1; 0.1 beside that of 0.9 and 0.1, twice; no difference
    wanted = torch.tensor([0.8, -0.4, -0.4, 0.0, 0.0, 0.0]) / 0.4
    torch.testing.assert_close(better, wanted)


def test_rewards_that_hardly_differ_are_not_blown_up() -> None:
    better = among_replies(torch.tensor([0.03, 0.01]), replies=2, spread=0.7, floor=0.2)
    torch.testing.assert_close(better, torch.tensor([0.07, -0.07]))
