import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from feedback.batching import batch_hash, choose, frozen_json
from feedback.events import FrozenVote, Person, WaitingVote


def waiting(*users: str) -> list[WaitingVote]:
    """Votes c00, c01, ... in order of time, one for each user that is named."""
    return [
        WaitingVote(f"c{i:02}", 1, 1.0, Person("open", user), "base", float(i))
        for i, user in enumerate(users)
    ]


def ids(batch: tuple[FrozenVote, ...]) -> list[str]:
    return [vote.completion_id for vote in batch]


def test_the_oldest_votes_come_first_whatever_their_order() -> None:
    votes = waiting("a", "b", "c")
    assert ids(choose(votes[::-1], max_votes=2, max_user_share=1.0)) == ["c00", "c01"]


def test_votes_of_the_same_moment_are_ordered_by_id() -> None:
    votes = [WaitingVote(name, 1, 1.0, Person("open"), "base", 7.0) for name in ("z", "x", "y")]
    assert ids(choose(votes, max_votes=2, max_user_share=1.0)) == ["x", "y"]


def test_four_users_are_too_few_for_a_cap() -> None:
    votes = waiting("a", "a", "a", "a", "a", "b", "c", "d")
    assert len(choose(votes, max_votes=8, max_user_share=0.25)) == 8


def test_with_five_users_one_has_no_more_than_the_share() -> None:
    # All 12 votes would give a cap of 3; a, b .. e then fill 3 + 2 + 1 + 1 + 1 = 8, whose cap
    # is 2; that leaves 2 + 2 + 1 + 1 + 1 = 7, whose cap is 1; and so one vote of each.
    votes = waiting("a", "a", "a", "a", "a", "a", "a", "b", "b", "c", "d", "e")
    assert ids(choose(votes, max_votes=12, max_user_share=0.25)) == [
        "c00",
        "c07",
        "c09",
        "c10",
        "c11",
    ]


def test_a_cap_that_is_filled_exactly_is_kept() -> None:
    # Ten votes, share 0.3: three of user a, and seven of the others.
    votes = waiting(*"aaaa", *"bbccddee")
    batch = choose(votes, max_votes=10, max_user_share=0.3)
    assert ids(batch) == ["c00", "c01", "c02", *(f"c{i:02}" for i in range(4, 11))]


def test_nothing_waits_nothing_is_chosen() -> None:
    assert choose([], max_votes=64, max_user_share=0.25) == ()


@given(
    users=st.lists(st.sampled_from("abcdefgh"), max_size=80),
    max_votes=st.integers(1, 40),
    share=st.floats(0.01, 1.0),
)
def test_a_batch_keeps_its_bounds(users: list[str], max_votes: int, share: float) -> None:
    votes = waiting(*users)
    batch = choose(votes, max_votes=max_votes, max_user_share=share)
    person = {vote.completion_id: vote.person for vote in votes}
    counts = Counter(person[vote.completion_id] for vote in batch)
    assert len(set(ids(batch))) == len(batch) <= max_votes
    assert ids(batch) == sorted(ids(batch))
    if len(set(users)) >= 5:
        assert all(n == 1 or n <= share * len(batch) + 1e-6 for n in counts.values())
    else:
        assert len(batch) == min(max_votes, len(votes))
    assert bool(batch) == bool(votes)


@given(users=st.lists(st.sampled_from("abcdefgh"), max_size=30), shuffled=st.randoms())
def test_the_choice_depends_on_the_votes_alone(users: list[str], shuffled: object) -> None:
    votes = waiting(*users)
    mixed = list(votes)
    shuffled.shuffle(mixed)  # type: ignore[attr-defined]
    assert choose(votes, max_votes=9, max_user_share=0.3) == choose(
        mixed, max_votes=9, max_user_share=0.3
    )


def test_the_hash_is_over_the_one_spelling_of_a_batch() -> None:
    votes = (FrozenVote("chatcmpl-1", 2, 1.0), FrozenVote("chatcmpl-2", 1, -0.6))
    spelled = '[["chatcmpl-1",2,1.0],["chatcmpl-2",1,-0.6]]'
    assert frozen_json(votes) == spelled
    assert batch_hash(votes) == hashlib.sha1(spelled.encode()).hexdigest()


def test_another_revision_is_another_batch() -> None:
    assert batch_hash([FrozenVote("c", 1, 1.0)]) != batch_hash([FrozenVote("c", 2, 1.0)])
