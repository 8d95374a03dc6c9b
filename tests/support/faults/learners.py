"""Learners that a test kills, the votes that they learn from, and the books that must balance."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from feedback.rewards import reward
from feedback.store import keys
from feedback.types import Completion, Person, Vote
from models.adapters import AdapterStore
from models.types import Message, Sampling
from models.versions import is_version_id
from tests.support.faults.processes import happens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedback.store import Store
    from feedback.types import Run
    from tests.support.faults.processes import Child
    from tests.support.faults.site import Site

ANN = Person("k1", "ann")
LEASE_SECONDS = 0.3
"""Long beside a renewal on a busy machine, short beside a test."""
KILLED = -9
_PROCESS = "tests.support.faults.learner_process"


@dataclass
class Electorate:
    """People whose votes are put straight into the record; remembers what was promised to them."""

    store: Store
    scores: dict[str, float] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def vote(self, thumbs: str, **completion: Any) -> list[str]:
        """Record a completion and a vote for each letter: 'u' is up, 'd' is down."""
        ids = []
        for thumb in thumbs:
            each = f"chatcmpl-{next(self.numbers):05d}"
            await self.store.completions.record(make_completion(each, **completion))
            await self.change(each, thumb)
            ids.append(each)
        return ids

    async def change(self, completion_id: str, thumb: str) -> None:
        """Set a vote, of which the record promises by its answer that it is kept."""
        vote = Vote(thumb="up" if thumb == "u" else "down")
        score = reward(vote) or 0.0
        await self.store.votes.put(completion_id, ANN, vote, score, now=time.time())
        self.scores[completion_id] = score


def make_completion(completion_id: str, **changes: Any) -> Completion:
    fields: dict[str, Any] = {
        "id": completion_id,
        "person": ANN,
        "conversation": "c",
        "version": "base",
        "messages": (Message("user", "Hi"),),
        "text": "Hello",
        "prompt_ids": (5, 6, 7),
        "response_ids": (8, 9),
        "behaviour_logprobs": (-0.1, -0.2),
        "sampling": Sampling(),
        "finish_reason": "stop",
        "created_at": time.time(),
    }
    return Completion(**(fields | changes))


class Learners:
    """Learner processes of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.kills: dict[str, int] = {}
        site.environment["THUMBLOOP_LEASE"] = str(LEASE_SECONDS)
        # Every version keeps its weights, so that the books can verify each of them.
        site.environment["THUMBLOOP_KEEP_VERSIONS"] = "1000"
        self._names = (f"learner-{i}" for i in itertools.count())

    @property
    def folder(self) -> Path:
        return self.site.data_dir / "adapters"

    def start(self, *arguments: str, **settings: str) -> Child:
        command = [sys.executable, "-m", _PROCESS, *arguments]
        return self.site.start(next(self._names), command, **settings)

    async def end(self, learner: Child, seconds: float = 60.0) -> int:
        """Wait until a learner has ended; return its exit code."""
        await happens(lambda: not learner.alive(), seconds, f"The end of {learner.name}")
        assert learner.process is not None
        return learner.process.returncode

    async def kill_at(self, point: str, *arguments: str, **settings: str) -> None:
        """Start a learner that kills itself at a failpoint; look that it did, and what it left."""
        learner = self.start(*arguments, failpoints=f"{point}=kill", **settings)
        code = await self.end(learner)
        assert code == KILLED, f"{point} was not reached:\n{learner.said()}"
        self.kills[point] = self.kills.get(point, 0) + 1
        check_visible(self.folder)

    async def finish(self, *arguments: str, **settings: str) -> list[dict[str, Any]]:
        """Run a learner until it may rest; return the lines that it printed of its runs."""
        await self.silence()
        learner = self.start(*arguments, **settings)
        assert await self.end(learner) == 0, learner.said()
        return lines(learner)

    async def stop_at(self, point: str, *arguments: str, **settings: str) -> Child:
        """Start a learner that stops at a failpoint; return it once it stands still."""
        learner = self.start(*arguments, failpoints=f"{point}=stop", **settings)
        stat = Path(f"/proc/{learner.pid}/stat")

        def stopped() -> bool:
            assert learner.alive(), learner.said()
            return stat.read_text().rpartition(")")[2].split()[0] == "T"

        await happens(stopped, 30, f"The stop at {point}")
        return learner

    async def silence(self) -> None:
        """Wait until no learner holds a lease."""
        with self.site.redis.client() as client:
            await happens(lambda: not client.exists(keys.LEASE), 30, "The end of the lease")

    def said(self) -> str:
        return "\n".join(child.said() for child in self.site.children if "learner" in child.name)


