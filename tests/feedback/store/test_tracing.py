from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback import tracing
from feedback.errors import UnknownCompletionError, UnknownVersionError
from feedback.tracing import explain, made
from feedback.types import Audit, FrozenVote, Person, Vote
from models.versions import Activate, Confirm, Rollback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Run
    from tests.support.store.fixtures import ClaimVotes, MakeCompletion, RecordVotes

    LearnVotes = Callable[..., Awaitable[str]]


pytestmark = pytest.mark.anyio

ANN = Person("k1", "ann")


@pytest.fixture
def learned(store: Store, claimed: ClaimVotes) -> LearnVotes:
    """Learn from new votes into a version that goes live."""

    async def learn(thumbs: str, *, start: int = 0, practice: tuple[str, ...] = ()) -> str:
        run = await claimed(thumbs, start=start)
        version = f"v{run.number:06d}-{run.number:012x}"
        report = {"practice_vote_ids": list(practice)}
        await store.runs.commit(run, version=version, manifest={}, report=report, now=3001.0)
        await store.runs.finish(run, "approved", figures={}, reason=None, now=3002.0)
        await store.rollout.do(Activate(version), Audit("learner", "a test", 3003.0))
        return version

    return learn


async def test_a_reply_of_the_base_says_so(store: Store, voted: RecordVotes) -> None:
    await voted("u")
    found = await explain(store, "c0")
    assert (found.version, found.by_base, found.made) == ("base", True, None)
    assert found.vote is not None
    assert (found.vote.thumb, found.vote.state) == ("up", "pending")
    assert (found.learned_by, found.searched_all) == ((), True)
    assert found.texts is None


async def test_a_reply_leads_to_the_votes_that_made_its_version(
    store: Store, learned: LearnVotes, completion: MakeCompletion
) -> None:
    first = await learned("ud")
    second = await learned("uuud", start=2)
    await store.completions.record(completion("new", version=second))
    found = await explain(store, "new")
    assert (found.version, found.vote) == (second, None)
    assert found.made is not None
    assert found.made.whole
    newest, oldest = found.made.chain
    assert (newest.version, newest.run, newest.votes, newest.up, newest.down) == (
        second,
        2,
        4,
        3,
        1,
    )
    assert (oldest.version, oldest.parent, oldest.up, oldest.down) == (first, "base", 1, 1)
    assert (newest.state, newest.roles, newest.changed_by) == ("live", ("live",), "learner")
    assert (oldest.state, oldest.roles) == ("retired", ())
    assert [(v.completion_id, v.score, v.stands, v.texts) for v in found.made.votes] == [
        ("c2", 1.0, True, None),
        ("c3", 1.0, True, None),
        ("c4", 1.0, True, None),
        ("c5", -1.0, True, None),
    ]


async def test_a_vote_leads_to_what_learned_it_and_where_that_is_served(
    store: Store, learned: LearnVotes
) -> None:
    first = await learned("ud")
    second = await learned("uu", start=2, practice=("c1",))
    found = await explain(store, "c1")
    assert [(each.version, each.how, each.stands) for each in found.learned_by] == [
        (second, "practice", True),
        (first, "learned", True),
    ]
    older = found.learned_by[1]
    assert (older.revision, older.score, older.state) == (1, -1.0, "retired")
    assert older.served_in == ("live",)
    await store.rollout.do(Confirm(second), Audit("judge", "liked", 3004.0))
    served = (await explain(store, "c1")).learned_by[0].served_in
    assert set(served) == {"live", "confirmed"}


async def test_what_was_rolled_back_is_told_as_such(store: Store, learned: LearnVotes) -> None:
    version = await learned("ud")
    await store.rollout.do(Rollback("base"), Audit("ann", "rude", 3004.0))
    found = await explain(store, "c0")
    (only,) = found.learned_by
    assert (only.version, only.state, only.served_in, only.stands) == (
        version,
        "rolled_back",
        (),
        False,
    )
    assert found.vote is not None
    assert found.vote.state == "pending"


async def test_a_withdrawn_vote_still_leads_to_what_learned_it(
    store: Store, learned: LearnVotes
) -> None:
    version = await learned("ud")
    await store.votes.withdraw("c0", ANN, now=3004.0)
    found = await explain(store, "c0")
    assert (found.vote, found.withdrawn) == (None, True)
    assert [(each.version, each.stands) for each in found.learned_by] == [(version, False)]
    assert [vote.stands for vote in (await made(store, version)).votes] == [False, True]


