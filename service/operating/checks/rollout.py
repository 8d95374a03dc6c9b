"""The doctor's checks of the rollout: its versions are whole, served by all, and judged."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from feedback.tracing import served
from models.adapters import AdapterStore
from models.errors import GateError, ModelsError
from models.gate.operator import read_operator_prompts
from models.gate.settings import GateSettings
from models.types import BASE
from service.operating.checks.findings import Finding
from service.runtime.record_health import worker_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from feedback.store import Store
    from feedback.types import Judgement, JudgementState, Rollout
    from service.settings import ServiceSettings

_MISSED_LOOKS = 6
_LEAST_SILENCE_SECONDS = 60.0

VERDICTS: Mapping[JudgementState, str] = {
    "idle": "nothing to judge",
    "hold": "undecided",
    "promote": "liked no less",
    "roll_back": "to be rolled back",
}
"""The states of the judge's verdict in words."""


async def check_rollout(store: Store, settings: ServiceSettings) -> AsyncIterator[Finding]:
    """Check the served versions, the replicas that serve them, and whether the judge runs."""
    rollout = await store.rollout.get()
    for role, version in served(rollout).items():
        if role == "live" or version != rollout.live:
            yield await asyncio.to_thread(_check_files, settings, role, version)
    yield await _check_replicas(store, rollout)
    health = await store.retention.health()
    if worker_problem(health, now=time.time()) is None:
        last = await store.judging.last()
        interval = settings.judge_interval.total_seconds()
        yield check_judge(last, rollout, interval=interval, now=time.time())


def check_judge(
    last: Judgement | None, rollout: Rollout, *, interval: float, now: float
) -> Finding:
    """Check that the judge runs where it has a version to judge.

    Args:
        last: Its last verdict.
        rollout: What is served.
        interval: Seconds between two runs of the judge.
        now: Seconds since the epoch.
    """
    silence = max(_LEAST_SILENCE_SECONDS, _MISSED_LOOKS * interval)
    if last is not None and now - last.at < silence:
        needed = f", about {last.votes_needed} more votes needed" if last.votes_needed else ""
        return Finding("judge", ok=True, found=f"{VERDICTS[last.state]}{needed}")
    since = "has not run yet" if last is None else f"last ran {now - last.at:.0f} s ago"
    if rollout.canary is None and rollout.live == (rollout.confirmed or BASE):
        return Finding("judge", ok=True, found=f"it {since}, and there is nothing to judge")
    mend = "See the control worker's log; `thumbloop beat` starts the judge."
    return Finding("judge", ok=False, found=f"it {since}", mend=mend)


def check_prompts(settings: ServiceSettings) -> Finding:
    """Check that the gate can read the operator's own prompts."""
    folder = GateSettings().gate_prompts or settings.data_dir / "gate"
    try:
        found = read_operator_prompts(folder)
    except GateError as error:
        mend = "Correct that line; until then no new version goes live."
        return Finding("gate prompts", ok=False, found=str(error), mend=mend)
    return Finding("gate prompts", ok=True, found=f"{len(found)} prompts of your own")


def _check_files(settings: ServiceSettings, role: str, version: str) -> Finding:
    name = "canary" if role == "canary" else f"{role} version"
    try:
        if version != BASE:
            AdapterStore.open(settings).verify(version)
    except (ModelsError, OSError) as error:
        return Finding(name, ok=False, found=str(error), mend=_MEND[role])
    return Finding(name, ok=True, found=version)


_MEND = {
    "live": "Restore the folder, or go back with `thumbloop versions rollback`.",
    "canary": "Restore the folder, or end it with `thumbloop canary stop`.",
    "confirmed": (
        "Restore the folder, or confirm another version: the judge could not go back to this one."
    ),
}


async def _check_replicas(store: Store, rollout: Rollout) -> Finding:
    replicas = await store.replicas.list()
    behind = [each for each in replicas if each.generation < rollout.generation]
    if not behind:
        found = f"{len(replicas)} of {len(replicas)} serve what they should"
        return Finding("replicas", ok=True, found=found)
    behind_in_words = "; ".join(
        f"{each.id} serves {each.serving} ({each.problem or 'it is still loading'})"
        for each in behind
    )
    mend = "Mend what the replica names; it tries again by itself. See docs/tasks/operate.md."
    return Finding("replicas", ok=False, found=behind_in_words, mend=mend)
