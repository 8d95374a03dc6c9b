"""Votes of earlier updates are there for the reward model of practice, as long as they stand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feedback.types import Person, Vote
from models.recipe import THUMBLOOP
from workers.earlier_votes import earlier_votes
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")


async def _ids(store: Store, *, room: int = 10) -> list[str]:
    recipe = replace(THUMBLOOP, reward_model_votes=room + 16)
    return [vote.completion_id for vote in await earlier_votes(store, recipe, batch=16)]


async def test_an_update_is_given_the_votes_of_the_ones_before_oldest_first(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("udu")
    await run_update(place)
    await vote_on("ddu", start=3)
    await run_update(place)
    assert learner.earlier[0] == ()
    assert [s.completion_id for s in learner.learned[1]] == ["c3", "c4", "c5"]
    assert [s.completion_id for s in learner.earlier[1]] == ["c0", "c1", "c2"]
    assert [s.reward for s in learner.earlier[1]] == [1.0, -1.0, 1.0]
    reports = [run.report["practice_vote_ids"] for run in await store.runs.list()]
    assert reports == [["c0", "c1", "c2"], []]
    assert await _ids(store, room=4) == ["c2", "c3", "c4", "c5"]
    assert await _ids(store, room=0) == []


async def test_the_reward_model_of_practice_is_given_as_many_as_fit_beside_the_batch(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    recipe = replace(THUMBLOOP, reward_model_votes=5)
    place.settings = place.settings.model_copy(update={"recipe": recipe})
    await vote_on("udu")
    await run_update(place)
    await vote_on("ddu", start=3)
    await run_update(place)
    assert learner.earlier[0] == ()
    assert [s.completion_id for s in learner.earlier[1]] == ["c1", "c2"]
    assert (await store.runs.list())[0].report["practice_vote_ids"] == ["c1", "c2"]


async def test_without_practice_no_earlier_votes_are_read(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    place.settings = place.settings.model_copy(update={"practice_rounds": 0})
    for start in (0, 3):
        await vote_on("udu", start=start)
        await run_update(place)
    assert learner.earlier == [(), ()]
    assert await earlier_votes(store, replace(THUMBLOOP, practice_rounds=0), batch=3) == ()


async def test_what_was_changed_or_withdrawn_since_is_left_out(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, _ = workplace
    await vote_on("udu")
    await run_update(place)
    await store.votes.withdraw("c0", ANN, now=3000.0)
    await store.votes.put("c1", ANN, Vote(thumb="up"), 1.0, now=3000.0)
    # a comment with the same thumb changes nothing that is learned from
    await store.votes.put("c2", ANN, Vote(thumb="up", comment="yes"), 1.0, now=3000.0)
    assert await _ids(store) == ["c2"]


async def test_a_completion_that_is_gone_is_left_out(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, _ = workplace
    await vote_on("udu")
    await run_update(place)
    await store.completions.delete("c1", ANN)
    assert await _ids(store) == ["c0", "c2"]
