"""How a run ends, or fails, and what becomes of its votes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.errors import FencedError
from feedback.types import Audit, FrozenVote, Run, Vote
from models.versions import Activate, Rollback
from tests.support.store.runs import (
    ANN,
    V1,
    V2,
    V3,
    V4,
    V5,
    commit,
    finish,
    let_the_lease_run_out,
    states,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]
    Claimed = Callable[..., Awaitable[Run]]

pytestmark = pytest.mark.anyio
UP, DOWN = Vote(thumb="up"), Vote(thumb="down")


async def test_an_approval_ends_the_run(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    with pytest.raises(FencedError):
        await finish(store, run, "approved")
    await commit(store, run)
    await finish(store, run, "approved")
    await finish(store, run, "approved")
    found = await store.runs.get(1)
    assert (found.state, found.finished_at, found.reason) == ("approved", 3200.0, None)
    version = await store.versions.get(V1)
    assert (version.state, version.figures) == ("approved", {"kl": 1.5})
    assert await store.runs.open() is None
    assert await states(store, "c0") == ["learned"]
    assert [event.action for event in await store.rollout.events()] == ["approve", "commit"]
    with pytest.raises(FencedError):
        await store.runs.renew(run)
    assert (await claimed("u", start=5)).number == 2


async def test_a_run_left_at_its_gate_is_taken_up_again(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await let_the_lease_run_out(raw_redis)
    taken = await store.runs.take_over()
    assert taken is not None
    assert (taken.state, taken.version, taken.fence) == ("committed", V1, 2)
    with pytest.raises(FencedError):
        await finish(store, run, "approved")
    await finish(store, taken, "approved")


async def test_votes_of_rejected_versions_get_three_more_chances(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await commit(store, run)
    await store.votes.withdraw("c1", ANN, now=3150.0)
    await finish(store, run, "rejected", "KL too high")
    assert (await store.versions.get(V1)).reason == "KL too high"
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.version, vote.revision) == ("pending", None, 1)
    waiting = await store.votes.waiting(9)
    assert [(each.completion_id, each.voted_at) for each in waiting] == [("c0", 2000.0)]

    for version, state in ((V2, "pending"), (V3, "pending"), (V4, "discarded")):
        again = await claimed()
        assert again.votes == (FrozenVote("c0", 1, 1.0),)
        await commit(store, again, version)
        await finish(store, again, "rejected", "KL too high")
        assert await states(store, "c0") == [state]
    vote = await store.votes.get("c0", ANN)
    assert (vote.version, vote.reason) == (None, f"{V4} was rejected: KL too high")
    assert await store.votes.count_waiting() == 0
    assert (await store.votes.stats())["discarded"] == 1

    fresh = await store.votes.put("c0", ANN, DOWN, -1.0, now=3300.0)
    assert (fresh.state, fresh.reason) == ("pending", None)
    fifth = await claimed()
    await commit(store, fifth, V5)
    await finish(store, fifth, "rejected", "KL too high")
    assert await states(store, "c0") == ["pending"]


async def test_a_vote_that_was_refused_before_does_not_outlive_a_rollback(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await finish(store, run, "rejected", "KL too high")
    again = await claimed()
    await commit(store, again, V2)
    await finish(store, again, "approved")
    await store.rollout.do(Activate(V2), Audit("learner", "", 3200.0))
    await store.rollout.do(Rollback(), Audit("ops", "worse", 3300.0))
    assert await states(store, "c0") == ["discarded"]


async def test_an_approval_that_comes_after_its_parents_rollback_is_a_rejection_each_time(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await finish(store, run, "approved")
    await store.rollout.do(Activate(V1), Audit("learner", "", 3200.0))
    child = await claimed("d", start=1)
    assert child.parent == V1
    await commit(store, child, V2)
    await store.rollout.do(Rollback(), Audit("ops", "worse", 3300.0))
    for _ in range(2):  # the answer to the first may have been lost
        ended = await store.runs.finish(child, "approved", figures={}, reason=None, now=3400.0)
        assert ended == "rejected"
    assert (await store.versions.get(V2)).state == "rejected"
    assert await store.runs.open() is None


async def test_a_batch_that_fails_three_times_is_quarantined(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    outcomes = []
    for _ in range(3):
        outcomes.append(
            await store.runs.fail(run, reason="NaN in the loss", max_attempts=3, now=3050.0)
        )
        with pytest.raises(FencedError):
            await commit(store, run)
        run = await store.runs.take_over() or run
    assert outcomes == ["claimed", "claimed", "quarantined"]
    found = await store.runs.get(1)
    assert (found.state, found.attempts, found.reason) == ("quarantined", 3, "NaN in the loss")
    assert await store.runs.open() is None
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.reason) == ("discarded", "run 1 was quarantined: NaN in the loss")
    assert (await claimed("u", start=5)).number == 2


async def test_being_killed_is_no_failure_of_the_batch(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    run = await claimed("u")
    for _ in range(5):
        await let_the_lease_run_out(raw_redis)
        run = await store.runs.take_over() or run
    assert run.attempts == 6
    assert await store.runs.fail(run, reason="x", max_attempts=3, now=3060.0) == "claimed"


async def test_quarantine_keeps_votes_that_changed_meanwhile(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await store.votes.put("c0", ANN, DOWN, -1.0, now=3040.0)
    await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0)
    assert await states(store, "c0", "c1") == ["pending", "discarded"]


async def test_a_gate_that_cannot_be_run_rejects_the_version(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    assert await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0) == "quarantined"
    assert (await store.versions.get(V1)).state == "rejected"
    assert await states(store, "c0") == ["pending"]


async def test_a_run_given_back_is_taken_over_without_a_failure(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    assert await store.runs.lease_held()
    await store.runs.release(run)
    assert not await store.runs.lease_held()
    with pytest.raises(FencedError):
        await commit(store, run)
    with pytest.raises(FencedError):
        await store.runs.release(run)
    taken = await store.runs.take_over()
    assert taken is not None
    assert await store.runs.fail(taken, reason="x", max_attempts=2, now=3060.0) == "claimed"


async def test_only_learners_that_fell_silent_count_as_dead(
    store: Store, raw_redis: Redis, claimed: Claimed
) -> None:
    run = await claimed("u")
    await store.runs.release(run)
    run = await store.runs.take_over()
    await store.runs.fail(run, reason="x", max_attempts=3, now=3060.0)
    run = await store.runs.take_over()
    assert (run.attempts, run.deaths) == (3, 0)
    await let_the_lease_run_out(raw_redis)
    run = await store.runs.take_over()
    assert (run.attempts, run.deaths) == (4, 1)
