"""The rules one by one: what each command changes, and what it is refused with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models.errors import RolloutRefusedError
from models.versions import (
    Activate,
    Confirm,
    Kill,
    PromoteCanary,
    RecordGateVerdict,
    RejectCanary,
    Rollback,
    Rollout,
    Snapshot,
    StartCanary,
    StateChange,
    StopCanary,
    VersionFacts,
    plan,
)
from models.versions.planning import HISTORY

if TYPE_CHECKING:
    from models.versions import Command, Transition, VersionState

V1, V2, V3, V4 = (f"v00000{i}-0123456789ab" for i in (1, 2, 3, 4))
NOW = 200.0


def world(
    live: str = "base",
    history: tuple[str, ...] = (),
    canary: str | None = None,
    confirmed: str | None = "base",
    *,
    paused: bool = False,
    **versions: tuple[VersionState, str],
) -> Snapshot:
    """Return a snapshot; ``v1=("live", "base")`` is a version's state and parent, its run is 1."""
    names = {f"v{i}": version for i, version in enumerate((V1, V2, V3, V4), start=1)}
    facts = {
        names[name]: VersionFacts(state, names.get(parent, parent), run=int(name[1:]))
        for name, (state, parent) in versions.items()
    }
    previous = history[-1] if history else None if live == "base" else "base"
    fraction, since = (0.1, 50.0) if canary else (0.0, None)
    rollout = Rollout(live, 7, previous, confirmed, canary, fraction, 10.0, since, 5.0)
    return Snapshot(rollout, history, facts, paused)


CHAIN = world(V3, ("base", V1, V2), v1=("retired", "base"), v2=("retired", "v1"), v3=("live", "v2"))
"""Three versions that were learned one from the other; none but the base is confirmed."""

WITH_CANARY = world(V1, ("base",), V2, V1, v1=("live", "base"), v2=("canary", "v1"))


def planned(snapshot: Snapshot, command: Command, who: str = "op") -> Transition:
    change = plan(snapshot, command, who=who, now=NOW)
    assert change is not None
    return change


def refused(snapshot: Snapshot, command: Command, who: str = "op") -> tuple[str, str]:
    with pytest.raises(RolloutRefusedError) as caught:
        plan(snapshot, command, who=who, now=NOW)
    return caught.value.because, str(caught.value)


def test_the_same_weights_under_another_name_are_known_as_the_live_version_was() -> None:
    confirmed = replace(CHAIN, rollout=replace(CHAIN.rollout, confirmed=V3))
    for snapshot, known in ((CHAIN, "base"), (confirmed, V4)):
        facts = {**snapshot.versions, V4: VersionFacts("approved", V3, run=4)}
        with_fourth = replace(snapshot, versions=facts)
        change = planned(with_fourth, Activate(V4, same_weights=True), who="learner")
        assert (change.rollout.live, change.rollout.confirmed) == (V4, known)
        assert change.history == ("base", V1, V2)
        assert change.rollout.previous == V2
        other = planned(with_fourth, Activate(V4), who="learner")
        assert (other.rollout.previous, other.rollout.confirmed) == (V3, snapshot.rollout.confirmed)


def test_a_rollback_takes_back_all_that_the_live_version_is_built_on_since() -> None:
    change = planned(CHAIN, Rollback(V1))
    assert set(change.moves) == {
        StateChange(V1, "retired", "live"),
        StateChange(V2, "retired", "rolled_back", returns=2),
        StateChange(V3, "live", "rolled_back", returns=3),
    }
    assert change.figures == {"rolled_back": [V2, V3]}
    assert change.rollout == Rollout(V1, 8, "base", V1, live_since=NOW, confirmed_since=NOW)
    assert (change.action, change.old, change.new) == ("rollback", V3, V1)


def test_a_rollback_to_another_branch_spares_what_both_are_built_on() -> None:
    branches = world(
        V3, ("base", V1, V2), v1=("retired", "base"), v2=("retired", "v1"), v3=("live", "v1")
    )
    assert planned(branches, Rollback()).figures == {"rolled_back": [V3]}
    assert planned(branches, Rollback("base")).figures == {"rolled_back": [V1, V3]}


def test_going_on_to_what_is_built_on_the_live_version_takes_nothing_back() -> None:
    undone = world(V1, ("base", V2), v1=("live", "base"), v2=("retired", "v1"))
    change = planned(undone, Rollback())
    assert set(change.moves) == {
        StateChange(V1, "live", "retired"),
        StateChange(V2, "retired", "live"),
    }
    assert change.figures == {"rolled_back": []}


