"""Follows the rollout: loads what goes live, swaps to it, and frees what nobody needs.

It also tells the engine when an update learns, so that both have cores.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError
from feedback.events import Replica, Rollout
from models.errors import ModelsError
from models.types import BASE
from models.versions import is_version_id
from service.errors import ModelNotFoundError
from service.waiting import within

if TYPE_CHECKING:
    from feedback.store import Store
    from models.backends import Generator
    from service.last_known import LastKnown
    from service.metrics import Metrics
    from service.settings import ServiceSettings

log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=2)
RETRY_SECONDS = 5.0
REPORT_SECONDS = 2.0
REPORT_TTL = timedelta(seconds=10)


class RolloutWatcher:
    """Decides which version each new request gets.

    Attributes:
        serving: The version of new requests; None until the first one is loaded.
        rollout: The rollout as last read; None before that.
        problem: Why ``serving`` is not what should be live; None when it is.
        store_away: Whether Redis failed to answer the last look.
    """

    def __init__(
        self,
        generator: Generator,
        store: Store,
        settings: ServiceSettings,
        last_known: LastKnown,
        metrics: Metrics,
    ) -> None:
        self.generator = generator
        self.replica_id = f"{platform.node()}-{os.getpid()}"
        self.serving: str | None = None
        self.rollout: Rollout | None = None
        self.problem: str | None = None
        self.store_away = False
        self._store = store
        self._settings = settings
        self._last_known = last_known
        self._metrics = metrics
        self._pinned: OrderedDict[str, None] = OrderedDict()
        self._pinning = asyncio.Lock()
        self._retry_at = 0.0
        self._reported: Replica | None = None
        self._reported_at = 0.0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.poll_interval.total_seconds())
            try:
                await self.look()
            except Exception:
                log.exception("The look at the rollout failed; the next one follows")

    async def look(self) -> None:
        """Read the rollout once and do what it asks for."""
        try:
            self.rollout = await within(PATIENCE, self._store.rollout.get())
            learning = await within(PATIENCE, self._store.runs.lease_held())
            self.generator.make_room(learning=learning)
            self.store_away = False
        except StoreUnavailableError:
            self.store_away = True
        self._metrics.store_up.set(not self.store_away)
        await self._follow()
        await self._unload_others()
        await self._report()

    async def pin(self, version: str) -> None:
        """Make sure that ``version`` is loaded, and stays so for the next requests.

        Raises:
            ModelNotFoundError: There is no such version, or it cannot be loaded.
        """
        if version == BASE:
            return
        if not is_version_id(version):
            raise ModelNotFoundError(f"policy@{version}")
        async with self._pinning:
            await self._load_pinned(version)
            self._pinned[version] = None
            self._pinned.move_to_end(version)
            while len(self._pinned) > self._settings.pinned_versions:
                self._pinned.popitem(last=False)

    async def _load_pinned(self, version: str) -> None:
        if version in self.generator.loaded():
            return
        try:
            await self.generator.load(version)
        except (ModelsError, OSError) as error:
            log.warning("%s was asked for and cannot be loaded: %s", version, error)
            raise ModelNotFoundError(f"policy@{version}") from error

    async def _follow(self) -> None:
        wanted = self.rollout.live if self.rollout else self._last_known.live or BASE
        if wanted == self.serving:
            self.problem = None
            return
        if time.monotonic() < self._retry_at:
            return
        if await self._swap(wanted):
            self.problem = None
            self._last_known.remember(live=wanted)
            return
        self._retry_at = time.monotonic() + RETRY_SECONDS
        for fallback in (self._last_known.live, BASE):
            if self.serving is None and fallback is not None:
                await self._swap(fallback)

    async def _swap(self, version: str) -> bool:
        try:
            await self.generator.load(version)
        except (ModelsError, OSError) as error:
            self.problem = f"{version} cannot be loaded: {error}"
            log.error("%s The last good version serves on.", self.problem)  # noqa: TRY400
            return False
        if self.serving is not None:
            self._metrics.swaps.inc()
        log.info("Serving %s (before: %s)", version, self.serving)
        self.serving = version
        return True

    async def _unload_others(self) -> None:
        async with self._pinning:
            needed = {BASE, self.serving, *self._pinned}
            if self.rollout:
                needed |= {self.rollout.live, self.rollout.previous}
            for version in self.generator.loaded() - needed:
                await self.generator.unload(version)

    async def _report(self) -> None:
        if self.serving is None or self.rollout is None or self.store_away:
            return
        state = Replica(
            id=self.replica_id,
            serving=self.serving,
            loaded=tuple(sorted(self.generator.loaded())),
            generation=self.rollout.generation,
            seen_at=0.0,
            problem=self.problem,
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
