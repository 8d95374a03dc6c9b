"""The states of a version, and which of them may follow each other."""

from __future__ import annotations

from typing import Literal, get_args

VersionState = Literal[
    "candidate", "rejected", "approved", "canary", "live", "retired", "rolled_back"
]
STATES: tuple[VersionState, ...] = get_args(VersionState)

LEARNER = "learner"
"""Who promotes what passed its gate; its choice, unlike a person's, still has to be confirmed."""

_MOVES: dict[VersionState, frozenset[VersionState]] = {
    "candidate": frozenset({"rejected", "approved"}),
    # A canary that was stopped is approved again; it may be one that served before.
    "approved": frozenset({"canary", "live", "rolled_back"}),
    "canary": frozenset({"live", "approved", "rolled_back"}),
    "live": frozenset({"retired", "rolled_back"}),
    "retired": frozenset({"live", "canary", "rolled_back"}),
    "rolled_back": frozenset({"live", "canary"}),
    "rejected": frozenset(),
}


def may_move(old: VersionState, new: VersionState) -> bool:
    """Whether a version may go from ``old`` to ``new``."""
    return new in _MOVES[old]


def may_go_live(state: VersionState) -> bool:
    """Whether a version in ``state`` may be made live."""
    return may_move(state, "live")


def may_be_canary(state: VersionState) -> bool:
    """Whether a version in ``state`` may be made the canary."""
    return may_move(state, "canary")