def test_a_canary_that_is_built_on_what_is_taken_back_goes_with_it() -> None:
    change = planned(WITH_CANARY, Rollback())
    assert change.figures == {"rolled_back": [V1, V2]}
    assert (change.rollout.canary, change.rollout.fraction) == (None, 0.0)
    beside = world(V1, ("base",), V2, V1, v1=("live", "base"), v2=("canary", "base"))
    change = planned(beside, Rollback())
    assert change.figures == {"rolled_back": [V1]}
    assert (change.rollout.canary, change.rollout.canary_since) == (V2, 50.0)


def test_what_was_never_served_is_not_rolled_back() -> None:
    imported = world(V2, ("base",), v1=("approved", "base"), v2=("live", "v1"))
    assert planned(imported, Rollback()).figures == {"rolled_back": [V2]}


def test_going_live_twice_leaves_one_step_to_walk_back_on() -> None:
    again = planned(CHAIN, Activate(V1))
    assert again.history == ("base", V2, V3)


def test_a_walk_ends_at_the_base() -> None:
    snapshot = world(V2, (V1, "base"), v1=("retired", "base"), v2=("live", "base"))
    change = planned(snapshot, Rollback())
    assert (change.new, change.history, change.rollout.previous) == ("base", (), None)
    undone = world("base", (V1,), v1=("retired", "base"))
    assert planned(undone, Rollback()).new == V1


def test_the_history_is_bounded_and_below_it_is_the_base() -> None:
    long = tuple(f"v{i:06d}-0123456789ab" for i in range(100, 100 + HISTORY))
    change = planned(replace(CHAIN, history=long), Activate(V1))
    assert len(change.history) == HISTORY
    assert change.history[-2:] == (long[-1], V3)
    assert planned(world(V1, (), v1=("live", "base")), Rollback()).new == "base"


@pytest.mark.parametrize(("who", "confirmed"), [("op", V4), ("judge", V4), ("learner", "base")])
def test_all_but_the_learner_confirm_what_they_activate(who: str, confirmed: str) -> None:
    fresh = world(V1, ("base",), v1=("live", "base"), v4=("approved", "v1"))
    change = planned(fresh, Activate(V4), who)
    assert change.rollout.confirmed == confirmed
    assert change.rollout.confirmed_since == (NOW if confirmed == V4 else 5.0)


def test_a_person_who_activates_the_live_version_confirms_it() -> None:
    change = planned(CHAIN, Activate(V3))
    assert (change.moves, change.rollout.confirmed, change.rollout.live_since) == ((), V3, 10.0)
    assert plan(CHAIN, Activate(V3), who="learner", now=NOW) is None


def test_the_learner_leaves_a_running_canary_alone() -> None:
    snapshot = world(
        V1, ("base",), V2, v1=("live", "base"), v2=("canary", "v1"), v3=("approved", "v1")
    )
    for command in (Activate(V3), StartCanary(V3, 0.1)):
        because, message = refused(snapshot, command, "learner")
        assert because == "canary"
        assert V2 in message
    assert planned(snapshot, Activate(V3)).rollout.canary == V2
    assert planned(snapshot, Activate(V2), "learner").rollout.canary is None


@pytest.mark.parametrize("command", [Activate(V1, "base", "approved"), StartCanary(V1, 0.1)])
def test_the_learner_serves_nothing_while_it_is_paused(command: Command) -> None:
    paused = world(paused=True, v1=("approved", "base"))
    with pytest.raises(RolloutRefusedError, match="paused"):
        plan(paused, command, who="learner", now=NOW)
    assert plan(paused, command, who="op", now=NOW) is not None


def test_a_stopped_canary_that_served_before_is_rolled_back_with_its_chain() -> None:
    again = planned(CHAIN, StartCanary(V2, 0.1))
    versions = {**CHAIN.versions, V2: replace(CHAIN.versions[V2], state="canary")}
    stopped = planned(replace(CHAIN, rollout=again.rollout, versions=versions), StopCanary())
    versions[V2] = replace(versions[V2], state="approved", stopped=True)
    world_now = replace(CHAIN, rollout=stopped.rollout, versions=versions)
    change = planned(world_now, Rollback(V1))
    assert change.figures == {"rolled_back": [V2, V3]}
    assert {move.returns for move in change.moves} == {None, 2, 3}


def test_the_learner_leaves_alone_what_was_stopped() -> None:
    versions = {V1: VersionFacts("approved", "base", 1, stopped=True)}
    snapshot = replace(world(), versions=versions)
    for command in (Activate(V1), StartCanary(V1, 0.1)):
        because, message = refused(snapshot, command, "learner")
        assert because == "state"
        assert f"thumbloop versions activate {V1}" in message
        assert planned(snapshot, command).new == V1


@pytest.mark.parametrize("state", ["retired", "rolled_back"])
def test_people_may_try_again_what_served_before(state: VersionState) -> None:
    snapshot = world(V2, ("base",), v1=(state, "base"), v2=("live", "base"))
    assert planned(snapshot, StartCanary(V1, 0.1)).moves == (StateChange(V1, state, "canary"),)
    assert refused(snapshot, StartCanary(V1, 0.1), "learner")[0] == "state"


