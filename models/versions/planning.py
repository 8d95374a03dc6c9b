"""What each command changes, or why it is refused: the rules of the rollout.

Each rule builds the rollout as it is to be; generation and times follow from what differs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from models.errors import RolloutRefusedError
from models.types import BASE
from models.versions.checks import (
    expect_live,
    leave_to_people,
    must_be_servable,
    must_be_startable,
    running_canary,
    unknown,
)
from models.versions.commands import (
    Activate,
    Confirm,
    Kill,
    PromoteCanary,
    RejectCanary,
    Rollback,
    StartCanary,
    StopCanary,
)
from models.versions.rollout import StateChange, Transition
from models.versions.states import LEARNER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.versions.commands import Command, RecordGateVerdict
    from models.versions.rollout import Snapshot

HISTORY = 50
"""Versions that rollbacks can walk back on; before them there is the base."""


def plan(snapshot: Snapshot, command: Command, *, who: str, now: float) -> Transition | None:
    """Return what a command changes; None where all is as it wants it already.

    Args:
        snapshot: What the record says.
        command: What is wanted.
        who: Who wants it: what the learner promotes is not yet confirmed by that.
        now: Seconds since the epoch.

    Raises:
        RolloutRefusedError: It may not be; the message says why, and what to do.
    """
    match command:
        case Activate():
            change = _activate(snapshot, command, who)
        case Rollback():
            change = _rollback(snapshot, command)
        case StartCanary():
            change = _start_canary(snapshot, command, who)
        case StopCanary():
            change = _stop_canary(snapshot, command)
        case PromoteCanary():
            change = _promote_canary(snapshot, command)
        case RejectCanary():
            change = _reject_canary(snapshot, command)
        case Confirm():
            change = _confirm(snapshot, command)
        case Kill():
            change = _kill(snapshot)
        case _:
            change = _verdict(snapshot, command)
    return _finished(snapshot, change, now)


def _activate(snapshot: Snapshot, command: Activate, who: str) -> Transition:
    rollout, version = snapshot.rollout, command.version
    expect_live(rollout, command.expected_live)
    if version != rollout.live:
        if who == LEARNER:
            leave_to_people(snapshot, version)
        must_be_servable(snapshot, version, command.only_from)
    confirmed = rollout.confirmed if who == LEARNER else version
    return _serve(snapshot, "activate", version, confirmed=confirmed)


def _rollback(snapshot: Snapshot, command: Rollback) -> Transition:
    rollout = snapshot.rollout
    expect_live(rollout, command.expected_live)
    target = command.to or rollout.previous
    if target is None or target == rollout.live:
        raise RolloutRefusedError(
            "nothing",
            f"There is nothing to roll back to from {rollout.live}. Name another version: "
            "`thumbloop versions list` shows all versions.",
        )
    must_be_servable(snapshot, target)
    undone = _built_since(snapshot, target)
    change = _serve(snapshot, "rollback", target, confirmed=target)
    if rollout.canary != target and undone & set(snapshot.lineage(rollout.canary or "")):
        change = replace(change, rollout=replace(change.rollout, canary=None))
        undone |= {rollout.canary or ""}
    moves = [move for move in change.moves if move.version not in undone]
    taken_back = [_taken_back(snapshot, each) for each in sorted(undone)]
    moves += [move for move in taken_back if _served(snapshot, move.version)]
    return replace(
        change,
        moves=tuple(moves),
        history=_before(snapshot.history, target, without={*undone, rollout.live}),
        figures=_rolled_back(moves),
    )


def _start_canary(snapshot: Snapshot, command: StartCanary, who: str) -> Transition:
    rollout, version = snapshot.rollout, command.version
    expect_live(rollout, command.expected_live)
    if not 0 < command.fraction <= 1:
        raise RolloutRefusedError(
            "fraction",
            f"A canary's share of the users is above 0 and at most 1, not {command.fraction:g}. "
            "0.1 is a tenth of them.",
        )
    moves: tuple[StateChange, ...] = ()
    if version != rollout.canary:
        must_be_startable(snapshot, version, who)
        moves = (StateChange(version, snapshot.versions[version].state, "canary"),)
    return Transition(
        "canary",
        rollout.live,
        version,
        replace(rollout, canary=version, fraction=command.fraction),
        snapshot.history,
        moves,
        figures={"fraction": command.fraction},
    )


def _stop_canary(snapshot: Snapshot, command: StopCanary) -> Transition:
    canary = running_canary(snapshot, command.expected)
    rollout = replace(snapshot.rollout, canary=None)
    moves = (StateChange(canary, "canary", "approved"),)
    return Transition("stop_canary", canary, rollout.live, rollout, snapshot.history, moves)


def _promote_canary(snapshot: Snapshot, command: PromoteCanary) -> Transition:
    canary = running_canary(snapshot, command.expected)
    return _serve(snapshot, "promote_canary", canary, confirmed=canary)


def _reject_canary(snapshot: Snapshot, command: RejectCanary) -> Transition:
    canary = running_canary(snapshot, command.expected)
    rollout = replace(snapshot.rollout, canary=None)
    history = tuple(each for each in snapshot.history if each != canary)
    moves = [_taken_back(snapshot, canary)]
    return Transition(
        "reject_canary",
        canary,
        rollout.live,
        rollout,
        history,
        tuple(moves),
        figures=_rolled_back(moves),
    )


def _confirm(snapshot: Snapshot, command: Confirm) -> Transition:
    rollout = snapshot.rollout
    confirmed = rollout.confirmed or BASE
    if command.expected_confirmed not in {None, confirmed}:
        raise RolloutRefusedError(
            "confirmed",
            f"The confirmed version is {confirmed} now. Read the rollout again, then decide "
            "afresh.",
        )
    if command.version != rollout.live:
        raise RolloutRefusedError(
            "live",
            f"Only the live version can be confirmed, and that is {rollout.live} now. Activate "
            f"{command.version} to serve it: that confirms it too.",
        )
    after = replace(rollout, confirmed=command.version)
    return Transition("confirm", confirmed, command.version, after, snapshot.history)


def _kill(snapshot: Snapshot) -> Transition:
    canary = snapshot.rollout.canary
    change = _serve(snapshot, "kill", BASE, confirmed=BASE)
    ended = (StateChange(canary, "canary", "approved"),) if canary else ()
    return replace(
        change,
        rollout=replace(change.rollout, canary=None),
        history=(),  # a rollback after it must not bring back what was killed
        moves=(*change.moves, *ended),
        pause=True,
        figures={"canary": canary} if canary else {},
    )


def _verdict(snapshot: Snapshot, command: RecordGateVerdict) -> Transition:
    version = command.version
    facts = snapshot.versions.get(version)
    if facts is None or version == BASE:
        raise unknown(version)
    moves: tuple[StateChange, ...] = ()
    if facts.state != command.state:
        if facts.state != "candidate" or facts.run is not None:
            raise RolloutRefusedError(
                "state",
                f"Version {version} is {facts.state} and waits for no verdict of its own: only an "
                "imported candidate does.",
            )
        moves = (StateChange(version, "candidate", command.state),)
    action = "approve" if command.state == "approved" else "reject"
    return Transition(action, facts.parent, version, snapshot.rollout, snapshot.history, moves)


def _serve(
    snapshot: Snapshot,
    action: Literal["activate", "rollback", "promote_canary", "kill"],
    version: str,
    *,
    confirmed: str | None,
) -> Transition:
    """Make a version live; the one before retires, and a canary that goes live is none any more."""
    rollout = snapshot.rollout
    old = rollout.live
    canary = None if rollout.canary == version else rollout.canary
    after = replace(rollout, live=version, confirmed=confirmed, canary=canary)
    if version == old:
        return Transition(action, old, version, after, snapshot.history)
    moves = [StateChange(old, "live", "retired")] if old != BASE else []
    if version != BASE:
        moves.append(StateChange(version, snapshot.versions[version].state, "live"))
    walked = (*(each for each in snapshot.history if each not in {old, version}), old)
    return Transition(action, old, version, after, walked[-HISTORY:], tuple(moves))


def _finished(snapshot: Snapshot, change: Transition, now: float) -> Transition | None:
    """Set what follows from the difference: generation, times, previous; None if there is none."""
    old, new = snapshot.rollout, change.rollout
    if new.canary is None:
        new = replace(new, fraction=0.0)
    pauses = change.pause and not snapshot.paused
    same = new == old and change.history == snapshot.history and not pauses
    if same and not change.moves:
        return None
    if not same:  # also by a pause alone: what a learner planned before it is void
        new = replace(
            new,
            generation=old.generation + 1,
            previous=_previous(new.live, change.history),
            live_since=old.live_since if new.live == old.live else now,
            canary_since=_since(old.canary, new.canary, old.canary_since, now),
            confirmed_since=_since(old.confirmed, new.confirmed, old.confirmed_since, now),
        )
    return replace(change, rollout=new)


def _since(old: str | None, new: str | None, since: float | None, now: float) -> float | None:
    if new is None:
        return None
    return since if new == old else now


def _previous(live: str, history: tuple[str, ...]) -> str | None:
    """Return what a rollback goes back to; however short the history, there is the base."""
    if history:
        return history[-1]
    return None if live == BASE else BASE


def _before(history: tuple[str, ...], target: str, *, without: set[str]) -> tuple[str, ...]:
    """Return the history once one has gone back to ``target``: what came after is not walked on.

    The base is where a walk ends, although versions may have served before it.
    """
    if target == BASE:
        return ()
    walked = takewhile(lambda each: each != target, history)
    return tuple(each for each in walked if each not in without)


def _built_since(snapshot: Snapshot, target: str) -> set[str]:
    """Return the live version and its ancestors, as far as ``target`` is not built on them too."""
    kept = set(snapshot.lineage(target))
    return set(
        takewhile(lambda each: each not in kept, snapshot.lineage(snapshot.rollout.live)),
    )


def _served(snapshot: Snapshot, version: str) -> bool:
    """Whether a version serves or served, and is not taken back yet; also if only as a canary."""
    facts = snapshot.versions[version]
    return facts.state in {"live", "retired", "canary"} or (
        facts.state == "approved" and facts.stopped
    )


def _taken_back(snapshot: Snapshot, version: str) -> StateChange:
    facts = snapshot.versions[version]
    return StateChange(version, facts.state, "rolled_back", returns=facts.run)


def _rolled_back(moves: Iterable[StateChange]) -> dict[str, Any]:
    return {"rolled_back": [move.version for move in moves if move.new == "rolled_back"]}
