from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import FrozenVote
from models.types import Sample, Sampling
from workers.samples import make_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedback.types import Completion


def test_a_vote_and_its_completion_become_a_sample(
    completion_of: Callable[..., Completion],
) -> None:
    completion = completion_of("c0", "ann", sampling=Sampling(temperature=0.7))
    batch = make_batch([FrozenVote("c0", 2, -1.0)], [completion])
    assert batch.samples == (
        Sample(
            completion_id="c0",
            # the first 16 hex digits of `printf k1:ann | sha256sum`
            user="4e2c6866b3c700c7",
            prompt_ids=(1, 2),
            response_ids=(3, 4),
            behaviour_logprobs=(-0.1, -0.2),
            temperature=0.7,
            reward=-1.0,
            version="base",
            ended=True,
        ),
    )


def test_what_is_missing_or_does_not_match_is_dropped_and_named(
    completion_of: Callable[..., Completion],
) -> None:
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(5)]
    completions = [
        None,
        completion_of("c1", behaviour_logprobs=(-0.1,)),
        completion_of("c2", response_ids=(), behaviour_logprobs=()),
        completion_of("c3", finish_reason="length"),
        completion_of("c4", behaviour_logprobs=()),
    ]
    batch = make_batch(votes, completions)
    assert batch.missing == ("c0",)
    assert batch.mismatched == ("c1", "c2")
    assert [s.completion_id for s in batch.samples] == ["c3", "c4"]
    assert batch.samples[1].behaviour_logprobs == ()  # the learner computes what is not there
    assert not batch.samples[0].ended


@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": 1},
        {"top_p": 0.5},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"logit_bias": ((3, 1.0),)},
    ],
)
def test_what_was_not_drawn_from_the_policy_is_learned_by_the_policys_log_probs(
    completion_of: Callable[..., Completion], changes: dict[str, Any]
) -> None:
    vote, sampling = FrozenVote("c0", 1, 1.0), Sampling(**changes)
    known = completion_of("c0", sampling=sampling, policy_logprobs=(-1.5, -2.5))
    assert make_batch([vote], [known]).samples[0].behaviour_logprobs == (-1.5, -2.5)
    # An older record lacks them: the learner computes them, under the version that wrote the reply.
    older = completion_of("c0", sampling=sampling)
    assert make_batch([vote], [older]).samples[0].behaviour_logprobs == ()
    # At temperature 0 nothing is cut off.
    greedy = completion_of("c0", sampling=Sampling(temperature=0.0, top_k=1, top_p=0.5))
    assert make_batch([vote], [greedy]).samples[0].behaviour_logprobs == (-0.1, -0.2)


def test_a_correction_goes_with_its_vote(completion_of: Callable[..., Completion]) -> None:
    votes = [FrozenVote("c0", 1, -1.0), FrozenVote("c1", 1, 1.0)]
    batch = make_batch(votes, [completion_of("c0"), completion_of("c1")], ["Better.", None])
    assert [s.correction for s in batch.samples] == ["Better.", ""]


def test_votes_and_completions_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_batch([FrozenVote("c0", 1, 1.0)], [])