def test_a_canary_is_compared_with_the_live_and_the_confirmed_version() -> None:
    snapshot = world(V2, (V1,), None, V1, v1=("retired", "base"), v2=("live", "v1"))
    for version in (V1, V2, "base"):
        because, message = refused(snapshot, StartCanary(version, 0.1))
        assert because == "state"
        assert "activate it" in message


def test_the_share_of_a_canary_changes_and_its_time_does_not() -> None:
    change = planned(WITH_CANARY, StartCanary(V2, 0.5))
    assert (change.rollout.fraction, change.rollout.canary_since) == (0.5, 50.0)
    assert (change.moves, change.figures) == ((), {"fraction": 0.5})
    assert plan(WITH_CANARY, StartCanary(V2, 0.1), who="op", now=NOW) is None


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_is_above_none_and_at_most_all(fraction: float) -> None:
    assert refused(WITH_CANARY, StartCanary(V2, fraction))[0] == "fraction"


def test_there_is_one_canary() -> None:
    snapshot = replace(WITH_CANARY, versions={**WITH_CANARY.versions, V3: VersionFacts("approved")})
    because, message = refused(snapshot, StartCanary(V3, 0.1))
    assert (because, V2 in message, "thumbloop canary stop" in message) == ("canary", True, True)


def test_the_end_of_a_canary() -> None:
    stopped = planned(WITH_CANARY, StopCanary())
    assert (stopped.moves, stopped.old) == ((StateChange(V2, "canary", "approved"),), V2)
    rejected = planned(WITH_CANARY, RejectCanary(V2))
    assert rejected.moves == (StateChange(V2, "canary", "rolled_back", returns=2),)
    promoted = planned(WITH_CANARY, PromoteCanary(V2))
    assert (promoted.rollout.live, promoted.rollout.confirmed) == (V2, V2)
    assert promoted.moves == (StateChange(V1, "live", "retired"), StateChange(V2, "canary", "live"))
    for change in (stopped, rejected, promoted):
        assert (change.rollout.canary, change.rollout.fraction) == (None, 0.0)
        assert change.rollout.canary_since is None


def test_a_verdict_on_another_canary_is_refused() -> None:
    for command in (PromoteCanary(V3), RejectCanary(V3), StopCanary(V3)):
        because, message = refused(WITH_CANARY, command)
        assert (because, V2 in message) == ("canary", True)
        assert refused(CHAIN, command)[0] == "canary"


def test_only_the_live_version_is_confirmed() -> None:
    assert planned(CHAIN, Confirm(V3, "base")).rollout.confirmed == V3
    assert refused(CHAIN, Confirm(V2))[0] == "live"
    assert refused(CHAIN, Confirm(V3, V1)) == (
        "confirmed",
        "The confirmed version is base now. Read the rollout again, then decide afresh.",
    )


def test_a_kill_serves_the_base_and_nothing_else() -> None:
    change = planned(WITH_CANARY, Kill())
    assert set(change.moves) == {
        StateChange(V1, "live", "retired"),
        StateChange(V2, "canary", "approved"),
    }
    assert change.pause
    assert change.rollout == Rollout("base", 8, None, "base", live_since=NOW, confirmed_since=NOW)
    assert change.history == ()
    assert change.figures == {"canary": V2}


def test_a_kill_of_what_is_dead_only_pauses() -> None:
    change = planned(world(), Kill())
    # The generation rises, so that what a learner planned before the kill is not written after it.
    assert (change.rollout.generation, change.pause) == (8, True)
    assert change.rollout == replace(world().rollout, generation=8)
    assert plan(world(paused=True), Kill(), who="op", now=NOW) is None


def test_a_verdict_is_for_an_imported_candidate() -> None:
    versions = {V1: VersionFacts("candidate", V2), V2: VersionFacts("candidate", "base", 2)}
    snapshot = replace(world(), versions=versions)
    change = planned(snapshot, RecordGateVerdict(V1, "rejected"), "gate")
    assert (change.action, change.old, change.new) == ("reject", V2, V1)
    assert (change.moves, change.rollout) == (
        (StateChange(V1, "candidate", "rejected"),),
        snapshot.rollout,
    )
    assert refused(snapshot, RecordGateVerdict(V2, "approved"), "gate")[0] == "state"
    assert refused(snapshot, RecordGateVerdict(V3, "approved"), "gate")[0] == "unknown"
    assert refused(CHAIN, RecordGateVerdict(V1, "approved"), "gate")[0] == "state"
    passed = world(v1=("approved", "base"))
    assert plan(passed, RecordGateVerdict(V1, "approved"), who="gate", now=NOW) is None
