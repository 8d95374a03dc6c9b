"""The checks before a command: each passes, or raises a refusal that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import RolloutRefusedError
from models.types import BASE
from models.versions.states import LEARNER, may_be_canary, may_go_live

if TYPE_CHECKING:
    from models.versions.rollout import Rollout, Snapshot
    from models.versions.states import VersionState


def check_live(rollout: Rollout, expected: str | None) -> None:
    """Raise ``RolloutRefusedError`` unless the live version is the one that the caller saw."""
    if expected not in {None, rollout.live}:
        raise RolloutRefusedError(
            "live",
            f"The live version is {rollout.live} now. Read the rollout again, then decide afresh.",
        )


def check_servable(snapshot: Snapshot, version: str, only_from: VersionState | None = None) -> None:
    """Raise ``RolloutRefusedError`` unless a version may go live."""
    if version == BASE:
        return
    facts = snapshot.versions.get(version)
    if facts is None:
        raise unknown_version(version)
    if not may_go_live(facts.state):
        raise RolloutRefusedError(
            "state",
            f"Version {version} is {facts.state} and may not go live. Choose one that passed its "
            "gate: `thumbloop versions list` shows the states.",
        )
    if only_from not in {None, facts.state}:
        raise RolloutRefusedError(
            "state",
            f"Version {version} is {facts.state} and was to go live only from {only_from}: "
            "someone has decided on it meanwhile. Read the version's history, then decide afresh.",
        )


def check_canary(snapshot: Snapshot, version: str, who: str) -> None:
    """Raise ``RolloutRefusedError`` unless a version may become the canary."""
    rollout = snapshot.rollout
    if rollout.canary is not None:
        raise RolloutRefusedError(
            "canary",
            f"{rollout.canary} is the canary already, and there is one at a time. Stop it first: "
            "`thumbloop canary stop`.",
        )
    if version in {BASE, rollout.live, rollout.confirmed}:
        raise RolloutRefusedError(
            "state",
            f"{version} cannot be the canary: it is the base, the live or the confirmed version, "
            "with which a canary is compared. To serve it, activate it.",
        )
    facts = snapshot.versions.get(version)
    if facts is None:
        raise unknown_version(version)
    if who == LEARNER:
        check_learner_may_serve(snapshot, version)
    if not may_be_canary(facts.state) or (who == LEARNER and facts.state != "approved"):
        raise RolloutRefusedError(
            "state",
            f"Version {version} is {facts.state} and cannot be the canary. Choose one that passed "
            "its gate: `thumbloop versions list` shows the states.",
        )


def check_learner_may_serve(snapshot: Snapshot, version: str) -> None:
    """Raise ``RolloutRefusedError`` where only a person or the judge may serve a version."""
    if snapshot.paused:
        raise RolloutRefusedError(
            "paused",
            f"Learning is paused, so {version} waits. Run `thumbloop learning resume` to go on.",
        )
    canary = snapshot.rollout.canary
    if canary is not None and canary != version:
        raise RolloutRefusedError(
            "canary", f"{canary} is the canary. {version} waits until that has its verdict."
        )
    facts = snapshot.versions.get(version)
    if facts is not None and facts.stopped:
        raise RolloutRefusedError(
            "state",
            f"The canary of {version} was stopped. Only a person serves it again: "
            f"`thumbloop versions activate {version}`.",
        )


def require_canary(snapshot: Snapshot, expected: str | None) -> str:
    """Return the canary; raise ``RolloutRefusedError`` if there is none or another one."""
    canary = snapshot.rollout.canary
    if canary is None:
        raise RolloutRefusedError(
            "canary", "There is no canary. `thumbloop canary start` makes a version the canary."
        )
    if expected not in {None, canary}:
        raise RolloutRefusedError(
            "canary", f"The canary is {canary} now. Read the rollout again, then decide afresh."
        )
    return canary


def unknown_version(version: str) -> RolloutRefusedError:
    """Return the error for a version that does not exist."""
    return RolloutRefusedError(
        "unknown",
        f"There is no version {version!r}. `thumbloop versions list` shows all versions.",
    )
