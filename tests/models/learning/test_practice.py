"""Practice on a tiny model: what the votes let expect is learned from replies without votes."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from models.adapters import WEIGHTS_FILE
from models.decoding.offline import generate_offline
from models.learning.caution import rate_share
from models.learning.evidence import LEAST_VOTES
from models.learning.features import reply_features
from models.learning.iterations import after_votes
from models.learning.learner import Learner
from models.learning.practice import ENOUGH, SHARED_COST, SHARED_FREE, Practice
from models.learning.reward_model import RewardModel
from models.learning.state import load_state
from models.policy.batch import collate
from models.timing import Stopwatch
from models.types import Progress, Sample, Sampling
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.learning.learner import Learned
    from models.learning.reward_model import ReplyFeatures
    from models.settings import LearnerSettings

VOTES, TOKENS = 32, 4
PROMPTS = tuple((5, 6, number) for number in range(10, 18))


@pytest.fixture
def make_learner(settings: LearnerSettings) -> Callable[..., Learner]:
    def make(**changes: Any) -> Learner:
        quick = {"learning_rate": 0.01, "practice_rounds": 3, "practice_prompts": 4}
        return Learner(changed(settings, **{**quick, "kl_coefficient": 0.0, **changes}))

    return make


def _votes(learner: Learner) -> list[Sample]:
    """Return what the base says, liked where it is on one side of how replies differ most."""
    prompts = [PROMPTS[number % len(PROMPTS)] for number in range(VOTES)]
    asked = [(prompt, Sampling(max_tokens=TOKENS, seed=n)) for n, prompt in enumerate(prompts)]
    drawn = generate_offline(learner._base, None, asked, learner._settings)
    votes = [
        Sample(
            completion_id=f"c{number}",
            user=f"user-{number % 4}",
            prompt_ids=prompt,
            response_ids=tuple(token.id for token in reply),
            behaviour_logprobs=tuple(token.logprob for token in reply),
            temperature=1.0,
            reward=0.0,
            version="base",
            ended=reply[-1].id in learner._base.end_ids,
        )
        for number, (prompt, reply) in enumerate(zip(prompts, drawn, strict=True))
    ]
    content = reply_features(votes, learner._policy).content
    sides = torch.linalg.svd(content - content.mean(0), full_matrices=False).U[:, 0]
    liked = (sides > sides.median()).tolist()
    return [
        replace(vote, reward=1.0 if like else -1.0) for vote, like in zip(votes, liked, strict=True)
    ]


def _practice(learner: Learner, **changes: Any) -> Practice:
    recipe = replace(learner._recipe, **changes)
    order = torch.Generator().manual_seed(0)
    return Practice(learner._policy, learner._base, recipe, learner._settings, order, Stopwatch())


def _learn(learner: Learner, samples: Sequence[Sample], **changes: Any) -> Learned:
    given: dict[str, Any] = {"parent": "base", "seed": 1, "progress": lambda _: None}
    return learner.learn(samples, **{**given, **changes})


def _weights(learned: Learned, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    learned.write_files(folder)
    return load_file(folder / WEIGHTS_FILE)


def test_what_is_expected_of_the_policys_replies_rises(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner(
        practice_rounds=12, practice_prompts=8, practice_replies=16, learning_rate=0.03
    )
    found = _learn(learner, _votes(learner)).report
    assert found["evidence"]["votes"] == VOTES
    assert found["evidence"]["correlation"] > 0.3
    report = found["practice"]
    assert report["replies"] == 12 * 8 * 16
    expected = report["expected"]
    assert len(expected) == len(report["kl_per_reply"]) == 12
    assert report["kl_per_reply"][-1] > report["kl_per_reply"][0] > 0
    assert sum(expected[-2:]) > sum(expected[:2]) + 0.15


def test_their_steps_are_steps_of_the_adapter(
    make_learner: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make_learner()
    learned = _learn(learner, _votes(learner))
    assert learned.report["practice"]["steps"] == 3 * 2  # two minibatches of 8, one epoch
    learned.write_files(tmp_path)
    assert load_state(tmp_path).step == learned.report["steps"] + 6


def test_their_progress_is_of_all_rounds(make_learner: Callable[..., Learner]) -> None:
    learner, told = make_learner(), list[Progress]()
    _learn(learner, _votes(learner), progress=told.append)
    of_rounds = [at for at in told if at.phase.startswith("practice ")]
    learned = [at.done / at.total for at in of_rounds if at.phase == "practice learn"]
    assert learned == sorted(learned)
    assert learned[-1] == 1.0
    assert len(learned) == 6  # two steps a round
    assert told[-1] is of_rounds[-1]


def test_what_votes_set_in_motion_ends_where_practice_begins(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "models.learning.practice.among_replies", lambda expected, **_: torch.zeros_like(expected)
    )
    learner = make_learner(rate_decay_steps=math.inf, advantage="leave_one_out")
    alone = make_learner(rate_decay_steps=math.inf, practice_rounds=0, advantage="leave_one_out")
    votes = _votes(learner)
    learned = _learn(learner, votes)
    assert learned.report["practice"]["steps"] == 6
    with_rounds = _weights(learned, tmp_path / "rounds")
    of_votes = _weights(_learn(alone, votes), tmp_path / "votes")
    assert all(torch.equal(of_votes[name], with_rounds[name]) for name in of_votes)


def test_without_rounds_there_is_no_practice(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(practice_rounds=0)
    report = _learn(learner, _votes(learner)).report
    assert report["practice"] == {}
    assert "reward_model" not in report["seconds"]


def test_votes_of_earlier_updates_count_for_the_reward_model(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    votes = _votes(learner)
    report = _learn(learner, votes[:4], earlier=votes[4:]).report
    assert report["votes"] == 4
    assert report["evidence"]["votes"] == VOTES
    assert report["practice"]["replies"] == 48


def test_of_a_large_batch_the_reward_model_is_fitted_to_as_many_as_it_may(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner(reward_model_votes=16)
    report = _learn(learner, _votes(learner)).report
    assert (report["votes"], report["evidence"]["votes"]) == (VOTES, 16)


def test_a_broken_vote_of_an_earlier_update_is_left_out(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    votes = _votes(learner)
    whole = _learn(learner, votes[:4], earlier=[*votes[4:9], *votes[10:]]).report
    for changes in ({"response_ids": (), "behaviour_logprobs": ()}, {"reward": math.nan}):
        earlier = [*votes[4:9], replace(votes[9], **changes), *votes[10:]]
        report = _learn(learner, votes[:4], earlier=earlier).report
        assert report["evidence"] == whole["evidence"]


def _few(votes: list[Sample]) -> list[Sample]:
    return votes[: LEAST_VOTES - 1]


def _alike(votes: list[Sample]) -> list[Sample]:
    return [replace(vote, reward=1.0) for vote in votes]


def _by_chance(votes: list[Sample]) -> list[Sample]:
    random = Random(1)
    return [replace(vote, reward=random.choice([-1.0, 1.0])) for vote in votes]


@pytest.mark.parametrize(
    ("change", "said"), [(_few, "too few"), (_alike, "alike"), (_by_chance, "chance")]
)
def test_votes_that_tell_nothing_leave_the_policy_where_it_is(
    make_learner: Callable[..., Learner],
    tmp_path: Path,
    change: Callable[[list[Sample]], list[Sample]],
    said: str,
) -> None:
    learner = make_learner()
    first = _learn(learner, _votes(learner))
    learner.publish(first, sequence=1, parent="base", batch_hash="", fence=1, now=0.0)
    (parent,) = (each.name for each in learner._settings.adapters_dir.glob("v000001-*"))
    votes = change(_votes(learner))
    left = _learn(learner, votes, parent=parent)
    assert said in left.report["evidence"]["shortcoming"]
    assert (left.report["votes"], left.report["steps"]) == (len(votes), 0)
    assert left.report["practice"] == {}
    before, after = _weights(first, tmp_path / "before"), _weights(left, tmp_path / "after")
    assert all(torch.equal(before[name], after[name]) for name in before)
    one, other = load_state(tmp_path / "before"), load_state(tmp_path / "after")
    assert other.step == one.step
    assert other.users == after_votes(votes, one).users
    assert all(torch.equal(one.second[name], other.second[name]) for name in one.second)


def test_a_correction_is_learned_whatever_the_votes_tell(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner(corrections=1.0)
    votes = _few(_votes(learner))
    votes[0] = replace(votes[0], correction="better")
    report = _learn(learner, votes).report
    assert "too few" in report["evidence"]["shortcoming"]
    assert report["corrections"] == 1
    assert report["steps"] > 0
    assert report["practice"] == {}


def test_beside_a_correction_votes_without_evidence_move_nothing(
    make_learner: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make_learner(corrections=1.0)
    votes = _few(_votes(learner))
    votes[0] = replace(votes[0], correction="better")
    other = [replace(vote, reward=-vote.reward) for vote in votes]
    one, two = _learn(learner, votes), _learn(learner, other)
    of_one = _weights(one, tmp_path / "one")
    of_two = _weights(_learn(learner, other), tmp_path / "two")
    assert one.report["steps"] == two.report["steps"] > 0
    assert all(torch.equal(of_one[name], of_two[name]) for name in of_one)


def test_after_a_setback_votes_without_evidence_keep_less_momentum(
    make_learner: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make_learner()
    first = _learn(learner, _votes(learner))
    manifest = learner.publish(first, sequence=1, parent="base", batch_hash="", fence=1, now=0.0)
    few = _few(_votes(learner))
    for setbacks in (0, 2):
        (tmp_path / str(setbacks)).mkdir()
        left = _learn(learner, few, parent=manifest.version, setbacks=setbacks)
        left.write_files(tmp_path / str(setbacks))
    whole, less = (load_state(tmp_path / str(each)).first for each in (0, 2))
    assert all(torch.allclose(less[name], rate_share(2) * moment) for name, moment in whole.items())


def test_without_practice_all_votes_move_the_policy(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner(practice_rounds=0)
    report = _learn(learner, _few(_votes(learner))).report
    assert report["steps"] > 0
    assert report["evidence"] == {}


def test_where_enough_is_expected_to_be_liked_nothing_more_is_learned(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    liked = [replace(vote, reward=1.0) for vote in _votes(learner)]
    votes = [replace(liked[0], reward=-1.0), *liked[1:]]
    report = _learn(learner, votes).report["practice"]
    assert (report["replies"], report["steps"], report["kl_per_reply"]) == (16, 0, [])
    (expected,) = report["expected"]
    assert ENOUGH <= expected < 1.0


def test_where_replies_are_liked_and_alike_rounds_go_on(
    make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "models.learning.practice.shared_grams", lambda replies, **_: [1.0] * len(replies)
    )
    learner = make_learner()
    liked = [replace(vote, reward=1.0) for vote in _votes(learner)]
    votes = [replace(liked[0], reward=-1.0), *liked[1:]]
    report = _learn(learner, votes).report["practice"]
    assert min(report["expected"]) >= ENOUGH
    assert report["shared"] == [1.0] * 3
    assert report["steps"] == 3 * 2


class _LikesAll(RewardModel):
    """Expects the same of every reply."""

    def __init__(self) -> None:
        """Need no votes."""

    def expect(self, features: ReplyFeatures) -> torch.Tensor:
        return torch.full((len(features.form),), 0.6)


def _said(learner: Learner, *replies: tuple[int, ...]) -> list[Sample]:
    """Return replies, two to each question."""
    like = _votes(learner)[0]
    return [
        replace(
            like,
            prompt_ids=PROMPTS[number // 2],
            response_ids=ids,
            behaviour_logprobs=(-1.0,) * len(ids),
        )
        for number, ids in enumerate(replies)
    ]


def test_of_replies_liked_alike_those_said_to_every_question_are_worth_less(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    practice = _practice(learner, practice_replies=2)
    same, own = (7, 8, 9, 10), [(20 + number, 8, 7, 30 + number) for number in range(3)]
    rated = practice._rate(
        _LikesAll(), _said(learner, same, own[0], same, own[1], own[2], (5, 5, 5, 5))
    )
    rewards = [sample.reward for sample in rated.part.votes]
    assert rewards[0] < 0 < rewards[1]
    assert rewards[2] < 0 < rewards[3]
    assert rewards[4:] == [0.0, 0.0]
    assert rated.expected == pytest.approx(0.6)
    assert rated.shared == pytest.approx((0.5 + 0.5) / 6)
    assert rated.worth == pytest.approx(0.6 - SHARED_COST * 2 * (0.5 - SHARED_FREE) / 6)


def test_a_phrase_that_few_questions_share_costs_nothing(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    said = [tuple(range(first, first + 16)) for first in range(20, 180, 20)]
    for number in (0, 2):
        said[number] = (7, 8, 9, *said[number])
    rated = _practice(learner, practice_replies=2)._rate(_LikesAll(), _said(learner, *said))
    assert 0 < rated.shared < SHARED_FREE
    assert {sample.reward for sample in rated.part.votes} == {0.0}
    assert rated.worth == rated.expected


def test_the_same_seed_gives_the_same_bits(
    make_learner: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make_learner()
    votes = _votes(learner)
    once = _weights(_learn(learner, votes), tmp_path / "once")
    again = _weights(_learn(learner, votes), tmp_path / "again")
    other = _weights(_learn(learner, votes, seed=2), tmp_path / "other")
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not all(torch.equal(once[name], other[name]) for name in once)


def test_questions_are_peoples_and_replies_no_longer_than_theirs(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    votes = _votes(learner)
    drawn = _practice(learner)._draw(votes)
    asked = [reply.prompt_ids for reply in drawn]
    assert len(set(asked)) == 4
    assert set(asked) <= set(PROMPTS)
    assert asked == sorted(asked, key=asked.index)  # a question's replies together
    assert max(len(reply.response_ids) for reply in drawn) <= TOKENS
    assert len({reply.response_ids for reply in drawn}) > 8
    shorter = _practice(learner, practice_tokens=3)._draw(votes)
    assert max(len(reply.response_ids) for reply in shorter) <= 3


def test_a_question_that_leaves_no_room_is_not_asked(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    votes = _votes(learner)
    room = learner._settings.context_length - TOKENS
    votes[0] = replace(votes[0], prompt_ids=(5,) * (room + 1))
    many = _practice(learner, practice_prompts=64)
    assert {reply.prompt_ids for reply in many._draw(votes)} == set(PROMPTS)
    too_long = [replace(vote, prompt_ids=(5,) * (room + 1)) for vote in votes]
    assert many._draw(too_long) == []


def test_a_reply_at_temperature_0_would_be_the_same_every_time(
    make_learner: Callable[..., Learner],
) -> None:
    learner = make_learner()
    votes = [replace(vote, temperature=0.0) for vote in _votes(learner)]
    drawn = _practice(learner)._draw(votes)
    assert {reply.temperature for reply in drawn} == {1.0}
    assert len({reply.response_ids for reply in drawn}) > 8


def test_their_log_probs_are_those_of_the_policy(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner()
    policy, random = learner._policy, torch.Generator().manual_seed(0)
    for master in policy.master.values():
        torch.nn.init.normal_(master, std=0.3, generator=random)
    policy.publish_master()
    drawn = _practice(learner)._draw(_votes(learner))
    batch = collate(drawn, range(len(drawn)), device="cpu")
    with torch.no_grad():
        ours, base = policy.logprobs(batch), policy.reference_logprobs(batch)
    torch.testing.assert_close(ours, batch.behaviour, atol=1e-3, rtol=1e-3)
    assert float((ours - base).abs().max()) > 0.1
