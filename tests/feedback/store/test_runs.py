from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.batching import batch_hash
from feedback.errors import FencedError, UnknownRunError
from feedback.events import FrozenVote, Person, Run, Vote
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.events import Completion

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]
    Claimed = Callable[..., Awaitable[Run]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")
UP, DOWN = Vote(thumb="up"), Vote(thumb="down")
V1, V2, V3, V4, V5 = (f"v00000{i}-0123456789ab" for i in range(1, 6))


async def let_the_lease_run_out(store: Store) -> None:
    await store._client.command("DEL", keys.LEASE)


async def commit(store: Store, run: Run, version: str = V1) -> None:
    await store.runs.commit(
        run, version=version, manifest={"run": run.number}, report={"loss": 0.5}, now=3100.0
    )


async def finish(store: Store, run: Run, state: str, reason: str | None = None) -> None:
    await store.runs.finish(run, state, figures={"kl": 1.5}, reason=reason, now=3200.0)


async def states(store: Store, *ids: str) -> list[str]:
    return [(await store.votes.get(each, ANN)).state for each in ids]


async def test_a_claim_freezes_the_batch(store: Store, voted: Voted) -> None:
    await voted("ud")
    votes = [FrozenVote("c0", 1, 1.0), FrozenVote("c1", 1, -1.0)]
    run = await store.runs.claim(votes, parent="base", min_votes=2, now=3000.0)
    assert run == Run(
        number=1,
        state="claimed",
        fence=1,
        parent="base",
        votes=tuple(votes),
        batch_hash=batch_hash(votes),
        attempts=1,
        claimed_at=3000.0,
    )
    assert await store.runs.open() == await store.runs.get(1) == run
    assert await store.runs.list() == [run]
    assert await states(store, "c0", "c1") == ["claimed", "claimed"]
    assert await store.votes.count_waiting() == 0


async def test_a_claim_leaves_out_what_changed_since_the_choice(store: Store, voted: Voted) -> None:
    await voted("uuuu")
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(4)]
    await store.votes.put("c0", ANN, DOWN, -1.0, now=2500.0)
    await store.votes.withdraw("c1", ANN, now=2500.0)
    await store.completions.delete("c2", ANN)
    assert await store.runs.claim(votes, parent="base", min_votes=2, now=3000.0) is None
    run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.votes == (FrozenVote("c3", 1, 1.0),)
    assert run.batch_hash == batch_hash(run.votes)


async def test_a_score_that_came_back_is_still_another_revision(store: Store, voted: Voted) -> None:
    await voted("u")
    await store.votes.put("c0", ANN, DOWN, -1.0, now=2500.0)
    await store.votes.put("c0", ANN, UP, 1.0, now=2501.0)
    old, new = [FrozenVote("c0", 1, 1.0)], [FrozenVote("c0", 3, 1.0)]
    assert await store.runs.claim(old, parent="base", min_votes=1, now=3000.0) is None
    assert await store.runs.claim(new, parent="base", min_votes=1, now=3000.0) is not None


