import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from feedback.rewards import RewardScale, reward
from feedback.settings import FeedbackSettings
from feedback.types import RATING_STEPS, Comparison, Vote


@pytest.mark.parametrize(
    ("vote", "expected"),
    [
        (Vote(thumb="up"), 1.0),
        (Vote(thumb="down"), -1.0),
        (Vote(rating=0), -1.0),
        (Vote(rating=1), -0.6),
        (Vote(rating=2.5), 0.0),
        (Vote(rating=4), 0.6),
        (Vote(rating=5), 1.0),
        (Vote(comparison=Comparison("chosen", "c2")), 1.0),
        (Vote(comparison=Comparison("rejected", "c2")), -1.0),
        (Vote(comment="fine"), None),
        (Vote(tags=("rude",)), None),
        (Vote(correction="better"), None),
    ],
)
def test_a_vote_is_worth_its_place_on_the_scale(vote: Vote, expected: float | None) -> None:
    assert reward(vote) == expected


def test_a_correction_alone_is_worth_something_where_the_setting_says_so() -> None:
    scale = RewardScale.from_settings(FeedbackSettings(reward_correction=-0.5))
    assert reward(Vote(correction="better"), scale) == -0.5
    # beside a vote it changes nothing
    assert reward(Vote(thumb="up", correction="better"), scale) == 1.0
    assert reward(Vote(rating=2.5, correction="better"), scale) == 0.0
    assert reward(Vote(comment="fine"), scale) is None
    with pytest.raises(ValidationError):
        FeedbackSettings(reward_correction=-1.5)


@pytest.mark.parametrize(
    ("vote", "expected"),
    [
        (Vote(thumb="up"), 0.9),
        (Vote(thumb="down"), -0.8),
        (Vote(comparison=Comparison("chosen", "c2")), 0.7),
        (Vote(comparison=Comparison("rejected", "c2")), -0.6),
        # neutral 3: half of the way from 3 to 5, and a third of the way from 3 to 0
        (Vote(rating=4), 0.5),
        (Vote(rating=2), -1 / 3),
        (Vote(rating=3), 0.0),
        (Vote(rating=0), -1.0),
        (Vote(rating=5), 1.0),
    ],
)
def test_every_kind_has_its_setting(vote: Vote, expected: float) -> None:
    settings = FeedbackSettings(
        reward_up=0.9,
        reward_down=-0.8,
        rating_neutral=3.0,
        reward_chosen=0.7,
        reward_rejected=-0.6,
    )
    assert reward(vote, RewardScale.from_settings(settings)) == pytest.approx(expected)


def test_the_defaults_of_the_settings_are_those_of_the_scale() -> None:
    assert RewardScale.from_settings(FeedbackSettings()) == RewardScale()


@given(neutral=st.floats(0, 5), rating=st.sampled_from(RATING_STEPS))
def test_ratings_are_worth_no_more_than_thumbs(neutral: float, rating: float) -> None:
    worth = reward(Vote(rating=rating), RewardScale(neutral=neutral))
    assert worth is not None
    assert -1 <= worth <= 1
    assert (worth > 0, worth < 0) == (rating > neutral, rating < neutral)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reward_up": 1.1},
        {"reward_down": -1.1},
        {"reward_chosen": 2},
        {"reward_rejected": -2},
        {"rating_neutral": 5.1},
        {"rating_neutral": -0.1},
        {"reward_up": float("nan")},
        {"reward_up": -1},
        {"reward_chosen": 0.5, "reward_rejected": 0.5},
    ],
)
def test_rewards_that_leave_the_scale_or_are_upside_down_are_refused(
    wrong: dict[str, float],
) -> None:
    with pytest.raises(ValidationError):
        FeedbackSettings(**wrong)  # type: ignore[arg-type]
