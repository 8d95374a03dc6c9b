from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feedback.errors import RolloutConflictError, UnknownVersionError
from feedback.types import Audit, Person, Rollout
from models.versions import Activate, Rollback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store
    from feedback.types import Run
    from models.versions import VersionState

pytestmark = pytest.mark.anyio
V1, V2, V3 = (f"v00000{i}-0123456789ab" for i in (1, 2, 3))


@pytest.fixture
async def versions(store: Store) -> None:
    for version in (V1, V2, V3):
        await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)


async def activate(store: Store, version: str, expected: str | None = None) -> Rollout:
    return await store.rollout.do(
        Activate(version, expected_live=expected), Audit("op", "better", 50.0, {"kl": 2.5})
    )


async def rollback(store: Store, to: str | None = None) -> Rollout:
    return await store.rollout.do(Rollback(to), Audit("op", "worse", 60.0))


async def state(store: Store, version: str) -> VersionState:
    return (await store.versions.get(version)).state


async def test_the_base_is_live_until_something_else_is(store: Store) -> None:
    assert await store.rollout.get() == Rollout(live="base", generation=0)
    assert await store.rollout.events() == []


async def test_activation_moves_both_versions_and_is_audited(store: Store, versions: None) -> None:
    first = Rollout(V1, 1, "base", confirmed=V1, live_since=50.0, confirmed_since=50.0)
    assert await activate(store, V1) == first
    assert await activate(store, V2) == replace(
        first, live=V2, confirmed=V2, generation=2, previous=V1
    )
    assert (await state(store, V1), await state(store, V2)) == ("retired", "live")
    event = (await store.rollout.events())[0]
    assert (event.action, event.old, event.new) == ("activate", V1, V2)
    assert (event.who, event.why, event.figures, event.at) == ("op", "better", {"kl": 2.5}, 50.0)
    assert len(await store.rollout.events(1)) == 1


async def test_activating_what_is_live_changes_nothing(store: Store, versions: None) -> None:
    first = await activate(store, V1)
    events = await store.rollout.events()
    assert await activate(store, V1, expected=V1) == first
    assert await store.rollout.events() == events


async def test_the_expected_version_must_be_live(store: Store, versions: None) -> None:
    await activate(store, V1, expected="base")
    with pytest.raises(RolloutConflictError, match=f"live version is {V1}"):
        await activate(store, V2, expected="base")
    assert (await store.rollout.get()).live == V1


async def test_of_racing_activations_one_wins(store: Store, versions: None) -> None:
    outcomes = await asyncio.gather(
        *(activate(store, version, expected="base") for version in (V1, V2, V3)),
        return_exceptions=True,
    )
    won = [each for each in outcomes if isinstance(each, Rollout)]
    assert len(won) == 1
    assert all(isinstance(each, Rollout | RolloutConflictError) for each in outcomes)
    assert await store.rollout.get() == won[0]
    assert won[0].generation == 1


async def test_an_unknown_version_cannot_go_live(store: Store) -> None:
    with pytest.raises(UnknownVersionError):
        await activate(store, V1)
    with pytest.raises(UnknownVersionError):
        await rollback(store, V1)


@pytest.mark.parametrize("refused", ["candidate", "rejected"])
async def test_only_approved_versions_go_live(store: Store, refused: VersionState) -> None:
    await store.versions.add(V1, parent="base", manifest={}, state=refused, now=1.0)
    with pytest.raises(RolloutConflictError, match=f"{V1} is {refused}"):
        await activate(store, V1)
    assert await store.rollout.get() == Rollout(live="base", generation=0)


async def test_rollbacks_walk_back_to_the_base(store: Store, versions: None) -> None:
    for version in (V1, V2):
        await activate(store, version)
    first = Rollout(V1, 3, "base", confirmed=V1, live_since=60.0, confirmed_since=60.0)
    assert await rollback(store) == first
    assert (await state(store, V1), await state(store, V2)) == ("live", "rolled_back")
    base = replace(first, live="base", confirmed="base", generation=4, previous=None)
    assert await rollback(store) == base
    with pytest.raises(RolloutConflictError, match="nothing to roll back to"):
        await rollback(store)
    actions = [event.action for event in await store.rollout.events()]
    assert actions[:4] == ["rollback", "rollback", "activate", "activate"]


async def test_rolling_back_to_a_named_version(store: Store, versions: None) -> None:
    for version in (V1, V2, V3):
        await activate(store, version)
    assert (await rollback(store, V1)).live == V1
    assert (await state(store, V2), await state(store, V3)) == ("retired", "rolled_back")
    assert (await rollback(store, "base")).live == "base"
    assert (await activate(store, V3)).live == V3


async def learn(store: Store, run: Run, version: str) -> None:
    await store.runs.commit(run, version=version, manifest={}, report={}, now=10.0)
    await store.runs.finish(run, "approved", figures={}, reason=None, now=20.0)
    await activate(store, version)


async def test_votes_of_a_version_rolled_back_wait_again(
    store: Store, claimed: Callable[..., Awaitable[Run]]
) -> None:
    await learn(store, await claimed("u"), V1)
    await rollback(store)
    vote = await store.votes.get("c0", Person("k1", "ann"))
    assert (vote.state, vote.version) == ("pending", None)
    assert await store.votes.count_waiting() == 1


async def test_a_rollback_leaves_votes_alone_that_another_version_learned_since(
    store: Store, claimed: Callable[..., Awaitable[Run]]
) -> None:
    await learn(store, await claimed("u"), V1)
    await rollback(store)
    await learn(store, await claimed(), V2)
    await activate(store, V1)
    await rollback(store)
    vote = await store.votes.get("c0", Person("k1", "ann"))
    assert (vote.state, vote.version) == ("learned", V2)
