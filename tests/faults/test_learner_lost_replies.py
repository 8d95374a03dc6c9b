"""Every write of an update whose request or reply is lost: the next learner finds out by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from feedback.errors import StoreUnavailableError
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.store.client import Client
from models.errors import LearningError
from tests.support.faults.learners import ANN, Electorate, balance, check_visible
from tests.support.workers.fake_learner import make_place
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from feedback.types import Run
    from models.types import Progress
    from tests.support.faults.site import Site
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

LEASE = timedelta(seconds=0.4)
HOUR = timedelta(hours=1)
Loss = Literal["request", "reply", "restart"]
LOSSES: tuple[Loss, ...] = ("request", "reply", "restart")
WRITES = ("run_claim", "run_commit", "run_finish", "rollout_write")


@dataclass
class Line:
    """A learner's line to Redis, on which some calls of a script get lost.

    ``request``: Redis never hears of it. ``reply``: Redis did it, the learner does not know.
    ``restart``: likewise, and Redis is killed and started again in between.
    """

    site: Site
    name: str
    loss: Loss
    times: int = 1
    lost: int = 0

    def cut(self, client: Client) -> None:
        for way in ("script", "durable_script"):
            setattr(client, way, self._losing(getattr(client, way)))

    def _losing(self, send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def lossy(name: str, *words: Any, **options: Any) -> Any:
            if name != self.name or self.lost == self.times:
                return await send(name, *words, **options)
            self.lost += 1
            if self.loss != "request":
                await send(name, *words, **options)
            if self.loss == "restart":
                self.site.redis.kill()
                await self.site.redis.start()
            raise StoreUnavailableError(f"The {self.loss} of {name} was lost.")

        return lossy


class Machine:
    """A machine with a learner on it, with its own line to Redis and its own clock."""

    def __init__(self, site: Site, ahead: float = 0.0, **settings: Any) -> None:
        lease = settings.pop("lease", LEASE)
        self.client = Client(site.redis.url)
        of_store = FeedbackSettings(data_dir=site.data_dir, retry_delay=timedelta(0), lease=lease)
        self.store = Store(self.client, of_store)
        self.place: UpdateResources
        self.learner: FakeLearner
        self.place, self.learner = make_place(self.store, site.data_dir, lease=lease, **settings)
        self.place.clock = lambda: time.time() + ahead

    async def look(self) -> Run | None:
        """Look for work once; nothing where Redis cannot be reached, as the Celery task does."""
        try:
            return await run_update(self.place)
        except StoreUnavailableError:
            return None

    async def work(self, seconds: float = 30.0) -> None:
        """Look for work, as the doorbell makes it do, until there is none."""
        deadline = time.monotonic() + seconds
        while await self._has_work():
            await self.look()
            assert time.monotonic() < deadline, "no end in sight"
            await asyncio.sleep(0.05)
        await self.look()

    async def _has_work(self) -> bool:
        try:
            return bool(await self.store.runs.open() or await self.store.votes.count_waiting())
        except StoreUnavailableError:
            return True


@pytest.fixture
async def machine(site: Site) -> AsyncIterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(**options: Any) -> Machine:
        machines.append(Machine(site, **options))
        return machines[-1]

    yield make
    for each in machines:
        await each.store.close()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", WRITES)
async def test_one_version_comes_of_it_whatever_is_lost(
    site: Site, store: Store, machine: Callable[..., Machine], name: str, loss: Loss
) -> None:
    electorate = Electorate(store)
    await electorate.vote("udu")
    unknown = (name, loss) == ("run_claim", "reply")  # nobody knows that the batch is claimed
    first, line = machine(lease=HOUR if unknown else LEASE), Line(site, name, loss)
    line.cut(first.client)
    await first.look()
    assert line.lost == 1
    second = machine()
    if unknown:
        assert await second.look() is None
        assert (await store.runs.get(1)).attempts == 1
        with site.redis.client() as raw_redis:  # only the end of its lease sets the batch free
            raw_redis.pexpire(keys.LEASE, 1)
    await second.work()
    books = await balance(store, electorate, second.place.settings.adapters_dir)
    learned = len(first.learner.learned) + len(second.learner.learned)
    print(f"{loss} of {name} lost: {books}; learned {learned} times")
    assert (books.runs, books.found, learned) == (1, 3, 1)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_take_over_whose_reply_is_lost_is_taken_over_in_turn(
    site: Site, store: Store, machine: Callable[..., Machine], loss: Loss
) -> None:
    electorate = Electorate(store)
    await electorate.vote("udu")
    for name in ("run_claim", "run_take_over"):
        victim, line = machine(), Line(site, name, "reply" if name == "run_claim" else loss)
        line.cut(victim.client)
        while not line.lost:
            await victim.look()
            await asyncio.sleep(0.05)
        last = machine()
    await last.work()
    books = await balance(store, electorate, last.place.settings.adapters_dir)
    run = await store.runs.get(1)
    print(f"{loss} of run_take_over lost: {books}; deaths {run.deaths}")
    assert run.attempts == (2 if loss == "request" else 3)
    assert (books.runs, books.found, run.deaths) == (1, 3, run.attempts - 1)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_renewal_that_is_lost_does_not_cost_what_was_learned(
    site: Site, store: Store, machine: Callable[..., Machine], loss: Loss
) -> None:
    electorate = Electorate(store)
    await electorate.vote("ud")
    only, line = machine(), Line(site, "run_renew", loss)
    line.cut(only.client)
    await only.look()
    assert line.lost == 1
    await only.work()
    books = await balance(store, electorate, only.place.settings.adapters_dir)
    print(f"{loss} of run_renew lost: {books}")
    assert (books.runs, books.attempts, len(only.learner.learned)) == (1, 1, 1)


@pytest.mark.parametrize("loss", ["request", "reply"])
async def test_a_run_given_back_into_the_void_is_taken_over_all_the_same(
    site: Site, store: Store, machine: Callable[..., Machine], loss: Loss
) -> None:
    electorate = Electorate(store)
    await electorate.vote("ud")
    first, line = machine(), Line(site, "run_release", loss)
    line.cut(first.client)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def learn_for_long(progress: Callable[[Progress], None]) -> None:
        from models.types import Progress

        loop.call_soon_threadsafe(begun.set)
        for _ in range(500):
            time.sleep(0.01)
            progress(Progress("learn", 1, 2))

    first.learner.during = learn_for_long
    update = asyncio.create_task(run_update(first.place))
    await begun.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    second = machine()
    await second.work()
    books = await balance(store, electorate, second.place.settings.adapters_dir)
    run = await store.runs.get(1)
    print(f"{loss} of run_release lost: {books}; deaths {run.deaths}")
    assert (books.runs, run.attempts, run.deaths) == (1, 2, 1 if loss == "request" else 0)


@pytest.mark.parametrize(("loss", "attempts"), [("request", 6), ("reply", 3), ("restart", 3)])
async def test_failures_are_counted_once_each_whoever_hears_of_it(
    site: Site, store: Store, machine: Callable[..., Machine], loss: Loss, attempts: int
) -> None:
    """Three notes of a failure get lost; those that Redis heard of count, the others do not."""
    electorate = Electorate(store)
    bad = await electorate.vote("ud")
    only, line = machine(), Line(site, "run_fail", loss, times=3)
    line.cut(only.client)

    def fail(_progress: object) -> None:
        raise LearningError("The gradient is not finite.")

    only.learner.during = fail
    await only.work()
    run = await store.runs.get(1)
    print(f"3 x {loss} of run_fail lost: attempts {run.attempts}, deaths {run.deaths}, {run.state}")
    assert (run.state, run.reason) == ("quarantined", "The gradient is not finite.")
    assert (line.lost, len(only.learner.learned), run.attempts) == (3, attempts, attempts)
    assert run.deaths == (3 if loss == "request" else 0)
    assert [(await store.votes.get(each, ANN)).state for each in bad] == ["discarded"] * 2
    again = machine()
    await electorate.vote("ud")
    await again.work()
    assert (await store.runs.get(2)).state == "approved"
    assert check_visible(again.place.settings.adapters_dir) == 1


async def test_clocks_that_differ_by_hours_change_nothing(
    site: Site, store: Store, machine: Callable[..., Machine]
) -> None:
    """Leases run by Redis's clock alone; a machine whose clock is ahead cannot stop the others."""
    electorate = Electorate(store)
    for ahead in (7200.0, -7200.0, 0.0):
        await electorate.vote("ud")
        victim = machine(ahead=ahead)
        Line(site, "run_commit", "reply").cut(victim.client)
        await victim.look()
        await machine(ahead=-ahead, update_interval=timedelta(seconds=0.2)).work()
    books = await balance(store, electorate, victim.place.settings.adapters_dir)
    print(f"clocks two hours apart: {books}")
    assert (books.runs, books.found) == (3, 6)
