from typing import Any

import pytest

from feedback.errors import InvalidVoteError
from feedback.types import Comparison, Person, VersionRecord, Vote, counted_as


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"comment": ""},
        {"thumb": "up", "rating": 3},
        {"thumb": "up", "comparison": Comparison("chosen", "c")},
        {"rating": 3, "comparison": Comparison("chosen", "c")},
        {"rating": 5.5},
        {"rating": -0.5},
        {"rating": 3.2},
    ],
)
def test_a_vote_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidVoteError):
        Vote(**body)


def test_approval_is_the_share_of_approving_votes() -> None:
    assert VersionRecord("base", "live", "", 0.0).approval is None
    assert VersionRecord("base", "live", "", 0.0, up=3, down=1).approval == 0.75


def test_whom_a_request_counts_as() -> None:
    assert counted_as(Person("k", "ann"), "c1", "x") == "u:k:ann"
    assert counted_as(Person("k", ""), "c1", "x") == "c:k:c1"
    assert counted_as(Person("k", ""), "", "x") == "r:x"
