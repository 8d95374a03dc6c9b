from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.store.log import START
from feedback.types import Person, Vote

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.vote_record import VoteRecord
    from tests.support.store.fixtures import ClaimVotes, MakeCompletion, RecordVotes

pytestmark = pytest.mark.anyio

ANN = Person("k1", "ann")


async def whole(store: Store) -> list[VoteRecord]:
    return await store.log.records(await store.log.read(START, 1000))


async def test_an_empty_log_has_nothing(store: Store) -> None:
    assert await store.log.last_id() == START
    assert await store.log.size() == 0
    assert await whole(store) == []


async def test_a_vote_comes_with_all_that_is_recorded(
    store: Store, voted: RecordVotes, completion: MakeCompletion
) -> None:
    await voted("u")
    (found,) = await whole(store)
    assert found.completion == completion("c0")
    assert (found.id, found.state, found.revision) == ("c0", "pending", 1)
    assert (found.person, found.version) == (ANN, "base")
    assert (found.vote, found.score) == (Vote(thumb="up"), 1.0)
    assert (found.updated_at, found.voted_at, found.scored_revision) == (2000.0, 2000.0, 1)
    assert found.learned_by is None
    assert found.returned == 0


async def test_a_changed_vote_comes_once_where_it_changed_last(
    store: Store, voted: RecordVotes
) -> None:
    await voted("uu")
    await store.votes.put("c0", ANN, Vote(thumb="down", comment="no"), -1.0, now=3000.0)
    await store.votes.put("c0", ANN, Vote(thumb="down", comment="No."), -1.0, now=3001.0)
    found = await whole(store)
    assert [(each.id, each.revision) for each in found] == [("c1", 1), ("c0", 3)]
    assert found[1].scored_revision == 2
    assert (found[1].voted_at, found[1].updated_at) == (3000.0, 3001.0)


async def test_withdrawn_and_deleted_votes_come_as_tombstones(
    store: Store, claimed: ClaimVotes
) -> None:
    run = await claimed("uuu")
    version = "v000001-0123456789ab"
    await store.runs.commit(run, version=version, manifest={}, report={}, now=4000.0)
    await store.votes.withdraw("c0", ANN, now=5000.0)
    await store.completions.delete("c1", ANN)
    learned, withdrawn, deleted = await whole(store)
    assert (learned.id, learned.state, learned.learned_by) == ("c2", "learned", version)
    assert (withdrawn.id, withdrawn.state, withdrawn.revision) == ("c0", "withdrawn", 2)
    assert (withdrawn.learned_by, withdrawn.updated_at) == (version, 5000.0)
    assert (deleted.id, deleted.state, deleted.learned_by) == ("c1", "deleted", version)
    for tombstone in (withdrawn, deleted):
        assert tombstone.person is None
        assert tombstone.vote is None
        assert tombstone.completion is None


async def test_a_vote_outlives_its_reply_and_then_is_left_out(
    store: Store, raw_redis: Redis, voted: RecordVotes
) -> None:
    await voted("ud")
    await raw_redis.delete("tl:completion:c0", "tl:completion:c1", "tl:feedback:c1")
    (found,) = await whole(store)
    assert (found.id, found.state, found.person) == ("c0", "expired", ANN)
    assert found.version == "base"
    assert found.completion is None


async def test_the_log_is_read_in_pieces(store: Store, voted: RecordVotes) -> None:
    await voted("udu")
    first = await store.log.read(START, 2)
    assert [each.completion_id for each in first] == ["c0", "c1"]
    rest = await store.log.read(first[-1].id, 2)
    assert [each.completion_id for each in rest] == ["c2"]
    assert await store.log.last_id() == rest[0].id
    assert await store.log.read(START, 9, until=first[0].id) == first[:1]


async def test_the_last_id_stays_when_the_log_is_trimmed(
    store: Store, raw_redis: Redis, voted: RecordVotes
) -> None:
    await voted("u")
    last = await store.log.last_id()
    await raw_redis.xtrim("tl:feedback:log", maxlen=0, approximate=False)
    assert await store.log.last_id() == last


async def test_the_mark_rises_only_without_a_gap(store: Store) -> None:
    assert await store.log.exported() is None
    assert not await store.log.raise_exported(since="5-0", until="9-0")
    assert await store.log.exported() is None
    assert await store.log.raise_exported(since=START, until="9-9")
    assert await store.log.raise_exported(since="9-9", until="10-0")
    assert await store.log.raise_exported(since=START, until="9-10")  # has it all, and more
    assert not await store.log.raise_exported(since="10-1", until="11-0")
    assert await store.log.exported() == "10-0"
    assert await store.log.raise_exported(since="9-9", until="10-2")
    assert await store.log.exported() == "10-2"
