from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.types import Audit, Judgement
from models.versions import Activate, StartCanary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store
    from tests.support.service.application import RunningApp

    ReadFigures = Callable[[], Awaitable[dict[str, float]]]


pytestmark = pytest.mark.anyio

V1 = "v000001-000000000001"
V2 = "v000002-000000000002"


@pytest.fixture
def figures(running: RunningApp) -> ReadFigures:
    """Return a function that reads the rollout's lines of /metrics."""

    async def read() -> dict[str, float]:
        names = ("version", "canary", "rollout", "served", "verdict")
        prefixes = tuple(f"thumbloop_{name}" for name in names)
        lines = (await running.client.get("/metrics")).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(prefixes))
        return {name: float(value) for name, value in pairs}

    return read


async def test_what_is_served_and_tried_is_counted(
    running: RunningApp, store: Store, figures: ReadFigures
) -> None:
    before = await figures()
    assert before['thumbloop_version_info{role="live",version="base"}'] == 1
    assert before["thumbloop_canary_fraction"] == 0
    assert "thumbloop_verdict_seconds" not in before
    for version, parent in ((V1, "base"), (V2, V1)):
        await store.versions.add(version, parent=parent, manifest={}, state="approved", now=5.0)
    await store.rollout.do(Activate(V1), Audit("test", "a test", 6.0))
    await store.rollout.do(StartCanary(V2, 0.25), Audit("test", "a test", 7.0))
    await running.runtime.watcher.look()
    found = await figures()
    roles = [name for name in found if name.startswith("thumbloop_version_info")]
    assert sorted(roles) == [
        f'thumbloop_version_info{{role="{role}",version="{version}"}}'
        for role, version in (("canary", V2), ("confirmed", V1), ("live", V1), ("serving", V1))
    ]
    assert found["thumbloop_canary_fraction"] == 0.25
    assert found["thumbloop_rollout_generation"] == found["thumbloop_served_generation"] == 2
    assert found["thumbloop_rollout_problem"] == 0


async def test_a_replica_that_cannot_follow_is_a_figure(
    running: RunningApp, store: Store, figures: ReadFigures
) -> None:
    broken = "v000009-000000000009"
    await store.versions.add(broken, parent="base", manifest={}, state="approved", now=5.0)
    await store.rollout.do(Activate(broken), Audit("test", "a test", 6.0))
    await running.runtime.watcher.look()
    found = await figures()
    assert found["thumbloop_rollout_problem"] == 1
    assert (found["thumbloop_rollout_generation"], found["thumbloop_served_generation"]) == (1, 0)


async def test_the_judge_s_silence_is_a_figure(
    running: RunningApp, store: Store, figures: ReadFigures
) -> None:
    await store.judging.write(Judgement(1000.0, "hold", votes_needed=12))
    await running.runtime.record.read()
    found = await figures()
    assert found["thumbloop_verdict_seconds"] > 1e9
    assert found['thumbloop_verdict{state="hold"}'] == 1
    assert found['thumbloop_verdict{state="promote"}'] == 0
    assert found["thumbloop_verdict_votes_needed"] == 12