async def test_scores_survive_to_the_last_digit(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c0"))
    await store.votes.put("c0", ANN, Vote(rating=3), 0.1 + 0.2, now=2000.0)
    votes = [FrozenVote("c0", 1, 0.1 + 0.2)]
    run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.votes[0].score == 0.30000000000000004
    assert run.batch_hash == batch_hash(votes)


async def test_no_claim_while_paused_or_open_or_of_another_parent(
    store: Store, voted: Voted
) -> None:
    await voted("uu")
    first, second = [FrozenVote("c0", 1, 1.0)], [FrozenVote("c1", 1, 1.0)]
    await store.learning.pause("op")
    assert await store.runs.claim(first, parent="base", min_votes=1, now=3000.0) is None
    await store.learning.resume("op")
    assert await store.runs.claim(first, parent=V1, min_votes=1, now=3000.0) is None
    assert await store.runs.claim([], parent="base", min_votes=0, now=3000.0) is None
    assert await store.runs.claim(first, parent="base", min_votes=1, now=3000.0) is not None
    assert await store.runs.claim(second, parent="base", min_votes=1, now=3000.0) is None
    await let_the_lease_run_out(store)
    assert await store.runs.claim(second, parent="base", min_votes=1, now=3000.0) is None


async def test_of_twenty_racing_claims_one_wins(store: Store, voted: Voted) -> None:
    await voted("uuuu")
    votes = [FrozenVote(f"c{i}", 1, 1.0) for i in range(4)]
    runs = await asyncio.gather(
        *(store.runs.claim(votes, parent="base", min_votes=1, now=3000.0) for _ in range(20))
    )
    assert [run.number for run in runs if run] == [1]


async def test_only_a_silent_learners_run_is_taken_over(store: Store, claimed: Claimed) -> None:
    assert await store.runs.take_over(now=3050.0) is None
    run = await claimed("uu")
    assert await store.runs.take_over(now=3050.0) is None
    await let_the_lease_run_out(store)
    taken = await store.runs.take_over(now=3050.0)
    assert taken is not None
    assert (taken.fence, taken.attempts) == (2, 2)
    assert (taken.votes, taken.batch_hash, taken.number) == (run.votes, run.batch_hash, 1)
    assert await store.runs.take_over(now=3051.0) is None


async def test_renewing_starts_the_lease_afresh(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    await store._client.command("PEXPIRE", keys.LEASE, 5000)
    await store.runs.renew(run)
    assert 25_000 < await store._client.command("PTTL", keys.LEASE) <= 30_000


async def test_the_lease_runs_out_by_itself(store: Store, claimed: Claimed, redis_url: str) -> None:
    await claimed("u")
    hasty = Store.connect(redis_url, FeedbackSettings(lease=timedelta(milliseconds=20)))
    await let_the_lease_run_out(store)
    assert await hasty.runs.take_over(now=3050.0) is not None
    await asyncio.sleep(0.05)
    assert await store.runs.take_over(now=3051.0) is not None
    await hasty.close()


async def test_a_fenced_learner_writes_nothing(store: Store, claimed: Claimed) -> None:
    old = await claimed("uu")
    await let_the_lease_run_out(store)
    new = await store.runs.take_over(now=3050.0)
    assert new is not None
    with pytest.raises(FencedError):
        await store.runs.renew(old)
    with pytest.raises(FencedError):
        await commit(store, old)
    with pytest.raises(FencedError):
        await store.runs.fail(old, reason="x", max_attempts=1, now=3060.0)
    assert await store.runs.get(1) == new
    assert [each.version for each in await store.versions.list()] == ["base"]
    await commit(store, new)
    with pytest.raises(FencedError):
        await finish(store, old, "approved")
    assert (await store.runs.get(1)).state == "committed"


async def test_a_commit_makes_a_candidate_and_marks_its_votes(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("ud")
    await commit(store, run)
    found = await store.runs.get(1)
    assert (found.state, found.version, found.report) == ("committed", V1, {"loss": 0.5})
    version = await store.versions.get(V1)
    assert (version.state, version.parent, version.run) == ("candidate", "base", 1)
    assert version.manifest == {"run": 1}
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.version) == ("learned", V1)
    event = (await store.rollout.events())[0]
    assert (event.action, event.old, event.new) == ("commit", "base", V1)


async def test_a_commit_again_changes_nothing(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    await commit(store, run)
    before = await store.runs.get(1), await store.rollout.events()
    await commit(store, run)
    assert (await store.runs.get(1), await store.rollout.events()) == before
    with pytest.raises(FencedError):
        await commit(store, run, V2)


async def test_votes_changed_after_the_claim_go_to_the_next_run(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uuuu")
    changed = await store.votes.put("c0", ANN, DOWN, -1.0, now=3050.0)
    assert (changed.state, changed.revision) == ("pending", 2)
    await store.votes.withdraw("c1", ANN, now=3050.0)
    await store.votes.withdraw("c2", ANN, now=3050.0)
    await store.votes.put("c2", ANN, UP, 1.0, now=3051.0)
    await commit(store, run)
    assert await states(store, "c0", "c2", "c3") == ["pending", "pending", "learned"]
    waiting = await store.votes.waiting(9)
    assert [(vote.completion_id, vote.revision) for vote in waiting] == [("c0", 2), ("c2", 3)]


async def test_a_comment_after_the_claim_does_not_learn_the_thumb_twice(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    noted = await store.votes.put("c0", ANN, Vote(thumb="up", comment="!"), 1.0, now=3050.0)
    assert (noted.state, noted.revision) == ("claimed", 2)
    await commit(store, run)
    assert await states(store, "c0") == ["learned"]
    noted = await store.votes.put("c0", ANN, Vote(thumb="up", comment="?"), 1.0, now=3150.0)
    assert (noted.state, noted.version) == ("learned", V1)
    assert await store.votes.count_waiting() == 0


async def test_a_deleted_completion_does_not_disturb_the_commit(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await store.completions.delete("c0", ANN)
    await commit(store, run)
    assert await states(store, "c1") == ["learned"]
    stats = await store.votes.stats()
    assert (stats["learned"], stats["claimed"], stats["up"]) == (1, 0, 1)


async def test_an_approval_ends_the_run(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    with pytest.raises(FencedError):
        await finish(store, run, "approved")
    await commit(store, run)
    await finish(store, run, "approved")
    await finish(store, run, "approved")
    found = await store.runs.get(1)
    assert (found.state, found.finished_at, found.reason) == ("approved", 3200.0, None)
    version = await store.versions.get(V1)
    assert (version.state, version.figures) == ("approved", {"kl": 1.5})
    assert await store.runs.open() is None
    assert await states(store, "c0") == ["learned"]
    assert [event.action for event in await store.rollout.events()] == ["approve", "commit"]
    with pytest.raises(FencedError):
        await store.runs.renew(run)
    assert (await claimed("u", start=5)).number == 2


async def test_a_run_left_at_its_gate_is_taken_up_again(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    await commit(store, run)
    await let_the_lease_run_out(store)
    taken = await store.runs.take_over(now=3300.0)
    assert taken is not None
    assert (taken.state, taken.version, taken.fence) == ("committed", V1, 2)
    with pytest.raises(FencedError):
        await finish(store, run, "approved")
    await finish(store, taken, "approved")


async def test_votes_of_rejected_versions_get_three_more_chances(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await commit(store, run)
    await store.votes.withdraw("c1", ANN, now=3150.0)
    await finish(store, run, "rejected", "KL too high")
    assert (await store.versions.get(V1)).reason == "KL too high"
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.version, vote.revision) == ("pending", None, 1)
    waiting = await store.votes.waiting(9)
    assert [(each.completion_id, each.voted_at) for each in waiting] == [("c0", 2000.0)]

    for version, state in ((V2, "pending"), (V3, "pending"), (V4, "discarded")):
        again = await claimed()
        assert again.votes == (FrozenVote("c0", 1, 1.0),)
        await commit(store, again, version)
        await finish(store, again, "rejected", "KL too high")
        assert await states(store, "c0") == [state]
    vote = await store.votes.get("c0", ANN)
    assert (vote.version, vote.reason) == (None, f"{V4} was rejected: KL too high")
    assert await store.votes.count_waiting() == 0
    assert (await store.votes.stats())["discarded"] == 1

    fresh = await store.votes.put("c0", ANN, DOWN, -1.0, now=3300.0)
    assert (fresh.state, fresh.reason) == ("pending", None)
    fifth = await claimed()
    await commit(store, fifth, V5)
    await finish(store, fifth, "rejected", "KL too high")
    assert await states(store, "c0") == ["pending"]


async def test_a_vote_that_was_refused_before_does_not_outlive_a_rollback(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await finish(store, run, "rejected", "KL too high")
    again = await claimed()
    await commit(store, again, V2)
    await finish(store, again, "approved")
    await store.rollout.activate(V2, who="learner", why="", now=3200.0)
    await store.rollout.rollback(who="ops", why="worse", now=3300.0)
    assert await states(store, "c0") == ["discarded"]


async def test_a_batch_that_fails_three_times_is_quarantined(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    outcomes = []
    for _ in range(3):
        outcomes.append(
            await store.runs.fail(run, reason="NaN in the loss", max_attempts=3, now=3050.0)
        )
        with pytest.raises(FencedError):
            await commit(store, run)
        run = await store.runs.take_over(now=3060.0) or run
    assert outcomes == ["claimed", "claimed", "quarantined"]
    found = await store.runs.get(1)
    assert (found.state, found.attempts, found.reason) == ("quarantined", 3, "NaN in the loss")
    assert await store.runs.open() is None
    vote = await store.votes.get("c0", ANN)
    assert (vote.state, vote.reason) == ("discarded", "run 1 was quarantined: NaN in the loss")
    assert (await claimed("u", start=5)).number == 2


async def test_being_killed_is_no_failure_of_the_batch(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    for _ in range(5):
        await let_the_lease_run_out(store)
        run = await store.runs.take_over(now=3050.0) or run
    assert run.attempts == 6
    assert await store.runs.fail(run, reason="x", max_attempts=3, now=3060.0) == "claimed"


async def test_quarantine_keeps_votes_that_changed_meanwhile(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("uu")
    await store.votes.put("c0", ANN, DOWN, -1.0, now=3040.0)
    await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0)
    assert await states(store, "c0", "c1") == ["pending", "discarded"]


async def test_a_gate_that_cannot_be_run_rejects_the_version(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    assert await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0) == "quarantined"
    assert (await store.versions.get(V1)).state == "rejected"
    assert await states(store, "c0") == ["pending"]


async def test_runs_are_listed_newest_first(store: Store, claimed: Claimed) -> None:
    for i in range(3):
        run = await claimed("u", start=i)
        await store.runs.fail(run, reason="x", max_attempts=1, now=3050.0)
    assert [run.number for run in await store.runs.list()] == [3, 2, 1]
    assert [run.number for run in await store.runs.list(2)] == [3, 2]
    with pytest.raises(UnknownRunError):
        await store.runs.get(4)


async def test_a_run_given_back_is_taken_over_without_a_failure(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    assert await store.runs.lease_held()
    await store.runs.release(run)
    assert not await store.runs.lease_held()
    with pytest.raises(FencedError):
        await commit(store, run)
    with pytest.raises(FencedError):
        await store.runs.release(run)
    taken = await store.runs.take_over(now=3050.0)
    assert taken is not None
    assert await store.runs.fail(taken, reason="x", max_attempts=2, now=3060.0) == "claimed"


@pytest.mark.parametrize("step", ["run_claim", "run_take_over"])
async def test_a_learner_learns_its_own_fence_and_no_later_one(
    store: Store, voted: Voted, claimed: Claimed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its process stands still past its lease as the reply arrives; another takes over."""
    if step == "run_take_over":
        await claimed("u")
        await let_the_lease_run_out(store)
    promise = store._client.promise

    async def slow(name: str, *words: Any, **options: Any) -> Any:
        reply = await promise(name, *words, **options)
        if name == step:
            monkeypatch.undo()
            await let_the_lease_run_out(store)
            assert await store.runs.take_over(now=3050.0) is not None
        return reply

    monkeypatch.setattr(store._client, "promise", slow)
    if step == "run_claim":
        slept = await claimed("u")
    else:
        slept = await store.runs.take_over(now=3040.0)
    assert slept.fence == (await store.runs.get(1)).fence - 1
    for write in (commit(store, slept), store.runs.renew(slept), store.runs.release(slept)):
        with pytest.raises(FencedError):
            await write


@pytest.mark.parametrize("change", [{"batch_hash": "0" * 40}, {"parent": V2}])
async def test_a_redis_that_forgot_a_run_takes_no_version_of_it(
    store: Store, claimed: Claimed, change: dict[str, str]
) -> None:
    """The same number and fence were given out again, for another batch or another parent."""
    run = await claimed("u")
    with pytest.raises(FencedError):
        await commit(store, replace(run, **change))
    assert (await store.runs.get(1)).state == "claimed"
    await commit(store, run)


async def test_a_fenced_learner_cannot_even_repeat_its_commit(
    store: Store, claimed: Claimed
) -> None:
    run = await claimed("u")
    await commit(store, run)
    await let_the_lease_run_out(store)
    await store.runs.take_over(now=3150.0)
    with pytest.raises(FencedError):
        await commit(store, run)


async def test_only_learners_that_fell_silent_count_as_dead(store: Store, claimed: Claimed) -> None:
    run = await claimed("u")
    await store.runs.release(run)
    run = await store.runs.take_over(now=3050.0)
    await store.runs.fail(run, reason="x", max_attempts=3, now=3060.0)
    run = await store.runs.take_over(now=3070.0)
    assert (run.attempts, run.deaths) == (3, 0)
    await let_the_lease_run_out(store)
    run = await store.runs.take_over(now=3080.0)
    assert (run.attempts, run.deaths) == (4, 1)
