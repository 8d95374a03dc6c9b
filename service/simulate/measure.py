"""The final measurement: fresh replies of chosen versions, judged without clicks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.simulate.client import pinned
from service.simulate.errors import RequestFailedError
from service.simulate.people import approves
from service.simulate.scoring import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.simulate.client import Api
    from service.simulate.people import SimulatedUser
    from service.simulate.records import SimulationPlan, SimulationProgress

_CONCURRENCY = 16
_SEED = 1_000_000_007
"""Added to a reply's number: every version answers the same questions with the same seeds."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    liked: bool
    words: int


async def measure(
    api: Api,
    plan: SimulationPlan,
    tally: SimulationProgress,
    *,
    versions: Sequence[str],
    prompts: Sequence[str],
    users: Sequence[SimulatedUser],
) -> tuple[Score, ...]:
    """Score each version on ``plan.score_replies`` fresh replies, pinned and not voted on.

    Raises:
        SimulationError: The server failed many times in a row.
    """
    tally.to_score = len(versions) * plan.score_replies
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def rate(version: str, number: int) -> _Verdict | None:
        round_number, place = divmod(number, len(prompts))
        # The round shifts the users, so that a prompt is not always judged by the same person.
        user = users[(number + round_number) % len(users)]
        async with limit:
            return await _rate(api, plan, tally, version, prompts[place], user, _SEED + number)

    scores = []
    for version in versions:
        numbers = range(plan.score_replies)
        verdicts = await asyncio.gather(*(rate(version, number) for number in numbers))
        scores.append(_score(version, tally, [one for one in verdicts if one is not None]))
    return tuple(scores)


async def _rate(
    api: Api,
    plan: SimulationPlan,
    tally: SimulationProgress,
    version: str,
    prompt: str,
    user: SimulatedUser,
    seed: int,
) -> _Verdict | None:
    try:
        reply = await api.chat(
            prompt,
            user=user.name,
            model=pinned(version),
            max_tokens=plan.max_tokens,
            seed=seed,
        )
    except RequestFailedError as error:
        tally.failed(error)
        return None
    tally.succeeded()
    tally.scored += 1
    return _Verdict(approves(user, prompt, reply.text), len(reply.text.split()))


def _score(version: str, tally: SimulationProgress, verdicts: Sequence[_Verdict]) -> Score:
    return Score(
        version=version,
        replies=len(verdicts),
        approved=sum(one.liked for one in verdicts),
        votes_before=tally.live_since.get(version, 0),
        mean_words=sum(one.words for one in verdicts) / max(1, len(verdicts)),
    )
