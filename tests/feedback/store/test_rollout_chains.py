"""Chains of versions, their votes, and what a crash leaves behind."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import FeedbackError, RolloutConflictError
from feedback.rewards import reward
from feedback.settings import FeedbackSettings
from feedback.store import Store
from feedback.store import rollout as rollout_module
from feedback.store import versions as versions_module
from feedback.store import votes as votes_module
from feedback.types import Audit, FrozenVote, Person, Vote
from models.versions import (
    Activate,
    PromoteCanary,
    Rollback,
    StartCanary,
    StopCanary,
)
from tests.support.rollout.audit import Told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.types import Rollout, Run, VoteState
    from tests.support.store.servers import StartRedis

pytestmark = pytest.mark.anyio

ANN = Person("k1", "ann")
V1, V2, V3 = (f"v00000{i}-0123456789ab" for i in (1, 2, 3))
OP = Audit("op", "worse", 60.0)


@pytest.fixture
def learn(store: Store, claimed: Callable[..., Awaitable[Run]]) -> Callable[..., Awaitable[str]]:
    """Learn a version from fresh votes and all that wait, and promote it as the learner does."""

    async def make(votes: int, start: int) -> str:
        run = await claimed("u" * votes, start=start)
        version = f"v{run.number:06d}-0123456789ab"
        await store.runs.commit(run, version=version, manifest={}, report={}, now=10.0)
        await store.runs.finish(run, "approved", figures={}, reason=None, now=20.0)
        passed = Audit("learner", "passed", 30.0)
        await store.rollout.do(Activate(version, expected_live=run.parent), passed)
        return version

    return make


async def states(store: Store, count: int) -> list[VoteState]:
    return [(await store.votes.get(f"c{i}", ANN)).state for i in range(count)]


async def chain(store: Store, count: int) -> list[str]:
    """Register versions, each built on the one before; the last is live."""
    names = [f"v{i:06d}-0123456789ab" for i in range(1, count + 1)]
    for parent, name in zip(["base", *names], names, strict=False):
        await store.versions.add(name, parent=parent, manifest={}, state="approved", now=1.0)
        await store.rollout.do(Activate(name), Audit("learner", "", 2.0))
    return names


async def test_the_votes_of_a_whole_chain_wait_again_once(
    store: Store, learn: Callable[..., Awaitable[str]]
) -> None:
    for start in (0, 2, 4):
        await learn(2, start)
    after = await store.rollout.do(Rollback("base"), OP)
    assert (after.live, after.confirmed) == ("base", "base")
    assert [(await store.versions.get(v)).state for v in (V1, V2, V3)] == ["rolled_back"] * 3
    assert await states(store, 6) == ["pending"] * 6
    event, *_ = await store.rollout.events(1)
    assert event.figures == {"rolled_back": [V1, V2, V3]}

    await learn(1, 6)
    await store.rollout.do(Rollback("base"), OP)
    assert await states(store, 7) == ["discarded"] * 6 + ["pending"]
    reason = (await store.votes.get("c0", ANN)).reason
    assert reason == "v000004-0123456789ab was rolled back: worse"
    assert (await store.versions.get(V3)).reason == "It was rolled back: worse"


async def test_a_rollback_within_the_chain_keeps_what_was_learned_before(
    store: Store, learn: Callable[..., Awaitable[str]]
) -> None:
    for start in (0, 1, 2):
        await learn(1, start)
    await store.rollout.do(Rollback(V1), OP)
    assert await states(store, 3) == ["learned", "pending", "pending"]
    assert (await store.rollout.get()).previous == "base"


async def test_votes_of_a_version_that_serves_again_are_not_learned_twice(
    store: Store, learn: Callable[..., Awaitable[str]]
) -> None:
    for start in (0, 2):
        await learn(2, start)
    await store.rollout.do(Rollback("base"), OP)
    vote = Vote(thumb="down")  # changed meanwhile: its new value was never learned
    await store.votes.put("c0", ANN, vote, reward(vote), now=3000.0)
    await store.rollout.do(Activate(V2), OP)
    found = [await store.votes.get(f"c{i}", ANN) for i in range(4)]
    assert [vote.state for vote in found] == ["pending", "learned", "learned", "learned"]
    assert [vote.version for vote in found[1:]] == [V1, V2, V2]
    assert await store.votes.count_waiting() == 1
    assert (await store.versions.get(V1)).state == "retired"
    # Again the other way round, as often as an operator likes.
    for _ in range(2):
        await store.rollout.do(Rollback("base"), OP)
        assert await states(store, 4) == ["pending"] * 4
        await store.rollout.do(Activate(V2), OP)
        assert await states(store, 4) == ["pending", "learned", "learned", "learned"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_canarys_votes_wait_until_it_is_live(
    store: Store, learn: Callable[..., Awaitable[str]], stopped: bool
) -> None:
    for start in (0, 2):
        await learn(2, start)
    await store.rollout.do(Rollback("base"), OP)
    await store.rollout.do(StartCanary(V2, 0.5), OP)
    assert await states(store, 4) == ["pending"] * 4
    if stopped:
        await store.rollout.do(StopCanary(), OP)
        assert await states(store, 4) == ["pending"] * 4
        await store.rollout.do(Activate(V2), OP)
    else:
        await store.rollout.do(PromoteCanary(V2), OP)
    assert await states(store, 4) == ["learned"] * 4


async def test_a_vote_that_another_version_learned_meanwhile_stays_with_it(
    store: Store, learn: Callable[..., Awaitable[str]]
) -> None:
    await learn(2, 0)
    await store.rollout.do(Rollback("base"), OP)
    other = await learn(0, 2)
    assert other == V2
    await store.rollout.do(Activate(V1), OP)
    found = [await store.votes.get(f"c{i}", ANN) for i in range(2)]
    assert [(vote.state, vote.version) for vote in found] == [("learned", V2)] * 2


async def test_nothing_is_claimed_while_votes_are_on_their_way(
    store: Store,
    learn: Callable[..., Awaitable[str]],
    claimed: Callable[..., Awaitable[Run | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await learn(2, 0)
    await store.rollout.do(Rollback("base"), OP)

    async def killed() -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(store.votes, "return_rolled_back", killed)
        await store.rollout.do(Activate(V1), OP)
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(2)]
    assert await store.runs.claim(votes, parent=V1, min_votes=1, now=70.0) is None
    assert (await store.retention.sweep(now=100.0, seconds=1.0)).returned_runs == 1
    assert await states(store, 2) == ["learned"] * 2


async def test_votes_that_a_crash_left_behind_are_given_back_by_the_next_sweep(
    store: Store, learn: Callable[..., Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await learn(2, 0)
    await learn(2, 2)

    async def killed() -> int:
        raise ConnectionError

    monkeypatch.setattr(store.votes, "return_rolled_back", killed)
    with pytest.raises(ConnectionError):
        await store.rollout.do(Rollback("base"), OP)
    monkeypatch.undo()
    assert (await store.rollout.get()).live == "base"
    assert await states(store, 4) == ["learned"] * 4

    swept = await store.retention.sweep(now=100.0, seconds=1.0)
    assert (swept.returned_runs, await states(store, 4)) == (2, ["pending"] * 4)
    assert (await store.retention.sweep(now=100.0, seconds=1.0)).returned_runs == 0


async def test_giving_back_stops_after_enough_votes(
    store: Store, learn: Callable[..., Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(votes_module, "RETURNED_AT_ONCE", 2)
    monkeypatch.setattr(rollout_module, "_PIECES", 2)
    for start in (0, 2, 4):
        await learn(2, start)
    await store.rollout.do(Rollback("base"), OP)
    assert await states(store, 6) == ["pending"] * 4 + ["learned"] * 2
    swept = await store.retention.sweep(now=100.0, seconds=1.0)
    assert (swept.returned_runs, await states(store, 6)) == (1, ["pending"] * 6)


async def test_a_long_chain_is_read_in_pieces_and_taken_back_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions_module, "_ANCESTORS_AT_ONCE", 7)
    names = await chain(store, 30)
    lineage = await store.versions.lineage(names[-1])
    assert list(lineage) == names[::-1]
    assert {name: facts.parent for name, facts in lineage.items()} == dict(
        zip(names, ["base", *names], strict=False)
    )
    assert list(await store.versions.lineage(names[-1], until={names[12]})) == names[:12:-1]
    await store.rollout.do(Rollback(names[2]), OP)
    found = {record.version: record.state for record in await store.versions.list()}
    assert [found[name] for name in names] == ["retired", "retired", "live", *["rolled_back"] * 27]


async def test_a_lineage_that_bites_its_tail_ends(store: Store) -> None:
    for version, parent in ((V1, V2), (V2, V1), (V3, V3)):
        await store.versions.add(version, parent=parent, manifest={}, state="approved", now=1.0)
    assert list(await store.versions.lineage(V1)) == [V1, V2]
    await store.rollout.do(Activate(V1), Audit("op", "", 2.0))
    assert (await store.rollout.do(Rollback(), OP)).live == "base"


async def test_of_two_rollbacks_at_once_that_name_nothing_one_is_refused(store: Store) -> None:
    names = await chain(store, 3)
    outcomes = await asyncio.gather(
        *(store.rollout.do(Rollback(), OP) for _ in range(2)), return_exceptions=True
    )
    refused = [each for each in outcomes if isinstance(each, RolloutConflictError)]
    assert len(refused) == 1
    assert f"The live version is {names[1]} now" in str(refused[0])
    assert (await store.rollout.get()).live == names[1]


# Redis killed at any moment


async def test_whenever_redis_is_killed_the_audit_and_the_rollout_agree(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, FeedbackSettings())
    names = await chain(store, 4)
    accepted: list[Rollout] = []

    async def command_on(dice: random.Random) -> None:
        rollout = store.rollout
        while True:
            version = dice.choice([*names, "base"])
            calls: list[Any] = [
                lambda v=version: rollout.do(Activate(v), OP),
                lambda: rollout.do(Rollback(), OP),
                lambda v=version: rollout.do(StartCanary(v, 0.1), OP),
                lambda: rollout.do(StopCanary(), OP),
            ]
            try:
                accepted.append(await dice.choice(calls)())
            except RolloutConflictError:
                continue
            except FeedbackError:
                return  # Redis is gone

    for round_number in range(3):
        workers = [asyncio.create_task(command_on(random.Random(i))) for i in range(4)]
        await asyncio.sleep(0.05 + 0.05 * round_number)
        server.kill()
        await asyncio.gather(*workers)
        await store.close()
        server = start_redis(tmp_path)
        store = Store.connect(server.url, FeedbackSettings())
        told = Told()
        for event in reversed(await store.rollout.events(100_000)):
            # They were added as approved, which no entry says.
            told.read(event)
            if event.action == "import":
                told.states[event.new] = "approved"
        found = await store.rollout.get()
        assert (told.live, told.canary, told.confirmed) == (
            found.live,
            found.canary,
            found.confirmed,
        )
        assert told.states == {v: (await store.versions.get(v)).state for v in names}
        assert found.generation >= max(each.generation for each in accepted) > 4
    await store.close()


# The audit


async def test_the_history_of_a_version_is_found_among_all_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_module, "_EVENTS_AT_ONCE", 3)
    names = await chain(store, 8)
    await store.rollout.do(Rollback(names[1]), OP)
    all_events = await store.rollout.events(100)
    assert len(all_events) == 17

    found = await store.rollout.events(version=names[4])
    assert [event.action for event in found] == [
        "rollback",  # it was taken back with the live one
        "activate",  # the next one followed it
        "import",  # the next one is built on it
        "activate",
        "import",
    ]
    assert found == [
        each
        for each in all_events
        if names[4] in (each.old, each.new, json.dumps(each.figures))
        or names[4] in each.figures.get("rolled_back", [])
    ]
    assert await store.rollout.events(2, version=names[4]) == found[:2]
    assert await store.rollout.events(version=names[4], before=found[1].id) == found[2:]
    assert await store.rollout.events(5, before=all_events[3].id) == all_events[4:9]
    assert await store.rollout.events(version="v999999-0123456789ab") == []
