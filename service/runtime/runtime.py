"""What a running application holds, and how it comes up and goes down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from feedback.rewards import RewardScale
from service.errors import NotReadyError
from service.following.last_known import LastKnown
from service.following.watcher import RolloutWatcher
from service.metrics.metrics import Metrics
from service.runtime.auth import Authenticator
from service.runtime.feedback_tokens import FeedbackTokens
from service.runtime.in_flight import InFlight
from service.runtime.pace import Pace
from service.runtime.record_health import RecordWatch
from service.runtime.tally import ReplyTally
from service.runtime.unrecorded import Unrecorded

if TYPE_CHECKING:
    from feedback.store import Store
    from models.backends import Generator
    from service.runtime.lifecycle import Lifecycle
    from service.settings import ServiceSettings

log = logging.getLogger(__name__)


class Runtime:
    """The parts of one application. Made in its lifespan, found in each request's state."""

    def __init__(
        self,
        settings: ServiceSettings,
        store: Store,
        generator: Generator | None,
        lifecycle: Lifecycle,
    ) -> None:
        self.started_at = time.time()
        self.settings = settings
        self.store = store
        self.lifecycle = lifecycle
        self.metrics = Metrics()
        self.pace = Pace(settings.max_rows)
        self.scale = RewardScale.from_settings(settings)
        self.unrecorded = Unrecorded()
        self.in_flight = InFlight()
        self.tokens = FeedbackTokens(store, settings.feedback_token_ttl, settings.record_timeout)
        self.record = RecordWatch(store)
        self.tally = ReplyTally(store)
        self.started = asyncio.Event()
        self._generator = generator
        self._last_known = LastKnown(settings.data_dir)
        self.authenticator = Authenticator(store, settings, self._last_known, self.tokens)
        self._watcher: RolloutWatcher | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin loading in the background; /readyz says how far it is."""
        self._tasks.append(asyncio.create_task(self._start()))
        self._tasks.append(asyncio.create_task(self.record.run()))
        self._tasks.append(asyncio.create_task(self.tally.run()))

    async def stop(self) -> None:
        """Stop following the rollout and close the engine."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.tally.flush()
        if self._watcher is not None:
            await self._watcher.leave()
        if self._generator is not None:
            await self._generator.close()

    def serving(self) -> RolloutWatcher:
        """Return the watcher, once the model and a version are loaded.

        Raises:
            NotReadyError: They are not.
        """
        missing = self.missing()
        if missing or self._watcher is None:
            raise NotReadyError(
                f"The server is not ready: {'; '.join(missing)}. Try again in a moment.",
                retry_after=5,
            )
        return self._watcher

    def retry_after(self) -> int:
        """Return in how many seconds a request that is refused now should come back."""
        waiting = self._watcher.generator.stats().waiting if self._watcher else 0
        return self.pace.seconds_for(waiting)

    @property
    def watcher(self) -> RolloutWatcher | None:
        """The watcher, if the model is loaded."""
        return self._watcher

    def missing(self) -> list[str]:
        """Return what keeps the application from serving; nothing when it is ready to."""
        missing = []
        if self.lifecycle.failure is not None:
            missing.append(f"the start failed: {self.lifecycle.failure}")
        elif self._watcher is None:
            missing.append("the base model is being loaded")
        elif self._watcher.serving is None:
            missing.append("no policy version is loaded yet")
        if self.authenticator.keyed is None:
            missing.append("Redis has not said yet whether API keys exist")
        return missing

    async def _start(self) -> None:
        try:
            await self.authenticator.refresh()
            if self._generator is None:
                self._generator = await asyncio.to_thread(_local_generator, self.settings)
            await self._generator.start()
            self._watcher = RolloutWatcher(
                self._generator,
                self.store,
                self.settings,
                self._last_known,
                self.metrics,
                self.lifecycle.url,
            )
            await self._watcher.look()
        except Exception as error:  # whatever it is, the process has to end with it
            self.lifecycle.failure = error
            return
        self._tasks.append(asyncio.create_task(self._watcher.run()))
        self._tasks.append(asyncio.create_task(self._watch_keys()))
        self.lifecycle.loaded = True
        self.started.set()

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_interval.total_seconds())
            try:
                await self.authenticator.refresh()
            except Exception as error:
                self.lifecycle.failure = error
                return


def _local_generator(settings: ServiceSettings) -> Generator:
    # Imported here: torch takes seconds, and the port should answer meanwhile.
    from models.backends.local import LocalGenerator  # noqa: PLC0415

    return LocalGenerator(settings)
