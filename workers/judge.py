"""The judge: compares the newer versions with the confirmed one, and acts on what it finds.

Three steps: read the tallies, decide (pure), act. A judge that dies between any two leaves nothing
behind; the next one decides afresh. The act is one compare-and-set of what the decision was about,
so of two judges one acts, and what an operator did meanwhile stands.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from feedback.errors import RolloutConflictError
from feedback.events import Judgement
from feedback.judging import Bounds, Comparison, judge, pool
from models.types import BASE

if TYPE_CHECKING:
    from feedback.events import Rollout
    from feedback.judging import Verdict
    from feedback.settings import JudgeSettings
    from feedback.store import Store

logger = logging.getLogger(__name__)

WHO = "judge"

CONTROL_VOTES = 300
"""Where the confirmed version has fewer votes, the versions that it was built on lend it theirs."""

MOST_LENDERS = 20
"""Versions that lend at most; so tallies stay few."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is compared.

    Attributes:
        rollout: As it was when the tallies were read.
        test: The versions that are judged; the newest first.
        control: What they are compared with; the confirmed or live one first.
    """

    rollout: Rollout
    test: tuple[str, ...]
    control: tuple[str, ...]
    comparison: Comparison


async def run_judge(store: Store, settings: JudgeSettings, *, now: float) -> Judgement:
    """Judge once, act on it, and write down what was found.

    Raises:
        StoreUnavailableError: Redis is away.
    """
    rollout = await store.rollout.get()
    case = await (_trial(store, rollout) if rollout.canary else _watch(store, rollout))
    if case is None:
        judgement = Judgement(now, "idle", reasons=("The live version is the confirmed one.",))
        needed: tuple[str, ...] = await _with_lenders(store, rollout.live)
    else:
        verdict = judge(case.comparison, Bounds.from_settings(settings))
        judgement = await _act(store, case, verdict, now=now)
        needed = case.test + case.control
    await store.judging.write(judgement)
    await store.tallies.keep(needed)
    return judgement


async def _trial(store: Store, rollout: Rollout) -> Case:
    """Compare the canary with the live version beside it, since it began."""
    canary, beside = await store.tallies.trial()
    comparison = Comparison(canary, beside, together=True)
    return Case(rollout, (rollout.canary or "",), (rollout.live,), comparison)


async def _watch(store: Store, rollout: Rollout) -> Case | None:
    """Compare what was learned since the confirmed version with that; None if nothing was."""
    confirmed = rollout.confirmed or BASE
    if rollout.live == confirmed:
        return None
    newer = tuple(await store.versions.lineage(rollout.live, until={confirmed}))
    control = await _with_lenders(store, confirmed)
    tallies = await store.tallies.read([*newer, *control])
    comparison = Comparison(
        pool(tallies[: len(newer)]), pool(tallies[len(newer) :]), together=False
    )
    return Case(rollout, newer, control, comparison)


async def _with_lenders(store: Store, confirmed: str) -> tuple[str, ...]:
    """Return the confirmed version and, as far as it has few votes, those it was built on."""
    versions = (*(await store.versions.lineage(confirmed)), BASE)[: 1 + MOST_LENDERS]
    votes = 0
    for count, tally in enumerate(await store.tallies.read(versions), start=1):
        votes += tally.cast
        if votes >= CONTROL_VOTES:
            return versions[:count]
    return versions


async def _act(store: Store, case: Case, verdict: Verdict, *, now: float) -> Judgement:
    """Do what the verdict says, unless what it is about has changed meanwhile."""
    found = Judgement(
        at=now,
        state=verdict.state,
        test=case.test,
        control=case.control,
        reasons=verdict.reasons,
        votes_needed=verdict.votes_needed,
        figures=verdict.figures,
    )
    try:
        acted = await _change(store, case, verdict, now=now)
    except RolloutConflictError as error:
        logger.info("The verdict on %s is dropped: %s", case.test[0], error)
        return found
    if acted:
        logger.info("%s: %s", acted, " ".join(verdict.reasons))
    return replace(found, acted=acted)


async def _change(store: Store, case: Case, verdict: Verdict, *, now: float) -> str | None:
    """Change the rollout as the verdict says; returns what was done.

    Raises:
        RolloutConflictError: It is no longer as it was when the tallies were read.
    """
    if verdict.state == "hold":
        return None
    rollout, roll_back = case.rollout, verdict.state == "roll_back"
    why = " ".join(verdict.reasons)
    if rollout.canary is not None:
        change = store.rollout.reject_canary if roll_back else store.rollout.promote_canary
        await change(
            expected=rollout.canary,
            expected_generation=rollout.generation,
            who=WHO,
            why=why,
            figures=verdict.figures,
            now=now,
        )
        return f"{rollout.canary} is {'rolled back' if roll_back else 'live'}"
    confirmed = rollout.confirmed or BASE
    if roll_back:
        await store.rollout.rollback(
            to=confirmed,
            expected_live=rollout.live,
            expected_generation=rollout.generation,
            who=WHO,
            why=why,
            figures=verdict.figures,
            now=now,
        )
        return f"{rollout.live} is rolled back to {confirmed}"
    await store.rollout.confirm(
        rollout.live,
        expected_generation=rollout.generation,
        who=WHO,
        why=why,
        figures=verdict.figures,
        now=now,
    )
    return f"{rollout.live} is confirmed"
