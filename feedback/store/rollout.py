"""The rollout: which version is served, and the audit of every change to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from feedback.errors import RolloutConflictError
from feedback.events import Rollout, RolloutEvent
from feedback.store import keys
from feedback.store.versions import unknown_version
from models.types import BASE
from models.versions import STATES, may_go_live

if TYPE_CHECKING:
    from feedback.store.client import Client
    from models.versions import VersionState

_OLD_AFTER: dict[str, VersionState] = {"activate": "retired", "rollback": "rolled_back"}


class RolloutStore:
    """The rollout of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self) -> Rollout:
        """Return what is served; ``base`` at generation 0 when nothing was ever set."""
        found = await self._client.hash(keys.ROLLOUT)
        return Rollout(
            live=found.get("live", BASE),
            generation=int(found.get("generation", 0)),
            previous=found.get("previous") or None,
            confirmed=found.get("confirmed"),
            canary=found.get("canary"),
            fraction=float(found.get("fraction", 0)),
        )

    async def activate(
        self,
        version: str,
        *,
        who: str,
        why: str,
        expected_live: str | None = None,
        only_from: VersionState | None = None,
        figures: dict[str, Any] | None = None,
        now: float,
    ) -> Rollout:
        """Make a version live and retire the one before; what is live already stays so.

        Args:
            version: The version to serve, or ``base``.
            who: Who wants it, for the audit.
            why: The reason, for the audit.
            expected_live: What must be live at this moment; None for whatever it is.
            only_from: The state that the version must be in; None for all that may go live. Where
                ``expected_live`` was left and came back, the version's own state tells.
            figures: The measurements behind it, for the audit.
            now: Seconds since the epoch.

        Raises:
            UnknownVersionError: There is no such version.
            RolloutConflictError: Another version is live than expected, or the version is in a
                state from which it may not go live.
        """
        details: list[str | float] = [who, why, json.dumps(figures or {}), now]
        states = STATES if only_from is None else (only_from,)
        return await self._move("activate", version, expected_live or "", details, states)

    async def rollback(self, *, to: str | None = None, who: str, why: str, now: float) -> Rollout:
        """Take the live version back, for ``to`` or for the one that it followed.

        Votes that the version learned wait again, once.

        Raises:
            UnknownVersionError: There is no version ``to``.
            RolloutConflictError: There is nothing to go back to, or ``to`` may not go live.
        """
        return await self._move("rollback", to or "", "", [who, why, "{}", now])

    async def events(self, limit: int = 100) -> list[RolloutEvent]:
        """Return the last entries of the audit, newest first."""
        found = await self._client.command("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", limit)
        return [_decode_event(event_id, event) for event_id, event in found]

    async def _move(
        self,
        action: Literal["activate", "rollback"],
        version: str,
        expected_live: str,
        details: list[str | float],
        states: tuple[VersionState, ...] = STATES,
    ) -> Rollout:
        """Compare and set the rollout in one script; raise what it refuses."""
        outcome, found, state = await self._client.promise(
            "rollout_move",
            [keys.ROLLOUT],
            [
                version,
                expected_live,
                action,
                _OLD_AFTER[action],
                *details,
                *(each for each in states if may_go_live(each)),
            ],
        )
        if outcome == "unknown":
            raise unknown_version(found)
        if outcome != "ok":
            raise RolloutConflictError(_conflict(outcome, found, state))
        return await self.get()


def _conflict(outcome: str, version: str, state: str) -> str:
    """Say why the rollout stays as it is, and what to do."""
    if outcome == "live":
        return f"The live version is {version} now. Read the rollout again, then decide afresh."
    if outcome == "state":
        return (
            f"Version {version} is {state} and may not go live. Choose one that passed its gate: "
            "`thumbloop versions list` shows the states."
        )
    return (
        f"There is nothing to roll back to from {version}. Name another version: "
        "`thumbloop versions list` shows those there are."
    )


def _decode_event(event_id: str, event: dict[str, str]) -> RolloutEvent:
    return RolloutEvent(
        id=event_id,
        at=float(event["at"]),
        who=event["who"],
        action=event["action"],
        old=event["old"],
        new=event["new"],
        why=event["why"],
        figures=json.loads(event["figures"]),
    )
