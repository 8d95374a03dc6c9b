"""Random commands on the pure rules: what must hold of every rollout that they can lead to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from models.errors import RolloutRefusedError
from models.versions import (
    Activate,
    Kill,
    RecordGateVerdict,
    Rollback,
    Rollout,
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
    from models.versions import Command

MOST = 6
"""Versions at a time."""

WALKS = (Rollback(),)
"""What has an effect each time that it is given again."""


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.world = Snapshot(Rollout("base", 0))
        self.told = Told()
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def new(self, parent: str, run: int | None) -> str:
        version = f"v{len(self.world.versions) + 1:06d}-0123456789ab"
        facts = {version: VersionFacts("candidate", parent, run)}
        self.world = replace(self.world, versions={**self.world.versions, **facts})
        self._tell("import" if run is None else "commit", "learner", parent, version, {})
        return version

    def _tell(self, action: str, who: str, old: str, new: str, figures: object) -> None:
        self.now += 1
        entry = SimpleNamespace(
            at=self.now, who=who, action=action, old=old, new=new, figures=figures
        )
        self.told.read(entry)

    def do(self, command: Command, who: str = "op") -> Transition | None:
        before = self.world
        change = plan(before, command, who=who, now=self.now + 1)
        if change is None:
            return None
        self.world = applied(before, change)
        self._tell(change.action, who, change.old, change.new, change.figures)
        same = (before.rollout, before.history) == (change.rollout, change.history)
        assert not same or not change.pause or before.paused
        assert change.rollout.generation == before.rollout.generation + (not same)
        assert not same or change.moves or change.pause
        assert command in WALKS or self.refuses(command, who)
        return change

    def refuses(self, command: Command, who: str) -> bool:
        """Whether a command would change nothing, or not be allowed."""
        try:
            return plan(self.world, command, who=who, now=self.now) is None
        except RolloutRefusedError:
            return True

    # What happens

    @precondition(lambda self: len(self.world.versions) < MOST)
    @rule(passes=st.sampled_from([True, True, True, False]), promoted=st.booleans())
    def learn(self, passes: bool, promoted: bool) -> None:
        """An update: a version of what is live, the gate's verdict, and the promotion."""
        live = self.world.rollout.live
        version = self.new(live, run=len(self.world.versions) + 1)
        state = "approved" if passes else "rejected"
        facts = replace(self.world.versions[version], state=state)
        self.world = replace(self.world, versions={**self.world.versions, version: facts})
        self._tell("approve" if passes else "reject", "gate", live, version, {})
        (self.passed if passes else self.failed).add(version)
        if passes and promoted and not (self.world.rollout.canary or self.world.paused):
            self.do(Activate(version, live, "approved"), who="learner")

    @precondition(lambda self: len(self.world.versions) < MOST)
    @rule(data=st.data(), judged=st.sampled_from(["approved", "approved", "rejected", None]))
    def bring(self, data: st.DataObject, judged: str | None) -> None:
        """An import, on anything, perhaps on what nobody knows here."""
        parents = [*self.world.versions, "base", "v777777-0123456789ab"]
        version = self.new(data.draw(st.sampled_from(parents)), run=None)
        if judged is not None:
            self.do(RecordGateVerdict(version, judged), who="gate")  # type: ignore[arg-type]
            (self.passed if judged == "approved" else self.failed).add(version)

    @rule(data=st.data(), who=WHO)
    def command(self, data: st.DataObject, who: str) -> None:
        command = data.draw(commands(sorted(self.world.versions)))
        before = self.world
        try:
            change = self.do(command, who)
        except RolloutRefusedError:
            assert self.world == before
            return
        if isinstance(command, RecordGateVerdict) and change is not None:
            (self.passed if command.state == "approved" else self.failed).add(command.version)
        if isinstance(command, Rollback) and change is not None:
            self._is_whole(before, change)

    @precondition(lambda self: self.world.rollout.canary is None and self.approved())
    @rule(data=st.data())
    def try_out(self, data: st.DataObject) -> None:
        self.do(StartCanary(data.draw(st.sampled_from(self.approved())), 0.1))

    def approved(self) -> list[str]:
        return [name for name, facts in self.world.versions.items() if facts.state == "approved"]

    @precondition(lambda self: self.world.rollout.live != "base")
    @rule(who=WHO, to_base=st.booleans())
    def take_back(self, who: str, to_base: bool) -> None:
        before = self.world
        change = self.do(Rollback("base" if to_base else None), who)
        assert change is not None
        self._is_whole(before, change)

    def _is_whole(self, before: Snapshot, change: Transition) -> None:
        """Nothing that was built since the target serves, or is remembered as good."""
        old, target = before.rollout.live, change.new
        kept = set(before.lineage(target))
        undone = [each for each in before.lineage(old) if each not in kept]
        states = {each: self.world.versions[each].state for each in undone}
        assert not {"live", "retired", "canary"} & set(states.values())
        assert not [
            each
            for each, state in states.items()
            if state == "approved" and self.world.versions[each].stopped
        ]
        assert not set(undone) & {*self.world.history, self.world.rollout.confirmed}
        canary = self.world.rollout.canary
        assert canary is None or not set(undone) & set(self.world.lineage(canary))
        returned = {move.returns for move in change.moves} - {None}
        taken = {move.version for move in change.moves if move.new == "rolled_back"}
        assert returned == {self.world.versions[each].run for each in taken} - {None}
        assert list(taken) == [] or taken == set(change.figures["rolled_back"])
        if old != "base":
            assert self.world.versions[old].state == ("rolled_back" if old in undone else "retired")

    @precondition(lambda self: self.world.paused)
    @rule()
    def resume(self) -> None:
        self.world = replace(self.world, paused=False)

    # What must hold

    @invariant()
    def one_is_live(self) -> None:
        rollout, versions = self.world.rollout, self.world.versions
        by_state = Counter(facts.state for facts in versions.values())
        assert by_state["live"] == (rollout.live != "base")
        assert rollout.live == "base" or versions[rollout.live].state == "live"

    @invariant()
    def at_most_one_is_the_canary(self) -> None:
        rollout, versions = self.world.rollout, self.world.versions
        canaries = [name for name, facts in versions.items() if facts.state == "canary"]
        assert canaries == ([rollout.canary] if rollout.canary else [])
        assert (0 < rollout.fraction <= 1) if rollout.canary else rollout.fraction == 0
        assert (rollout.canary_since is None) == (rollout.canary is None)

    @invariant()
    def only_what_passed_its_gate_is_served(self) -> None:
        served = {self.world.rollout.live, self.world.rollout.canary} - {None, "base"}
        assert served <= self.passed
        assert not served & self.failed
        assert set(self.world.history) <= self.passed | {"base"}
        for each in self.failed:
            assert self.world.versions[each].state == "rejected"

    @invariant()
    def the_history_has_each_version_once(self) -> None:
        history = self.world.history
        assert len({*history, self.world.rollout.live}) == len(history) + 1

    @invariant()
    def the_confirmed_version_is_one_that_serves_or_served(self) -> None:
        confirmed = self.world.rollout.confirmed or "base"
        assert confirmed == "base" or self.world.versions[confirmed].state in {"live", "retired"}

    @invariant()
    def the_base_is_always_possible(self) -> None:
        for command in (Activate("base"), Kill()):
            change = plan(self.world, command, who="op", now=self.now)
            after = applied(self.world, change) if change else self.world
            assert after.rollout.live == after.rollout.confirmed == "base"
        assert after.rollout.canary is None
        assert after.paused
        assert after.rollout.previous is None

    @invariant()
    def rollbacks_walk_back_to_the_base(self) -> None:
        world, visited = self.world, []
        while world.rollout.previous is not None:
            visited.append(world.rollout.previous)
            change = plan(world, Rollback(), who="op", now=self.now)
            assert change is not None
            world = applied(world, change)
            assert world.rollout.live == visited[-1]
        assert world.rollout.live == "base"
        assert len(visited) == len(set(visited))
        assert self.world.rollout.live not in set(visited) - {"base"}

    @invariant()
    def the_audit_tells_it_all(self) -> None:
        rollout = self.world.rollout
        for name in ("live", "canary", "fraction", "confirmed"):
            assert getattr(self.told, name) == getattr(rollout, name)
        for name in ("live_since", "canary_since", "confirmed_since"):
            assert getattr(self.told, name) == getattr(rollout, name)
        states = {name: facts.state for name, facts in self.world.versions.items()}
        assert self.told.states == states


def _check(examples: int, steps: int, phases: tuple[Phase, ...]) -> None:
    limits = settings(
        max_examples=examples, stateful_step_count=steps, phases=phases, deadline=None
    )
    run_state_machine_as_test(Life, settings=limits)


def test_the_rules_hold_whatever_is_commanded() -> None:
    # A failure is shown as it was found: to shrink it takes a minute.
    _check(60, 40, (Phase.reuse, Phase.generate))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_rules_hold_whatever_is_commanded_for_longer() -> None:
    _check(500, 60, tuple(Phase))
