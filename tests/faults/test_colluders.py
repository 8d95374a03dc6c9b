"""Number 24: 5 % of the accounts collude; each weighs as much as the cap allows, and no more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from feedback.batching import choose
from feedback.judging import VersionComparison, VersionTally, judge
from feedback.rewards import reward
from feedback.settings import JudgeSettings
from feedback.store import Store, keys
from feedback.types import Completion, Person, Vote, WaitingVote
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio
HONEST, COLLUDING, FLOOD = 95, 5, 40
VERSION = "v000001-0123456789ab"
CAP = JudgeSettings().judge_user_cap


async def _vote(store: Store, user: str, turn: int, *, up: bool) -> None:
    person, name = Person("k1", user), f"{user}-{turn}"
    await store.completions.record(
        Completion(
            id=name,
            person=person,
            conversation="",
            version=VERSION,
            messages=(Message("user", "Hi"),),
            text="Hello",
            prompt_ids=(1,),
            response_ids=(2,),
            behaviour_logprobs=(-0.1,),
            sampling=Sampling(),
            finish_reason="stop",
            created_at=1000.0,
        )
    )
    said = Vote(thumb="up" if up else "down")
    await store.votes.put(name, person, said, reward(said), now=2000.0)


@pytest.fixture
async def flooded(site: Site, store: Store) -> VersionTally:
    """Return what was counted: everybody likes four replies in five, five accounts flood."""
    with site.redis.client() as raw_redis:
        raw_redis.hset(keys.ROLLOUT, "live", VERSION)
    votes: list[Any] = [
        _vote(store, f"h{number}", turn, up=(number + turn) % 5 > 0)
        for number in range(HONEST)
        for turn in range(3)
    ]
    votes += [
        _vote(store, f"x{number}", turn, up=False)
        for number in range(COLLUDING)
        for turn in range(FLOOD)
    ]
    await asyncio.gather(*votes)
    (tally,) = await store.tallies.read([VERSION])
    return tally


def _weight(counts: Iterable[tuple[int, int, int]]) -> int:
    return sum(min(up + down, CAP) for up, down, _ in counts)


async def test_the_judge_hears_each_account_up_to_the_cap(flooded: VersionTally) -> None:
    assert flooded.cast == HONEST * 3 + COLLUDING * FLOOD
    plotting = [each for each in flooded.votes.values() if each[1] == FLOOD]
    assert len(plotting) == COLLUDING
    share = _weight(plotting) / _weight(flooded.votes.values())
    assert share == COLLUDING * CAP / (HONEST * 3 + COLLUDING * CAP)
    assert share == pytest.approx(0.05)
    honest = VersionTally({who: each for who, each in flooded.votes.items() if each[1] != FLOOD})
    lost = honest.approval(CAP).rate - flooded.approval(CAP).rate
    assert lost == pytest.approx(share * honest.approval(CAP).rate)
    # Counted vote by vote, they would have a third of the say.
    raw = sum(up for up, _, _ in flooded.votes.values()) / flooded.cast
    assert honest.approval(CAP).rate - raw > 6 * lost


async def test_they_do_not_take_a_version_back(flooded: VersionTally) -> None:
    honest = {f"c{n}": each for n, each in enumerate(flooded.votes.values()) if each[1] != FLOOD}
    bounds = JudgeSettings().limits
    comparison = VersionComparison(flooded, VersionTally(honest), together=True)
    assert judge(comparison, bounds).state == "hold"
    uncapped = judge(comparison, replace(bounds, user_cap=FLOOD))
    assert uncapped.figures["test"]["approval"] < 0.55


def test_they_have_no_more_than_their_part_of_a_batch() -> None:
    plot = [
        WaitingVote(f"x{n}-{t}", 1, -1.0, Person("k1", f"x{n}"), "base", 1.0)
        for n in range(COLLUDING)
        for t in range(FLOOD)
    ]
    rest = [WaitingVote(f"h{n}", 1, 1.0, Person("k1", f"h{n}"), "base", 2.0) for n in range(HONEST)]
    batch = choose([*plot, *rest], max_votes=64, max_user_share=0.25, order="oldest")
    chosen = [vote.completion_id for vote in batch if vote.completion_id.startswith("x")]
    assert len(chosen) == COLLUDING
