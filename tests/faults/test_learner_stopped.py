"""Number 9: a learner that stands still past its lease finds itself fenced, and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.faults.learners import Electorate, Learners, balance, everything, lines, on_disk

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio

WHERE_IT_STOPS = (
    "claim.after",
    "learn.midst",
    "learn.after",
    "publish.begin",
    "publish.before_rename",
    "commit.before",
    "commit.after",
    "probe.after",
    "finish.after",
)


@pytest.mark.parametrize("point", WHERE_IT_STOPS)
async def test_a_learner_that_slept_past_its_lease_writes_nothing(
    site: Site, store: Store, point: str
) -> None:
    learners, electorate = Learners(site), Electorate(store)
    await electorate.vote("udu")
    sleeper = await learners.stop_at(point, FAULTS_SALT="other hardware")
    (line,) = await learners.finish()
    before, files = everything(site), on_disk(learners.folder)
    sleeper.resume()
    assert await learners.end(sleeper) == 0, sleeper.said()
    assert everything(site) == before
    assert {k: v for k, v in on_disk(learners.folder).items() if k in files} == files
    late = on_disk(learners.folder).keys() - files.keys()
    assert late == set(), "it published after it was fenced"
    books = await balance(store, electorate, learners.folder)
    print(f"slept at {point}: {books}; keys {len(before)}, unchanged; it said {lines(sleeper)}")
    assert (books.runs, books.found) == (1, 3)
    assert line["run"] == 1


async def test_a_learner_that_wakes_while_its_follower_is_at_work_commits_nothing(
    site: Site, store: Store
) -> None:
    """The run is open still, so that the fence alone stands between the two."""
    learners, electorate = Learners(site), Electorate(store)
    await electorate.vote("udu")
    sleeper = await learners.stop_at("commit.before", "--once")
    await learners.silence()
    follower = await learners.stop_at("take_over.after", "--once")
    await learners.silence()
    before = everything(site)
    sleeper.resume()
    assert await learners.end(sleeper) == 0, sleeper.said()
    assert everything(site) == before
    follower.resume()
    assert await learners.end(follower) == 0, follower.said()
    books = await balance(store, electorate, learners.folder)
    print(f"{books}; the sleeper said {lines(sleeper)}, its follower {lines(follower)}")
    assert (books.runs, books.found) == (1, 3)


async def test_a_folder_that_was_published_too_late_is_removed_by_the_next_run(
    site: Site, store: Store
) -> None:
    """It stops between its last look at the fence and its scratch folder: nothing can hold it."""
    learners, electorate = Learners(site), Electorate(store)
    await electorate.vote("ud")
    sleeper = await learners.stop_at("publish.before_scratch", FAULTS_SALT="other hardware")
    await learners.finish()
    sleeper.resume()
    await learners.end(sleeper)
    late = len(list(learners.folder.glob("v000001-*"))) - 1
    await electorate.vote("ud")
    await learners.finish()
    books = await balance(store, electorate, learners.folder)
    print(f"folders published too late {late}, now removed; {books}")
    assert late == 1
    assert (books.runs, books.found) == (2, 4)
