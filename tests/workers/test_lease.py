import asyncio
from datetime import timedelta

import pytest

from feedback.errors import FencedError, StoreUnavailableError
from workers.lease import StopFlag, StoppedError, under_lease

pytestmark = pytest.mark.anyio
LEASE = timedelta(milliseconds=30)


async def test_the_lease_is_renewed_three_times_a_lease() -> None:
    renewals = []

    async def renew() -> None:
        renewals.append(1)

    stop = StopFlag()
    await under_lease(asyncio.sleep(0.2), renew=renew, lease=timedelta(seconds=0.12), stop=stop)
    assert 3 <= len(renewals) <= 5
    stop.check()


async def test_a_lost_run_stops_the_work() -> None:
    async def renew() -> None:
        raise FencedError("taken over")

    stop = StopFlag()
    with pytest.raises(FencedError):
        await under_lease(asyncio.sleep(60), renew=renew, lease=LEASE, stop=stop)
    with pytest.raises(StoppedError):
        stop.check()


async def test_a_renewal_that_redis_misses_is_no_reason_to_stop() -> None:
    async def renew() -> None:
        raise StoreUnavailableError("away")

    await under_lease(asyncio.sleep(0.1), renew=renew, lease=LEASE, stop=StopFlag())


async def test_the_error_of_the_work_comes_out() -> None:
    async def work() -> None:
        raise ValueError("broken")

    async def renew() -> None:
        pass

    with pytest.raises(ValueError, match="broken"):
        await under_lease(work(), renew=renew, lease=LEASE, stop=StopFlag())
