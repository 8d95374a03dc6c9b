"""Number 8: learners die by SIGKILL at every failpoint; each batch is one version all the same."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from models.failpoints import FAILPOINTS
from tests.support.faults.learners import (
    KILLED,
    Electorate,
    Learners,
    balance,
    check_visible,
)

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio

TAKEN_OVER = "take_over.after"
ON_ONE_BATCH = (
    "claim.before",
    "claim.after",
    "batch.read",
    "learn.midst",
    "learn.after",
    "publish.after_rename",
    "commit.before",
    "commit.after",
)
"""Eight deaths are as many as a batch is allowed, and each of these leaves the next one its way."""
OTHERS = tuple(name for name in FAILPOINTS if name not in ON_ONE_BATCH)


@pytest.fixture
def learners(site: Site) -> Learners:
    return Learners(site)


@pytest.fixture
def electorate(store: Store) -> Electorate:
    return Electorate(store)


@pytest.mark.parametrize(
    ("rounds", "points"),
    [
        pytest.param(1, OTHERS, id="those-left-by-one-batch", marks=pytest.mark.long),
        pytest.param(7, tuple(FAILPOINTS), id="all-7-times", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(1200)
async def test_a_learner_killed_at_any_point_leaves_one_version_for_each_batch(
    store: Store,
    learners: Learners,
    electorate: Electorate,
    rounds: int,
    points: tuple[str, ...],
) -> None:
    chance = random.Random(rounds)
    for _ in range(rounds):
        for point in chance.sample(points, len(points)):
            ids = await electorate.vote("ud")
            if point == TAKEN_OVER:  # only the learner after a dead one passes there
                await learners.kill_at("batch.read")
                await learners.silence()
            await learners.kill_at(point)
            await electorate.change(ids[0], "d")  # in the midst of whatever was left undone
            await electorate.vote("u")
            await learners.finish()
    books = await balance(store, electorate, learners.folder)
    print(f"kills {sum(learners.kills.values())}: {learners.kills}; {books}")
    assert learners.kills.keys() == {*points, "batch.read"}
    assert min(learners.kills.values()) >= rounds
    assert books.found == books.votes


async def test_a_run_whose_learners_die_one_after_the_other_goes_on_from_each(
    store: Store, learners: Learners, electorate: Electorate
) -> None:
    """One batch, killed at ever later points: no step is done twice that counts."""
    await electorate.vote("udu")
    for point in ON_ONE_BATCH:
        await learners.kill_at(point)
        await learners.silence()
    await learners.finish()
    books = await balance(store, electorate, learners.folder)
    print(f"kills {learners.kills}; {books}")
    assert (books.runs, books.found) == (1, 3)


@pytest.mark.parametrize("batches", [4, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.timeout(1200)
async def test_three_learners_at_once_that_are_killed_at_any_moment(
    store: Store, learners: Learners, electorate: Electorate, batches: int
) -> None:
    """They race for each batch, and a hand that knows no failpoints kills them anywhere."""
    chance = random.Random(batches)
    killed = ended = 0
    for _ in range(batches):
        await electorate.vote("".join(chance.choice("ud") for _ in range(3)))
        crowd = [learners.start(FAULTS_LEARN_SECONDS="0.1") for _ in range(3)]
        victims = crowd[: chance.randint(1, 3)]
        for victim in victims:
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            victim.kill()
        codes = [await learners.end(each) for each in crowd]
        killed += codes.count(KILLED)
        ended += codes.count(0)
        assert set(codes) <= {0, KILLED}, learners.said()
        check_visible(learners.folder)
    await learners.finish()
    await learners.finish()
    books = await balance(store, electorate, learners.folder)
    print(f"learners killed {killed}, ended by themselves {ended}; {books}")
    assert killed > 0
    assert books.found == books.votes
