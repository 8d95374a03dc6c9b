"""The rollout in a real Redis against the pure rules: commands, races, updates, and their votes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from feedback.errors import RolloutConflictError, UnknownVersionError
from feedback.settings import FeedbackSettings
from feedback.store import Store
from feedback.types import Audit, Completion, FrozenVote, Person, Rollout, Vote
from models.errors import RolloutRefusedError
from models.types import Message, Sampling
from models.versions import (
    Activate,
    RecordGateVerdict,
    Rollback,
    Snapshot,
    StartCanary,
    Transition,
    VersionFacts,
    plan,
)
from tests.support.rollout.audit import Told
from tests.support.rollout.commands import WHO, commands
from tests.support.rollout.record import applied

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from models.versions import Command

MOST = 6
"""Versions at a time."""

ANN = Person("k1", "ann")
REFUSED = (RolloutConflictError, UnknownVersionError)


def given(store: Store, command: Command, who: str, now: float) -> Coroutine[Any, Any, Any]:
    """Return the store's call that gives a command."""
    figures = {"kl": 1.0} if isinstance(command, RecordGateVerdict) else {}
    return store.rollout.do(command, Audit(who, "so", now, figures))


class RolloutInRedis(RuleBasedStateMachine):
    """Does the same to the store and to a snapshot, and compares them after each step.

    ``votes`` are those of each completion: its state, how often it went back to waiting, its run.
    ``frozen`` are the completions of each run's batch.
    """

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.clock = 1000.0
        self.runner = asyncio.Runner()
        self.store = Store.connect(redis_url, FeedbackSettings())
        self.raw_redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self.raw_redis.flushall()
        self.world = Snapshot(Rollout("base", 0))
        self.votes: dict[str, tuple[str, int, int | None]] = {}
        self.frozen: dict[int, set[str]] = {}
        self.commanded = 0

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        self.clock += 1
        return self.runner.run(call)

    def teardown(self) -> None:
        self.raw_redis.close()
        self.do(self.store.close())
        self.runner.close()

    def add(self, version: str, facts: VersionFacts) -> None:
        versions = {**self.world.versions, version: facts}
        self.world = replace(self.world, versions=versions)

    def apply(self, change: Transition | None) -> None:
        """Do to the snapshot and the votes what a change means."""
        if change is None:
            return
        self.commanded += 1
        self.world = applied(self.world, change)
        for move in change.moves:
            for name, (state, returned, run) in self.votes.items():
                if move.returns is not None and (state, run) == ("learned", move.returns):
                    self.votes[name] = self._given_back(returned, most=1)
        for again in change.retakes:
            for name in self.frozen[again.run]:
                state, returned, _ = self.votes[name]
                if state == "pending" and returned > 0:
                    self.votes[name] = ("learned", returned - 1, again.run)

    def _given_back(self, returned: int, *, most: int) -> tuple[str, int, None]:
        again = returned < most
        return ("pending" if again else "discarded", returned + again, None)

    # Versions

    @precondition(lambda self: len(self.world.versions) < MOST and not self.world.paused)
    @rule(fresh=st.integers(0, 2), passes=st.sampled_from([True, True, True, False]))
    def learn(self, fresh: int, passes: bool) -> None:
        """One update from all that waits, and from some more votes."""
        self.runner.run(self._vote(fresh))
        live = self.world.rollout.live
        run = self.runner.run(self._claim(live))
        if run is None:
            assert "pending" not in {state for state, _, _ in self.votes.values()}
            return
        self.frozen[run.number] = {vote.completion_id for vote in run.votes}
        version = f"v{run.number:06d}-0123456789ab"
        verdict = "approved" if passes else "rejected"
        told = {"manifest": {}, "report": {}, "now": self.clock}
        self.do(self.store.runs.commit(run, version=version, **told))
        finish = self.store.runs.finish
        self.do(finish(run, verdict, figures={}, reason=None, now=self.clock))  # type: ignore[arg-type]
        self.add(version, VersionFacts(verdict, live, run.number))  # type: ignore[arg-type]
        for name, (state, returned, _) in list(self.votes.items()):
            if state == "pending" and passes:
                self.votes[name] = ("learned", returned, run.number)
            elif state == "pending":
                self.votes[name] = self._given_back(returned, most=3)

    async def _vote(self, count: int) -> None:
        for _ in range(count):
            name = f"c{len(self.votes):03}"
            await self.store.completions.record(_completion(name))
            await self.store.votes.put(name, ANN, Vote(thumb="up"), 1.0, now=self.clock)
            self.votes[name] = ("pending", 0, None)

    async def _claim(self, live: str) -> Any:
        waiting = await self.store.votes.waiting(100)
        batch = [FrozenVote(vote.completion_id, vote.revision, vote.score) for vote in waiting]
        return await self.store.runs.claim(batch, parent=live, min_votes=1, now=self.clock)

    @precondition(lambda self: len(self.world.versions) < MOST)
    @rule(data=st.data())
    def bring(self, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from([*self.world.versions, "base", "v777777-0123456789ab"]))
        number = self.do(self.store.versions.next_sequence())
        version = f"v{number:06d}-0123456789ab"
        self.do(
            self.store.versions.add(
                version, parent=parent, manifest={}, state="candidate", now=self.clock
            )
        )
        self.add(version, VersionFacts("candidate", parent))

    # Commands

    @rule(data=st.data(), who=WHO)
    def command(self, data: st.DataObject, who: str) -> None:
        self._command(data.draw(commands(sorted(self.world.versions))), who)

    @precondition(lambda self: any(v.state == "approved" for v in self.world.versions.values()))
    @rule(data=st.data(), canary=st.booleans(), who=WHO)
    def serve(self, data: st.DataObject, canary: bool, who: str) -> None:
        approved = [name for name, v in self.world.versions.items() if v.state == "approved"]
        version = data.draw(st.sampled_from(approved))
        self._command(StartCanary(version, 0.1) if canary else Activate(version), who)

    def _command(self, command: Command, who: str) -> None:
        now = self.clock
        change = self._plan(command, who)
        if isinstance(change, RolloutRefusedError):
            refusal = UnknownVersionError if change.because == "unknown" else RolloutConflictError
            with pytest.raises(refusal) as caught:
                self.do(given(self.store, command, who, now))
            assert str(caught.value) == str(change)
            return
        preview = self.do(self.store.rollout.preview(command, who=who, now=now))
        found = self.do(given(self.store, command, who, now))
        assert preview == change
        self.apply(change)
        assert found == self.world.rollout

    @rule(data=st.data(), whos=st.tuples(WHO, WHO), twice=st.booleans())
    def race(self, data: st.DataObject, whos: tuple[str, str], twice: bool) -> None:
        """Two commands at the same moment: as if one had come after the other."""
        now = self.clock
        drawn = data.draw(st.lists(commands(sorted(self.world.versions)), min_size=8, max_size=8))
        # Two that are both allowed tell more than two that are not.
        drawn.sort(key=lambda each: not isinstance(self._plan(each, whos[0]), Transition))
        both = (drawn[0], drawn[0] if twice else drawn[1])

        async def at_once() -> list[Any]:
            calls = [given(self.store, *each, now) for each in zip(both, whos, strict=True)]
            return await asyncio.gather(*calls, return_exceptions=True)

        outcomes = self.do(at_once())
        assert all(isinstance(each, (Rollout, *REFUSED)) for each in outcomes)
        refused = [isinstance(each, REFUSED) for each in outcomes]
        snapshot = self.runner.run(self._read())
        for changes, expected in self._orders(both, whos, now):
            if expected == refused and _after(self.world, changes) == snapshot:
                for change in changes:
                    self.apply(change)
                return
        pytest.fail(f"{both} gave {outcomes}, which neither order gives")

    def _plan(self, command: Command, who: str) -> Transition | RolloutRefusedError | None:
        return _planned(self.world, command, who, self.clock)

    def _orders(
        self, both: tuple[Command, Command], whos: tuple[str, str], now: float
    ) -> list[tuple[list[Transition], list[bool]]]:
        """Return what either order changes, and which of the commands it refuses.

        A rollback that names nothing is about what was live when it was given, so the later of two
        may be refused, or come late enough to see what the first has done.
        """
        live = self.world.rollout.live
        found = []
        for first, second in ((0, 1), (1, 0)):
            late = both[second]
            pinned = replace(late, expected_live=live) if late == Rollback() else late
            for later in (late, pinned):
                world, changes, refused = self.world, [], [False, False]
                for i, command in ((first, both[first]), (second, later)):
                    change = _planned(world, command, whos[i], now)
                    refused[i] = isinstance(change, RolloutRefusedError)
                    if isinstance(change, Transition):
                        changes.append(change)
                        world = applied(world, change)
                found.append((changes, refused))
        return found

    @precondition(lambda self: self.world.paused)
    @rule()
    def resume(self) -> None:
        self.do(self.store.learning.resume("op"))
        self.world = replace(self.world, paused=False)

    # What must hold after each step

    async def _read(self) -> Snapshot:
        return await self.store.rollout.snapshot(*self.world.versions)

    @invariant()
    def the_record_is_as_the_rules_say(self) -> None:
        found = self.runner.run(self._read())
        assert found == self.world
        assert self.runner.run(self.store.rollout.get()) == self.world.rollout
        for name, facts in self.world.versions.items():
            record = self.runner.run(self.store.versions.get(name))
            assert (record.state, record.run) == (facts.state, facts.run)
            assert record.origin == ("imported" if facts.run is None else "learned")
            assert (record.stopped_at is not None) == facts.stopped

    @invariant()
    def the_audit_tells_it_all(self) -> None:
        events = self.runner.run(self.store.rollout.events(1000))
        told = Told()
        for event in reversed(events):
            told.read(event)
        rollout = self.world.rollout
        for name in ("live", "canary", "fraction", "confirmed", "live_since", "canary_since"):
            assert getattr(told, name) == getattr(rollout, name)
        assert told.states == {name: v.state for name, v in self.world.versions.items()}
        asides = {"commit", "import", "resume"}
        commanded = [
            each for each in events if each.action not in asides and not _of_run(each, self.world)
        ]
        assert len(commanded) == self.commanded

    @invariant()
    def votes_wait_again_once(self) -> None:
        async def states() -> dict[str, str]:
            return {name: (await self.store.votes.get(name, ANN)).state for name in self.votes}

        assert self.runner.run(states()) == {name: vote[0] for name, vote in self.votes.items()}

    @invariant()
    def the_oldest_import_waits_for_its_gate(self) -> None:
        waiting = [
            name
            for name, facts in sorted(self.world.versions.items())
            if facts.run is None and facts.state == "candidate"
        ]
        found = self.runner.run(self.store.versions.ungated())
        assert found == (waiting[0] if waiting else None)


