"""Update runs: the ledger that makes each batch of votes exactly one version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, cast

from feedback.batching import vote_json
from feedback.errors import FencedError, UnknownRunError
from feedback.store import keys
from feedback.store.client import fields
from feedback.store.codec import HashCodec
from feedback.types import FrozenVote, Run

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence
    from datetime import timedelta

    from feedback.store.client import Client
    from feedback.types import RunState

_CODEC = HashCodec(Run, without={"votes"})
OPEN = ("claimed", "committed")
"""States of runs that a learner works on."""


class Runs:
    """The run ledger of one Redis.

    One run is open at a time, from its claim to the gate's verdict. The learner that works on it
    has its fence, and shows that it is alive by renewing its lease. Whoever takes the run over
    raises the fence, and the one before can write nothing more.
    """

    def __init__(self, client: Client, lease: timedelta, retry_delay: timedelta) -> None:
        self._client = client
        self._lease_ms = round(lease.total_seconds() * 1000)
        self._rest_ms = round(retry_delay.total_seconds() * 1000)

    async def claim(
        self, votes: Sequence[FrozenVote], *, parent: str, min_votes: int, now: float
    ) -> Run | None:
        """Freeze those of the chosen votes that are still current into a new run.

        Args:
            votes: The batch that was chosen.
            parent: The version that is live, as the caller last saw it.
            min_votes: Fewest current votes that make a batch.
            now: Seconds since the epoch.

        Returns:
            The run; None if learning is paused, a run is open, ``parent`` is not live any more,
            or too few of the votes are still current.
        """
        words = [
            word for vote in votes for word in (vote.completion_id, vote.revision, vote_json(vote))
        ]
        flat = await self._client.durable_script(
            "run_claim",
            [
                keys.LEARNING,
                keys.LEASE,
                keys.OPEN_RUN,
                keys.ROLLOUT,
                keys.READY,
                keys.FENCE,
                keys.SEQUENCE,
                keys.RUNS,
                keys.RETURNING,
            ],
            [parent, min_votes, now, self._lease_ms, *words],
        )
        return None if flat is None else _decode(fields(flat))

    async def take_over(self) -> Run | None:
        """Take over the open run when its learner's lease has run out, with the same batch.

        A run that is ``committed`` has its version already; only the gate is left to do.

        Returns:
            The run under a new fence; None if no run is open or its learner is alive.
        """
        flat = await self._client.durable_script(
            "run_take_over",
            [keys.OPEN_RUN, keys.LEASE, keys.FENCE],
            [self._lease_ms],
        )
        return None if flat is None else _decode(fields(flat))

    async def renew(self, run: Run, *, doing: str = "") -> None:
        """Show that the learner of a run is alive, and what it does.

        Raises:
            FencedError: Another learner has taken over, or the run is finished.
        """
        renewed = await self._client.script(
            "run_renew", [keys.run(run.number), keys.LEASE], [run.fence, self._lease_ms, doing]
        )
        _hold(run, renewed)

    async def commit(
        self,
        run: Run,
        *,
        version: str,
        manifest: dict[str, Any],
        report: dict[str, Any],
        now: float,
    ) -> None:
        """Commit a run: from here on its version exists, and the votes that it learned are marked.

        A second commit of the same version changes nothing.

        Raises:
            FencedError: Another learner has taken over, or committed another version.
        """
        committed = await self._client.durable_script(
            "run_commit",
            [keys.run(run.number), keys.version(version), keys.VERSIONS, keys.LEASE],
            [
                run.number,
                run.fence,
                version,
                json.dumps(manifest),
                json.dumps(report),
                now,
                self._lease_ms,
                run.batch_hash,
                run.parent,
            ],
        )
        _hold(run, committed)

    async def finish(
        self,
        run: Run,
        state: Literal["approved", "rejected"],
        *,
        figures: dict[str, Any],
        reason: str | None,
        now: float,
    ) -> Literal["approved", "rejected"]:
        """End a committed run with the gate's verdict on its version, and release the lease.

        The votes of a rejected version wait again; those that went back three times already are
        discarded. The same verdict again changes nothing.

        Returns:
            The run's state afterwards: rejected also where its parent was rolled back meanwhile.

        Raises:
            FencedError: Another learner has taken over, or the run is not committed.
        """
        finished: Literal["approved", "rejected"] = await self._client.durable_script(
            "run_finish",
            [keys.run(run.number), keys.LEASE, keys.OPEN_RUN],
            [run.number, run.fence, state, json.dumps(figures), reason or "", now],
        )
        _hold(run, finished)
        return finished

    async def fail(
        self,
        run: Run,
        *,
        reason: str,
        max_attempts: int,
        return_votes: bool = False,
        now: float,
    ) -> RunState:
        """End a failed attempt, so that the run can be taken over after a rest.

        The last attempt puts the run into quarantine: its votes are discarded with the reason or,
        with ``return_votes``, wait again unless they did before. A committed run that fails at its
        gate that often has its version rejected.

        Returns:
            The run's state afterwards.

        Raises:
            FencedError: Another learner has taken over, or the run is finished.
        """
        state = await self._client.durable_script(
            "run_fail",
            [keys.run(run.number), keys.LEASE, keys.OPEN_RUN, keys.FENCE, keys.RESTING],
            [run.number, run.fence, reason, max_attempts, now, self._rest_ms, int(return_votes)],
        )
        _hold(run, state)
        return cast("RunState", state)

    async def release(self, run: Run, *, hindered_by: str = "") -> None:
        """Give an open run back; no failure is counted.

        It can be taken over at once. Where ``hindered_by`` says what kept the learner from its
        work, and it was not the batch, it can be taken over after a rest.

        Raises:
            FencedError: Another learner has taken over, or the run is finished.
        """
        released = await self._client.script(
            "run_release",
            [keys.run(run.number), keys.LEASE, keys.FENCE, keys.RESTING],
            [run.fence, self._rest_ms if hindered_by else 0, hindered_by],
        )
        _hold(run, released)

    async def resting(self) -> bool:
        """Whether the last attempt at a run or a gate failed so recently that none is made yet."""
        return bool(await self._client.command("EXISTS", keys.RESTING))

    async def rest(self) -> None:
        """Let nobody try a run or a gate for a while."""
        if self._rest_ms > 0:
            await self._client.command("SET", keys.RESTING, "gate", "PX", self._rest_ms)

    async def lease_held(self) -> bool:
        """Whether a live learner works on the open run."""
        return bool(await self._client.command("EXISTS", keys.LEASE))

    async def open(self) -> Run | None:
        """Return the run that is not finished: ``claimed``, or ``committed`` and not yet judged."""
        number = await self._client.command("GET", keys.OPEN_RUN)
        return None if number is None else await self.get(int(number))

    async def get(self, number: int) -> Run:
        """Return a run.

        Raises:
            UnknownRunError: There is none of that number.
        """
        found = await self._client.hash(keys.run(number))
        if not found:
            raise UnknownRunError(
                f"There is no update run {number}. `thumbloop updates list` shows all runs."
            )
        return _decode(found)

    async def get_many(self, numbers: Sequence[int]) -> dict[int, Run]:
        """Return runs by number, without those that there are not."""
        found = await self._client.hashes([keys.run(number) for number in numbers])
        return {run.number: run for run in map(_decode, filter(None, found))}

    async def list(self, limit: int = 50) -> builtins.list[Run]:
        """Return the last runs, newest first."""
        numbers = await self._client.command("ZREVRANGE", keys.RUNS, 0, limit - 1)
        found = await self._client.hashes([keys.run(int(number)) for number in numbers])
        return [_decode(each) for each in found]


def _hold(run: Run, outcome: object) -> None:
    """Raise FencedError when a script says that the run is no longer this learner's."""
    if not outcome:
        raise FencedError(
            f"Update run {run.number} is no longer held under fence {run.fence}: another learner "
            "has taken it over or finished it. Write nothing more and look for work afresh."
        )


def _decode(found: dict[str, str]) -> Run:
    votes = tuple(FrozenVote(*vote) for vote in json.loads(found["votes"]))
    if found["state"] not in OPEN:
        found = {**found, "doing": ""}
    return _CODEC.decode(found, votes=votes)
