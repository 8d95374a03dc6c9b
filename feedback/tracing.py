"""Where a reply came from, down to the votes that made its version, and where its vote went.

All reads are bounded, and none of them returns a text unless it is asked to.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feedback.errors import UnknownCompletionError, UnknownVersionError
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from feedback.store import Store
    from feedback.store.traces import ReplyTrace
    from feedback.types import (
        Comparison,
        Feedback,
        Rollout,
        Run,
        RunState,
        Thumb,
        VersionRecord,
        VoteState,
    )
    from models.versions import VersionState

Role = Literal["live", "confirmed", "canary"]

ANCESTORS = 50
"""Versions of a chain that are shown."""

SERVED_ANCESTORS = 2000
"""Versions of the served ones' chains that are read, to know what is in them."""

RUNS = 2000
"""Runs that are searched for a vote."""

_CLOCKS_APART_SECONDS = 300.0
"""The API's clock and the worker's may differ: runs of so long before a reply are searched too."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What people wrote: the last message before the reply, the reply, and the vote's texts."""

    question: str
    reply: str
    comment: str | None = None
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class CurrentVote:
    """The vote on a reply as it is now, without its texts (see ``Feedback``)."""

    thumb: Thumb | None
    rating: float | None
    comparison: Comparison | None
    score: float | None
    revision: int
    state: VoteState
    updated_at: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class BatchVote:
    """A vote that made a version.

    Attributes:
        stands: Whether it still is as it was learned: not changed, withdrawn or given back.
        texts: Only where they were asked for, and have not expired.
    """

    completion_id: str
    revision: int
    score: float
    stands: bool
    texts: Texts | None = None


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One version of a chain, and how it came to be.

    Attributes:
        roles: What it is now.
        run: The update run that made it; None for an import.
        votes: Votes of that run's batch; ``up`` and ``down`` are those above and below 0.
        stopped_at: When a canary of it was stopped; None once it is served again.
        reason: Why it was rejected or rolled back.
    """

    version: str
    state: VersionState
    roles: tuple[Role, ...]
    origin: Literal["learned", "imported"]
    parent: str
    created_at: float
    changed_at: float | None
    changed_by: str | None
    run: int | None
    votes: int
    up: int
    down: int
    stopped_at: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class VersionOrigin:
    """What made a version.

    Attributes:
        chain: The version and what it was built on, youngest first, without ``base``.
        whole: Whether the chain is shown down to ``base``.
        votes: The batch of its own run.
    """

    version: str
    chain: tuple[ChainLink, ...]
    whole: bool
    votes: tuple[BatchVote, ...]


@dataclass(frozen=True, slots=True)
class LearnedBy:
    """A run that learned from a vote, and what has become of that.

    Attributes:
        how: In its batch, or once more from an earlier one.
        stands: Whether it still has it from there: not changed, withdrawn or given back since.
        version: What the run made; None while it made none.
        served_in: What is served now and is this version, or built on it.
    """

    run: int
    run_state: RunState
    how: Literal["learned", "practice"]
    revision: int | None
    score: float | None
    stands: bool
    version: str | None
    state: VersionState | None
    served_in: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that the record knows of where a reply came from, and of where its vote went.

    Attributes:
        version: What wrote it; None where only runs still name it.
        by_base: Whether the base wrote it, in which no vote had a part.
        vote: The vote on it as it is now.
        withdrawn: Whether it had a vote that was withdrawn.
        made: What made the version; None for the base, or where nothing is known of it.
        learned_by: Runs that learned from its vote, newest first.
        searched_all: Whether all runs that can have had it were searched.
        texts: Only where they were asked for.
    """

    completion_id: str
    version: str | None
    by_base: bool
    created_at: float | None
    vote: CurrentVote | None
    withdrawn: bool
    made: VersionOrigin | None
    learned_by: tuple[LearnedBy, ...]
    searched_all: bool
    texts: Texts | None = None


async def explain(store: Store, completion_id: str, *, texts: bool = False) -> Explanation:
    """Return where a reply came from, and where the vote on it went.

    Args:
        store: The record.
        completion_id: The reply.
        texts: Whether to show what people wrote.

    Raises:
        UnknownCompletionError: The record holds nothing of it.
        StoreUnavailableError: Redis is away.
    """
    trace = await store.traces.reply(completion_id)
    since = max(0.0, (trace.created_at or 0.0) - _CLOCKS_APART_SECONDS)
    found = await store.traces.runs_with(completion_id, since=since, most=RUNS)
    if trace.version is None and not found.numbers:
        raise UnknownCompletionError(
            f"The record holds nothing of a reply {completion_id!r}. Check the id. Replies are "
            "removed after THUMBLOOP_COMPLETION_TTL, votes after THUMBLOOP_VOTE_TTL, and both "
            "when their user is deleted."
        )
    written = await _texts(store, [completion_id]) if texts else {}
    return Explanation(
        completion_id=completion_id,
        version=trace.version,
        by_base=trace.version == BASE,
        created_at=trace.created_at,
        vote=_current(trace.vote) if trace.vote else None,
        withdrawn=trace.withdrawn,
        made=await _made_if_known(store, trace, texts=texts),
        learned_by=await _learned_by(store, completion_id, trace.run, found.numbers),
        searched_all=found.whole,
        texts=written.get(completion_id),
    )