def lines(learner: Child) -> list[dict[str, Any]]:
    """Return what a learner printed of its runs."""
    return [json.loads(line) for line in learner.said().splitlines() if line.startswith("{")]


def check_visible(folder: Path) -> int:
    """Look that every folder that anybody may load is whole; return how many there are."""
    adapters = AdapterStore(folder)
    versions = adapters.published()
    for version in versions:
        adapters.verify(version)
    return len(versions)


def everything(site: Site) -> dict[str, bytes | None]:
    """Return all that Redis holds, key by key, to tell whether anything was written."""
    with redis.Redis.from_url(site.redis.url) as client:
        return {key.decode(): client.dump(key) for key in client.keys("tl:*")}


def on_disk(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Books:
    """What the record and the disk say after the last learner."""

    votes: int
    found: int
    runs: int
    versions: int
    attempts: int

    def __str__(self) -> str:
        return (
            f"votes acknowledged {self.votes}, found {self.found}; runs {self.runs}, "
            f"versions {self.versions}, attempts {self.attempts}"
        )


async def balance(store: Store, electorate: Electorate, folder: Path) -> Books:
    """Look that each acknowledged vote was learned exactly once, and each batch is one version."""
    runs = (await store.runs.list(10_000))[::-1]
    versions = {v.version for v in await store.versions.list(10_000)} - {"base"}
    assert [run.number for run in runs] == list(range(1, len(runs) + 1))
    assert {run.state for run in runs} <= {"approved"}, [(r.state, r.reason) for r in runs]
    assert versions == {run.version for run in runs}
    assert len(versions) == len(runs)
    await check_chain(store, runs)
    await check_votes(store, electorate, runs)
    check_folders(folder, runs)
    return Books(
        votes=len(electorate.scores),
        found=sum([await learned(store, each) for each in electorate.scores]),
        runs=len(runs),
        versions=len(versions),
        attempts=sum(run.attempts for run in runs),
    )


async def learned(store: Store, completion_id: str) -> bool:
    return (await store.votes.get(completion_id, ANN)).state == "learned"


async def check_chain(store: Store, runs: list[Run]) -> None:
    """Each version was learned from the one before, committed once and made live once."""
    assert [run.parent for run in runs] == ["base", *[run.version for run in runs[:-1]]]
    if runs:
        assert (await store.rollout.get()).live == runs[-1].version
    audit = [(event.action, event.new) for event in await store.rollout.events(100_000)]
    for action in ("commit", "approve", "activate"):
        assert sorted(new for did, new in audit if did == action) == sorted(
            run.version or "" for run in runs
        )


async def check_votes(store: Store, electorate: Electorate, runs: list[Run]) -> None:
    """Each revision is in one batch only, and each vote's last score is the one learned."""
    frozen = [(vote.completion_id, vote.revision) for run in runs for vote in run.votes]
    assert len(frozen) == len(set(frozen)), "a vote was learned twice"
    assert {each for each, _ in frozen} == set(electorate.scores), "a vote was lost"
    last = {vote.completion_id: (vote, run) for run in runs for vote in run.votes}
    for completion_id, score in electorate.scores.items():
        vote, run = last[completion_id]
        now = await store.votes.get(completion_id, ANN)
        assert (now.state, now.version, now.score) == ("learned", run.version, score)
        assert (vote.revision, vote.score) == (now.revision, score)


def check_folders(folder: Path, runs: list[Run]) -> None:
    """The disk holds the ledger's versions, each whole and of its own batch, and nothing else."""
    adapters = AdapterStore(folder)
    assert set(adapters.published()) == {run.version for run in runs}
    for run in runs:
        origin = adapters.verify(run.version or "").origin
        assert (origin.batch_hash, origin.parent) == (run.batch_hash, run.parent)
    rest = {p.name for p in folder.iterdir() if not is_version_id(p.name)} if runs else set()
    assert rest == set(), f"left over: {rest}"


async def until_learned(store: Store, seconds: float) -> None:
    """Wait until no vote waits and no run is open."""

    async def done() -> bool:
        return await store.votes.count_waiting() == 0 and await store.runs.open() is None

    await happens(done, seconds, "The end of all runs")
    await asyncio.sleep(0)
