"""Beat dies, or finds a damaged schedule file: the next look for work comes all the same."""

from __future__ import annotations

import asyncio
import os
import signal
from statistics import median
from typing import TYPE_CHECKING

import pytest

from service.up.keeper import ProcessKeeper
from service.up.parts import Part, beat_command
from tests.support.faults.site import with_fake_learner
from tests.support.faults.work import look_comes
from workers.app import LOOK_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
async def test_a_killed_beat_is_back_within_two_intervals(
    site: Site, store: Store, tmp_path: Path, kills: int
) -> None:
    """Under the keeper of ``thumbloop up``, counted from its death."""
    site.start_worker("control")
    gaps = []
    for kill in range(kills):
        part = Part("beat", tuple(with_fake_learner(beat_command())), site.environment)
        # A keeper of its own for each death: one after the other would wait ever longer.
        keeper = ProcessKeeper(part, tmp_path, lambda _, line: None)
        keeper.start()
        try:
            gaps.append(await gap_after_a_kill(keeper, store, kill % 4 * 0.5))
        finally:
            await keeper.stop()
    print(f"{kills} kills of beat: a look {max(gaps):.1f} s after it at most")
    # Python alone takes seconds to start on a machine that has other things to do; most are quick.
    assert median(gaps) < 2 * LOOK_SECONDS


async def gap_after_a_kill(keeper: ProcessKeeper, store: Store, later: float) -> float:
    """Kill beat some time after a look; return the seconds until the next one."""
    await look_comes(store, 30)
    await asyncio.sleep(later)
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGKILL)
    # A doorbell that rang just before may still be answered.
    await asyncio.sleep(0.2)
    gap = 0.2 + await look_comes(store, 30)
    assert keeper.deaths == 1
    return gap


async def test_beat_leaves_nothing_behind_that_could_keep_it_from_starting(
    site: Site, store: Store
) -> None:
    """Celery's default keeps a file, and with a damaged one no longer starts."""
    site.start_worker("control")
    before = set(site.data_dir.rglob("*"))
    beat = site.start_beat()
    for _ in range(3):
        await look_comes(store, 30)
    beat.kill()
    left = {path.name for path in set(site.data_dir.rglob("*")) - before}
    assert left <= {"beat.log", "control.log"}
    for suffix in ("", ".dat", ".dir", ".bak", ".db"):
        (site.data_dir / f"beat-schedule{suffix}").write_bytes(os.urandom(500))
        (site.data_dir / f"celerybeat-schedule{suffix}").write_bytes(os.urandom(500))
    beat.spawn()
    await look_comes(store, 30)
    assert beat.alive()