async def made(store: Store, version: str, *, texts: bool = False) -> VersionOrigin:
    """Return what made a version: its chain, and the votes of its run.

    Raises:
        UnknownVersionError: There is no such version.
        StoreUnavailableError: Redis is away.
    """
    await store.versions.get(version)
    rollout = await store.rollout.get()
    names = list(await store.versions.lineage(version, most=ANCESTORS))
    records = await store.versions.get_many(names)
    runs = await store.runs.get_many([each.run for each in records if each.run is not None])
    steps = tuple(_step(each, runs.get(each.run or 0), rollout) for each in records)
    own = runs.get(records[0].run or 0) if records else None
    return VersionOrigin(
        version=version,
        chain=steps,
        whole=version == BASE or (bool(steps) and steps[-1].parent == BASE),
        votes=await _batch(store, own, texts=texts) if own else (),
    )


async def _made_if_known(store: Store, trace: ReplyTrace, *, texts: bool) -> VersionOrigin | None:
    if trace.version in {None, BASE}:
        return None
    try:
        return await made(store, trace.version or "", texts=texts)
    except UnknownVersionError:
        return None  # a version that was registered in a Redis that was lost since


def _step(record: VersionRecord, run: Run | None, rollout: Rollout) -> ChainLink:
    scores = [vote.score for vote in run.votes] if run else []
    return ChainLink(
        version=record.version,
        state=record.state,
        roles=roles(record.version, rollout),
        origin=record.origin,
        parent=record.parent,
        created_at=record.created_at,
        changed_at=record.changed_at,
        changed_by=record.changed_by,
        run=record.run,
        votes=len(scores),
        up=sum(score > 0 for score in scores),
        down=sum(score < 0 for score in scores),
        stopped_at=record.stopped_at,
        reason=record.reason,
    )


def roles(version: str, rollout: Rollout) -> tuple[Role, ...]:
    """Return the roles that a version has now."""
    return tuple(role for role, found in served(rollout).items() if found == version)


def served(rollout: Rollout) -> dict[Role, str]:
    """Return what is served, and the confirmed version, to which the judge would go back."""
    found: dict[Role, str] = {"live": rollout.live, "confirmed": rollout.confirmed or BASE}
    return found | ({"canary": rollout.canary} if rollout.canary else {})


async def _batch(store: Store, run: Run, *, texts: bool) -> tuple[BatchVote, ...]:
    stands = await store.votes.still_learned(run.votes)
    ids = [vote.completion_id for vote in run.votes]
    written = await _texts(store, ids) if texts else {}
    return tuple(
        BatchVote(v.completion_id, v.revision, v.score, stand, written.get(v.completion_id))
        for v, stand in zip(run.votes, stands, strict=True)
    )


def _current(found: Feedback) -> CurrentVote:
    return CurrentVote(
        thumb=found.vote.thumb,
        rating=found.vote.rating,
        comparison=found.vote.comparison,
        score=found.score,
        revision=found.revision,
        state=found.state,
        updated_at=found.updated_at,
        reason=found.reason,
    )


async def _texts(store: Store, ids: Sequence[str]) -> dict[str, Texts]:
    """Return what was written around each vote, of replies that have not expired."""
    replies = [each for each in await store.completions.get_many(ids) if each is not None]
    traces = await asyncio.gather(*(store.traces.reply(each.id) for each in replies))
    texts = {}
    for reply, trace in zip(replies, traces, strict=True):
        vote = trace.vote.vote if trace.vote else None
        texts[reply.id] = Texts(
            question=reply.messages[-1].content if reply.messages else "",
            reply=reply.text,
            comment=vote.comment if vote else None,
            correction=vote.correction if vote else None,
        )
    return texts


async def _learned_by(
    store: Store, completion_id: str, current: int | None, numbers: Sequence[int]
) -> tuple[LearnedBy, ...]:
    runs = await store.runs.get_many(numbers)
    versions = [run.version for run in runs.values() if run.version]
    records = {each.version: each for each in await store.versions.get_many(versions)}
    chains = await _chains(store) if records else {}
    return tuple(
        _learned(completion_id, current, runs[number], records, chains)
        for number in numbers
        if number in runs
    )


def _learned(
    completion_id: str,
    current: int | None,
    run: Run,
    records: Mapping[str, VersionRecord],
    chains: Mapping[Role, Collection[str]],
) -> LearnedBy:
    frozen = next((each for each in run.votes if each.completion_id == completion_id), None)
    record = records.get(run.version or "")
    return LearnedBy(
        run=run.number,
        run_state=run.state,
        how="learned" if frozen else "practice",
        revision=frozen.revision if frozen else None,
        score=frozen.score if frozen else None,
        # Practice takes the vote as an earlier run learned it.
        stands=current is not None and (current == run.number if frozen else current < run.number),
        version=run.version,
        state=record.state if record else None,
        served_in=tuple(role for role, chain in chains.items() if run.version in chain),
    )


async def _chains(store: Store) -> dict[Role, frozenset[str]]:
    """Return what is served with all that it is built on."""
    found = served(await store.rollout.get())
    chains = await asyncio.gather(
        *(store.versions.lineage(each, most=SERVED_ANCESTORS) for each in found.values())
    )
    return {role: frozenset(chain) for role, chain in zip(found, chains, strict=True)}
