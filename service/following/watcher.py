"""Follows the rollout: loads what is to be served, routes requests to it, frees what nobody needs.

Redis notifies it of a change, and it reads the rollout every half second as well, since a
notification may be lost. It also gives cores to the learner while an update learns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError
from feedback.types import Replica, Rollout
from models.errors import ModelsError
from models.types import BASE
from models.versions import is_version_id
from service.errors import ModelNotFoundError
from service.following.loads import VersionLoads
from service.following.routing import Route, version_for
from service.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.store import Store
    from models.backends import Generator
    from service.following.last_known import LastKnown
    from service.metrics.metrics import Metrics
    from service.settings import ServiceSettings

log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=2)
REPORT_SECONDS = 2.0
REPORT_TTL = timedelta(seconds=10)
LINGER_SECONDS = 1.0
"""How long a version that nobody needs stays loaded: a request may have chosen it a moment ago."""


class RolloutWatcher:
    """Decides which version each new request gets.

    Attributes:
        route: What new requests get; None until the first version is loaded.
        rollout: The rollout as last read; None before that.
        generation: The generation that is served wholly, live version and canary.
        problem: Why ``route`` is not what the rollout asks for; None when it is, or will be.
        store_away: Whether Redis did not answer when the rollout was last read.
    """

    def __init__(
        self,
        generator: Generator,
        store: Store,
        settings: ServiceSettings,
        last_known: LastKnown,
        metrics: Metrics,
        url: str = "",
    ) -> None:
        self.generator = generator
        self.replica_id = f"{platform.node()}-{os.getpid()}"
        self.route: Route | None = None
        self.rollout: Rollout | None = None
        self.generation = 0
        self.problem: str | None = None
        self.store_away = False
        self._url = url
        self._started_at = time.time()
        self._store = store
        self._settings = settings
        self._last_known = last_known
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._loads = VersionLoads(generator, self._wake.set)
        self._pinned: OrderedDict[str, None] = OrderedDict()
        self._spare_since: dict[str, float] = {}
        self._reported: Replica | None = None
        self._reported_at = 0.0

    @property
    def serving(self) -> str | None:
        """The version of new requests that are not on the canary; None until one is loaded."""
        return self.route.live if self.route else None

    def version_for(self, key: str) -> str:
        """Return the loaded version of a new request by whom it counts as.

        Raises:
            ModelNotFoundError: None is loaded yet.
        """
        if self.route is None:
            raise ModelNotFoundError("policy")
        return version_for(self.route, key)

    async def run(self) -> None:
        """Follow the rollout until cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._until_woken()
                try:
                    await self._read()
                    await self._act()
                except Exception:
                    log.exception("The rollout could not be read; the next attempt follows")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def look(self) -> None:
        """Read the rollout once and do what it asks for; return once that is done or failed."""
        await self._read()
        self._follow()
        while await self._loads.one_ends():
            self._follow()
        await self._act()

    async def leave(self) -> None:
        """Say that this replica serves no longer."""
        await self._loads.close()
        if self._reported is not None:
            with contextlib.suppress(StoreUnavailableError):
                await within(PATIENCE, self._store.replicas.remove(self.replica_id))

    async def pin(self, version: str) -> None:
        """Make sure that ``version`` is loaded, and stays so for the next requests.

        Raises:
            ModelNotFoundError: There is no such version, or it cannot be loaded.
        """
        if version == BASE:
            return
        if not is_version_id(version):
            raise ModelNotFoundError(f"policy@{version}")
        self._pinned[version] = (
            None  # from here on, so that it is not unloaded right after the load
        )
        try:
            await self._loads.load(version)
        except (ModelsError, OSError) as error:
            self._pinned.pop(version, None)
            log.warning("%s was asked for and cannot be loaded: %s", version, error)
            raise ModelNotFoundError(f"policy@{version}") from error
        self._spare_since.pop(version, None)
        self._pinned[version] = None
        self._pinned.move_to_end(version)
        while len(self._pinned) > self._settings.pinned_versions:
            self._pinned.popitem(last=False)

    async def _until_woken(self) -> None:
        """Wait for a notification or the end of a load, at most for the poll interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_interval.total_seconds()):
                await self._wake.wait()
        self._wake.clear()

    async def _listen(self) -> None:
        """Wake the watcher when the rollout has changed."""
        news = self._store.notifications(patience=timedelta(seconds=10))
        try:
            while True:
                try:
                    if await news.wait():
                        self._wake.set()
                except StoreUnavailableError:
                    await asyncio.sleep(self._settings.poll_interval.total_seconds())
        finally:
            await news.close()

    async def _read(self) -> None:
        try:
            self.rollout, learning = await within(
                PATIENCE,
                asyncio.gather(self._store.rollout.get(), self._store.runs.lease_held()),
            )
            self.generator.adjust_threads(learning=learning)
            self.store_away = False
        except StoreUnavailableError:
            self.store_away = True
        self._metrics.store_up.set(not self.store_away)

    async def _act(self) -> None:
        self._follow()
        await self._report()
        await self._unload_spare()

    def _follow(self) -> None:
        """Serve what the rollout asks for, as far as it is loaded; begin to load the rest."""
        live = self.rollout.live if self.rollout else self._last_known.live or BASE
        canary = self.rollout.canary if self.rollout else None
        fallbacks = self._fallbacks(live) if self.route is None else []
        self._loads.only({live, canary or live, *fallbacks})
        if self._loads.want(live):
            self._serve(live)
            self._last_known.remember(live=live)
        elif self._loads.problem(live):
            self._fall_back(fallbacks)
        problems = [self._follow_canary(canary), self._live_problem(live)]
        self.problem = " ".join(problem for problem in problems if problem) or None
        route = self.route
        if self.rollout and self.generation > self.rollout.generation:
            self.generation = 0  # of a record that was lost: what it counted is no more
        if self.rollout and route and (route.live, route.canary) == (live, canary):
            self.generation = self.rollout.generation

    def _follow_canary(self, canary: str | None) -> str | None:
        """Route users to the canary once it is loaded; return why it cannot be, if so."""
        loaded = canary is not None and self._loads.want(canary)
        if self.route is not None:
            fraction = self.rollout.fraction if self.rollout and loaded else 0.0
            self.route = Route(self.route.live, canary if loaded else None, fraction)
        problem = self._loads.problem(canary) if canary and not loaded else None
        return problem and (
            f"The canary {canary} cannot be loaded, so nobody gets it here: {problem}"
        )

    def _live_problem(self, live: str) -> str | None:
        problem = self._loads.problem(live)
        return problem and (
            f"The live version {live} cannot be loaded, so {self.serving or 'nothing'} is "
            f"served here: {problem}"
        )

    def _fallbacks(self, live: str) -> list[str]:
        """Return what may be served at a start instead of the live version, the best one first."""
        confirmed = self.rollout.confirmed if self.rollout else None
        known = (self._last_known.live, confirmed, BASE)
        return [version for version in known if version is not None and version != live]

    def _fall_back(self, fallbacks: Sequence[str]) -> None:
        """Serve the first of these that can be loaded, once the better ones have failed."""
        for version in fallbacks:
            if self._loads.want(version):
                self._serve(version)
                return
            if self._loads.problem(version) is None:
                return

    def _serve(self, version: str) -> None:
        before = self.serving
        if version == before:
            return
        if self.route is None:
            self.route = Route(version)
        else:
            self._metrics.swaps.inc()
            self.route = replace(self.route, live=version)
        log.info("Serving %s (before: %s)", version, before)

    async def _unload_spare(self) -> None:
        """Unload what nobody has needed for a while; requests in flight keep their weights."""
        needed = {BASE, self.serving, *self._pinned}
        if self.route:
            needed.add(self.route.canary)
        if (rollout := self.rollout) is not None:
            needed |= {rollout.live, rollout.canary, rollout.previous, rollout.confirmed}
        now = time.monotonic()
        spare = self.generator.loaded() - needed
        self._spare_since = {version: self._spare_since.get(version, now) for version in spare}
        for version, since in [*self._spare_since.items()]:
            if now - since >= LINGER_SECONDS and version in self._spare_since:
                await self.generator.unload(version)

    async def _report(self) -> None:
        if self.serving is None or self.rollout is None or self.store_away:
            return
        state = Replica(
            id=self.replica_id,
            serving=self.serving,
            loaded=tuple(sorted(self.generator.loaded())),
            generation=self.generation,
            seen_at=0.0,
            problem=self.problem,
            canary=self.route.canary if self.route else None,
            read_generation=self.rollout.generation,
            started_at=self._started_at,
            url=self._url,
        )
        now = time.time()
        if state == self._reported and now - self._reported_at < REPORT_SECONDS:
            return
        self._reported, self._reported_at = state, now
        try:
            report = self._store.replicas.report(replace(state, seen_at=now), REPORT_TTL)
            await within(PATIENCE, report)
        except StoreUnavailableError:
            self._reported = None
