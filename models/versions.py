"""Pure rules of a version's life: its id, its states, and which moves are allowed (design §8)."""

from __future__ import annotations

import re
from typing import Literal, get_args

from models.errors import AdapterError
from models.types import BASE

VersionState = Literal[
    "candidate", "rejected", "approved", "canary", "live", "retired", "rolled_back"
]
STATES: tuple[VersionState, ...] = get_args(VersionState)

_ID = re.compile(r"v(\d{6})-([0-9a-f]{12})")

_MOVES: dict[VersionState, frozenset[VersionState]] = {
    "candidate": frozenset({"rejected", "approved"}),
    "approved": frozenset({"canary", "live"}),
    "canary": frozenset({"live", "approved", "rolled_back"}),
    "live": frozenset({"retired", "rolled_back"}),
    "retired": frozenset({"live"}),
    "rolled_back": frozenset({"live"}),
    "rejected": frozenset(),
}


def make_id(sequence: int, content_hash: str) -> str:
    """Return the id ``v000012-3fa9c1d2e4b7`` for a sequence number and a SHA-256 hex digest."""
    return f"v{sequence:06d}-{content_hash[:12]}"


def is_version_id(text: str) -> bool:
    """Whether ``text`` names a policy version; ``base`` does too."""
    return text == BASE or _ID.fullmatch(text) is not None


def sequence_of(version: str) -> int:
    """Return the sequence number of a version id; 0 for ``base``.

    Raises:
        AdapterError: ``version`` is not a version id.
    """
    if version == BASE:
        return 0
    match = _ID.fullmatch(version)
    if match is None:
        raise AdapterError(f"{version!r} is not a version id like v000012-3fa9c1d2e4b7.")
    return int(match[1])


def may_move(old: VersionState, new: VersionState) -> bool:
    """Whether a version may go from ``old`` to ``new``."""
    return new in _MOVES[old]


def may_go_live(state: VersionState) -> bool:
    """Whether a version in ``state`` may be made live."""
    return may_move(state, "live")
