"""The states of a version, and the allowed changes between them."""

from __future__ import annotations

from typing import Literal, get_args

VersionState = Literal[
    "candidate", "rejected", "approved", "canary", "live", "retired", "rolled_back"
]
STATES: tuple[VersionState, ...] = get_args(VersionState)

LEARNER = "learner"
"""The name of the learner in commands. A version that it promotes is not confirmed by that."""

_MOVES: dict[VersionState, frozenset[VersionState]] = {
    "candidate": frozenset({"rejected", "approved"}),
    # A stopped canary is approved again. It may have served, so it can be rolled back.
    "approved": frozenset({"canary", "live", "rolled_back"}),
    "canary": frozenset({"live", "approved", "rolled_back"}),
    "live": frozenset({"retired", "rolled_back"}),
    "retired": frozenset({"live", "canary", "rolled_back"}),
    # It is retired again where a version that was learned from it goes live.
    "rolled_back": frozenset({"live", "canary", "retired"}),
    "rejected": frozenset(),
}


def may_move(old: VersionState, new: VersionState) -> bool:
    """Return whether a version may change from state ``old`` to ``new``."""
    return new in _MOVES[old]


def may_go_live(state: VersionState) -> bool:
    """Return whether a version in ``state`` may be made live."""
    return may_move(state, "live")


def may_be_canary(state: VersionState) -> bool:
    """Return whether a version in ``state`` may be made the canary."""
    return may_move(state, "canary")
