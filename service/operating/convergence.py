"""Waiting until every replica serves what the rollout says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedback.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.store import Store
    from feedback.types import Replica

_LOOK_SECONDS = 0.02
_SILENT_SECONDS = 5.0
"""A replica reports every two seconds; after this many it is not well, or not there any more."""


@dataclass(frozen=True, slots=True)
class LaggingReplica:
    """A replica that does not serve what it should, and why, as far as it is known."""

    id: str
    url: str
    serving: str
    problem: str


@dataclass(frozen=True, slots=True)
class Convergence:
    """What came of the wait.

    Attributes:
        all: Whether every replica serves the generation, or a later one.
        replicas: How many replicas there are. With none, ``all`` is true of nobody.
        missing: Those that do not.
        seconds: How long the wait took.
        problem: Why nothing can be said of the replicas: Redis did not answer.
    """

    all: bool
    replicas: int
    missing: tuple[LaggingReplica, ...]
    seconds: float
    problem: str | None = None


async def converged(store: Store, generation: int, timeout: float) -> Convergence:  # noqa: ASYNC109
    """Wait until every replica serves a generation of the rollout, or a later one.

    The replicas are those that reported lately: one that starts meanwhile counts too, one that
    ends does not. The wait ends early once each replica serves it or has said why it cannot.

    Args:
        store: The record.
        generation: What a change of the rollout returned.
        timeout: Seconds to wait at most; 0 asks once.
    """
    began = time.monotonic()
    while True:
        found = await _look(store)
        seconds = time.monotonic() - began
        if found is None:
            problem = "Redis did not say what the replicas serve. Ask again once Redis answers."
            if seconds >= timeout:
                return Convergence(False, 0, (), seconds, problem)
        else:
            behind = [each for each in found if each.generation < generation]
            if seconds >= timeout or all(_has_failed(each, generation) for each in behind):
                missing = tuple(_missing(each, generation) for each in behind)
                return Convergence(not behind, len(found), missing, seconds)
        await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, timeout - seconds)))


async def _look(store: Store) -> Sequence[Replica] | None:
    try:
        return await store.replicas.list()
    except StoreUnavailableError:
        return None


def _has_failed(replica: Replica, generation: int) -> bool:
    return replica.problem is not None and replica.read_generation >= generation


def _missing(replica: Replica, generation: int) -> LaggingReplica:
    silent = time.time() - replica.seen_at
    if _has_failed(replica, generation):
        problem = replica.problem or ""
    elif silent > _SILENT_SECONDS:
        problem = f"It has not reported for {silent:.0f} s: it hangs, or has ended."
    elif replica.read_generation >= generation:
        problem = "It is still loading."
    else:
        problem = "It has not read the change yet."
    return LaggingReplica(replica.id, replica.url, replica.serving, problem)
