"""Sites of real processes that the tests break; nothing of them outlives its test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.faults.site import Site
from tests.support.faults.voters import Voters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from feedback.store import Store


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make sites in folders of the test's own."""
    sites: list[Site] = []

    def make(**options: int) -> Site:
        folder = tmp_path / f"site{len(sites)}"
        folder.mkdir()
        sites.append(Site(folder, **options))
        return sites[-1]

    yield make
    for site in sites:
        site.destroy()


@pytest.fixture
async def site(make_site: Callable[..., Site]) -> Site:
    """Return a site of which only Redis runs."""
    made = make_site()
    await made.redis.start()
    return made


@pytest.fixture
async def store(site: Site) -> AsyncIterator[Store]:
    """Return a store on the site's Redis."""
    opened = site.store()
    yield opened
    await opened.close()


@pytest.fixture
async def voters(site: Site) -> AsyncIterator[Voters]:
    """Return people who chat and vote on the site, whose API must have been started by then."""
    people = Voters(site.url)
    yield people
    await people.close()
