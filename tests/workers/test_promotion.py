"""What is served after an update, and whose choice stands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from feedback.types import Audit
from models.versions import Activate, Kill, Rollback
from tests.support.store.runs import states
from tests.support.workers.fake_learner import make_place
from workers.observation import next_batch
from workers.promotion import promote_newest
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.store import Store
    from models.versions import Command
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("goes_back", "ends"), [("activate", "approved"), ("rollback", "rejected")]
)
async def test_an_operators_choice_during_a_run_stands(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    goes_back: str,
    ends: str,
) -> None:
    """What is built on a version that was rolled back goes with it, and its votes wait again."""
    place, learner = workplace
    await vote_on("uu")
    first = await run_update(place)
    ids = await vote_on("dd", start=2)
    loop = asyncio.get_running_loop()

    def operator_goes_back(_progress: object) -> None:
        by = Audit("ops", "worse", 1.0)
        if goes_back == "activate":
            call = store.rollout.do(Activate("base"), by)
        else:
            call = store.rollout.do(Rollback("base"), by)
        asyncio.run_coroutine_threadsafe(call, loop).result()

    learner.during = operator_goes_back
    run = await run_update(place)
    assert (run.state, run.parent) == (ends, first.version)
    assert (await store.rollout.get()).live == "base"
    version = await store.versions.get(run.version)
    assert version.state == ends
    learner.during = lambda _progress: None
    if ends == "approved":
        assert await states(store, *ids) == ["learned"] * 2
        assert await run_update(place) is None or (await store.rollout.get()).live == "base"
    else:
        assert f"{first.version}, that it was learned from, was rolled back" in version.reason
        assert await states(store, *ids) == ["pending"] * 2
        again = await run_update(place)
        assert (again.state, again.parent) == ("approved", "base")
        assert set(ids) <= {vote.completion_id for vote in again.votes}


@pytest.mark.parametrize("fraction", [0.0, 0.5])
async def test_a_kill_during_a_run_is_not_undone_by_its_end(
    store: Store, tmp_path: Path, vote_on: VoteOn, fraction: float
) -> None:
    place, learner = make_place(store, tmp_path, canary_fraction=fraction)
    await vote_on("uu")
    loop = asyncio.get_running_loop()

    def operator_kills(_progress: object) -> None:
        call = store.rollout.do(Kill(), Audit("ops", "harm", 1.0))
        asyncio.run_coroutine_threadsafe(call, loop).result()

    learner.during = operator_kills
    run = await run_update(place)
    assert run.state == "approved"
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.canary) == ("base", None)
    assert await run_update(place) is None
    await store.learning.resume("ops")
    await run_update(place)
    rollout = await store.rollout.get()
    assert run.version in {rollout.live, rollout.canary}


async def test_a_rollback_between_gate_and_promotion_stands(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parent is live again as it wakes up, but the version has been live and was taken back."""
    slow, _ = workplace
    await vote_on("ud")
    quick, _ = make_place(store, tmp_path)
    do = store.rollout.do

    async def sleep_first(command: Command, audit: Audit) -> object:
        assert isinstance(command, Activate)
        monkeypatch.setattr(store.rollout, "do", do)
        await run_update(quick)
        assert (await store.rollout.get()).live == command.version
        await store.rollout.do(Rollback(), Audit("ops", "worse", 1.0))
        return await do(command, audit)

    monkeypatch.setattr(store.rollout, "do", sleep_first)
    run = await run_update(slow)
    assert run is not None
    assert (await store.rollout.get()).live == "base"
    assert (await store.versions.get(run.version or "")).state == "rolled_back"


async def test_a_promotion_that_another_learner_did_is_left_alone(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, _ = workplace
    await vote_on("ud")
    first = await run_update(place)
    await vote_on("ud", start=2)
    claimed = await store.runs.claim(
        await next_batch(store, place.settings),
        parent=first.version,
        min_votes=2,
        now=1.0,
    )
    assert claimed is not None
    assert await promote_newest(place) is None
    assert (await store.rollout.get()).live == first.version


@pytest.mark.parametrize("fraction", [0.0, 0.5])
async def test_a_version_with_its_parents_weights_is_served_to_all_and_is_none_to_go_back_to(
    store: Store, tmp_path: Path, vote_on: VoteOn, fraction: float
) -> None:
    place, learner = make_place(store, tmp_path, canary_fraction=fraction)
    await vote_on("ud")
    moved = await run_update(place)
    await store.rollout.do(Activate(moved.version), Audit("ops", "good", 1.0))
    learner.report = {"steps": 0, "practice": {}}
    await vote_on("ud", start=2)
    run = await run_update(place)
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.confirmed) == (run.version, run.version)
    assert (rollout.canary, rollout.previous) == (None, "base")
    assert (await store.versions.get(moved.version)).state == "retired"
