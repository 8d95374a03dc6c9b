"""Claims, leases and commits: one learner at a time makes one version of a batch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.batching import batch_hash
from feedback.errors import FencedError, UnknownRunError
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.store.client import Client
from feedback.types import FrozenVote, Run, Vote
from tests.support.store.runs import ANN, V1, V2, commit, finish, let_the_lease_run_out, states

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]
    Claimed = Callable[..., Awaitable[Run]]

pytestmark = pytest.mark.anyio
UP, DOWN = Vote(thumb="up"), Vote(thumb="down")


async def test_a_claim_freezes_the_batch(store: Store, voted: Voted) -> None:
    await voted("ud")
    votes = [FrozenVote("c0", 1, 1.0), FrozenVote("c1", 1, -1.0)]
    run = await store.runs.claim(votes, parent="base", min_votes=2, now=3000.0)
    assert run == Run(
        number=1,
        state="claimed",
        fence=1,
        parent="base",
        votes=tuple(votes),
        batch_hash=batch_hash(votes),
        attempts=1,
        claimed_at=3000.0,
    )
    assert await store.runs.open() == await store.runs.get(1) == run
    assert await store.runs.list() == [run]
    assert await states(store, "c0", "c1") == ["claimed", "claimed"]
    assert await store.votes.count_waiting() == 0


async def test_a_claim_leaves_out_what_changed_since_the_choice(store: Store, voted: Voted) -> None:
    await voted("uuuu")
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(4)]
    await store.votes.put("c0", ANN, DOWN, -1.0, now=2500.0)
    await store.votes.withdraw("c1", ANN, now=2500.0)
    await store.completions.delete("c2", ANN)
    assert await store.runs.claim(votes, parent="base", min_votes=2, now=3000.0) is None
    run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.votes == (FrozenVote("c3", 1, 1.0),)
    assert run.batch_hash == batch_hash(run.votes)


async def test_a_score_that_came_back_is_still_another_revision(store: Store, voted: Voted) -> None:
    await voted("u")
    await store.votes.put("c0", ANN, DOWN, -1.0, now=2500.0)
    await store.votes.put("c0", ANN, UP, 1.0, now=2501.0)
    old, new = [FrozenVote("c0", 1, 1.0)], [FrozenVote("c0", 3, 1.0)]
    assert await store.runs.claim(old, parent="base", min_votes=1, now=3000.0) is None
    assert await store.runs.claim(new, parent="base", min_votes=1, now=3000.0) is not None


async def test_scores_survive_to_the_last_digit(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c0"))
    await store.votes.put("c0", ANN, Vote(rating=3), 0.1 + 0.2, now=2000.0)
    votes = [FrozenVote("c0", 1, 0.1 + 0.2)]
    run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.votes[0].score == 0.30000000000000004
    assert run.batch_hash == batch_hash(votes)


async def test_an_open_run_says_what_its_learner_does(store: Store, voted: Voted) -> None:
    await voted("u")
    run = await store.runs.claim([FrozenVote("c0", 1, 1.0)], parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.doing is None
    await store.runs.renew(run, doing="score 3 of 16")
    assert (await store.runs.get(run.number)).doing == "score 3 of 16"
    assert (await store.runs.list(1))[0].doing == "score 3 of 16"
    await store.runs.fail(run, reason="x", max_attempts=1, now=3001.0)
    assert (await store.runs.get(run.number)).doing is None


async def test_no_claim_while_paused_or_open_or_of_another_parent(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("uu")
    first, second = [FrozenVote("c0", 1, 1.0)], [FrozenVote("c1", 1, 1.0)]
    await store.learning.pause("op")
    assert await store.runs.claim(first, parent="base", min_votes=1, now=3000.0) is None
    await store.learning.resume("op")
    assert await store.runs.claim(first, parent=V1, min_votes=1, now=3000.0) is None
    assert await store.runs.claim([], parent="base", min_votes=0, now=3000.0) is None
    assert await store.runs.claim(first, parent="base", min_votes=1, now=3000.0) is not None
    assert await store.runs.claim(second, parent="base", min_votes=1, now=3000.0) is None
    await let_the_lease_run_out(raw_redis)
    assert await store.runs.claim(second, parent="base", min_votes=1, now=3000.0) is None


async def test_of_twenty_racing_claims_one_wins(store: Store, voted: Voted) -> None:
    await voted("uuuu")
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(4)]
    runs = await asyncio.gather(
        *(store.runs.claim(votes, parent="base", min_votes=1, now=3000.0) for _ in range(20))
    )
    assert [run.number for run in runs if run] == [1]


async def test_only_a_silent_learners_run_is_taken_over(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    assert await store.runs.take_over() is None
    run = await claimed("uu")
    assert await store.runs.take_over() is None
    await let_the_lease_run_out(raw_redis)
    taken = await store.runs.take_over()
    assert taken is not None
    assert (taken.fence, taken.attempts) == (2, 2)
    assert (taken.votes, taken.batch_hash, taken.number) == (run.votes, run.batch_hash, 1)
    assert await store.runs.take_over() is None


async def test_renewing_starts_the_lease_afresh(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    run = await claimed("u")
    await raw_redis.pexpire(keys.LEASE, 5000)
    await store.runs.renew(run)
    assert 25_000 < await raw_redis.pttl(keys.LEASE) <= 30_000


async def test_the_lease_runs_out_by_itself(
    store: Store, raw_redis: Redis, claimed: Claimed, redis_url: str
) -> None:
    await claimed("u")
    hasty = Store.connect(redis_url, FeedbackSettings(lease=timedelta(milliseconds=20)))
    await let_the_lease_run_out(raw_redis)
    assert await hasty.runs.take_over() is not None
    await asyncio.sleep(0.05)
    assert await store.runs.take_over() is not None
    await hasty.close()


async def test_a_fenced_learner_writes_nothing(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    old = await claimed("uu")
    await let_the_lease_run_out(raw_redis)
    new = await store.runs.take_over()
    assert new is not None
    with pytest.raises(FencedError):
        await store.runs.renew(old)
    with pytest.raises(FencedError):
        await commit(store, old)
    with pytest.raises(FencedError):
        await store.runs.fail(old, reason="x", max_attempts=1, now=3060.0)
    assert await store.runs.get(1) == new
    assert [each.version for each in await store.versions.list()] == ["base"]
    await commit(store, new)
    with pytest.raises(FencedError):
        await finish(store, old, "approved")
    assert (await store.runs.get(1)).state == "committed"


async def test_a_commit_makes_a_candidate_and_marks_its_votes(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("ud")
    await commit(store, run)
    found = await store.runs.get(1)
    assert (found.state, found.version, found.report) == ("committed", V1, {"loss": 0.5})
    version = await store.versions.get(V1)
    assert (version.state, version.parent, version.run) == ("candidate", "base", 1)
    assert version.manifest == {"run": 1}
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.version) == ("learned", V1)
    event = (await store.rollout.events())[0]
    assert (event.action, event.old, event.new) == ("commit", "base", V1)


async def test_a_commit_again_changes_nothing(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    await commit(store, run)
    before = await store.runs.get(1), await store.rollout.events()
    await commit(store, run)
    assert (await store.runs.get(1), await store.rollout.events()) == before
    with pytest.raises(FencedError):
        await commit(store, run, V2)


async def test_votes_changed_after_the_claim_go_to_the_next_run(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uuuu")
    changed = await store.votes.put("c0", ANN, DOWN, -1.0, now=3050.0)
    assert (changed.state, changed.revision) == ("pending", 2)
    await store.votes.withdraw("c1", ANN, now=3050.0)
    await store.votes.withdraw("c2", ANN, now=3050.0)
    await store.votes.put("c2", ANN, UP, 1.0, now=3051.0)
    await commit(store, run)
    assert await states(store, "c0", "c2", "c3") == ["pending", "pending", "learned"]
    waiting = await store.votes.waiting(9)
    assert [(vote.completion_id, vote.revision) for vote in waiting] == [("c0", 2), ("c2", 3)]


async def test_a_comment_after_the_claim_does_not_learn_the_thumb_twice(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    noted = await store.votes.put("c0", ANN, Vote(thumb="up", comment="!"), 1.0, now=3050.0)
    assert (noted.state, noted.revision) == ("claimed", 2)
    await commit(store, run)
    assert await states(store, "c0") == ["learned"]
    noted = await store.votes.put("c0", ANN, Vote(thumb="up", comment="?"), 1.0, now=3150.0)
    assert (noted.state, noted.version) == ("learned", V1)
    assert await store.votes.count_waiting() == 0


async def test_a_deleted_completion_does_not_disturb_the_commit(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await store.completions.delete("c0", ANN)
    await commit(store, run)
    assert await states(store, "c1") == ["learned"]
    stats = await store.votes.stats()
    assert (stats["learned"], stats["claimed"], stats["up"]) == (1, 0, 1)


async def test_runs_are_listed_newest_first(store: Store, claimed: Claimed) -> None:
    for i in range(3):
        run = await claimed("u", start=i)
        await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0)
    assert [run.number for run in await store.runs.list()] == [3, 2, 1]
    assert [run.number for run in await store.runs.list(2)] == [3, 2]
    with pytest.raises(UnknownRunError):
        await store.runs.get(4)


@pytest.mark.parametrize("step", ["run_claim", "run_take_over"])
async def test_a_learner_learns_its_own_fence_and_no_later_one(
    store: Store,
    raw_redis: Redis,
    voted: Voted,
    claimed: Claimed,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Its process stands still past its lease as the reply arrives; another takes over."""
    if step == "run_take_over":
        await claimed("u")
        await let_the_lease_run_out(raw_redis)
    durable = Client.durable_script

    async def slow(client: Client, name: str, *words: Any, **options: Any) -> Any:
        reply = await durable(client, name, *words, **options)
        if name == step:
            monkeypatch.undo()
            await let_the_lease_run_out(raw_redis)
            assert await store.runs.take_over() is not None
        return reply

    monkeypatch.setattr(Client, "durable_script", slow)
    if step == "run_claim":
        slept = await claimed("u")
    else:
        slept = await store.runs.take_over()
    assert slept.fence == (await store.runs.get(1)).fence - 1
    for write in (commit(store, slept), store.runs.renew(slept), store.runs.release(slept)):
        with pytest.raises(FencedError):
            await write


@pytest.mark.parametrize("change", [{"batch_hash": "0" * 40}, {"parent": V2}])
async def test_a_redis_that_forgot_a_run_takes_no_version_of_it(
    store: Store, claimed: Claimed, change: dict[str, str]
) -> None:
    """The same number and fence were given out again, for another batch or another parent."""
    run = await claimed("u")
    with pytest.raises(FencedError):
        await commit(store, replace(run, **change))
    assert (await store.runs.get(1)).state == "claimed"
    await commit(store, run)


async def test_a_fenced_learner_cannot_even_repeat_its_commit(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await let_the_lease_run_out(raw_redis)
    await store.runs.take_over()
    with pytest.raises(FencedError):
        await commit(store, run)
