"""Updates that fail, and what only hinders them."""

from __future__ import annotations

import asyncio
import errno
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.settings import FeedbackSettings
from feedback.store import Store
from feedback.types import Audit
from models.errors import AdapterError, GateError, LearningError
from models.versions import Activate
from tests.support.store.runs import states
from tests.support.workers.fake_learner import make_place
from tests.support.workers.updates import raising
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio


async def test_a_gate_that_cannot_run_costs_no_vote(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    def refuse(*_args: object) -> None:
        raise GateError("x.jsonl, line 2 is not JSON.")

    with monkeypatch.context() as patch:
        patch.setattr(learner, "probe", refuse)
        for _ in range(5):
            run = await run_update(place)
    assert (run.state, run.reason) == ("committed", "x.jsonl, line 2 is not JSON.")
    assert (await store.rollout.get()).live == "base"
    assert (await run_update(place)).state == "approved"
    assert await states(store, *ids) == ["learned"] * 2


async def test_a_failure_is_tried_again_and_the_third_quarantines(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    learner.during = raising(LearningError("The gradient is not finite."))
    seen = [(await run_update(place)).state for _ in range(3)]
    assert seen == ["claimed", "claimed", "quarantined"]
    assert await states(store, *ids) == ["discarded", "discarded"]
    learner.during = lambda _progress: None
    await vote_on("uu", start=2)
    assert (await run_update(place)).state == "approved"


async def test_votes_are_not_discarded_for_a_full_disk(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    learner.during = raising(OSError(errno.ENOSPC, "No space left on device"))
    for _ in range(2 * place.settings.max_attempts):
        run = await run_update(place)
        assert (run.state, run.deaths) == ("claimed", 0)
        assert "No space left" in run.reason
    assert await states(store, *ids) == ["claimed", "claimed"]
    learner.during = lambda _progress: None
    assert (await run_update(place)).state == "approved"
    assert await states(store, *ids) == ["learned", "learned"]


async def test_votes_wait_until_a_broken_parent_is_mended(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    learner.during = raising(AdapterError("v000001-0123456789ab was altered."))
    for _ in range(2 * place.settings.max_attempts):
        assert (await run_update(place)).state == "claimed"
    learner.during = lambda _progress: None
    assert (await run_update(place)).state == "approved"
    assert await states(store, *ids) == ["learned", "learned"]


async def test_votes_of_a_parent_that_was_given_up_are_learned_from_the_next(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    """Who cannot mend the live version makes another one live; learning must not wait for ever."""
    place, learner = workplace
    await vote_on("ud")
    parent = (await run_update(place)).version
    ids = await vote_on("ud", start=2)

    learner.during = raising(AdapterError(f"{parent} was altered."))
    assert (await run_update(place)).state == "claimed"
    await store.rollout.do(Activate("base"), Audit("ops", "it is broken", 5.0))
    run = await run_update(place)
    assert (run.number, run.state, run.reason) == (2, "quarantined", f"{parent} was altered.")
    assert await states(store, *ids) == ["pending", "pending"]
    learner.during = lambda _progress: None
    run = await run_update(place)
    assert (run.number, run.state, run.parent) == (3, "approved", "base")
    assert await states(store, *ids) == ["learned", "learned"]


async def test_a_disk_that_does_not_answer_in_time_is_a_hindrance_and_no_failure(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    """Python's word for it is that of an update which takes too long."""
    place, learner = workplace
    await vote_on("ud")

    learner.during = raising(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    for _ in range(2 * place.settings.max_attempts):
        assert (await run_update(place)).state == "claimed"


async def test_a_failed_run_rests_and_says_why(
    redis_url: str, store: Store, tmp_path: Path, vote_on: VoteOn
) -> None:
    patient = Store.connect(redis_url, FeedbackSettings(retry_delay=timedelta(seconds=0.5)))
    place, learner = make_place(patient, tmp_path)
    await vote_on("ud")

    learner.during = raising(LearningError("The gradient is not finite."))
    await run_update(place)
    request = await patient.learning.request_update("ops", now=1.0)
    assert await run_update(place) is None
    answered = await patient.learning.get_request(request.id)
    assert answered.answer == "Run 1 is tried again soon; it failed: The gradient is not finite."
    assert len(learner.learned) == 1
    while await patient.runs.resting():  # noqa: ASYNC110 - Redis tells nobody
        await asyncio.sleep(0.02)
    assert (await run_update(place)).attempts == 2
    await patient.close()
