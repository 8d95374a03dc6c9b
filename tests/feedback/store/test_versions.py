from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.errors import RolloutConflictError, UnknownVersionError
from feedback.types import Audit
from models.versions import Activate, RecordGateVerdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Run

pytestmark = pytest.mark.anyio
V1, V7 = "v000001-0123456789ab", "v000007-0123456789ab"


async def add(store: Store, version: str, now: float = 100.0) -> None:
    await store.versions.add(
        version, parent="base", manifest={"files": {"a": "b"}}, state="approved", now=now
    )


async def test_there_is_always_the_base(store: Store) -> None:
    base = await store.versions.get("base")
    assert (base.version, base.state, base.parent, base.run) == ("base", "live", "", None)
    assert await store.versions.list() == [base]


async def test_the_base_retires_while_another_is_live(store: Store) -> None:
    await add(store, V1)
    await store.rollout.do(Activate(V1), Audit("op", "", 200.0))
    assert (await store.versions.get("base")).state == "retired"


async def test_versions_are_listed_newest_first(store: Store) -> None:
    await add(store, V7, now=100.0)
    await add(store, V1, now=200.0)
    assert [each.version for each in await store.versions.list()] == [V1, V7, "base"]
    assert [each.version for each in await store.versions.list(1)] == [V1, "base"]


async def test_an_imported_version_is_registered_once(store: Store) -> None:
    await add(store, V1)
    found = await store.versions.get(V1)
    assert (found.state, found.created_at, found.manifest) == (
        "approved",
        100.0,
        {"files": {"a": "b"}},
    )
    with pytest.raises(RolloutConflictError, match="registered already"):
        await add(store, V1)


async def test_runs_do_not_reuse_the_number_of_an_imported_version(
    store: Store, claimed: Callable[..., Awaitable[Run]]
) -> None:
    await add(store, V7)
    await add(store, V1)
    assert (await claimed("u")).number == 8


async def test_an_unknown_version_is_an_error(
    store: Store, voted: Callable[..., Awaitable[list[str]]]
) -> None:
    await voted("u", version=V1)
    with pytest.raises(UnknownVersionError, match=V1):
        await store.versions.get(V1)


async def test_votes_are_counted_for_the_version_that_spoke(
    store: Store, voted: Callable[..., Awaitable[list[str]]]
) -> None:
    await add(store, V1)
    await voted("uud", version=V1)
    found = await store.versions.get(V1)
    assert (found.completions, found.up, found.down, found.approval) == (3, 2, 1, 2 / 3)
    assert (await store.versions.get("base")).completions == 0


async def test_a_candidate_that_no_run_made_waits_for_its_verdict(store: Store) -> None:
    assert await store.versions.ungated() is None
    for version, now in ((V7, 100.0), (V1, 200.0)):
        await store.versions.add(
            version, parent="base", manifest={}, state="candidate", who="op", why="ours", now=now
        )
    assert await store.versions.ungated() == V1
    event = (await store.rollout.events(1))[0]
    assert (event.action, event.who, event.why, event.new) == ("import", "op", "ours", V1)

    await store.rollout.do(
        RecordGateVerdict(V1, "rejected"), Audit("gate", "too far", 300.0, {"kl": 9.0})
    )
    await store.rollout.do(
        RecordGateVerdict(V1, "rejected"), Audit("gate", "too far", 301.0, {"kl": 9.0})
    )
    found = await store.versions.get(V1)
    assert (found.state, found.reason, found.figures) == ("rejected", "too far", {"kl": 9.0})
    assert (found.origin, found.changed_at, found.changed_by) == ("imported", 300.0, "gate")
    events = await store.rollout.events()
    assert [event.action for event in events] == ["reject", "import", "import"]
    assert (await store.rollout.get()).generation == 0

    assert await store.versions.ungated() == V7
    await store.rollout.do(RecordGateVerdict(V7, "approved"), Audit("gate", "", 302.0))
    assert await store.versions.ungated() is None
    with pytest.raises(RolloutConflictError, match="waits for no verdict"):
        await store.rollout.do(RecordGateVerdict(V7, "rejected"), Audit("gate", "", 303.0))


async def test_numbers_are_taken_once(store: Store, claimed: Callable[..., Awaitable[Run]]) -> None:
    assert [await store.versions.next_sequence() for _ in range(2)] == [1, 2]
    assert (await claimed("u")).number == 3
    assert await store.versions.next_sequence() == 4


async def test_what_has_lost_its_weights_says_so(store: Store, raw_redis: Redis) -> None:
    await add(store, V1)
    await store.versions.note_removed(V1)
    await store.versions.note_removed(V7)
    assert (await store.versions.get(V1)).removed
    with pytest.raises(UnknownVersionError):
        await store.versions.get(V7)
    assert not await raw_redis.exists(f"tl:version:{V7}")
