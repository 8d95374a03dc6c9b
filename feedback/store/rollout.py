"""The rollout: which version is served, and the audit of every change to it.

What a command changes is planned in ``models.versions``; here the plan is written by one script
that compares first. Where something has moved in between, it is planned afresh.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from feedback.errors import RolloutConflictError, StoreUnavailableError, UnknownVersionError
from feedback.store import keys
from feedback.store.client import fields
from feedback.store.rollout_codec import (
    decode_event,
    decode_rollout,
    decode_snapshot,
    encode_change,
)
from feedback.store.versions import read_lineage
from models.errors import RolloutRefusedError
from models.versions import Activate, PromoteCanary, Rollback, plan

if TYPE_CHECKING:
    from feedback.store.client import Client
    from feedback.store.votes import Votes
    from feedback.types import Audit, Rollout, RolloutEvent
    from models.versions import Command, Snapshot, Transition

_TRIES = 20
"""How often a command is planned afresh; each time another command has won."""

_PIECES = 20
"""Pieces of votes that are given back before a rollback returns; sweeps do what is left."""

_EVENTS_AT_ONCE = 300
"""Entries of the audit that one script searches for those of a version."""


class RolloutStore:
    """The rollout of one Redis."""

    def __init__(self, client: Client, votes: Votes) -> None:
        self._client = client
        self._votes = votes

    async def get(self) -> Rollout:
        """Return what is served; ``base`` at generation 0 when nothing was ever set."""
        return decode_rollout(await self._client.hash(keys.ROLLOUT))

    async def do(
        self, command: Command, audit: Audit, *, expected_generation: int | None = None
    ) -> Rollout:
        """Carry out a command of ``models.versions``, and return the rollout afterwards.

        It takes effect whole, with exactly one entry in the audit, or not at all. One that finds
        everything as it wants it changes nothing and writes no entry. The votes that a version
        learned wait again once it is rolled back, unless they did before. Of two rollbacks at the
        same moment that name no version, one is refused.

        Args:
            command: What is wanted.
            audit: Who wants it, why and when.
            expected_generation: The generation of the rollout that the caller decided on; None for
                whatever it is.

        Raises:
            UnknownVersionError: There is no such version.
            RolloutConflictError: The rules do not allow it, or the rollout is not as expected; the
                message says which, and what to do.
            StoreUnavailableError: Redis is away, or cannot write it to disk.
        """
        for _ in range(_TRIES):
            snapshot = await self._read_for(command)
            if expected_generation not in {None, snapshot.rollout.generation}:
                raise RolloutConflictError(
                    "The rollout has changed since it was read. Read the rollout again, then "
                    "decide afresh."
                )
            command = _pinned(command, snapshot)
            change = _planned(snapshot, command, audit.who, audit.now)
            if change is None:
                return snapshot.rollout
            if await self._write(change, snapshot, audit):
                if change.retakes or any(move.returns is not None for move in change.moves):
                    await self._move_votes()
                return change.rollout
        raise RolloutConflictError(
            "Other commands keep changing the rollout, so this one changed nothing. Read the "
            "rollout again, then decide afresh."
        )

    async def snapshot(self, *versions: str) -> Snapshot:
        """Return what the rules need: the rollout, its versions, and those that are named."""
        found, paused, facts = await self._client.script(
            "rollout_read", [keys.ROLLOUT, keys.LEARNING], versions
        )
        return decode_snapshot(fields(found), paused=bool(paused), facts=facts)

    async def preview(self, command: Command, *, who: str, now: float) -> Transition | None:
        """Return what a command would change now; None where it would change nothing."""
        return _planned(await self._read_for(command), command, who, now)

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
            return [decode_event(event_id, event) for event_id, event in found]
        events: list[RolloutEvent] = []
        while start and len(events) < limit:
            entries, last = await self._client.script(
                "events_of", [keys.EVENTS], [start, _EVENTS_AT_ONCE, version, limit - len(events)]
            )
            events += [decode_event(event_id, fields(flat)) for event_id, flat in entries]
            start = f"({last}" if last else ""
        return events

    async def _move_votes(self) -> None:
        """Give votes back, or take them back again; sweeps do what is left of a long chain."""
        with contextlib.suppress(StoreUnavailableError):  # the rollback itself is done
            for _ in range(_PIECES):
                if not await self._votes.return_rolled_back():
                    break

    async def _read_for(self, command: Command) -> Snapshot:
        """Read what a command needs: also what its versions are built on."""
        version = getattr(command, "version", None)
        if not isinstance(command, Rollback):
            snapshot = await self.snapshot(*([version] if version else []))
            serves = snapshot.rollout.canary if isinstance(command, PromoteCanary) else version
            if not serves or not isinstance(command, Activate | PromoteCanary):
                return snapshot
            line = await read_lineage(self._client, serves, {snapshot.rollout.live})
            return replace(snapshot, versions={**line, **snapshot.versions})
        snapshot = await self.snapshot(*([command.to] if command.to else []))
        rollout = snapshot.rollout
        target = command.to or rollout.previous or ""
        known = await read_lineage(self._client, rollout.live, {target})
        if rollout.canary:
            known |= await read_lineage(self._client, rollout.canary, {rollout.live, target})
        if target in snapshot.versions:
            known |= await read_lineage(self._client, target, set(known))
        return replace(snapshot, versions={**known, **snapshot.versions})

    async def _write(self, change: Transition, snapshot: Snapshot, audit: Audit) -> bool:
        return bool(
            await self._client.durable_script(
                "rollout_write",
                [keys.ROLLOUT, keys.LEARNING, keys.RETURNING, keys.UNGATED],
                [encode_change(change, snapshot, audit)],
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
    """Let a rollback that names nothing be about what was live when it was first planned.

    Planned afresh after another rollback it would walk back twice.
    """
    if isinstance(command, Rollback) and command.to is None and command.expected_live is None:
        return replace(command, expected_live=snapshot.rollout.live)
    return command
