"""What is served, what a command may look at, and what it changes: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.versions.states import VersionState


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is served. ``generation`` rises with every change and guards compare-and-set.

    Attributes:
        previous: What a rollback goes back to when it is not told; None where there is nothing.
        confirmed: The version that later ones are judged against; None counts as ``base``.
        canary: The version that serves ``fraction`` of the users.
        live_since: When the live version became live, in seconds since the epoch; None until a
            version ever was. ``canary_since`` and ``confirmed_since`` likewise.
    """

    live: str
    generation: int
    previous: str | None = None
    confirmed: str | None = None
    canary: str | None = None
    fraction: float = 0.0
    live_since: float | None = None
    canary_since: float | None = None
    confirmed_since: float | None = None


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the rules look at of a version.

    Attributes:
        parent: The version that it was learned from, or ``base``.
        run: The update run that made it; None for an import.
        stopped: Whether a canary of it was stopped since it was last served.
    """

    state: VersionState
    parent: str = BASE
    run: int | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a command may look at.

    Attributes:
        history: Versions that were live before, oldest first, none twice, the live one not among
            them: what rollbacks walk back on.
        versions: The versions that the command may touch. A rollback also needs the ancestors of
            what is live, of where it goes, and of the canary, down to where they meet.
        paused: Whether learning is paused.
    """

    rollout: Rollout
    history: tuple[str, ...] = ()
    versions: Mapping[str, VersionFacts] = field(default_factory=dict)
    paused: bool = False

    def lineage(self, version: str) -> Iterator[str]:
        """Yield a version, its parent, and so on, as far as they are known; never ``base``."""
        seen: set[str] = set()
        while version in self.versions and version not in seen and version != BASE:
            yield version
            seen.add(version)
            version = self.versions[version].parent


@dataclass(frozen=True, slots=True)
class StateChange:
    """One version's change of state.

    Attributes:
        returns: The run whose votes wait again because of it.
    """

    version: str
    old: VersionState
    new: VersionState
    returns: int | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """Every write that an accepted command means, and its one line of the audit.

    Attributes:
        rollout: The rollout afterwards; the same generation where it did not change.
        history: The history afterwards.
        moves: Changes of state, each to be compared with the old state.
        pause: Whether learning is to be paused.
        action: What the audit calls it; ``old`` → ``new`` is what it was about.
        figures: What the audit says beside the caller's figures.
    """

    action: str
    old: str
    new: str
    rollout: Rollout
    history: tuple[str, ...]
    moves: tuple[StateChange, ...] = ()
    pause: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)