def _planned(
    world: Snapshot, command: Command, who: str, now: float
) -> Transition | RolloutRefusedError | None:
    try:
        return plan(world, command, who=who, now=now)
    except RolloutRefusedError as error:
        return error


def _of_run(event: Any, world: Snapshot) -> bool:
    """Whether it is the verdict that ended an update run."""
    return event.action in {"approve", "reject"} and world.versions[event.new].run is not None


def _after(world: Snapshot, changes: list[Transition]) -> Snapshot:
    for change in changes:
        world = applied(world, change)
    return world


def _completion(name: str) -> Completion:
    return Completion(
        id=name,
        person=ANN,
        conversation="",
        version="base",
        messages=(Message("user", "Hi"),),
        text="",
        prompt_ids=(),
        response_ids=(),
        behaviour_logprobs=(),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1.0,
    )


def _check(redis_url: str, examples: int, steps: int, phases: tuple[Phase, ...]) -> None:
    run_state_machine_as_test(
        lambda: RolloutInRedis(redis_url),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            print_blob=True,
        ),
    )


def test_the_rollout_agrees_with_its_rules(redis_url: str) -> None:
    # A failure is shown as it was found: to shrink it takes minutes, every step being on disk.
    _check(redis_url, 15, 30, (Phase.reuse, Phase.generate))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_rollout_agrees_with_its_rules_for_longer(redis_url: str) -> None:
    _check(redis_url, 200, 60, tuple(Phase))
