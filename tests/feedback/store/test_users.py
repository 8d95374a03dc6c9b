from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import OwnerNeededError, StoreUnavailableError, UnknownUserError
from feedback.retention import DeletedUser
from feedback.store import Store, keys
from feedback.store.client import Client
from feedback.types import FrozenVote, Person, Vote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from feedback.settings import FeedbackSettings
    from feedback.types import Completion, Run
    from tests.support.store.servers import StartRedis

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]
    Claimed = Callable[..., Awaitable[Run]]

pytestmark = pytest.mark.anyio

ANN = Person("k1", "ann")
BOB = Person("k1", "bob")
V1 = "v000001-0123456789ab"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.store.users.PIECE", 3)


async def commit(store: Store, run: Run) -> None:
    await store.runs.commit(run, version=V1, manifest={}, report={}, now=3500.0)


async def test_everything_of_a_user_goes_and_nothing_of_others(
    store: Store, raw_redis: Redis, completion: MakeCompletion, voted: Voted
) -> None:
    await store.completions.record(completion("b1", person=BOB))
    await store.votes.put("b1", BOB, Vote(thumb="up"), 1.0, now=1999.0)
    before = set(await raw_redis.keys("*"))
    counts = await store.votes.stats()
    await voted("ududu")
    await store.completions.record(completion("c9"))
    await store.votes.withdraw("c3", ANN, now=2500.0)
    found = await store.users.find(ANN)
    assert (found.completions, found.votes) == (6, 4)
    deleted = await store.users.delete(ANN, who="ops")
    # Redis may be at a rewrite of its own at this moment: then one more is wanted.
    assert deleted.rewrite in {"started", "wanted"}
    assert replace(deleted, rewrite=found.rewrite) == found
    assert set(await raw_redis.keys("*")) == before | {keys.EVENTS, keys.RETENTION}
    assert await store.votes.stats() == counts
    base = await store.versions.get("base")
    assert (base.completions, base.up, base.down) == (1, 1, 0)
    assert [vote.completion_id for vote in await store.votes.waiting(9)] == ["b1"]
    assert (await store.votes.get("b1", BOB)).vote == Vote(thumb="up")


