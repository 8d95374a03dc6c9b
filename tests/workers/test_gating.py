from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import StoreUnavailableError
from feedback.store import keys
from feedback.types import Audit
from models.adapters import CONFIG_FILE, WEIGHTS_FILE, Origin
from models.errors import AdapterError, GateError
from models.types import Progress
from models.versions import RecordGateVerdict
from tests.support.workers.fake_learner import GOOD, LIKE_THE_BASE
from workers.gating import MOST_GATINGS, gate, gate_imported
from workers.update import run_update

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from feedback.store import Store
    from tests.support.store.fixtures import RecordVotes as VoteOn
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

pytestmark = pytest.mark.anyio


async def imported(place: UpdateResources, sequence: int = 7) -> str:
    """Put a candidate on the record that no run made."""

    def write(folder: Path) -> None:
        (folder / CONFIG_FILE).write_text("{}")
        (folder / WEIGHTS_FILE).write_bytes(b"%d" % sequence)

    origin = Origin("base", None, "", 0, "fake", "0" * 64, 0.0)
    manifest = place.adapters.publish(sequence, origin, write)
    await place.store.versions.add(
        manifest.version,
        parent="base",
        manifest=manifest.as_dict(),
        state="candidate",
        now=place.clock(),
    )
    return manifest.version


def failing(learner: FakeLearner, error: Exception) -> None:
    def probe(version: str, progress: Any) -> Any:
        raise error

    learner.probe = probe  # type: ignore[method-assign]


async def test_nothing_to_gate_means_nothing_is_loaded(
    workplace: tuple[UpdateResources, FakeLearner],
) -> None:
    place, _ = workplace
    assert await gate_imported(place) is None
    assert place._learner is None


async def test_an_import_is_approved_by_the_same_gate_and_is_not_served(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, _ = workplace
    version = await imported(place)
    found = await gate_imported(place)
    assert found is not None
    assert (found.version, found.verdict.passed) == (version, True)
    record = await store.versions.get(version)
    assert (record.state, record.reason) == ("approved", None)
    assert record.figures == json.loads(json.dumps(found.figures))
    assert record.figures["candidate"]["mean_tokens"] == 20.0
    assert {check["name"] for check in record.figures["checks"]} >= {"flattery", "refusal"}
    assert (await store.rollout.get()).live == "base"
    (event, *_) = await store.rollout.events()
    assert (event.who, event.new) == ("gate", version)
    assert await gate_imported(place) is None


async def test_an_import_that_fails_a_check_is_rejected_with_its_figures(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, learner = workplace
    learner.figures = replace(
        GOOD, kl_per_reply=math.nan, candidate=replace(LIKE_THE_BASE, praised=0.9)
    )
    version = await imported(place)
    await gate_imported(place)
    record = await store.versions.get(version)
    assert record.state == "rejected"
    assert record.reason == "gate: KL to base not measured (bound 20), praise 0.9 (bound 0.25)"
    json.dumps(record.figures, allow_nan=False)


@pytest.mark.parametrize(
    "error",
    [
        GateError("mine.jsonl:3 is not JSON."),
        AdapterError("It is altered."),
        RuntimeError("probability tensor contains inf"),
    ],
)
async def test_a_gate_that_cannot_run_rejects_an_import_and_says_why(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], error: Exception
) -> None:
    place, learner = workplace
    failing(learner, error)
    first, second = await imported(place, 7), await imported(place, 8)
    await gate_imported(place)
    record = await store.versions.get(first)
    assert record.state == "rejected"
    assert str(error) in (record.reason or "")
    assert await store.versions.ungated() == second  # it is not kept waiting


async def test_an_import_waits_while_the_machine_cannot_measure(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, learner = workplace
    failing(learner, OSError("No space left on device"))
    version = await imported(place)
    assert await gate_imported(place) is None
    assert (await store.versions.get(version)).state == "candidate"
    assert await store.versions.ungated() == version


async def test_the_learner_goes_on_while_a_gate_rests(
    store: Store,
    raw_redis: Redis,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, learner = workplace
    monkeypatch.setattr(store.runs, "_rest_ms", 60_000)
    probe = learner.probe
    failing(learner, OSError("No space left on device"))
    version = await imported(place)
    await vote_on("ud")
    assert await run_update(place) is None
    assert await store.runs.resting()
    learner.probe = probe  # type: ignore[method-assign]
    run = await run_update(place)
    assert run is not None
    assert run.state == "approved"
    await raw_redis.delete(keys.RESTING)
    assert await run_update(place) is None
    assert (await store.versions.get(version)).state == "approved"


async def test_an_import_whose_gate_takes_too_long_is_rejected_and_its_thread_ends(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, learner = workplace
    ended = threading.Event()

    def probe(version: str, progress: Any) -> Any:
        try:
            while True:
                progress(Progress("probe", 1, 2))
                time.sleep(0.01)
        finally:
            ended.set()

    learner.probe = probe  # type: ignore[method-assign]
    place.seconds = 0.2
    version = await imported(place)
    await gate_imported(place)
    record = await store.versions.get(version)
    assert record.state == "rejected"
    assert "took longer than 0.2 s" in (record.reason or "")
    assert await asyncio.to_thread(ended.wait, 5)


async def test_an_import_that_kills_its_gate_does_not_do_so_for_ever(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, learner = workplace

    class KilledError(BaseException):
        pass

    failing(learner, KilledError())  # type: ignore[arg-type]
    version = await imported(place)
    for _ in range(MOST_GATINGS):
        with pytest.raises(KilledError):
            await gate_imported(place)
        assert (await store.versions.get(version)).state == "candidate"
    await gate_imported(place)
    record = await store.versions.get(version)
    assert record.state == "rejected"
    assert f"begun {MOST_GATINGS} times" in (record.reason or "")


async def test_a_gate_that_was_stopped_or_hindered_is_not_held_against_the_import(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, learner = workplace
    version = await imported(place)
    failing(learner, OSError("No space left on device"))
    await gate_imported(place)
    failing(learner, asyncio.CancelledError())  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await gate_imported(place)
    assert await store.versions.count_gating(version) == 1


async def test_a_verdict_that_comes_second_changes_nothing(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, _ = workplace
    version = await imported(place)
    await store.rollout.do(RecordGateVerdict(version, "rejected"), Audit("gate", "by another", 1.0))
    place.store.versions.ungated = _always(version)  # type: ignore[method-assign]
    assert await gate_imported(place) is None
    record = await store.versions.get(version)
    assert (record.state, record.reason) == ("rejected", "by another")


def _always(version: str) -> Any:
    async def ungated() -> str:
        return version

    return ungated


async def test_redis_that_goes_away_is_no_verdict(
    workplace: tuple[UpdateResources, FakeLearner],
) -> None:
    place, learner = workplace
    failing(learner, StoreUnavailableError("away"))
    await imported(place)
    with pytest.raises(StoreUnavailableError):
        await gate_imported(place)


async def test_an_advisory_failure_is_logged_and_lets_by(
    workplace: tuple[UpdateResources, FakeLearner], caplog: pytest.LogCaptureFixture
) -> None:
    place, learner = workplace
    place.settings = place.settings.model_copy(update={"gate_advisory": ("praise",)})
    learner.figures = replace(GOOD, candidate=replace(LIKE_THE_BASE, praised=0.9))
    seen: list[Progress] = []
    found = await gate(place, await imported(place), seen.append)
    assert found.verdict.passed
    assert "praise 0.9 (bound 0.25); this check is advisory" in caplog.text
    assert seen == [Progress("probe", 1, 1)]
