"""The vote store against a plain model of it, under random interleavings of all that happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from feedback.errors import (
    DifferentPromptsError,
    FencedError,
    InvalidVoteError,
    UnknownCompletionError,
)
from feedback.rewards import reward
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.types import Audit, Completion, FrozenVote, Person, Run, StaleVote, Vote
from models.types import Message, Sampling
from models.versions import Activate, Rollback
from tests.support.store.vote_model import Expected, Model

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

ANN, BOB = Person("k1", "ann"), Person("k1", "bob")
OTHER = {ANN: BOB, BOB: ANN}
MADE_BY = ("base", "v000900-0123456789ab")
PROMPTS = ("Hi", "Hello")
VOTES = (
    Vote(thumb="up"),
    Vote(thumb="down"),
    Vote(thumb="down", comment="no"),
    Vote(rating=2.5),
    Vote(rating=4),
    Vote(comment="hm"),
)
MOST = 8
"""Completions at a time."""

ONE = st.integers(0, 2 * MOST - 1)
"""Picks a completion."""


class VoteStore(RuleBasedStateMachine):
    """Does the same to the store and to the model, and compares them after each step.

    ``run`` is the open run as its present learner holds it, ``fenced`` are the hands of learners
    that were taken for dead; ``learner`` tells whether anyone is at work on it.
    """

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.clock = 1000.0
        self.runner = asyncio.Runner()
        self.store = Store.connect(redis_url, FeedbackSettings())
        self.raw_redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self.raw_redis.flushall()
        self.model = Model()
        self.recorded = 0
        self.run: Run | None = None
        self.learner = False
        self.failures = 0
        self.fenced: list[Run] = []
        self.versions: dict[str, int] = {}
        self.parents: dict[str, str] = {}
        self.live = "base"

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        self.clock += 1
        return self.runner.run(call)

    def refused(self, error: type[Exception], call: Coroutine[Any, Any, Any]) -> None:
        with pytest.raises(error):
            self.do(call)

    def teardown(self) -> None:
        self.raw_redis.close()
        self.do(self.store.close())
        self.runner.close()

    def pick(self, number: int) -> tuple[str, Expected]:
        """Return a completion: for odd numbers one that a run has to do with, if there is any."""
        votes = self.model.votes
        names = sorted(name for name, vote in votes.items() if number % 2 and vote.run is not None)
        names = names or sorted(votes)
        name = names[number // 2 % len(names)]
        return name, votes[name]

    # People

    @initialize()
    def some(self) -> None:
        for i in range(5):
            self.record(ANN if i < 4 else BOB, PROMPTS[i == 3], MADE_BY[i % 2])

    @precondition(lambda self: len(self.model.votes) < MOST)
    @rule(
        person=st.sampled_from([ANN, BOB]),
        prompt=st.sampled_from(PROMPTS),
        made_by=st.sampled_from(MADE_BY),
    )
    def record(self, person: Person, prompt: str, made_by: str) -> None:
        name = f"c{self.recorded:04}"
        self.recorded += 1
        completion = _completion(name, person, prompt, made_by, self.clock)
        self.do(self.store.completions.record(completion))
        self.model.votes[name] = Expected(person, made_by, prompt)

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE, vote=st.sampled_from(VOTES))
    def put(self, number: int, vote: Vote) -> None:
        name, expected = self.pick(number)
        now, score = self.clock, reward(vote)
        if not expected.alive:
            self.refused(
                UnknownCompletionError,
                self.store.votes.put(name, expected.person, vote, score, now=now),
            )
            return
        found = self.do(self.store.votes.put(name, expected.person, vote, score, now=now))
        self.model.put(name, vote, now)
        assert (found.vote, found.revision, found.state) == (
            vote,
            expected.revision,
            expected.state,
        )

    @precondition(lambda self: any(vote.alive for vote in self.model.votes.values()))
    @rule(number=ONE, votes=st.lists(st.sampled_from(VOTES), min_size=2, max_size=4))
    def race(self, number: int, votes: list[Vote]) -> None:
        alive = sorted(name for name, vote in self.model.votes.items() if vote.alive)
        name = alive[number % len(alive)]
        person, now = self.model.votes[name].person, self.clock

        async def all_at_once() -> list[Any]:
            put = self.store.votes.put
            return await asyncio.gather(
                *(put(name, person, vote, reward(vote), now=now) for vote in votes),
                put(name, OTHER[person], votes[0], reward(votes[0]), now=now),
                return_exceptions=True,
            )

        *found, stranger = self.do(all_at_once())
        assert isinstance(stranger, UnknownCompletionError)
        # The revisions tell in which order the votes were accepted: one of them stands, the last.
        for each in sorted(found, key=lambda each: each.revision):
            self.model.put(name, each.vote, now)
            assert self.model.votes[name].revision == each.revision

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE)
    def withdraw(self, number: int) -> None:
        name, expected = self.pick(number)
        call = self.store.votes.withdraw(name, expected.person, now=self.clock)
        if expected.vote is None:
            self.refused(UnknownCompletionError, call)
            return
        self.do(call)
        self.model.withdraw(name)

    @precondition(lambda self: self.model.votes)
    @rule(first=ONE, second=ONE, comment=st.sampled_from([None, "so"]))
    def compare(self, first: int, second: int, comment: str | None) -> None:
        (chosen, one), (rejected, other) = self.pick(first), self.pick(second)
        now = self.clock
        call = self.store.votes.compare(chosen, rejected, one.person, comment, now=now)
        if chosen == rejected:
            self.refused(InvalidVoteError, call)
        elif not (one.alive and other.alive and one.person == other.person):
            self.refused(UnknownCompletionError, call)
        elif one.prompt != other.prompt:
            self.refused(DifferentPromptsError, call)
        else:
            pair = self.do(call)
            self.model.compare(chosen, rejected, comment, now)
            assert pair.whole
            assert (pair.chosen.revision, pair.rejected.revision) == (one.revision, other.revision)

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE)
    def withdraw_comparison(self, number: int) -> None:
        name, expected = self.pick(number)
        call = self.store.votes.withdraw_comparison(name, expected.person, now=self.clock)
        if not self.model.may_withdraw_comparison(name):
            self.refused(UnknownCompletionError, call)
            return
        self.do(call)
        self.model.withdraw_comparison(name)

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE)
    def delete(self, number: int) -> None:
        name, expected = self.pick(number)
        delete = self.store.completions.delete
        self.refused(UnknownCompletionError, delete(name, OTHER[expected.person]))
        if not expected.alive and expected.event is None:
            self.refused(UnknownCompletionError, delete(name, expected.person))
            return
        self.do(delete(name, expected.person))
        self.model.delete(name)

    # Time

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE)
    def expire(self, number: int) -> None:
        name, _ = self.pick(number)
        self.raw_redis.delete(keys.completion(name))
        self.model.expire(name)

    @precondition(lambda self: self.model.votes)
    @rule(number=ONE)
    def forget(self, number: int) -> None:
        name, expected = self.pick(number)
        if not expected.alive and not expected.queued:
            self.raw_redis.delete(keys.feedback(name))
            self.model.forget(name)

    @rule()
    def sweep(self) -> None:
        expired = self.model.sweep(self.model.queue())
        assert self.do(self.store.votes.expire(MOST, self.clock)) == expired
        assert self.do(self.store.votes.expire(MOST, self.clock)) == 0

    # Learners

    @rule(limit=st.integers(0, 4), newest=st.booleans())
    def look(self, limit: int, newest: bool) -> None:
        queue = self.model.queue()[:: -1 if newest else 1][:limit]
        self.model.sweep(queue)
        order = "newest" if newest else "oldest"
        found = self.do(self.store.votes.waiting(limit, order=order))
        assert [vote.completion_id for vote in found] == [
            name for name in queue if self.model.votes[name].queued
        ]

    @precondition(lambda self: self.run is None and self.model.queue())
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        self.model.sweep(self.model.queue())
        waiting = self.do(self.store.votes.waiting(MOST, turns=MOST))
        some = st.lists(st.sampled_from(waiting), unique=True) if waiting else st.just([])
        chosen = data.draw(st.just(waiting) | some)
        votes = [FrozenVote(vote.completion_id, vote.revision, vote.score) for vote in chosen]
        outdated = [FrozenVote(vote.completion_id, vote.revision + 1, 1.0) for vote in chosen[:1]]
        call = self.store.runs.claim(
            [*outdated, *votes], parent=self.live, min_votes=1, now=self.clock
        )
        self.run = self.do(call)
        assert (self.run is None) == (not votes)
        if self.run is not None:
            assert self.run.votes == tuple(votes)
            self.learner, self.failures = True, 0
            self.model.claim([vote.completion_id for vote in votes], self.run.number)

    @precondition(lambda self: self.model.queue())
    @rule(number=ONE)
    def discard(self, number: int) -> None:
        queue = self.model.queue()
        name = queue[number % len(queue)]
        revision = self.model.votes[name].scored
        votes = [StaleVote(name, revision, "too old"), StaleVote(name, revision + 1, "never")]
        assert self.do(self.store.votes.discard(votes)) == 1
        self.model.discard(name)

    @precondition(lambda self: self.run is not None)
    @rule()
    def crash(self) -> None:
        """Let another learner take the run over: of one that died, failed or gave it back."""
        assert self.run is not None
        if self.learner:
            assert self.do(self.store.runs.take_over()) is None
            self.raw_redis.delete(keys.LEASE)
        self.fenced = [*self.fenced[-2:], self.run]
        self.run = self.do(self.store.runs.take_over())
        assert self.run is not None
        assert self.run.votes == self.fenced[-1].votes
        self.learner = True

    @precondition(lambda self: self.fenced)
    @rule(number=st.integers(0, 2), what=st.integers(0, 4))
    def write_late(self, number: int, what: int) -> None:
        """Let a learner that was taken for dead wake up and write."""
        run, runs = self.fenced[number % len(self.fenced)], self.store.runs
        calls = (
            lambda: runs.renew(run),
            lambda: self._commit(run),
            lambda: runs.finish(run, "rejected", figures={}, reason="late", now=self.clock),
            lambda: runs.fail(run, reason="late", max_attempts=1, now=self.clock),
            lambda: runs.release(run),
        )
        self.refused(FencedError, calls[what]())

    def _commit(self, run: Run) -> Coroutine[Any, Any, None]:
        return self.store.runs.commit(
            run, version=_version(run), manifest={}, report={}, now=self.clock
        )

    @rule(data=st.data(), steps=st.integers(1, 4))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """Take the next steps of an update; chance alone would seldom lead to its end."""
        for _ in range(steps):
            if self.run is None and self.model.queue():
                self.claim(data)
            elif self.run is not None and not self.learner:
                self.crash()
            elif self.run is not None and self.run.state == "claimed":
                self.commit()
            elif self.run is not None:
                self.judge(data.draw(st.sampled_from(["approved", "rejected"])))

    @precondition(lambda self: self.learner and self.run and self.run.state == "claimed")
    @rule()
    def commit(self) -> None:
        assert self.run is not None
        self.do(self._commit(self.run))
        self.do(self._commit(self.run))
        self.model.commit(self.run.number, _version(self.run))
        self.run = self.do(self.store.runs.open())
        self.failures = 0

    @precondition(lambda self: self.learner and self.run and self.run.state == "committed")
    @rule(verdict=st.sampled_from(["approved", "approved", "rejected"]))
    def judge(self, verdict: Any) -> None:
        run, self.run, self.learner = self.run, None, False
        assert run is not None
        undone = run.parent != "base" and run.parent not in self.versions
        expected = "rejected" if undone else verdict
        for _ in range(2):
            finish = self.store.runs.finish(run, verdict, figures={}, reason="why", now=self.clock)
            assert self.do(finish) == expected
        if expected == "rejected":
            self.model.give_back(run.number, most=3)
        else:
            self.versions[_version(run)] = run.number
            self.parents[_version(run)] = run.parent
        self.fenced = []

    @precondition(lambda self: self.learner)
    @rule()
    def fail(self) -> None:
        run = self.run
        assert run is not None
        state = self.do(self.store.runs.fail(run, reason="NaN", max_attempts=2, now=self.clock))
        self.learner = False
        self.failures += 1
        assert state == ("quarantined" if self.failures == 2 else run.state)
        if state == "quarantined":
            self.run = None
            self.model.quarantine(run.number)
            self.model.give_back(run.number)

    @precondition(lambda self: self.learner)
    @rule()
    def release(self) -> None:
        self.do(self.store.runs.release(self.run))
        self.learner = False

    @precondition(lambda self: bool(set(self.versions) - {self.live}))
    @rule()
    def promote(self) -> None:
        newest = max(self.versions)
        if newest != self.live:
            self.do(self.store.rollout.do(Activate(newest), Audit("op", "", self.clock)))
            self.live = newest

    @precondition(lambda self: self.live != "base")
    @rule()
    def roll_back(self) -> None:
        call = self.store.rollout.do(Rollback("base"), Audit("op", "worse", self.clock))
        self.do(call)
        while self.live != "base":  # with all that the live version is built on
            if self.live in self.versions:
                self.model.give_back(self.versions.pop(self.live))
            self.live = self.parents[self.live]

    # What must hold after each step

    @invariant()
    def every_vote_reads_as_expected(self) -> None:
        async def read() -> list[Any]:
            get = self.store.votes.get
            gone = [get(name, ANN) for name in sorted(self.model.deleted)[-2:]]
            strangers = [get(name, OTHER[vote.person]) for name, vote in self.model.votes.items()]
            own = [get(name, vote.person) for name, vote in self.model.votes.items()]
            return [
                await asyncio.gather(*calls, return_exceptions=True)
                for calls in (own, strangers + gone)
            ]

        own, unknown = self.runner.run(read())
        assert all(isinstance(each, UnknownCompletionError) for each in unknown)
        for expected, found in zip(self.model.votes.values(), own, strict=True):
            if expected.vote is None:
                assert isinstance(found, UnknownCompletionError)
                continue
            assert (found.vote, found.score) == (expected.vote, expected.score)
            assert (found.revision, found.state) == (expected.revision, expected.shown)
            assert found.version == expected.version
            assert bool(found.reason) == (expected.shown in {"discarded", "expired"})

    @invariant()
    def the_queues_hold_what_waits(self) -> None:
        queue = self.model.queue()
        ready = self.raw_redis.zrange(keys.READY, 0, -1, withscores=True)
        turns = self.raw_redis.zrange(keys.TURNS, 0, -1)
        expiring = self.raw_redis.zrange(keys.EXPIRING, 0, -1)
        waiting = self.raw_redis.hgetall(keys.WAITING)
        assert ready == [(name, self.model.votes[name].voted_at) for name in queue]
        assert sorted(turns) == sorted(queue)
        # What was given back after its completion expired has no time to expire at.
        assert {name for name in queue if self.model.votes[name].alive} <= set(expiring)
        assert set(expiring) <= set(queue)
        assert waiting == self.model.waiting_by_user()

    @invariant()
    def the_counts_are_right(self) -> None:
        expected = self.model.totals()
        found = self.runner.run(self.store.votes.stats())
        assert found == {name: expected[name] for name in found}
        for version in MADE_BY:
            counted = self.raw_redis.hgetall(keys.version(version))
            of_version = self.model.of_version(version)
            for thumb in ("up", "down"):
                assert int(counted.get(thumb, 0)) == of_version[thumb]

    @invariant()
    def the_log_ends_with_what_each_vote_is(self) -> None:
        entries = self.raw_redis.xrange(keys.FEEDBACK_LOG)
        last = {event["id"]: event for _, event in entries}
        for name, vote in self.model.votes.items():
            event = last.get(name)
            assert (event and (event["event"], event["revision"])) == vote.event
            if event and event["event"] == "put":
                assert event["score"] == ("" if vote.score is None else repr(vote.score))
        assert all(last[name]["event"] == "deleted" for name in self.model.deleted)

    @invariant()
    def nothing_is_learned_twice(self) -> None:
        learned = [
            (vote.completion_id, vote.revision)
            for run in self.runner.run(self.store.runs.list(1000))
            if run.state == "approved" and run.version in self.versions
            for vote in run.votes
        ]
        assert len(learned) == len(set(learned))


def _version(run: Run) -> str:
    return f"v{run.number:06d}-0123456789ab"


def _completion(
    name: str, person: Person, prompt: str, made_by: str, created_at: float
) -> Completion:
    return Completion(
        id=name,
        person=person,
        conversation="",
        version=made_by,
        messages=(Message("user", prompt),),
        text="",
        prompt_ids=(),
        response_ids=(),
        behaviour_logprobs=(),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=created_at,
    )


def _check(redis_url: str, examples: int, steps: int, phases: tuple[Phase, ...]) -> None:
    run_state_machine_as_test(
        lambda: VoteStore(redis_url),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            print_blob=True,
        ),
    )


def test_the_vote_store_agrees_with_its_model(redis_url: str) -> None:
    # A failure is shown as it was found: to shrink it takes minutes, every step being on disk.
    _check(redis_url, 40, 40, (Phase.reuse, Phase.generate))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_vote_store_agrees_with_its_model_for_longer(redis_url: str) -> None:
    _check(redis_url, 400, 100, tuple(Phase))