async def test_the_log_and_the_audit_name_nobody(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("uu")
    await store.users.delete(ANN, who="ops")
    entries = await raw_redis.xrange(keys.FEEDBACK_LOG)
    events = [fields for _, fields in entries]
    gone = [e for e in events if e["event"] == "deleted"]
    assert [(e["id"], e["revision"], e["learned_by"]) for e in gone] == [
        ("c0", "2", ""),
        ("c1", "2", ""),
    ]
    audit = (await store.rollout.events(1))[0]
    assert (audit.who, audit.action, audit.why) == ("ops", "delete_user", "2 replies")
    assert "ann" not in f"{entries}{audit}"


async def test_what_was_learned_from_a_user_is_listed(
    store: Store, voted: Voted, claimed: Claimed
) -> None:
    first = await claimed("uuuu")
    await commit(store, first)
    await store.runs.finish(first, "approved", figures={}, reason=None, now=3600.0)
    second = await claimed("d", start=4)
    found = await store.users.find(ANN)
    assert (found.versions, found.runs) == ((V1,), (first.number, second.number))
    assert (await store.users.delete(ANN, who="ops")).versions == (V1,)


async def test_a_version_that_learned_a_vote_before_it_changed_is_listed(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await store.votes.put("c0", ANN, Vote(thumb="down"), -1.0, now=3600.0)
    deleted = await store.users.delete(ANN, who="ops")
    assert (deleted.versions, deleted.runs) == ((V1,), (run.number,))


async def test_a_run_that_has_such_a_vote_ends_without_it(
    store: Store, raw_redis: Redis, completion: MakeCompletion, claimed: Claimed
) -> None:
    await store.completions.record(completion("b1", person=BOB))
    await store.votes.put("b1", BOB, Vote(thumb="up"), 1.0, now=1999.0)
    run = await claimed("ud")
    await store.users.delete(ANN, who="ops")
    found = await store.completions.get_many([vote.completion_id for vote in run.votes])
    assert [each.id for each in found if each] == ["b1"]
    await commit(store, run)
    await store.runs.finish(run, "approved", figures={}, reason=None, now=3600.0)
    assert (await store.votes.get("b1", BOB)).state == "learned"
    assert await raw_redis.exists(keys.feedback("c0"), keys.feedback("c1")) == 0
    stats = await store.votes.stats()
    assert {name: count for name, count in stats.items() if count} == {"up": 1, "learned": 1}
    await store.runs.claim([FrozenVote("c0", 1, 1.0)], parent="base", min_votes=1, now=4000.0)
    assert (await store.runs.list(1))[0].number == run.number


async def test_a_vote_that_outlived_its_completion_goes_too(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("ud")
    await raw_redis.delete(keys.completion("c0"))
    deleted = await store.users.delete(ANN, who="ops")
    assert (deleted.completions, deleted.votes) == (2, 2)
    assert await raw_redis.exists(keys.feedback("c0")) == 0


def break_off(monkeypatch: pytest.MonkeyPatch, script: str, *, after: int) -> None:
    """Let Redis be away from some call of a script on."""
    durable, left = Client.durable_script, after

    async def breaks(client: Client, name: str, *words: Any, **named: Any) -> Any:
        nonlocal left
        left -= name == script
        if left < 0:
            raise StoreUnavailableError("away")
        return await durable(client, name, *words, **named)

    monkeypatch.setattr(Client, "durable_script", breaks)


async def test_a_deletion_that_was_cut_off_goes_on_and_tells_the_whole(
    store: Store, claimed: Claimed
) -> None:
    await commit(store, await claimed("uduuduu"))
    with pytest.MonkeyPatch.context() as patch:
        break_off(patch, "user_delete", after=2)
        with pytest.raises(StoreUnavailableError):
            await store.users.delete(ANN, who="ops")
    halfway = await store.users.find(ANN)
    assert (halfway.completions, halfway.versions) == (1, (V1,))
    deleted = await store.users.delete(ANN, who="ops")
    assert (deleted.completions, deleted.votes, deleted.versions) == (7, 7, (V1,))


async def test_a_deletion_whose_last_step_was_cut_off_is_still_ended(
    store: Store, voted: Voted
) -> None:
    await voted("ud")
    with pytest.MonkeyPatch.context() as patch:
        break_off(patch, "user_deleted", after=0)
        with pytest.raises(StoreUnavailableError):
            await store.users.delete(ANN, who="ops")
    assert (await store.users.find(ANN)).completions == 0
    assert (await store.users.delete(ANN, who="ops")).completions == 2
    with pytest.raises(UnknownUserError):
        await store.users.delete(ANN, who="ops")


async def test_a_redis_that_is_killed_midway_leaves_nothing_uncounted(
    start_redis: StartRedis,
    tmp_path: Path,
    feedback_settings: FeedbackSettings,
    completion: MakeCompletion,
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    count = 300
    await asyncio.gather(*(store.completions.record(completion(f"c{i}")) for i in range(count)))
    deleting = asyncio.create_task(store.users.delete(ANN, who="ops"))
    while (await store.versions.get("base")).completions > count // 2:  # noqa: ASYNC110 - Redis sets no event
        await asyncio.sleep(0)
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await deleting
    await store.close()

    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    left = (await store.users.find(ANN)).completions
    assert 0 < left <= count // 2
    assert (await store.users.delete(ANN, who="ops")).completions == count
    async with server.client() as raw_redis:
        events = await raw_redis.xrange(keys.FEEDBACK_LOG)
    assert {fields["id"] for _, fields in events} == {f"c{i}" for i in range(count)}
    assert len(events) == count
    assert (await store.versions.get("base")).completions == 0
    await store.close()


async def test_an_unknown_user_is_an_error(store: Store, voted: Voted) -> None:
    await voted("u")
    for person in (Person("k1", "an"), Person("k2", "ann"), Person("k1", "*")):
        with pytest.raises(UnknownUserError):
            await store.users.find(person)
        with pytest.raises(UnknownUserError):
            await store.users.delete(person, who="ops")
    assert (await store.votes.stats())["up"] == 1


async def test_without_keys_there_is_one_owner_and_with_keys_it_must_be_named(
    store: Store, completion: MakeCompletion
) -> None:
    assert await store.users.person("ann", None) == Person("open", "ann")
    assert await store.users.person("ann", "k7") == Person("k7", "ann")
    key, _ = await store.keys.create("shop", frozenset({"chat"}), now=1.0)
    await store.keys.create("other", frozenset({"chat"}), now=1.0)
    await store.completions.record(completion("c1", person=Person(key.public_id, "ann")))
    await store.completions.record(completion("c2", person=Person("open", "ann")))
    with pytest.raises(OwnerNeededError, match=f"open, {key.public_id}"):
        await store.users.person("ann", None)
    with pytest.raises(OwnerNeededError, match="none"):
        await store.users.person("bob", None)


def bytes_of(folder: Path) -> bytes:
    """Return all that a Redis has on disk."""
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def rewritten(store: Store) -> None:
    async with asyncio.timeout(30):
        while (await store.retention.sweep(now=1.0, seconds=1.0)).rewrite:  # noqa: ASYNC110 - Redis sets no event
            await asyncio.sleep(0.05)


async def test_after_the_rewrite_no_byte_of_the_user_is_on_disk(
    start_redis: StartRedis,
    tmp_path: Path,
    feedback_settings: FeedbackSettings,
    completion: MakeCompletion,
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    person = Person("open", "Zoe-Quill")
    secret = replace(completion("z1", person=person), text="Ein Geheimnis: Quittenmus")
    vote = Vote(thumb="up", comment="Mein Kommentar", tags=("mein-tag",), correction="Quittenbrot")
    await store.completions.record(secret)
    await store.votes.put("z1", person, vote, 1.0, now=2000.0)
    await store.completions.record(completion("b1", person=BOB))
    traces = [b"Zoe-Quill", b"Quittenmus", b"Mein Kommentar", b"mein-tag", b"Quittenbrot"]
    before = bytes_of(server.redis.folder)
    assert all(trace in before for trace in traces)

    deleted = await store.users.delete(person, who="ops")
    assert deleted == DeletedUser("Zoe-Quill", "open", 1, 1, rewrite="started")
    await rewritten(store)
    after = bytes_of(server.redis.folder)
    assert [trace for trace in traces if trace in after] == []
    assert b"tl:completion:b1" in after
    await store.close()


async def test_a_rewrite_that_redis_did_not_end_is_begun_anew(
    start_redis: StartRedis,
    tmp_path: Path,
    feedback_settings: FeedbackSettings,
    completion: MakeCompletion,
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    await store.completions.record(completion("c1", person=Person("open", "Zoe-Quill")))
    # As a kill leaves it: the deletion is on disk, and its rewrite had begun.
    await store.users.delete(Person("open", "Zoe-Quill"), who="ops")
    async with server.client() as raw_redis:
        await raw_redis.hset(keys.RETENTION, "rewrite", "started")
    await store.close()
    server.kill()
    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    await rewritten(store)
    assert b"Zoe-Quill" not in bytes_of(server.redis.folder)
    async with server.client() as raw_redis:
        info = await raw_redis.info("persistence")
    assert info["aof_last_rewrite_time_sec"] >= 0
    await store.close()


async def test_a_redis_that_refuses_the_rewrite_is_asked_again(
    store: Store, raw_redis: Redis, voted: Voted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await raw_redis.execute_command("ACL SETUSER", "default", "-bgrewriteaof")
    try:
        await voted("u")
        assert (await store.users.delete(ANN, who="ops")).rewrite == "wanted"
        assert (await store.retention.sweep(now=1.0, seconds=1.0)).rewrite == "wanted"
    finally:
        await raw_redis.execute_command("ACL SETUSER", "default", "+bgrewriteaof")
    await rewritten(store)
    health = await store.retention.health()
    assert health.swept is not None
    assert health.swept.rewrite == ""


async def test_no_owner_can_be_so_named_that_another_users_list_is_meant(
    store: Store, completion: MakeCompletion
) -> None:
    person = Person("open", "b:c")
    await store.completions.record(completion("c1", person=person))
    with pytest.raises(UnknownUserError):
        await store.users.person("c", "open:b")
    assert (await store.users.delete(person, who="ops")).completions == 1


async def test_a_deletion_is_told_although_redis_went_away_before_the_rewrite(
    store: Store, raw_redis: Redis, voted: Voted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise StoreUnavailableError("away")

    await voted("uu")
    monkeypatch.setattr(store.retention, "rewrite_file", away)
    deleted = await store.users.delete(ANN, who="ops")
    assert (deleted.votes, deleted.rewrite) == (2, "wanted")
    assert await raw_redis.hget(keys.RETENTION, "rewrite") == "wanted"
