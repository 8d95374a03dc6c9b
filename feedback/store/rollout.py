"""The rollout: which version is served, and the audit of every change to it.

What a command changes is planned in ``models.versions``; here the plan is written by one script
that compares first. Where something has moved in between, it is planned afresh.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from feedback.errors import RolloutConflictError, StoreUnavailableError, UnknownVersionError
from feedback.store import keys
from feedback.store.rollout_codec import (
    read_event,
    read_rollout,
    read_snapshot,
    spell_change,
)
from feedback.store.versions import read_lineage
from models.errors import RolloutRefusedError
from models.versions import (
    Activate,
    Confirm,
    Kill,
    PromoteCanary,
    RecordGateVerdict,
    RejectCanary,
    Rollback,
    StartCanary,
    StopCanary,
    plan,
)

if TYPE_CHECKING:
    from feedback.store.client import Client
    from feedback.store.votes import Votes
    from feedback.types import Rollout, RolloutEvent
    from models.versions import Command, Snapshot, Transition, VersionState

_TRIES = 20
"""How often a command is planned afresh; each time another command has won."""

_PIECES = 20
"""Pieces of votes that are given back before a rollback returns; sweeps do what is left."""

_EVENTS_AT_ONCE = 300
"""Entries of the audit that one script looks through for those of a version."""


class RolloutStore:
    """The rollout of one Redis.

    Each command takes effect whole, with exactly one entry in the audit, or not at all. One that
    finds all as it wants it changes nothing and writes no entry. ``who``, ``why`` and ``figures``
    are for the audit, ``now`` is in seconds since the epoch; ``expected_generation`` is that of the
    rollout which the caller decided on. All raise:

        UnknownVersionError: There is no such version.
        RolloutConflictError: The rules do not allow it, or the rollout is not as expected; the
            message says which, and what to do.
    """

    def __init__(self, client: Client, votes: Votes) -> None:
        self._client = client
        self._votes = votes

    async def get(self) -> Rollout:
        """Return what is served; ``base`` at generation 0 when nothing was ever set."""
        return read_rollout(await self._client.hash(keys.ROLLOUT))

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
        """Make a version live, or ``base``, and retire the one before.

        The version is confirmed too, unless ``who`` is the learner.

        Args:
            version: The version to serve, or ``base``.
            who: Who wants it.
            why: The reason.
            expected_live: What must be live at this moment; None for whatever it is.
            only_from: The state that the version must be in; None for all that may go live. Where
                ``expected_live`` was left and came back, the version's own state tells.
            figures: The measurements behind it.
            now: Seconds since the epoch.
        """
        command = Activate(version, expected_live, only_from)
        return await self._carry_out(command, who, why, figures, now)

    async def rollback(
        self,
        *,
        to: str | None = None,
        who: str,
        why: str,
        figures: dict[str, Any] | None = None,
        expected_live: str | None = None,
        expected_generation: int | None = None,
        now: float,
    ) -> Rollout:
        """Take the live version back, for ``to`` or for the one that was live before.

        What it was built on since then is taken back with it; the votes that these versions learned
        wait again, unless they did before. The version gone back to is confirmed. Of two rollbacks
        at the same moment that name no version, one is refused.
        """
        command = Rollback(to, expected_live)
        return await self._carry_out(command, who, why, figures, now, expected_generation)

    async def start_canary(
        self,
        version: str,
        fraction: float,
        *,
        who: str,
        why: str,
        figures: dict[str, Any] | None = None,
        expected_live: str | None = None,
        now: float,
    ) -> Rollout:
        """Let a version serve a share of the users, in (0, 1]; again to change the share."""
        command = StartCanary(version, fraction, expected_live)
        return await self._carry_out(command, who, why, figures, now)

    async def stop_canary(
        self,
        *,
        who: str,
        why: str,
        expected: str | None = None,
        figures: dict[str, Any] | None = None,
        now: float,
    ) -> Rollout:
        """End the canary without a verdict; the learner leaves that version alone from then on."""
        return await self._carry_out(StopCanary(expected), who, why, figures, now)

    async def promote_canary(
        self,
        *,
        who: str,
        why: str,
        expected: str,
        figures: dict[str, Any] | None = None,
        expected_generation: int | None = None,
        now: float,
    ) -> Rollout:
        """Make the canary live and confirmed."""
        return await self._carry_out(
            PromoteCanary(expected), who, why, figures, now, expected_generation
        )

    async def reject_canary(
        self,
        *,
        who: str,
        why: str,
        expected: str,
        figures: dict[str, Any] | None = None,
        expected_generation: int | None = None,
        now: float,
    ) -> Rollout:
        """Roll the canary back; the votes that it learned wait again, unless they did before."""
        return await self._carry_out(
            RejectCanary(expected), who, why, figures, now, expected_generation
        )

    async def confirm(
        self,
        version: str,
        *,
        who: str,
        why: str,
        figures: dict[str, Any] | None = None,
        expected_confirmed: str | None = None,
        expected_generation: int | None = None,
        now: float,
    ) -> Rollout:
        """Let the live version be the one that later ones are judged against."""
        command = Confirm(version, expected_confirmed)
        return await self._carry_out(command, who, why, figures, now, expected_generation)

    async def kill(self, *, who: str, why: str, now: float) -> Rollout:
        """Serve the base, end the canary and pause learning, all at once.

        No votes are given back: that the base is wanted now is no verdict on what was learned.
        """
        return await self._carry_out(Kill(), who, why, None, now)

    async def verdict(
        self,
        version: str,
        state: Literal["approved", "rejected"],
        *,
        figures: dict[str, Any],
        reason: str | None,
        who: str = "gate",
        now: float,
    ) -> None:
        """Write the gate's verdict on a candidate that no update run made."""
        await self._carry_out(RecordGateVerdict(version, state), who, reason or "", figures, now)

    async def snapshot(self, *versions: str) -> Snapshot:
        """Return what the rules look at: the rollout, its versions, and those that are named."""
        found, paused, walked, facts = await self._client.script(
            "rollout_read", [keys.ROLLOUT, keys.LEARNING], versions
        )
        spelled = dict(zip(found[::2], found[1::2], strict=True))
        return read_snapshot(spelled, paused=bool(paused), walked=walked, facts=facts)

    async def preview(self, command: Command, *, who: str, now: float) -> Transition | None:
        """Return what a command would change now; None where it would change nothing."""
        return _planned(await self._look(command), command, who, now)

    async def events(
        self, limit: int = 100, *, version: str | None = None, before: str | None = None
    ) -> list[RolloutEvent]:
        """Return entries of the audit, newest first.

        Args:
            limit: How many at most.
            version: Only those that are about it: on either side, or named in the figures.
            before: Only those older than the entry of this id, as ``1700000000000-0``.
        """
        start = f"({before}" if before else "+"
        if version is None:
            words = (keys.EVENTS, start, "-", "COUNT", limit)
            found = await self._client.command("XREVRANGE", *words)
            return [read_event(event_id, event) for event_id, event in found]
        events: list[RolloutEvent] = []
        while start and len(events) < limit:
            entries, last = await self._client.script(
                "events_of", [keys.EVENTS], [start, _EVENTS_AT_ONCE, version, limit - len(events)]
            )
            events += [
                read_event(event_id, dict(zip(flat[::2], flat[1::2], strict=True)))
                for event_id, flat in entries
            ]
            start = f"({last}" if last else ""
        return events

    async def _carry_out(
        self,
        command: Command,
        who: str,
        why: str,
        figures: dict[str, Any] | None,
        now: float,
        expected_generation: int | None = None,
    ) -> Rollout:
        """Plan and write, until nothing has moved in between; raise what the rules refuse."""
        for _ in range(_TRIES):
            snapshot = await self._look(command)
            if expected_generation not in {None, snapshot.rollout.generation}:
                raise RolloutConflictError(
                    "The rollout has changed since it was read. Read the rollout again, then "
                    "decide afresh."
                )
            command = _pinned(command, snapshot)
            change = _planned(snapshot, command, who, now)
            if change is None:
                return snapshot.rollout
            if await self._write(change, snapshot, who, why, figures or {}, now):
                if any(move.returns is not None for move in change.moves):
                    await self._return_votes()
                return change.rollout
        raise RolloutConflictError(
            "Other commands keep changing the rollout, so this one changed nothing. Read the "
            "rollout again, then decide afresh."
        )

    async def _return_votes(self) -> None:
        """Give back the votes of what was rolled back; sweeps do what is left of a long chain."""
        with contextlib.suppress(StoreUnavailableError):  # the rollback itself is done
            for _ in range(_PIECES):
                if not await self._votes.return_rolled_back():
                    break

    async def _look(self, command: Command) -> Snapshot:
        """Read what a command needs: of a rollback, also what its versions are built on."""
        version = getattr(command, "version", None)
        if not isinstance(command, Rollback):
            return await self.snapshot(*([version] if version else []))
        snapshot = await self.snapshot(*([command.to] if command.to else []))
        rollout = snapshot.rollout
        target = command.to or rollout.previous or ""
        known = await read_lineage(self._client, rollout.live, {target})
        if rollout.canary:
            known |= await read_lineage(self._client, rollout.canary, {rollout.live, target})
        if target in snapshot.versions:
            known |= await read_lineage(self._client, target, set(known))
        return replace(snapshot, versions={**known, **snapshot.versions})

    async def _write(
        self,
        change: Transition,
        snapshot: Snapshot,
        who: str,
        why: str,
        figures: dict[str, Any],
        now: float,
    ) -> bool:
        spelled = spell_change(change, snapshot, who=who, why=why, figures=figures, now=now)
        return bool(
            await self._client.promise(
                "rollout_write",
                [keys.ROLLOUT, keys.LEARNING, keys.RETURNING, keys.UNGATED],
                [spelled],
            )
        )


def _planned(snapshot: Snapshot, command: Command, who: str, now: float) -> Transition | None:
    """Return the plan; the rules' refusal is an error of the record."""
    try:
        return plan(snapshot, command, who=who, now=now)
    except RolloutRefusedError as error:
        if error.because == "unknown":
            raise UnknownVersionError(str(error)) from error
        raise RolloutConflictError(str(error)) from error


def _pinned(command: Command, snapshot: Snapshot) -> Command:
    """Let a rollback that names nothing be about what was live when it was first looked at.

    Planned afresh after another rollback it would walk back twice.
    """
    if isinstance(command, Rollback) and command.to is None and command.expected_live is None:
        return replace(command, expected_live=snapshot.rollout.live)
    return command
