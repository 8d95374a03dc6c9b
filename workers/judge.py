"""The judge: compares the newer versions with the confirmed one, and acts on what it finds.

Three steps: read the tallies, decide (pure), act. A judge that dies between any two leaves nothing
behind; the next one decides afresh. The act is one compare-and-set of what the decision was about,
so of two judges one acts, and what an operator did meanwhile is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from feedback.errors import RolloutConflictError
from feedback.judging import VersionComparison, judge, pool
from feedback.types import Audit, Judgement
from models.types import BASE
from models.versions import Confirm, PromoteCanary, RejectCanary, Rollback

if TYPE_CHECKING:
    from feedback.judging import JudgeVerdict
    from feedback.settings import JudgeSettings
    from feedback.store import Store
    from feedback.types import Rollout
    from models.versions import Command

logger = logging.getLogger(__name__)

WHO = "judge"

CONTROL_VOTES = 300
"""Where the confirmed version has fewer votes, the versions that it was built on lend it theirs."""

MOST_LENDERS = 20
"""Versions that lend at most; so tallies stay few."""

MOST_POOLED = 200
"""Versions that are pooled at most, the newest: where votes decide nothing, they grow."""


@dataclass(frozen=True, slots=True)
class JudgedCase:
    """What is compared.

    Attributes:
        rollout: As it was when the tallies were read.
        test: The versions that are judged; the newest first.
        control: What they are compared with; the confirmed or live one first.
        newest_votes: Votes on the first of ``test``; those on the others say nothing of it.
    """

    rollout: Rollout
    test: tuple[str, ...]
    control: tuple[str, ...]
    comparison: VersionComparison
    newest_votes: int


async def run_judge(store: Store, settings: JudgeSettings, *, now: float) -> Judgement:
    """Judge once, act on it, and write down what was found.

    Raises:
        StoreUnavailableError: Redis is away.
    """
    rollout = await store.rollout.get()
    case = await (_trial(store, rollout) if rollout.canary else _watch(store, rollout))
    # What is pooled and what lends is counted on during a canary: it may end without a verdict.
    needed = (*await _newer(store, rollout), *await _with_lenders(store, rollout.confirmed or BASE))
    if case is None:
        judgement = Judgement(now, "idle", reasons=("The live version is the confirmed one.",))
    else:
        verdict = judge(case.comparison, settings.limits)
        verdict = _with_own_votes(case, verdict, settings.judge_min_votes)
        judgement = await _act(store, case, verdict, now=now)
    await store.judging.write(judgement)
    await store.tallies.keep(needed)
    return judgement


async def _trial(store: Store, rollout: Rollout) -> JudgedCase:
    """Compare the canary with the live version, since the canary began."""
    canary, control = await store.tallies.trial()
    comparison = VersionComparison(canary, control, together=True)
    return JudgedCase(rollout, (rollout.canary or "",), (rollout.live,), comparison, canary.cast)


async def _watch(store: Store, rollout: Rollout) -> JudgedCase | None:
    """Compare what was learned since the confirmed version with that; None if nothing was."""
    confirmed = rollout.confirmed or BASE
    if rollout.live == confirmed:
        return None
    newer = await _newer(store, rollout)
    control = await _with_lenders(store, confirmed)
    tallies = await store.tallies.read([*newer, *control])
    comparison = VersionComparison(
        pool(tallies[: len(newer)]), pool(tallies[len(newer) :]), together=False
    )
    return JudgedCase(rollout, newer, control, comparison, tallies[0].cast)


async def _newer(store: Store, rollout: Rollout) -> tuple[str, ...]:
    """Return what was learned since the confirmed version, the newest first."""
    confirmed = rollout.confirmed or BASE
    return tuple(await store.versions.lineage(rollout.live, until={confirmed}, most=MOST_POOLED))


async def _with_lenders(store: Store, confirmed: str) -> tuple[str, ...]:
    """Return the confirmed version and, as far as it has few votes, those it was built on."""
    known = await store.versions.lineage(confirmed, most=1 + MOST_LENDERS)
    versions, votes = (*known, BASE)[: 1 + MOST_LENDERS], 0
    for count, version in enumerate(versions, start=1):
        (tally,) = await store.tallies.read([version])
        votes += tally.cast
        if votes >= CONTROL_VOTES:
            return versions[:count]
    return versions


def _with_own_votes(case: JudgedCase, verdict: JudgeVerdict, least: int) -> JudgeVerdict:
    """Withhold a confirmation that rests on the votes of older versions alone."""
    more = least - case.newest_votes
    if verdict.state != "promote" or more <= 0:
        return verdict
    reason = (
        f"{case.test[0]} has {case.newest_votes} votes of its own; {more} more are needed to "
        "confirm it."
    )
    return replace(verdict, state="hold", reasons=(*verdict.reasons, reason), votes_needed=more)


async def _act(store: Store, case: JudgedCase, verdict: JudgeVerdict, *, now: float) -> Judgement:
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
        logger.info("The judge's verdict on %s has no effect: %s", case.test[0], error)
        return found
    if acted:
        logger.info("%s: %s", acted, " ".join(verdict.reasons))
    return replace(found, acted=acted)


async def _change(
    store: Store, case: JudgedCase, verdict: JudgeVerdict, *, now: float
) -> str | None:
    """Change the rollout as the verdict says; returns what was done.

    Raises:
        RolloutConflictError: It is no longer as it was when the tallies were read.
    """
    if verdict.state == "hold":
        return None
    command, done = _command(case.rollout, roll_back=verdict.state == "roll_back")
    audit = Audit(WHO, " ".join(verdict.reasons), now, verdict.figures)
    await store.rollout.do(command, audit, expected_generation=case.rollout.generation)
    return done


def _command(rollout: Rollout, *, roll_back: bool) -> tuple[Command, str]:
    """Return what the verdict asks of the rollout, and how to say that it was done."""
    if rollout.canary is not None:
        canary = rollout.canary
        if roll_back:
            return RejectCanary(canary), f"{canary} is rolled back"
        return PromoteCanary(canary), f"{canary} is live"
    if roll_back:
        confirmed = rollout.confirmed or BASE
        command = Rollback(confirmed, expected_live=rollout.live)
        return command, f"{rollout.live} is rolled back to {confirmed}"
    return Confirm(rollout.live), f"{rollout.live} is confirmed"
