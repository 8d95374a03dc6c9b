"""The rules of the rollout: what each command changes, or why it is refused.

Each rule returns the rollout after the command. ``_finalise`` sets its generation and times.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from models.errors import RolloutRefusedError
from models.types import BASE
from models.versions.checks import (
    check_canary,
    check_learner_may_serve,
    check_live,
    check_servable,
    require_canary,
    unknown_version,
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
from models.versions.rollout import StateChange, Transition, VersionRun
from models.versions.states import LEARNER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.versions.commands import Command, RecordGateVerdict
    from models.versions.rollout import Snapshot

HISTORY = 50
"""The most earlier live versions that rollbacks can return to, before the base."""


def plan(snapshot: Snapshot, command: Command, *, who: str, now: float) -> Transition | None:
    """Return the changes of a command; None if it changes nothing.

    Args:
        snapshot: The state of the record.
        command: The command.
        who: Who gives the command. A version that the learner activates is not confirmed.
        now: The time in seconds since the epoch.

    Raises:
        RolloutRefusedError: The command is refused; the message says why, and what to do.
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
            change = _record_verdict(snapshot, command)
    return _finalise(snapshot, change, now)


def _activate(snapshot: Snapshot, command: Activate, who: str) -> Transition:
    rollout, version = snapshot.rollout, command.version
    check_live(rollout, command.expected_live)
    if version != rollout.live:
        if who == LEARNER:
            check_learner_may_serve(snapshot, version)
        check_servable(snapshot, version, command.only_from)
    known = command.same_weights and (rollout.confirmed or BASE) == rollout.live
    confirmed = version if known or who != LEARNER else rollout.confirmed
    change = _serve(snapshot, "activate", version, confirmed=confirmed)
    if command.same_weights:
        change = replace(change, history=_without(change.history, rollout.live))
    return change


def _rollback(snapshot: Snapshot, command: Rollback) -> Transition:
    rollout = snapshot.rollout
    check_live(rollout, command.expected_live)
    target = command.to or rollout.previous
    if target is None or target == rollout.live:
        raise RolloutRefusedError(
            "nothing",
            f"There is nothing to roll back to from {rollout.live}. Name another version: "
            "`thumbloop versions list` shows all versions.",
        )
    check_servable(snapshot, target)
    undone = _undone_versions(snapshot, target)
    change = _serve(snapshot, "rollback", target, confirmed=target)
    if rollout.canary != target and undone & set(snapshot.lineage(rollout.canary or "")):
        change = replace(change, rollout=replace(change.rollout, canary=None))
        undone |= {rollout.canary or ""}
    moves = [move for move in change.moves if move.version not in undone]
    rolled_back = [_roll_back_version(snapshot, each) for each in sorted(undone)]
    moves += [move for move in rolled_back if _has_served(snapshot, move.version)]
    return replace(
        change,
        moves=tuple(moves),
        history=_history_before(snapshot.history, target, without={*undone, rollout.live}),
        figures={**change.figures, **_rolled_back(moves)},
    )


def _start_canary(snapshot: Snapshot, command: StartCanary, who: str) -> Transition:
    rollout, version = snapshot.rollout, command.version
    check_live(rollout, command.expected_live)
    if not 0 < command.fraction <= 1:
        raise RolloutRefusedError(
            "fraction",
            f"A canary's share of the users is above 0 and at most 1, not {command.fraction:g}. "
            "0.1 is a tenth of them.",
        )
    moves: tuple[StateChange, ...] = ()
    if version != rollout.canary:
        check_canary(snapshot, version, who)
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
    canary = require_canary(snapshot, command.expected)
    rollout = replace(snapshot.rollout, canary=None)
    moves = (StateChange(canary, "canary", "approved"),)
    return Transition("stop_canary", canary, rollout.live, rollout, snapshot.history, moves)


def _promote_canary(snapshot: Snapshot, command: PromoteCanary) -> Transition:
    canary = require_canary(snapshot, command.expected)
    return _serve(snapshot, "promote_canary", canary, confirmed=canary)


def _reject_canary(snapshot: Snapshot, command: RejectCanary) -> Transition:
    canary = require_canary(snapshot, command.expected)
    rollout = replace(snapshot.rollout, canary=None)
    history = _without(snapshot.history, canary)
    moves = [_roll_back_version(snapshot, canary)]
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
        history=(),  # a later rollback must not return to a version that was killed
        moves=(*change.moves, *ended),
        pause=True,
        figures={"canary": canary} if canary else {},
    )