async def test_texts_come_only_when_asked_for(
    store: Store, learned: LearnVotes, completion: MakeCompletion
) -> None:
    version = await learned("u")
    await store.completions.record(completion("new", version=version))
    vote = Vote(thumb="up", comment="nice")
    await store.votes.put("c0", ANN, vote, 1.0, now=3004.0)
    found = await explain(store, "new", texts=True)
    assert found.texts is not None
    assert found.texts.reply == completion("new").text
    assert found.made is not None
    (voted,) = found.made.votes
    assert voted.texts is not None
    assert (voted.texts.question, voted.texts.comment) == ("y", "nice")
    without = await explain(store, "new")
    assert without.made is not None
    assert (without.texts, without.made.votes[0].texts) == (None, None)


async def test_a_run_that_is_not_finished_is_shown(store: Store, claimed: ClaimVotes) -> None:
    run = await claimed("u")
    (only,) = (await explain(store, "c0")).learned_by
    assert (only.run, only.run_state, only.version, only.state) == (
        run.number,
        "claimed",
        None,
        None,
    )


async def test_a_vote_that_outlived_its_reply_is_explained(
    store: Store, raw_redis: Redis, voted: RecordVotes
) -> None:
    await voted("u")
    await raw_redis.delete("tl:completion:c0")
    found = await explain(store, "c0")
    assert (found.version, found.created_at) == ("base", None)
    assert found.vote is not None
    assert found.vote.state == "expired"


async def test_where_all_is_gone_the_runs_still_know(
    store: Store, raw_redis: Redis, learned: LearnVotes
) -> None:
    version = await learned("u")
    await raw_redis.delete("tl:completion:c0", "tl:feedback:c0")
    found = await explain(store, "c0", texts=True)
    assert (found.version, found.by_base, found.made, found.vote) == (None, False, None, None)
    assert [(each.version, each.stands) for each in found.learned_by] == [(version, False)]


@pytest.mark.parametrize("unknown", ["none", "log", 'a"b', ""])
async def test_an_unknown_reply_is_an_error(
    store: Store, learned: LearnVotes, unknown: str
) -> None:
    await learned("u")
    with pytest.raises(UnknownCompletionError, match="nothing of a reply"):
        await explain(store, unknown)


async def test_an_id_that_another_one_begins_with_is_not_mixed_up(
    store: Store, learned: LearnVotes
) -> None:
    await learned("u" * 12)
    assert len((await explain(store, "c1")).learned_by) == 1
    with pytest.raises(UnknownCompletionError):
        await explain(store, "c")


async def test_only_runs_since_the_reply_are_searched(
    store: Store, voted: RecordVotes, completion: MakeCompletion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(start: int, now: float) -> Run | None:
        (completion_id,) = await voted("u", start=start)
        votes = [FrozenVote(completion_id, 1, 1.0)]
        run = await store.runs.claim(votes, parent="base", min_votes=1, now=now)
        assert run is not None
        await store.runs.fail(run, reason="a test", max_attempts=1, now=now)
        return run

    for start in range(3):
        await claim(start, 3000.0)
    monkeypatch.setattr("feedback.store.traces._RUNS_AT_ONCE", 2)
    found = await store.traces.runs_with("c0", since=0.0, most=10)
    assert (found.numbers, found.whole) == ((1,), True)
    bounded = await store.traces.runs_with("c0", since=0.0, most=2)
    assert (bounded.numbers, bounded.whole) == ((), False)
    later = await store.traces.runs_with("c0", since=3000.5, most=2)
    assert (later.numbers, later.whole) == ((), True)


async def test_a_long_chain_is_shown_in_part(
    store: Store, learned: LearnVotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [await learned("u", start=start) for start in range(4)]
    monkeypatch.setattr(tracing, "ANCESTORS", 3)
    found = await made(store, versions[-1])
    assert [step.version for step in found.chain] == versions[:0:-1]
    assert not found.whole


async def test_the_base_is_made_of_nothing(store: Store) -> None:
    found = await made(store, "base")
    assert (found.chain, found.whole, found.votes) == ((), True, ())
    with pytest.raises(UnknownVersionError):
        await made(store, "v000009-000000000009")
