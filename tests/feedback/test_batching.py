import hashlib
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from feedback.batching import (
    batch_hash,
    choose,
    frozen_json,
    learned_votes,
    setbacks_in_a_row,
    sift,
    standing_votes,
)
from feedback.types import FrozenVote, Person, Run, RunState, StaleVote, WaitingVote


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


def test_or_the_newest_if_that_is_asked_for() -> None:
    votes = waiting("a", "b", "c")
    batch = choose(votes, max_votes=2, max_user_share=1.0, order="newest")
    assert ids(batch) == ["c02", "c01"]


def test_users_take_turns() -> None:
    # One vote of each of the three, then the second of the two that have one: a's is older.
    votes = waiting("a", "a", "a", "a", "b", "b", "c")
    assert ids(choose(votes, max_votes=4, max_user_share=1.0)) == ["c00", "c01", "c04", "c06"]


def test_with_more_users_than_room_the_oldest_first_votes_are_learned() -> None:
    votes = waiting("a", "a", "b", "c")
    assert ids(choose(votes, max_votes=2, max_user_share=1.0)) == ["c00", "c02"]


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
    # Ten votes, share 0.3: three of user a, the fourth is left, and seven of the others.
    votes = waiting(*"aaaa", *"bbccdde")
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


@given(
    users=st.lists(st.sampled_from("abcdefgh"), max_size=80),
    max_votes=st.integers(1, 40),
    share=st.floats(0.01, 1.0),
    order=st.sampled_from(["oldest", "newest"]),
)
def test_nobody_is_kept_waiting_by_one_who_has_more(
    users: list[str], max_votes: int, share: float, order: str
) -> None:
    votes = waiting(*users)
    batch = choose(votes, max_votes=max_votes, max_user_share=share, order=order)  # type: ignore[arg-type]
    person = {vote.completion_id: vote.person for vote in votes}
    had = Counter(vote.person for vote in votes)
    got = Counter(person[vote.completion_id] for vote in batch)
    for user, count in had.items():
        # Whoever was refused a vote has as many in the batch as anyone else, or one less.
        assert got[user] == count or got[user] >= max(got.values()) - 1
    for user in had:
        own = [each for each in votes if each.person == user]
        first = own[: got[user]] if order == "oldest" else own[len(own) - got[user] :]
        assert {each.completion_id for each in first} == {
            vote.completion_id for vote in batch if person[vote.completion_id] == user
        }


VERSIONS = ("base", *(f"v{i:06d}-0123456789ab" for i in range(1, 30)))


def of_version(name: str, version: str) -> WaitingVote:
    return WaitingVote(name, 3, 1.0, Person("open"), version, 7.0)


def test_a_vote_on_a_version_too_far_back_is_stale() -> None:
    votes = [of_version("c0", VERSIONS[4]), of_version("c1", VERSIONS[3])]
    sifted = sift(votes, live=VERSIONS[9], max_version_lag=5)
    assert sifted.fresh == (votes[0],)
    reason = (
        "The reply is by v000003-0123456789ab, 6 versions before the live one; "
        "at most 5 are learned from."
    )
    assert sifted.stale == (StaleVote("c1", 3, reason),)


def test_a_version_without_a_number_is_never_stale() -> None:
    votes = [of_version("c0", "imported")]
    assert sift(votes, live=VERSIONS[9], max_version_lag=0).fresh == tuple(votes)


@given(
    made_by=st.lists(st.integers(0, 29), max_size=30),
    live=st.integers(0, 29),
    most=st.none() | st.integers(0, 30),
)
def test_sifting_parts_the_votes(made_by: list[int], live: int, most: int | None) -> None:
    votes = [of_version(f"c{i}", VERSIONS[number]) for i, number in enumerate(made_by)]
    sifted = sift(votes, live=VERSIONS[live], max_version_lag=most)
    fresh = [
        vote
        for vote, number in zip(votes, made_by, strict=True)
        if most is None or live - number <= most
    ]
    assert list(sifted.fresh) == fresh
    kept = {vote.completion_id for vote in fresh}
    assert [vote.completion_id for vote in sifted.stale] == [
        vote.completion_id for vote in votes if vote.completion_id not in kept
    ]


