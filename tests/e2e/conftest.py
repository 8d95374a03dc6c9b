"""Runs the whole of Thumbloop on the real model, as its users start it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.support.own_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


from tests.support.e2e.site import MIN_VOTES, LearnedVersion, WholeSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeSite]:
    """Return a ready server that the tests share; updates learn from six votes alone."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("These tests find the server's processes by /proc, which only Linux has.")
    server = Server(
        tmp_path_factory.mktemp("up"), min_votes=str(MIN_VOTES), lease="5", practice_rounds="0"
    )
    with server.running():
        yield WholeSite(server)


@pytest.fixture(scope="module")
def learned(site: WholeSite) -> LearnedVersion:
    """Return the first version that was learned, from votes on the base's replies."""
    ids = site.chat_and_vote(MIN_VOTES)
    run = site.until_run(1, "approved", "rejected", "quarantined")
    assert run["state"] == "approved", run["reason"]
    site.until_served(run["version"])
    return LearnedVersion(run["version"], tuple(ids), run)
