"""The commands that change the rollout, as values.

Each field ``expected…`` is the state that must hold when the command takes effect; None means any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.versions.states import VersionState


@dataclass(frozen=True, slots=True)
class Activate:
    """Make a version live, or ``base``, and retire the one before.

    The version is confirmed too, unless the learner gives the command.

    Attributes:
        version: The version to serve, or ``base``.
        only_from: The one state that the version may be in; None for each that may go live. Where
            ``expected_live`` was left and came back meanwhile, only the version's own state shows
            it.
        same_weights: Whether it has the weights of the live version. The live version is then no
            version to go back to, and what is known of it holds for the new one.
    """

    version: str
    expected_live: str | None = None
    only_from: VersionState | None = None
    same_weights: bool = False


@dataclass(frozen=True, slots=True)
class Rollback:
    """Take the live version back, with all that it was built on since ``to``.

    The votes that these versions learned wait again, and ``to`` is confirmed.

    Attributes:
        to: Where to go; None for the version that was live before.
    """

    to: str | None = None
    expected_live: str | None = None


@dataclass(frozen=True, slots=True)
class StartCanary:
    """Serve a version to a share of the users, in (0, 1]; sent again, it changes the share."""

    version: str
    fraction: float
    expected_live: str | None = None


@dataclass(frozen=True, slots=True)
class StopCanary:
    """End the canary without a verdict."""

    expected: str | None = None


@dataclass(frozen=True, slots=True)
class PromoteCanary:
    """Make the canary live and confirmed."""

    expected: str


@dataclass(frozen=True, slots=True)
class RejectCanary:
    """Roll the canary back; the votes that it learned wait again."""

    expected: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """Confirm the live version: the judge compares later versions with it."""

    version: str
    expected_confirmed: str | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """Serve the base, end the canary and pause learning, all at once.

    No votes are given back: wanting the base now is no verdict on what was learned.
    """


@dataclass(frozen=True, slots=True)
class RecordGateVerdict:
    """Record the gate's verdict on an imported candidate, which no update run made."""

    version: str
    state: Literal["approved", "rejected"]


Command = (
    Activate
    | Rollback
    | StartCanary
    | StopCanary
    | PromoteCanary
    | RejectCanary
    | Confirm
    | Kill
    | RecordGateVerdict
)
