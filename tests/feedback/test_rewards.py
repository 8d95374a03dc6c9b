import pytest

from feedback.events import Vote
from feedback.rewards import reward


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
        (Vote(comment="fine"), None),
        (Vote(tags=("rude",)), None),
        (Vote(correction="better"), None),
    ],
)
def test_a_vote_is_worth_its_place_on_the_scale(vote: Vote, expected: float | None) -> None:
    assert reward(vote) == expected
