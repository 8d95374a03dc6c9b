"""One simulation: users chat and vote, updates are waited for, then versions are measured."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from models.types import BASE
from service.simulate.errors import RequestFailedError
from service.simulate.measure import measure
from service.simulate.people import click, make_turn, make_users
from service.simulate.records import Click, SimulationProgress, SimulationResult
from service.simulate.scoring import pick_versions

if TYPE_CHECKING:
    from service.simulate.client import Api, SimulatedReply
    from service.simulate.people import Turn
    from service.simulate.prompts import Prompts
    from service.simulate.records import SimulationPlan
    from service.simulate.scoring import Score

_LIVE_MODEL = "policy"
_POLL_SECONDS = 0.2
_QUIET_SECONDS = 12.0
"""An update may begin this long after the votes for it are in: the worker looks every two
seconds, and its child process takes a few more to start."""

_VERSIONS_BETWEEN = 3


class Simulation:
    """Runs a plan against a server and keeps the tally that a display reads."""

    def __init__(self, api: Api, plan: SimulationPlan, prompts: Prompts) -> None:
        self.tally = SimulationProgress()
        self.plan = plan
        self._api = api
        self._prompts = prompts
        self._users = make_users(plan.taste, plan.users, seed=plan.seed)
        self._turns = 0
        self._votes_planned = 0
        self._free_to_chat = asyncio.Event()
        self._due_since: float | None = None

    async def run(self) -> SimulationResult:
        """Chat and vote, wait for the last update, measure.

        Raises:
            SimulationError: The server cannot be used, or failed many times in a row.
        """
        started = time.monotonic()
        await self._look()
        started_from = self.tally.live
        await self._chat_and_vote()
        self.tally.phase = "measuring"
        scores = await self._measure()
        return SimulationResult(
            plan=self.plan,
            started_from=started_from,
            live_since=dict(self.tally.live_since),
            scores=scores,
            clicks=tuple(self.tally.clicks),
            chats=self.tally.chats,
            failures=tuple(self.tally.failures),
            seconds=time.monotonic() - started,
        )

    async def _chat_and_vote(self) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            self.tally.phase = "chatting"
            await self._all_chat()
            self.tally.phase = "waiting for the last update"
            await self._settle()
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def _look(self) -> None:
        self.tally.see(await self._api.live())
        stands = await self._api.learning()
        self.tally.updating = stands.updating
        if not stands.due or stands.updating:
            self._due_since = None
        elif self._due_since is None:
            self._due_since = time.monotonic()

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except RequestFailedError as error:
                self.tally.failures.append(str(error))
            if self.plan.pace and (self.tally.updating or self._update_may_begin()):
                self._free_to_chat.clear()
            else:
                self._free_to_chat.set()
            await asyncio.sleep(_POLL_SECONDS)

    def _update_may_begin(self) -> bool:
        """Whether the votes for an update came in a moment ago; later, something holds it up."""
        return self._due_since is not None and time.monotonic() - self._due_since < _QUIET_SECONDS

    async def _all_chat(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.concurrency):
                    group.create_task(self._chat())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _chat(self) -> None:
        while self._votes_planned < self.plan.votes:
            turn = self._next_turn()
            self._votes_planned += turn.rated
            await self._free_to_chat.wait()
            try:
                await self._take(turn)
            except RequestFailedError as error:
                self._votes_planned -= turn.rated
                self.tally.failed(error)
            else:
                self.tally.succeeded()

    def _next_turn(self) -> Turn:
        plan, number = self.plan, self._turns
        self._turns += 1
        return make_turn(
            number,
            self._users,
            self._prompts.chat,
            seed=plan.seed,
            rate=plan.rate,
            flip=plan.flip,
        )

    async def _take(self, turn: Turn) -> None:
        reply = await self._api.chat(
            turn.prompt,
            user=turn.user.name,
            model=_LIVE_MODEL,
            max_tokens=self.plan.max_tokens,
            seed=turn.seed,
        )
        self.tally.chats += 1
        if turn.rated:
            await self._vote(turn, reply)

    async def _vote(self, turn: Turn, reply: SimulatedReply) -> None:
        if not reply.recorded:
            raise RequestFailedError(
                "The reply was not recorded, so it cannot be voted on. Is Redis running? "
                "See: thumbloop doctor"
            )
        await self._free_to_chat.wait()
        thumb = click(turn, reply.text)
        await self._api.vote(reply.id, user=turn.user.name, thumb=thumb)
        self.tally.clicks.append(Click(reply.version, thumb))

    async def _settle(self) -> None:
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)
            if self.tally.updating:
                quiet_since = time.monotonic()

    async def _measure(self) -> tuple[Score, ...]:
        live = self.tally.live
        before = [version for version in self.tally.live_since if version not in {BASE, live}]
        kept = [version for version in before if await self._api.serves(version)]
        return await measure(
            self._api,
            self.plan,
            self.tally,
            versions=pick_versions((*kept, live), base=BASE, between=_VERSIONS_BETWEEN),
            prompts=self._prompts.score,
            users=self._users,
        )
