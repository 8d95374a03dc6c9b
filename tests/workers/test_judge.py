"""The judge on a real Redis: bad versions are taken back, good ones stay, operators are obeyed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from feedback.judging import Replies
from feedback.rewards import reward
from feedback.store import Store, keys
from feedback.types import Audit, Person, Vote
from models.versions import Activate, Confirm, Rollback, StartCanary, StopCanary
from tests.support.workers.fake_learner import make_place
from workers import judge as judging
from workers.judge import run_judge
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from feedback.types import Completion
    from workers.resources import UpdateResources

    CompletionOf = Callable[..., Completion]
    Say = Callable[..., Awaitable[None]]
    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
PEOPLE = 60


class Killed(BaseException):
    """Ends a judge as SIGKILL would."""


@pytest.fixture
def say(store: Store, completion_of: CompletionOf) -> Say:
    """Let many people vote on a version, so many of each ten of them with thumbs up."""

    async def say(version: str, ups: int, *, each: int = 3, whom: str = "p") -> None:
        async def one(number: int, turn: int) -> None:
            person, name = Person("k1", f"{whom}{number}"), f"{version}-{whom}{number}-{turn}"
            late = 5_000_000_000.0  # after any canary's beginning
            await store.completions.record(
                completion_of(name, person.user, version=version, created_at=late)
            )
            vote = Vote(thumb="up" if (number * each + turn) % 10 < ups else "down")
            await store.votes.put(name, person, vote, reward(vote), now=2000.0)

        await asyncio.gather(*(one(n, turn) for n in range(PEOPLE) for turn in range(each)))

    return say


@pytest.fixture
def place(store: Store, tmp_path: Path) -> UpdateResources:
    return make_place(store, tmp_path)[0]


@pytest.fixture
def trying(store: Store, tmp_path: Path) -> UpdateResources:
    return make_place(store, tmp_path, canary_fraction=0.5)[0]


async def learned(place: UpdateResources, vote_on: VoteOn, start: int = 0) -> str:
    """Let one update run, and return its version."""
    await vote_on("ud", start=start)
    run = await run_update(place)
    assert run is not None
    assert run.state == "approved"
    return str(run.version)


async def test_with_a_fraction_an_update_begins_as_a_canary_and_the_learner_rests(
    store: Store, trying: UpdateResources, vote_on: VoteOn
) -> None:
    version = await learned(trying, vote_on)
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.canary, rollout.fraction) == ("base", version, 0.5)
    await vote_on("uu", start=2)
    request = await store.learning.request_update("ops", now=1.0)
    assert await run_update(trying) is None
    answered = await store.learning.get_request(request.id)
    assert answered.answer.startswith(f"{version} is the canary for 50% of the users")


async def test_a_canary_that_a_crash_kept_from_starting_is_started_by_the_next(
    store: Store, trying: UpdateResources, vote_on: VoteOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_args: Any, **_words: Any) -> None:
        raise Killed

    await vote_on("ud")
    with monkeypatch.context() as patch:
        patch.setattr(store.rollout, "do", die)
        with pytest.raises(Killed):
            await run_update(trying)
    assert (await store.rollout.get()).canary is None
    run = await run_update(trying)
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.canary) == ("base", run.version)


async def test_the_learner_is_told_what_the_judge_waits_for(
    store: Store, trying: UpdateResources, vote_on: VoteOn
) -> None:
    await learned(trying, vote_on)
    found = await run_judge(store, trying.settings, now=10.0)
    request = await store.learning.request_update("ops", now=11.0)
    assert await run_update(trying) is None
    answered = await store.learning.get_request(request.id)
    assert answered.answer.endswith(found.reasons[0])


async def test_a_bad_canary_is_taken_back_and_its_votes_wait_again(
    store: Store, trying: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    version = await learned(trying, vote_on)
    first = await run_judge(store, trying.settings, now=10.0)
    assert (first.state, first.test, first.control) == ("hold", (version,), ("base",))
    assert first.votes_needed > 30
    await say("base", 7, whom="a")
    await say(version, 3, whom="b")
    found = await run_judge(store, trying.settings, now=20.0)
    assert (found.state, found.acted) == ("roll_back", f"{version} is rolled back")
    assert "People like it less: 30% of 180 votes by 60 people" in found.reasons[0]
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.canary) == ("base", None)
    assert (await store.versions.get(version)).state == "rolled_back"
    for each in ("c0", "c1"):
        assert (await store.votes.get(each, Person("k1", "ann"))).state == "pending"
    event = (await store.rollout.events(1))[0]
    assert (event.who, event.action) == ("judge", "reject_canary")
    assert event.figures["test"]["votes"] == 180
    assert await store.judging.last() == found
    assert await run_update(trying) is not None  # the learner goes on


async def test_a_canary_that_is_liked_as_well_goes_live(
    store: Store, trying: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    version = await learned(trying, vote_on)
    await say("base", 6, whom="a", each=9)
    await say(version, 7, whom="b", each=9)
    found = await run_judge(store, trying.settings, now=20.0)
    assert (found.state, found.acted) == ("promote", f"{version} is live")
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.confirmed, rollout.canary) == (version, version, None)
    after = await run_judge(store, trying.settings, now=30.0)
    assert after.state == "idle"


async def test_a_bad_chain_is_taken_back_to_the_confirmed_version(
    store: Store, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 7)
    first = await learned(place, vote_on)
    await say(first, 4, each=2)
    second = await learned(place, vote_on, start=2)
    await say(second, 3, each=2)
    assert (await store.rollout.get()).live == second
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.test, found.control) == ("roll_back", (second, first), ("base",))
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.confirmed) == ("base", "base")
    states = [(await store.versions.get(each)).state for each in (first, second)]
    assert states == ["rolled_back", "rolled_back"]
    for each in ("c0", "c1", "c2", "c3"):
        assert (await store.votes.get(each, Person("k1", "ann"))).state == "pending"
    event = (await store.rollout.events(1))[0]
    assert (event.who, event.action, event.new) == ("judge", "rollback", "base")


async def test_a_good_chain_is_confirmed_and_lends_its_votes(
    store: Store, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 6)
    first = await learned(place, vote_on)
    await say(first, 6, each=1)
    second = await learned(place, vote_on, start=2)
    await say(second, 7)
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.acted) == ("promote", f"{second} is confirmed")
    rollout = await store.rollout.get()
    assert (rollout.live, rollout.confirmed) == (second, second)
    assert (await run_judge(store, place.settings, now=30.0)).state == "idle"
    third = await learned(place, vote_on, start=4)
    held = await run_judge(store, place.settings, now=40.0)
    assert (held.test, held.control) == ((third,), (second, first, "base"))
    assert held.figures["control"]["votes"] > 300


async def test_a_version_that_few_have_voted_on_is_not_confirmed_by_those_before_it(
    store: Store, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 6)
    first = await learned(place, vote_on)
    await say(first, 7)
    second = await learned(place, vote_on, start=2)
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.votes_needed, found.acted) == ("hold", 10, None)
    assert found.reasons[-1].startswith(f"{second} has 0 votes of its own; 10 more are needed")
    await say(second, 7, each=1)
    assert (await run_judge(store, place.settings, now=30.0)).acted == f"{second} is confirmed"


async def test_a_canary_that_is_stopped_leaves_the_counts_of_the_others_as_they_were(
    store: Store, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 6, each=1)
    first = await learned(place, vote_on)
    await store.rollout.do(Confirm(first), Audit("ops", "good", 2.0))
    await say(first, 6, each=1)
    second = await learned(place, vote_on, start=2)
    await say(second, 6, each=1)
    third = await learned(place, vote_on, start=4)
    before = (await run_judge(store, place.settings, now=20.0)).figures
    other = "v000077-0123456789ab"
    await store.versions.add(other, parent="base", manifest={}, state="approved", now=20.0)
    await store.rollout.do(StartCanary(other, 0.5), Audit("ops", "try", 21.0))
    assert (await run_judge(store, place.settings, now=22.0)).test == (other,)
    await store.rollout.do(StopCanary(), Audit("ops", "tried", 23.0))
    after = await run_judge(store, place.settings, now=24.0)
    assert (after.test, after.control) == ((third, second), (first, "base"))
    assert after.figures == before


async def test_a_pool_is_bounded(
    store: Store,
    place: UpdateResources,
    vote_on: VoteOn,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "MOST_POOLED", 2)
    versions = [await learned(place, vote_on, start=2 * number) for number in range(4)]
    found = await run_judge(store, place.settings, now=20.0)
    assert found.test == (versions[3], versions[2])
    assert found.control == ("base",)


async def test_too_few_votes_hold_and_nothing_is_changed(
    store: Store, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 6, each=6)
    version = await learned(place, vote_on)
    events = len(await store.rollout.events())
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.acted) == ("hold", None)
    assert found.reasons[0].startswith(f"About {found.votes_needed} more votes are needed")
    assert (await store.rollout.get()).live == version
    assert len(await store.rollout.events()) == events


async def test_a_canary_that_fails_is_taken_back_without_a_vote(
    store: Store, trying: UpdateResources, vote_on: VoteOn
) -> None:
    version = await learned(trying, vote_on)
    await store.tallies.add({"base": Replies(200), version: Replies(200, errors=60)})
    found = await run_judge(store, trying.settings, now=20.0)
    assert found.state == "roll_back"
    assert found.reasons == ("Failed replies rose to 30.0% from 0.0%; 2% more is allowed.",)


async def test_judges_that_race_act_once(
    store: Store, trying: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    version = await learned(trying, vote_on)
    await say("base", 7, whom="a")
    await say(version, 3, whom="b")
    await asyncio.gather(*(run_judge(store, trying.settings, now=20.0) for _ in range(5)))
    actions = [event.action for event in await store.rollout.events()]
    assert actions.count("reject_canary") == 1


@pytest.mark.parametrize("before", [True, False])
async def test_a_judge_that_dies_around_its_act_leaves_nothing_half_done(
    store: Store,
    trying: UpdateResources,
    vote_on: VoteOn,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:
    version = await learned(trying, vote_on)
    await say("base", 7, whom="a")
    await say(version, 3, whom="b")

    async def die(*_args: Any, **_words: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if before:
            patch.setattr(judging, "_change", die)
        else:
            patch.setattr(store.judging, "write", die)
        with pytest.raises(Killed):
            await run_judge(store, trying.settings, now=20.0)
    found = await run_judge(store, trying.settings, now=30.0)
    assert found.state == ("roll_back" if before else "idle")
    assert (await store.versions.get(version)).state == "rolled_back"
    actions = [event.action for event in await store.rollout.events()]
    assert actions.count("reject_canary") == 1


@pytest.mark.parametrize("what", ["confirms", "rolls back", "stops"])
async def test_what_an_operator_does_meanwhile_stands(
    store: Store,
    place: UpdateResources,
    vote_on: VoteOn,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    await say("base", 7, whom="a")
    version = await learned(place, vote_on)
    by = Audit("ops", "I know better", 15.0)
    if what == "stops":
        await store.rollout.do(Activate("base"), by)
        await store.rollout.do(StartCanary(version, 0.5), by)
        await say("base", 7, whom="b")
    await say(version, 3, whom="c")

    async def act() -> None:
        if what == "confirms":
            await store.rollout.do(Activate(version), by)
        elif what == "rolls back":
            await store.rollout.do(Rollback("base"), by)
        else:
            await store.rollout.do(StopCanary(), by)

    change = judging._change

    async def meanwhile(*args: Any, **words: Any) -> str | None:
        await act()
        return await change(*args, **words)

    monkeypatch.setattr(judging, "_change", meanwhile)
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.acted) == ("roll_back", None)
    monkeypatch.undo()
    assert (await store.rollout.events(1))[0].who == "ops"
    again = await run_judge(store, place.settings, now=30.0)
    assert again.state == "idle"
    assert "judge" not in {event.who for event in await store.rollout.events()}
    live = version if what == "confirms" else "base"
    assert (await store.rollout.get()).live == live
    if what == "stops":  # nor does the learner bring it back
        await run_update(place)
        assert (await store.versions.get(version)).state == "approved"


async def test_versions_that_nothing_was_counted_of_wait_for_votes(
    store: Store, raw_redis: Redis, place: UpdateResources, vote_on: VoteOn, say: Say
) -> None:
    await say("base", 7)
    await learned(place, vote_on)
    await raw_redis.delete(keys.TALLIES, keys.tally_votes("base"))
    found = await run_judge(store, place.settings, now=20.0)
    assert (found.state, found.votes_needed) == ("hold", None)
    assert "Start a canary to find out" in found.reasons[0]
