"""The rollout, the snapshot that a command reads, and the transition that it makes, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.versions.states import VersionState


@dataclass(frozen=True, slots=True)
class Rollout:
    """The versions that are served, and to whom.

    Attributes:
        live: The version that serves, or ``base``.
        generation: A number that rises with every change, for compare-and-set.
        previous: The version that a rollback returns to by default; None without one.
        confirmed: The version with which the judge compares later ones; None means ``base``.
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
    """The properties of a version that the rules read.

    Attributes:
        state: The state of the version.
        parent: The version that it was learned from, or ``base``.
        run: The update run that made it; None for an import.
        stopped: Whether its canary was stopped since it last served.
    """

    state: VersionState
    parent: str = BASE
    run: int | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The part of the record that a command reads.

    Attributes:
        rollout: The rollout.
        history: The versions that were live before, oldest first, each once, without the live one.
            Rollbacks return to these.
        versions: The versions that the command may change. A rollback also needs the ancestors of
            the live version, of its target and of the canary, down to their common ancestor.
        paused: Whether learning is paused.
    """

    rollout: Rollout
    history: tuple[str, ...] = ()
    versions: Mapping[str, VersionFacts] = field(default_factory=dict)
    paused: bool = False

    def lineage(self, version: str) -> Iterator[str]:
        """Yield a version and its known ancestors, without ``base``."""
        seen: set[str] = set()
        while version in self.versions and version not in seen and version != BASE:
            yield version
            seen.add(version)
            version = self.versions[version].parent


@dataclass(frozen=True, slots=True)
class StateChange:
    """The change of one version's state.

    Attributes:
        version: The version.
        old: The state before the change.
        new: The state after it.
        returns: The update run whose votes wait again because of the change.
    """

    version: str
    old: VersionState
    new: VersionState
    returns: int | None = None


@dataclass(frozen=True, slots=True)
class VersionRun:
    """A version, and the update run that made it."""

    version: str
    run: int


@dataclass(frozen=True, slots=True)
class Transition:
    """Every write of an accepted command, and its entry in the audit log.

    Attributes:
        action: The name of the command in the audit log.
        old: The version before the command, for the audit log.
        new: The version after the command, for the audit log.
        rollout: The rollout after the command; its generation is the same if nothing changed.
        history: The history after the command.
        moves: The changes of versions' states; each applies only if the old state still holds.
        pause: Whether the command pauses learning.
        figures: Values for the audit log, besides those of the caller.
        retakes: What goes live, or is in the line of what does, and may have been rolled back
            before. The votes that it learned and that still wait as they were count as learned
            again.
    """

    action: str
    old: str
    new: str
    rollout: Rollout
    history: tuple[str, ...]
    moves: tuple[StateChange, ...] = ()
    pause: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)
    retakes: tuple[VersionRun, ...] = ()
