"""Number 2: the disk is full. Redis exits, and is back with all votes once there is space."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

import pytest

from service.up.keeper import ProcessKeeper
from service.up.parts import Part
from tests.support.faults.processes import happens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = pytest.mark.anyio

BLOCK = 512
"""Bytes of a block of ``ulimit -f`` in POSIX shells."""
SPACE = 200_000
"""Bytes that the append-only file may take: some dozens of replies."""


@pytest.fixture
async def site(make_site: Callable[..., Site]) -> Site:
    """Return a site of which nothing runs: a keeper runs Redis here."""
    return make_site()


def on_a_small_disk(command: list[str], limit: Path) -> tuple[str, ...]:
    """Return a command whose files cannot outgrow what ``limit`` says at its start.

    A write beyond that fails as one on a full disk does, with another error number.
    """
    script = f'trap "" XFSZ; ulimit -S -f "$(cat {limit})"; exec "$@"'
    return ("/bin/sh", "-c", script, "redis", *command)


async def test_a_full_disk_refuses_votes_and_all_comes_back(
    site: Site, voters: Voters, tmp_path: Path
) -> None:
    limit = tmp_path / "limit"
    limit.write_text(str(SPACE // BLOCK))
    said: list[str] = []
    command = on_a_small_disk(site.redis.embedded.command(), limit)
    keeper = ProcessKeeper(
        Part("redis", command, quiet=True), tmp_path, lambda _, line: said.append(line)
    )
    keeper.start()
    try:
        await site.start_api()
        async with voters.at_work():
            await happens(lambda: keeper.deaths >= 2, 60, "A full disk")
            acknowledged = voters.votes[200]
            assert await site.answers("/livez")
            await asyncio.sleep(1)
            assert await site.answers("/livez")
            limit.write_text("unlimited")
            if keeper.pid is not None:
                give_space(keeper.pid)
            back = await happens(lambda: voters.votes[200] > acknowledged + 50, 60, "Its return")
        found = await voters.count()
    finally:
        await keeper.stop()
    print(
        f"full disk: Redis ended {keeper.deaths} times, votes are taken {back:.1f} s after there "
        f"is space; {voters.summary()}; replies with a vote {found.promised}, found {found.kept}"
    )
    assert found.lost == []
    assert any("AOF" in line for line in said), said
    assert voters.votes[503] > 0
    assert voters.chats["unrecorded"] > 0
    assert all("try again" in message for message in voters.messages)


def give_space(pid: int) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
