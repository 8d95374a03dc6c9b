"""An update from votes to the version that is served."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from feedback.rewards import RewardScale, reward
from feedback.types import Audit, Vote
from models.versions import Rollback
from tests.support.store.runs import ANN, states
from tests.support.workers.fake_learner import GOOD, Learned, make_place
from workers.observation import watch
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.store import Store
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio


async def test_votes_become_one_live_version(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("udu")
    run = await run_update(place)
    assert (run.state, run.parent, len(run.votes)) == ("approved", "base", 3)
    assert (await store.rollout.get()).live == run.version
    assert await states(store, *ids) == ["learned"] * 3
    assert [s.reward for s in learner.learned[0]] == [1.0, -1.0, 1.0]
    version = await store.versions.get(run.version)
    assert (version.state, version.run, version.parent) == ("live", 1, "base")
    assert version.figures["kl_per_reply"] == 2.0
    events = await store.rollout.events()
    assert (events[0].who, events[0].action, events[0].new) == ("learner", "activate", run.version)


async def test_the_report_says_what_was_dropped_and_how_long_it_took(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("uu")
    await vote_on("d", start=2, behaviour_logprobs=(-0.1,))
    run = await run_update(place)
    assert len(learner.learned[0]) == 2
    assert (run.report["dropped_missing"], run.report["dropped_mismatched"]) == (0, 1)
    assert (run.report["votes"], run.report["loss"]) == (2, 0.5)
    seconds = run.report["seconds"]
    assert set(seconds) == {"start", "load", "learn", "publish"}
    assert (seconds["load"], seconds["learn"]) == (1.0, 2.0)  # the learner's own, kept as they are


async def test_too_few_votes_make_no_run(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("u")
    assert await run_update(place) is None
    assert learner.learned == []
    assert await store.runs.list() == []


async def test_the_next_run_learns_on_top_of_the_live_version(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("uu")
    first = await run_update(place)
    await vote_on("dd", start=2)
    second = await run_update(place)
    assert learner.parents == ["base", first.version]
    assert (await store.rollout.get()).live == second.version
    assert (await store.versions.get(first.version)).state == "retired"


async def test_a_request_runs_with_one_vote_and_is_answered(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, _ = workplace
    await vote_on("u")
    request = await store.learning.request_update("ops", now=1.0)
    run = await run_update(place)
    answered = await store.learning.get_request(request.id)
    assert (answered.state, answered.run) == ("answered", run.number)


async def test_a_request_without_votes_is_told_so(
    store: Store, workplace: tuple[UpdateResources, FakeLearner]
) -> None:
    place, _ = workplace
    request = await store.learning.request_update("ops", now=1.0)
    decision = await watch(store, place.settings, now=1.0)
    answered = await store.learning.get_request(request.id)
    assert decision.action == "rest"
    assert (answered.run, answered.answer) == (None, "No votes are waiting to be learned from.")


async def test_a_capped_user_does_not_ring_the_doorbell_for_nothing(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, _ = make_place(store, tmp_path, min_votes=10)
    await vote_on("u" * 12, user="ann")
    for i, user in enumerate(("bob", "cy", "di", "ed")):
        await vote_on("u", start=20 + i, user=user)
    decision = await watch(store, place.settings, now=1.0)
    assert decision.action == "rest"


async def test_a_rejected_version_is_not_served(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    learner.figures = replace(GOOD, kl_per_reply=500.0)
    ids = await vote_on("ud")
    run = await run_update(place)
    assert run.state == "rejected"
    assert "KL to base" in run.reason
    assert (await store.rollout.get()).live == "base"
    assert await states(store, *ids) == ["pending", "pending"]


async def test_votes_of_rejected_versions_are_learned_more_cautiously(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    learner.figures = replace(GOOD, kl_per_reply=500.0)
    await vote_on("ud")
    first, second = await run_update(place), await run_update(place)
    assert [first.state, second.state] == ["rejected", "rejected"]
    assert first.batch_hash == second.batch_hash
    learner.figures = GOOD
    await vote_on("ud", start=2)
    assert (await run_update(place)).state == "approved"
    await vote_on("ud", start=4)
    await run_update(place)
    assert learner.setbacks == [0, 1, 2, 0]


async def test_votes_of_a_version_that_was_rolled_back_are_learned_more_cautiously(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")
    first = await run_update(place)
    assert (await store.rollout.get()).live == first.version
    await store.rollout.do(Rollback(), Audit("judge", "liked less", 9.0))
    assert await states(store, *ids) == ["pending", "pending"]
    second = await run_update(place)
    assert (second.state, second.parent) == ("approved", "base")
    assert learner.setbacks == [0, 1]


async def test_an_import_is_gated_between_two_runs(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    learned = Learned(b"imported", {})
    manifest = learner.publish(
        learned, sequence=7, parent="base", batch_hash="", fence=0, now=time.time()
    )
    await store.versions.add(
        manifest.version, parent="base", manifest={}, state="candidate", now=1.0
    )
    await vote_on("uu")
    await store.learning.pause("ops")
    assert await run_update(place) is None
    assert (await store.versions.get(manifest.version)).state == "approved"
    assert (await store.rollout.get()).live == "base"
    await store.learning.resume("ops")
    run = await run_update(place)
    assert (run.state, run.number) == ("approved", 8)


async def test_the_learner_is_given_what_people_wrote_beside_their_votes(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("ddddd")
    alone = Vote(correction="Alone.")
    worth = reward(alone, RewardScale(correction=-0.5))
    for each in ("c0", "c1", "c2"):
        vote = Vote(thumb="down", correction=f"Better than {each}.")
        await store.votes.put(each, ANN, vote, -1.0, now=2500.0)
    await store.votes.put("c3", ANN, alone, worth, now=2500.0)
    claim = store.runs.claim

    async def claim_and_change(*args: Any, **keywords: Any) -> Any:
        """People change their minds while the update begins."""
        run = await claim(*args, **keywords)
        await store.votes.withdraw("c0", ANN, now=3000.0)
        await store.votes.put("c1", ANN, Vote(thumb="up", correction="No."), 1.0, now=3000.0)
        return run

    store.runs.claim = claim_and_change  # type: ignore[method-assign]
    await run_update(place)
    given = {s.completion_id: (s.reward, s.correction) for s in learner.learned[0]}
    assert given == {
        "c0": (-1.0, ""),
        "c1": (-1.0, ""),
        "c2": (-1.0, "Better than c2."),
        "c3": (-0.5, "Alone."),
        "c4": (-1.0, ""),
    }