def _record_verdict(snapshot: Snapshot, command: RecordGateVerdict) -> Transition:
    version = command.version
    facts = snapshot.versions.get(version)
    if facts is None or version == BASE:
        raise unknown_version(version)
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
    """Make a version live: the old one retires, and a canary that goes live stops being one."""
    rollout = snapshot.rollout
    old = rollout.live
    canary = None if rollout.canary == version else rollout.canary
    after = replace(rollout, live=version, confirmed=confirmed, canary=canary)
    if version == old:
        return Transition(action, old, version, after, snapshot.history)
    moves = [StateChange(old, "live", "retired")] if old != BASE else []
    if version != BASE:
        moves.append(StateChange(version, snapshot.versions[version].state, "live"))
    again = _served_again(snapshot, version)
    below = [
        each for each in again if each != version and snapshot.versions[each].state == "rolled_back"
    ]
    moves += [StateChange(each, "rolled_back", "retired") for each in below]
    walked = (*_without(snapshot.history, old, version), old)
    return Transition(
        action,
        old,
        version,
        after,
        walked[-HISTORY:],
        tuple(moves),
        figures={"retired": below} if below else {},
        retakes=tuple(
            VersionRun(each, run)
            for each in again
            if (run := snapshot.versions[each].run) is not None
        ),
    )


def _served_again(snapshot: Snapshot, version: str) -> list[str]:
    """Return what goes live and may have been rolled back before: a version and its ancestors.

    Their votes may have been given back, and are in the version's weights. A canary, and a version
    whose canary was stopped, may have been rolled back before that.
    """
    facts = snapshot.versions
    return [
        each
        for each in snapshot.lineage(version)
        if facts[each].state in {"rolled_back", "canary"}
        or (facts[each].state == "approved" and facts[each].stopped)
    ]


def _finalise(snapshot: Snapshot, change: Transition, now: float) -> Transition | None:
    """Set the generation, times and previous version of a change; None if nothing changes."""
    old, new = snapshot.rollout, change.rollout
    if new.canary is None:
        new = replace(new, fraction=0.0)
    pauses = change.pause and not snapshot.paused
    same = new == old and change.history == snapshot.history and not pauses
    if same and not change.moves:
        return None
    if not same:  # a pause alone counts too: it voids what a learner has planned
        new = replace(
            new,
            generation=old.generation + 1,
            previous=_previous(new.live, change.history),
            live_since=old.live_since if new.live == old.live else now,
            canary_since=_start_time(old.canary, new.canary, old.canary_since, now),
            confirmed_since=_start_time(old.confirmed, new.confirmed, old.confirmed_since, now),
        )
    return replace(change, rollout=new)


def _start_time(old: str | None, new: str | None, since: float | None, now: float) -> float | None:
    if new is None:
        return None
    return since if new == old else now


def _previous(live: str, history: tuple[str, ...]) -> str | None:
    """Return the version that a rollback returns to: the last of the history, or the base."""
    if history:
        return history[-1]
    return None if live == BASE else BASE


def _without(history: tuple[str, ...], *versions: str) -> tuple[str, ...]:
    return tuple(each for each in history if each not in versions)


def _history_before(history: tuple[str, ...], target: str, *, without: set[str]) -> tuple[str, ...]:
    """Return the history after a rollback to ``target``: only the versions live before it.

    After a rollback to the base, the history is empty.
    """
    if target == BASE:
        return ()
    walked = takewhile(lambda each: each != target, history)
    return tuple(each for each in walked if each not in without)


def _undone_versions(snapshot: Snapshot, target: str) -> set[str]:
    """Return the live version and those of its ancestors that are not ancestors of ``target``."""
    kept = set(snapshot.lineage(target))
    return set(
        takewhile(lambda each: each not in kept, snapshot.lineage(snapshot.rollout.live)),
    )


def _has_served(snapshot: Snapshot, version: str) -> bool:
    """Return whether a version serves or has served, as a canary too, and is not rolled back."""
    facts = snapshot.versions[version]
    return facts.state in {"live", "retired", "canary"} or (
        facts.state == "approved" and facts.stopped
    )


def _roll_back_version(snapshot: Snapshot, version: str) -> StateChange:
    facts = snapshot.versions[version]
    return StateChange(version, facts.state, "rolled_back", returns=facts.run)


def _rolled_back(moves: Iterable[StateChange]) -> dict[str, Any]:
    return {"rolled_back": [move.version for move in moves if move.new == "rolled_back"]}