def run(number: int, *names: str, state: RunState = "approved", parent: str = "base") -> Run:
    votes = tuple(FrozenVote(name, number, 1.0) for name in names)
    return Run(number, state, 1, parent, votes, "", 1, 0.0)


def test_setbacks_are_counted_of_one_parent_until_something_stood() -> None:
    now = run(6, state="claimed", parent="v2")
    rejected = [run(5, state="rejected", parent="v2"), run(4, state="rejected", parent="v2")]
    of_another_parent = run(3, state="rejected", parent="v1")
    assert setbacks_in_a_row([now, *rejected, of_another_parent], now, ()) == 2
    passed = run(4, parent="v2")
    assert setbacks_in_a_row([now, rejected[0], passed, rejected[1]], now, ()) == 1
    assert setbacks_in_a_row([now], now, ()) == 0
    # a run that is taken over counts those before it, not itself or what came later
    assert setbacks_in_a_row([now, *rejected], rejected[0], ()) == 1


def test_versions_that_were_rolled_back_are_setbacks_of_their_parent() -> None:
    now = run(6, state="claimed", parent="v2")
    of_child = replace(run(5, parent="v4"), version="v5")
    child, older = (replace(run(number, parent="v2"), version=f"v{number}") for number in (4, 3))
    runs = [now, of_child, child, older]
    assert setbacks_in_a_row(runs, now, {"v5", "v4"}) == 1
    assert setbacks_in_a_row(runs, now, {"v5", "v4", "v3"}) == 2
    assert setbacks_in_a_row(runs, now, {"v3"}) == 0
    rejected = run(5, state="rejected", parent="v2")
    assert setbacks_in_a_row([now, rejected, child], now, {"v4"}) == 2


def test_the_votes_of_earlier_runs_have_what_was_learned_last_first() -> None:
    runs = [run(3, "c4", "c0"), run(2, "c2", "c3", state="rejected"), run(1, "c0", "c1")]
    votes = learned_votes(runs)
    # c0 was learned again by run 3, under a later revision.
    assert votes == (
        FrozenVote("c0", 3, 1.0),
        FrozenVote("c4", 3, 1.0),
        FrozenVote("c1", 1, 1.0),
    )
    assert ids(standing_votes(votes, [True, False, True], most=2)) == ["c0", "c1"]
    assert standing_votes(votes, [True] * 3, most=1) == votes[:1]
    assert standing_votes(votes, [True] * 3, most=0) == ()


@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from(["approved", "rejected", "claimed", "committed", "quarantined"]),
            st.lists(st.sampled_from("abcdefghij"), unique=True),
        ),
        max_size=12,
    ),
    changed=st.sets(st.sampled_from("abcdefghij")),
    most=st.integers(0, 20),
)
def test_of_the_votes_of_earlier_runs_those_that_stand_are_kept_up_to_a_number(
    batches: list[tuple[RunState, list[str]]], changed: set[str], most: int
) -> None:
    runs = [run(i + 1, *names, state=state) for i, (state, names) in enumerate(batches)][::-1]
    votes = learned_votes(runs)
    stands = [vote.completion_id not in changed for vote in votes]
    found = standing_votes(votes, stands, most=most)
    learned = {vote for each in runs if each.state == "approved" for vote in each.votes}
    names = [vote.completion_id for vote in found]
    assert len(set(names)) == len(names) <= most
    assert set(found) <= learned
    assert not changed & set(names)
    revisions = [vote.revision for vote in found]  # here the number of the run
    assert revisions == sorted(revisions, reverse=True)
    standing = {vote.completion_id for vote in learned} - changed
    assert len(found) == min(most, len(standing))


def test_the_hash_is_over_the_one_spelling_of_a_batch() -> None:
    votes = (FrozenVote("chatcmpl-1", 2, 1.0), FrozenVote("chatcmpl-2", 1, -0.6))
    spelled = '[["chatcmpl-1",2,1.0],["chatcmpl-2",1,-0.6]]'
    assert frozen_json(votes) == spelled
    assert batch_hash(votes) == hashlib.sha1(spelled.encode()).hexdigest()


def test_another_revision_is_another_batch() -> None:
    assert batch_hash([FrozenVote("c", 1, 1.0)]) != batch_hash([FrozenVote("c", 2, 1.0)])
