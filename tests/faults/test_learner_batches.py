"""Number 12: a batch that cannot be learned from is quarantined, and the next one goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.faults.learners import ANN, Electorate, Learners, check_visible

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Run
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio

NAN: dict[str, Any] = {"behaviour_logprobs": (-0.1, math.nan)}


@pytest.mark.parametrize(
    ("completion", "failpoints", "reason"),
    [
        (NAN, "", "a log-prob is not finite"),
        ({}, "learn.midst=raise", "learn.midst is set to raise"),
        ({}, "commit.before=raise", "commit.before is set to raise"),
    ],
)
async def test_a_batch_that_fails_three_times_is_quarantined_and_the_next_learns(
    site: Site, store: Store, completion: dict[str, Any], failpoints: str, reason: str
) -> None:
    learners, electorate = Learners(site), Electorate(store)
    bad = await electorate.vote("ud", **completion)
    seen = await learners.finish(failpoints=failpoints)
    assert [line["state"] for line in seen] == ["claimed", "claimed", "quarantined"]
    good = await electorate.vote("ud")
    (line,) = await learners.finish()
    await check_first_quarantined_second_live(store, learners, bad, good, reason)
    assert (line["run"], line["state"]) == (2, "approved")


async def test_deaths_between_failures_do_not_change_their_count(site: Site, store: Store) -> None:
    """Failure, death, failure, death, death, failure: three failures, and that is one too many."""
    learners, electorate = Learners(site), Electorate(store)
    bad = await electorate.vote("ud", **NAN)
    for step in ("fail", "die", "fail", "die", "die", "fail"):
        if step == "die":
            await learners.silence()
            await learners.kill_at("take_over.after")
        else:
            (line,) = await learners.finish("--once")
    assert line["state"] == "quarantined"
    run = await store.runs.get(1)
    good = await electorate.vote("ud")
    await learners.finish()
    await check_first_quarantined_second_live(store, learners, bad, good, "not finite")
    print(f"failures 3, deaths {run.deaths}, attempts {run.attempts}")
    assert (run.deaths, run.attempts) == (3, 6)


async def check_first_quarantined_second_live(
    store: Store, learners: Learners, bad: list[str], good: list[str], reason: str
) -> tuple[Run, Run]:
    first, second = await store.runs.get(1), await store.runs.get(2)
    assert first.state == "quarantined"
    assert reason in (first.reason or "")
    assert second.state == "approved"
    for each in bad:
        vote = await store.votes.get(each, ANN)
        assert (vote.state, vote.reason) == ("discarded", f"run 1 was quarantined: {first.reason}")
    for each in good:
        vote = await store.votes.get(each, ANN)
        assert (vote.state, vote.version) == ("learned", second.version)
    assert (await store.rollout.get()).live == second.version
    versions = [v.version for v in await store.versions.list()]
    assert versions == [second.version, "base"]
    assert check_visible(learners.folder) == 1
    print(
        f"votes acknowledged {len(bad) + len(good)}, discarded {len(bad)}, learned {len(good)}; "
        f"runs 2 (attempts {first.attempts} + {second.attempts}), versions 1: {first.reason}"
    )
    return first, second
