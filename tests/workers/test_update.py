from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fake_learner import GOOD, Learned, make_place

from feedback.errors import FencedError
from feedback.events import Person, Vote
from feedback.rewards import RewardScale, reward
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from models.adapters import WEIGHTS_FILE
from models.errors import AdapterError, GateError, LearningError
from models.types import Progress
from workers.update import _promote_newest, run_update
from workers.watch import next_batch, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fake_learner import FakeLearner

    from workers.workplace import Workplace

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")


class Killed(BaseException):
    """Ends an update as SIGKILL would: nothing is caught, nothing tidied up."""


def killed_at(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> None:
    async def die(*_args: object, **_kwargs: object) -> None:
        raise Killed

    monkeypatch.setattr(target, name, die)


async def let_the_lease_run_out(store: Store) -> None:
    await store._client.command("DEL", keys.LEASE)


async def states(store: Store, ids: list[str]) -> list[str]:
    return [(await store.votes.get(each, ANN)).state for each in ids]


async def test_votes_become_one_live_version(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("udu")
    run = await run_update(place)
    assert (run.state, run.parent, len(run.votes)) == ("approved", "base", 3)
    assert (await store.rollout.get()).live == run.version
    assert await states(store, ids) == ["learned"] * 3
    assert [s.reward for s in learner.learned[0]] == [1.0, -1.0, 1.0]
    version = await store.versions.get(run.version)
    assert (version.state, version.run, version.parent) == ("live", 1, "base")
    assert version.figures["kl_per_reply"] == 2.0
    events = await store.rollout.events()
    assert (events[0].who, events[0].action, events[0].new) == ("learner", "activate", run.version)


async def test_the_report_says_what_was_dropped_and_how_long_it_took(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("u")
    assert await run_update(place) is None
    assert learner.learned == []
    assert await store.runs.list() == []


async def test_the_next_run_learns_on_top_of_the_live_version(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, _ = workplace
    await vote_on("u")
    request = await store.learning.request_update("ops", now=1.0)
    run = await run_update(place)
    answered = await store.learning.get_request(request.id)
    assert (answered.state, answered.run) == ("answered", run.number)


async def test_a_request_without_votes_is_told_so(
    store: Store, workplace: tuple[Workplace, FakeLearner]
) -> None:
    place, _ = workplace
    request = await store.learning.request_update("ops", now=1.0)
    decision = await watch(store, place.settings, now=1.0)
    answered = await store.learning.get_request(request.id)
    assert decision.action == "rest"
    assert (answered.run, answered.answer) == (None, "No votes are waiting to be learned from.")


async def test_a_capped_user_does_not_ring_the_doorbell_for_nothing(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, _ = make_place(store, tmp_path, min_votes=10)
    await vote_on("u" * 12, user="ann")
    for i, user in enumerate(("bob", "cy", "di", "ed")):
        await vote_on("u", start=20 + i, user=user)
    decision = await watch(store, place.settings, now=1.0)
    assert decision.action == "rest"


async def test_a_rejected_version_is_not_served(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    learner.figures = replace(GOOD, kl_per_reply=500.0)
    ids = await vote_on("ud")
    run = await run_update(place)
    assert run.state == "rejected"
    assert "KL to base" in run.reason
    assert (await store.rollout.get()).live == "base"
    assert await states(store, ids) == ["pending", "pending"]


async def test_votes_that_were_refused_are_learned_more_cautiously(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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
    assert learner.refusals == [0, 1, 2, 0]


async def test_an_import_is_gated_between_two_runs(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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


async def test_a_gate_that_cannot_run_costs_no_vote(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
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
    assert await states(store, ids) == ["learned"] * 2


@pytest.mark.parametrize(
    ("goes_back", "ends"), [("activate", "approved"), ("rollback", "rejected")]
)
async def test_an_operators_choice_during_a_run_stands(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
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
        by: dict[str, Any] = {"who": "ops", "why": "worse", "now": 1.0}
        if goes_back == "activate":
            call = store.rollout.activate("base", **by)
        else:
            call = store.rollout.rollback(to="base", **by)
        asyncio.run_coroutine_threadsafe(call, loop).result()

    learner.during = operator_goes_back
    run = await run_update(place)
    assert (run.state, run.parent) == (ends, first.version)
    assert (await store.rollout.get()).live == "base"
    version = await store.versions.get(run.version)
    assert version.state == ends
    learner.during = lambda _progress: None
    if ends == "approved":
        assert await states(store, ids) == ["learned"] * 2
        assert await run_update(place) is None or (await store.rollout.get()).live == "base"
    else:
        assert f"{first.version}, that it was learned from, was rolled back" in version.reason
        assert await states(store, ids) == ["pending"] * 2
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
        call = store.rollout.kill(who="ops", why="harm", now=1.0)
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


async def test_a_failure_is_tried_again_and_the_third_quarantines(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    def fail(_progress: object) -> None:
        raise LearningError("The gradient is not finite.")

    learner.during = fail
    seen = [(await run_update(place)).state for _ in range(3)]
    assert seen == ["claimed", "claimed", "quarantined"]
    assert await states(store, ids) == ["discarded", "discarded"]
    learner.during = lambda _progress: None
    await vote_on("uu", start=2)
    assert (await run_update(place)).state == "approved"


async def test_votes_are_not_discarded_for_a_full_disk(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    def no_room(_progress: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    learner.during = no_room
    for _ in range(2 * place.settings.max_attempts):
        run = await run_update(place)
        assert (run.state, run.deaths) == ("claimed", 0)
        assert "No space left" in run.reason
    assert await states(store, ids) == ["claimed", "claimed"]
    learner.during = lambda _progress: None
    assert (await run_update(place)).state == "approved"
    assert await states(store, ids) == ["learned", "learned"]


async def test_votes_wait_until_a_broken_parent_is_mended(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    ids = await vote_on("ud")

    def broken(_progress: object) -> None:
        raise AdapterError("v000001-0123456789ab was altered.")

    learner.during = broken
    for _ in range(2 * place.settings.max_attempts):
        assert (await run_update(place)).state == "claimed"
    learner.during = lambda _progress: None
    assert (await run_update(place)).state == "approved"
    assert await states(store, ids) == ["learned", "learned"]


async def test_votes_of_a_parent_that_was_given_up_are_learned_from_the_next(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    """Who cannot mend the live version makes another one live; learning must not wait for ever."""
    place, learner = workplace
    await vote_on("ud")
    parent = (await run_update(place)).version
    ids = await vote_on("ud", start=2)

    def broken(_progress: object) -> None:
        raise AdapterError(f"{parent} was altered.")

    learner.during = broken
    assert (await run_update(place)).state == "claimed"
    await store.rollout.activate("base", who="ops", why="it is broken", now=5.0)
    run = await run_update(place)
    assert (run.number, run.state, run.reason) == (2, "quarantined", f"{parent} was altered.")
    assert await states(store, ids) == ["pending", "pending"]
    learner.during = lambda _progress: None
    run = await run_update(place)
    assert (run.number, run.state, run.parent) == (3, "approved", "base")
    assert await states(store, ids) == ["learned", "learned"]


async def test_a_disk_that_does_not_answer_in_time_is_a_hindrance_and_no_failure(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    """Python's word for it is that of an update which takes too long."""
    place, learner = workplace
    await vote_on("ud")

    def silent(_progress: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    learner.during = silent
    for _ in range(2 * place.settings.max_attempts):
        assert (await run_update(place)).state == "claimed"


async def test_a_failed_run_rests_and_says_why(
    redis_url: str, store: Store, tmp_path: Path, vote_on: VoteOn
) -> None:
    patient = Store.connect(redis_url, FeedbackSettings(retry_delay=timedelta(seconds=0.5)))
    place, learner = make_place(patient, tmp_path)
    await vote_on("ud")

    def fail(_progress: object) -> None:
        raise LearningError("The gradient is not finite.")

    learner.during = fail
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


@pytest.mark.parametrize(
    ("record", "name", "times_learned"),
    [
        ("completions", "get_many", 1),  # before learning
        ("runs", "commit", 1),  # after the adapter was published
        ("runs", "finish", 1),  # after the commit
        ("rollout", "activate", 1),  # after the gate
    ],
)
async def test_a_learner_that_dies_between_steps_leaves_exactly_one_version(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: str,
    name: str,
    times_learned: int,
) -> None:
    place, first = workplace
    ids = await vote_on("udu")
    with monkeypatch.context() as patch:
        killed_at(patch, getattr(store, record), name)
        with pytest.raises(Killed):
            await run_update(place)
    await let_the_lease_run_out(store)
    place, second = make_place(store, tmp_path)
    run = await run_update(place)
    versions = [v.version for v in await store.versions.list() if v.version != "base"]
    assert versions == [run.version]
    assert (await store.rollout.get()).live == run.version
    assert len(first.learned) + len(second.learned) == times_learned
    assert len(list(place.adapters.path(run.version).parent.iterdir())) == 1
    assert await states(store, ids) == ["learned"] * 3
    assert len(await store.runs.list()) == 1
    assert await run_update(place) is None


async def test_a_learner_that_was_overtaken_writes_nothing(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    slow, learner = workplace
    await vote_on("ud")
    quick, _ = make_place(store, tmp_path)
    renew = store.runs.renew
    loop = asyncio.get_running_loop()

    async def no_renewal(_run: object) -> None:
        await asyncio.sleep(0)

    async def other_learner() -> None:
        await let_the_lease_run_out(store)
        await run_update(quick)

    def fall_asleep(_progress: object) -> None:
        store.runs.renew = no_renewal
        asyncio.run_coroutine_threadsafe(other_learner(), loop).result()
        store.runs.renew = renew

    learner.during = fall_asleep
    run = await run_update(slow)
    assert (run.state, run.attempts) == ("approved", 2)
    versions = [v.version for v in await store.versions.list() if v.version != "base"]
    assert versions == [run.version]
    events = [e.action for e in await store.rollout.events()]
    assert (events.count("commit"), events.count("activate")) == (1, 1)
    assert run.reason is None


async def test_a_lost_run_ends_the_learning_thread(
    store: Store,
    tmp_path: Path,
    vote_on: VoteOn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, learner = make_place(store, tmp_path, lease=timedelta(milliseconds=200))
    await vote_on("ud")
    steps: list[int] = []

    async def lost(_run: object) -> None:
        if steps:
            raise FencedError("taken over")

    def learn_for_long(progress: Callable[[Progress], None]) -> None:
        for i in range(200):
            time.sleep(0.01)
            steps.append(i)
            progress(Progress("learn", i, 200))

    monkeypatch.setattr(store.runs, "renew", lost)
    learner.during = learn_for_long
    await run_update(place)
    await asyncio.sleep(0.1)
    assert 0 < len(steps) < 50
    assert (await store.runs.get(1)).state == "claimed"


async def test_a_stop_from_outside_gives_the_run_back_at_once(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, learner = workplace
    await vote_on("ud")
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def learn_for_long(progress: Callable[[Progress], None]) -> None:
        loop.call_soon_threadsafe(begun.set)
        for i in range(500):
            time.sleep(0.01)
            progress(Progress("learn", i, 500))

    learner.during = learn_for_long
    update = asyncio.create_task(run_update(place))
    await begun.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    assert not await store.runs.lease_held()
    place, again = make_place(store, tmp_path)
    run = await run_update(place)
    assert (run.state, run.attempts, len(again.learned)) == ("approved", 2, 1)


async def test_a_batch_that_kills_its_learner_is_quarantined_in_the_end(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, _ = make_place(store, tmp_path, max_attempts=1)
    await vote_on("ud")
    with monkeypatch.context() as patch:
        killed_at(patch, store.completions, "get_many")
        for _ in range(3):
            with pytest.raises(Killed):
                await run_update(place)
            await let_the_lease_run_out(store)
    assert await run_update(place) is None
    run = await store.runs.get(1)
    assert (run.state, run.reason) == ("quarantined", "Its learner died 3 times.")


async def test_a_rollback_between_gate_and_promotion_stands(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parent is live again as it wakes up, but the version has been live and was taken back."""
    slow, _ = workplace
    await vote_on("ud")
    quick, _ = make_place(store, tmp_path)
    activate = store.rollout.activate

    async def sleep_first(version: str, **options: Any) -> object:
        monkeypatch.setattr(store.rollout, "activate", activate)
        await run_update(quick)
        assert (await store.rollout.get()).live == version
        await store.rollout.rollback(who="ops", why="worse", now=1.0)
        return await activate(version, **options)

    monkeypatch.setattr(store.rollout, "activate", sleep_first)
    run = await run_update(slow)
    assert run is not None
    assert (await store.rollout.get()).live == "base"
    assert (await store.versions.get(run.version or "")).state == "rolled_back"


async def test_a_promotion_that_another_learner_did_is_left_alone(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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
    assert await _promote_newest(place) is None
    assert (await store.rollout.get()).live == first.version


async def test_a_version_published_too_late_goes_and_others_stay(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("ud")
    first = await run_update(place)

    def publish(content: bytes, **changes: Any) -> str:
        fields = {
            "sequence": first.number,
            "parent": "base",
            "batch_hash": first.batch_hash,
            "fence": 1,
            "now": 1.0,
        }
        return learner.publish(Learned(content, {}), **(fields | changes)).version

    late = publish(b"late")
    of_a_lost_record = publish(b"lost", batch_hash="0" * 40)
    unknown = publish(b"unknown", sequence=0)
    await vote_on("ud", start=2)
    second = await run_update(place)
    assert late not in place.adapters.published()
    assert place.adapters.published() == sorted(
        [first.version, second.version, of_a_lost_record, unknown]
    )


async def test_a_damaged_version_of_a_dead_learner_is_learned_again(
    store: Store,
    workplace: tuple[Workplace, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, _ = workplace
    ids = await vote_on("ud")
    with monkeypatch.context() as patch:
        killed_at(patch, store.runs, "commit")
        with pytest.raises(Killed):
            await run_update(place)
    await let_the_lease_run_out(store)
    (version,) = place.adapters.published()
    (place.adapters.path(version) / WEIGHTS_FILE).write_bytes(b"")
    place, again = make_place(store, tmp_path)
    run = await run_update(place)
    assert (run.state, run.version, len(again.learned)) == ("approved", version, 1)
    assert place.adapters.verify(version).version == version
    assert await states(store, ids) == ["learned"] * 2


async def test_learners_that_stop_when_asked_are_no_reason_for_quarantine(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, _ = make_place(store, tmp_path, max_attempts=1)
    await vote_on("ud")
    run = await store.runs.claim(
        await next_batch(store, place.settings), parent="base", min_votes=2, now=1.0
    )
    for _ in range(20):
        await store.runs.release(run)
        run = await store.runs.take_over(now=2.0)
    await store.runs.release(run)
    run = await run_update(place)
    assert (run.state, run.attempts, run.deaths) == ("approved", 22, 0)


async def test_the_learner_is_given_what_people_wrote_beside_their_votes(
    store: Store, workplace: tuple[Workplace, FakeLearner], vote_on: VoteOn
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
